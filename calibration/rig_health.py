"""What a room rig must look like to be believed, whatever its residuals: the physical gates, as health figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.gates import Finding, GateLimits, worst_of
from core.cameras import Rig
from core.manifest import Health

_LEAST_READOUT_MS = 5.0  # below zero: a global shutter's, with the error of a short recording
_FLOOR = "check the pose of the world target: a print read mirrored or entered upside down puts cameras underground"
_UP = "the imported world may have another axis up or another unit: see --world-up (`motifs run`: --rig.world-up)"
_SIZES = "check the sizes of the targets (measure a square with a ruler) or the unit of the imported file"
_WEAK = "show the carried rig to it from near by and tilted to all sides, or hang a board that it sees"
_READOUT = "no sensor is read out like that: its lens is wrong (film it, see `motifs calibrate lens`), or its times are"
_MIRRORED = "it is read mirrored: check the print, its dictionary and `legacy`"


@dataclass(frozen=True)
class RigLimits:
    """What a believable rig keeps to.

    Attributes:
        target_px: median reprojection error of a camera above which a rig from targets is refused.
        keypoint_px: the same for a rig refined on keypoints.
        height_m: height above which no room camera hangs.
        min_baseline_m: distance of the two cameras furthest apart below which the scale is implausible.
        max_baseline_m: the same, above which it is.
        min_stature_m: a person who comes out smaller shows a wrong scale.
        max_stature_m: the same for one who comes out larger.
        known_stature_m: the person's true size, where it is known: then the scale is held against it.
        stature_sigmas: standard deviations by which it may differ (one is some 3 %).
        max_readout_ms: time to read out a picture, of cameras for which it is solved, above which no sensor lies.
        sigma_m: standard deviation of a camera's position above which the rig is refused as weak.
        sigma_deg: the same for a camera's orientation.
        contradictions: what raw points may say against the rig.
    """

    target_px: float = 1.5
    keypoint_px: float = 15.0
    height_m: float = 10.0
    min_baseline_m: float = 0.05
    max_baseline_m: float = 50.0
    min_stature_m: float = 1.2
    max_stature_m: float = 2.2
    known_stature_m: float | None = None
    stature_sigmas: float = 4.0
    max_readout_ms: float = 70.0
    sigma_m: float = 0.1
    sigma_deg: float = 1.0
    contradictions: GateLimits = dataclasses.field(default_factory=GateLimits)


def rig_facts(
    rig: Rig, covariance: Mapping[str, np.ndarray], error_px: Mapping[str, float], *, gravity: bool
) -> dict[str, Any]:
    """Figures of a rig that the gates read; heights only where the world knows the vertical."""
    worst = {
        view_id: (np.linalg.eigvalsh(c[3:, 3:])[-1], np.linalg.eigvalsh(c[:3, :3])[-1])
        for view_id, c in covariance.items()
    }
    distance = np.linalg.norm(rig.centres[:, None] - rig.centres[None], axis=-1)
    heights = dict(zip(rig.ids, rig.centres[:, 2].tolist(), strict=True)) if gravity else {}
    return {
        "reprojection_px": dict(error_px),
        "height_m": heights,
        "position_sigma_mm": {view_id: float(1000 * np.sqrt(max(p, 0.0))) for view_id, (p, _) in worst.items()},
        "rotation_sigma_deg": {view_id: float(np.degrees(np.sqrt(max(r, 0.0)))) for view_id, (_, r) in worst.items()},
        "baseline_m": float(distance.max()),
    }


def finding_facts(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings for the manifest, the most telling first."""
    return [dataclasses.asdict(finding) for finding in findings]


def rig_health(limits: RigLimits, fact: Mapping[str, Any], method: str) -> list[Health]:
    """The gates: for each, the camera or target that comes out worst.

    Args:
        limits: what is allowed.
        fact: `rig_facts`, and of a rig from targets `behind` and `contradictions`, of one with a person `stature_m`.
        method: `targets`, `keypoints` or `import`.
    """
    health = []
    if behind := fact.get("behind"):
        health.append(worst_of("seen_from_behind", behind, 0.5, "max", _MIRRORED))
    for finding in fact.get("contradictions", [])[:1]:  # the others follow from it
        health.append(Finding(**finding).health)
    if fact["height_m"]:
        world = _FLOOR if method == "targets" else _UP
        health.append(worst_of("height_m", fact["height_m"], 0.0, "min", world))
        health.append(worst_of("height_m", fact["height_m"], limits.height_m, "max", world))
    if (stature := fact.get("stature_m")) is not None:
        health.append(Health("stature_m", stature, limits.min_stature_m, "min", _SIZES, "the person's size"))
        health.append(Health("stature_m", stature, limits.max_stature_m, "max", _SIZES, "the person's size"))
        if limits.known_stature_m is not None:
            off = abs(stature - limits.known_stature_m) / fact["stature_sigma_m"]
            health.append(Health("stature_off_sigmas", off, limits.stature_sigmas, "max", _SIZES, "the person's size"))
    for one, other in fact.get("swapped", [])[:1]:
        action = "exchange their videos in session.json, or their names in the calibration file"
        health.append(Health("swapped_views", 1.0, 0.0, "max", action, f"{one} and {other}"))
    if fact["reprojection_px"]:
        fits = "check its lens, its clock, and that it did not move"
        limit = limits.target_px if method == "targets" else limits.keypoint_px
        health.append(worst_of("reprojection_px", fact["reprojection_px"], limit, "max", fits))
    if readout := fact.get("readout_ms"):
        health.append(worst_of("readout_ms", readout, -_LEAST_READOUT_MS, "min", _READOUT))
        health.append(worst_of("readout_ms", readout, limits.max_readout_ms, "max", _READOUT))
    if len(fact["position_sigma_mm"]) > 1:
        health.append(Health("baseline_m", fact["baseline_m"], limits.min_baseline_m, "min", _SIZES))
        health.append(Health("baseline_m", fact["baseline_m"], limits.max_baseline_m, "max", _SIZES))
    if method == "import":  # what is declared of its uncertainty is no measurement
        return health
    health.append(worst_of("position_sigma_mm", fact["position_sigma_mm"], 1000 * limits.sigma_m, "max", _WEAK))
    health.append(worst_of("rotation_sigma_deg", fact["rotation_sigma_deg"], limits.sigma_deg, "max", _WEAK))
    return health
