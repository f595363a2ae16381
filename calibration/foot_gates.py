"""Whether the way of a foot camera can be believed: figures that refuse a wrong map, lens, shutter, clock or person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.smoothing import SmoothedWay
from calibration.tracking import Track
from core.arrays import Float
from core.stage import Health
from core.transforms import SE3


@dataclass(frozen=True)
class FootGates:
    """Limits of what is believable.

    Attributes:
        min_measured: share of frames of the motion with a pose of their own below which a camera is refused.
        max_reprojection_px: median reprojection error above which it is refused.
        max_below_floor_m: how far under the floor a camera may seem to be.
        max_speed_mps: how fast it may seem to move; no foot is faster than 10 m/s.
        max_feet_distance_m: how far apart both foot cameras may seem to be: twice the length of a long leg.
        max_shutter_ratio: by how much another rolling shutter may explain the fast frames better, as a ratio of costs.
    """

    min_measured: float = 0.3
    max_reprojection_px: float = 2.0
    max_below_floor_m: float = 0.05
    max_speed_mps: float = 10.0
    max_feet_distance_m: float = 2.1
    max_shutter_ratio: float = 1.25


def figures(track: Track, wanted: np.ndarray) -> dict[str, Any]:
    """Figures of one way; shares are of the frames that are to be annotated (wanted)."""
    way = track.way
    sigma = np.sqrt(np.einsum("nii->ni", way.covariance[way.valid]))
    some, height = bool(way.valid.any()), np.where(way.used, way.world_from_cam.t[:, 2], np.inf)
    speed, at = top_speed(way)
    nan = float("nan")
    return {
        "measured": float(way.used[wanted].mean()) if wanted.any() else nan,
        "filled": float((way.valid & ~way.used)[wanted].mean()) if wanted.any() else nan,
        "longest_gap_s": longest_gap(way, wanted),
        "dropped": int((track.known & ~way.used).sum()),
        "reprojection_px": float(np.nanmedian(track.rms_px)) if track.known.any() else nan,
        "median_position_sigma_mm": float(np.median(sigma[:, 3:].max(axis=-1)) * 1000) if some else nan,
        "median_rotation_sigma_deg": float(np.degrees(np.median(sigma[:, :3].max(axis=-1)))) if some else nan,
        "lowest_m": float(height.min()) if way.used.any() else nan,
        "lowest_at_s": float(way.t_s[height.argmin()]) if way.used.any() else nan,
        "speed_mps": speed,
        "speed_at_s": at,
    }


def top_speed(way: SmoothedWay) -> tuple[float, float]:
    """The highest mean speed between two measured frames that follow each other, and when."""
    keys = np.flatnonzero(way.used)
    if len(keys) < 2:
        return float("nan"), float("nan")
    speed = np.linalg.norm(np.diff(way.world_from_cam.t[keys], axis=0), axis=-1) / np.diff(way.t_s[keys])
    return float(speed.max()), float(way.t_s[keys[speed.argmax()]])


def longest_gap(way: SmoothedWay, wanted: np.ndarray) -> float:
    """The longest time without a measurement among the wanted frames, seconds."""
    inside = way.t_s[wanted]
    if not len(inside):
        return float("nan")
    return float(np.diff(np.concatenate([inside[:1], way.t_s[wanted & way.used], inside[-1:]])).max())


def feet_distance(
    t_s: Sequence[Float[np.ndarray, "_"]], poses: Sequence[SE3], used: Sequence[np.ndarray]
) -> tuple[float, float]:
    """The largest distance of two foot cameras at a time that both measured, metres, and when; NaN if there is none."""
    if len(t_s) != 2 or any(u.sum() < 2 for u in used):
        return float("nan"), float("nan")
    (ta, tb), (a, b) = t_s, poses
    half = 0.75 * float(np.median(np.diff(tb)))
    there = tb[used[1]]
    right = np.clip(np.searchsorted(there, ta), 1, len(there) - 1)
    both = used[0] & (np.minimum(np.abs(ta - there[right - 1]), np.abs(there[right] - ta)) < half)
    if not both.any():
        return float("nan"), float("nan")
    other = np.stack([np.interp(ta[both], there, b.t[used[1], k]) for k in range(3)], axis=-1)
    distance = np.linalg.norm(a.t[both] - other, axis=-1)
    return float(distance.max()), float(ta[both][distance.argmax()])


def view_health(view_id: str, fact: Mapping[str, Any], gates: FootGates, max_sigmas: float) -> list[Health]:
    """The figures of one view that decide whether its way may be used."""
    value = {key: float("nan") if v is None else v for key, v in fact.items()}
    sees = "hang more markers where the foot cameras look, light the room better, or map the room (`calibrate scene`)"
    fits = "check the camera's lens, its row_time_s and the sizes of the targets"
    floor = f"look at {value['lowest_at_s']:.2f} s; check the pose of the world target: it may be entered upside down"
    fast = f"look at {value['speed_at_s']:.2f} s; check the marker map, and that the view is the foot camera's video"
    shutter = f"a row_time_s of {value['better_row_time_s']:.3g} explains its fast frames better: correct session.json"
    health = [  # a moved target first: it may cause all the others
        Health("target_off_sigmas", found["sigmas"], max_sigmas, "max", _moved(name, found), view_id)
        for name, found in fact["moved_targets"].items()
    ]
    health += [
        Health("measured", value["measured"], gates.min_measured, "min", sees, view_id),
        Health("reprojection_px", value["reprojection_px"], gates.max_reprojection_px, "max", fits, view_id),
        Health("lowest_m", value["lowest_m"], -gates.max_below_floor_m, "min", floor, view_id),
        Health("speed_mps", value["speed_mps"], gates.max_speed_mps, "max", fast, view_id),
    ]
    if np.isfinite(value["shutter_ratio"]):
        ratio = value["shutter_ratio"]
        health.append(Health("shutter_ratio", ratio, gates.max_shutter_ratio, "max", shutter, view_id))
    return health


def _moved(name: str, found: Mapping[str, float]) -> str:
    """What to do about a target that is not where the map has it."""
    by = f"{1e3 * found['off_m']:.0f} mm and {np.degrees(found['turned_rad']):.1f} deg"
    return (
        f"target {name} seems to be {by} from where the map has it, about {found['at_s']:.2f} s: was it moved? Map it "
        f"again as it hung then, or leave it out of targets.json"
    )
