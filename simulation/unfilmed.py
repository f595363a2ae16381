"""Sessions that nobody filmed: keypoints, clocks, rig and foot cameras as the stages before the fit would leave them.

For tests and benchmarks of what comes after, over hours if need be: no picture is rendered. The motion is simulated, or
one that was captured (`simulation.replayed`). The detector errs as in
`simulation.detector`; the foot cameras' poses are off by what they state, half of it for a third of a second at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from calibration.egomotion import Egomotion
from capture.keypoints import Keypoints2d, clean
from capture.session import Session, View
from core.arrays import Bool, Float
from core.cameras import Camera, Lens, Rig
from core.clock import Clock
from core.files import write_json, write_npz
from core.skeletons import HALPE_26, SMPL_24, Skeleton
from core.transforms import SE3
from fitting.landmarks import landmarks_of
from fitting.smpl import BodyModel, PosedBody, ShapedBody
from simulation.cameras import fisheye_lens
from simulation.detector import DetectorConfig, detect, slow_noise
from simulation.person import make_person
from simulation.scenery import looking

_CHUNK = 3000  # frames posed at a time
_SIZE_PX = (1280, 960)
_FOOT_SIZE_PX = (512, 512)
_LEAST_DEPTH_M = 0.05  # nearer to a foot camera than this is the shoe's own
BELOW_KNEES = ("ankle", "heel", "big_toe", "small_toe")
MOUNTS = {
    "left_foot": SE3.from_rotvec(np.array([-1.9, 0.1, 0.05]), np.array([0.01, 0.04, 0.09])),
    "right_foot": SE3.from_rotvec(np.array([-1.9, -0.1, -0.05]), np.array([-0.01, 0.04, 0.09])),
}


@dataclass(frozen=True)
class UnfilmedConfig:
    """What is simulated.

    Attributes:
        seed: of everything.
        duration_s: length of the motion.
        num_views: room cameras, in the corners and along the walls.
        rate: frames a second.
        foot_cameras: whether the person wears them.
        own_views: whether these see their wearer.
        hidden_s: length of the stretches in which no room camera sees some joints; 0 for none.
        hidden_every_s: time from the beginning of one such stretch to that of the next.
        hidden_joints: what is hidden, in both sides' names or, as `left_wrist`, one's: everything below the knees.
        foot_sigma_m: standard deviation of a foot camera's position.
        foot_sigma_rad: the same of its orientation.
        offset_sigma_m: how far what the detector means by a joint lies from the body's, each by a constant, alike on
            both sides.
        detector: errors of the keypoints.
    """

    seed: int = 0
    duration_s: float = 60.0
    num_views: int = 8
    rate: int = 30
    foot_cameras: bool = False
    own_views: bool = False
    hidden_s: float = 0.0
    hidden_every_s: float = 15.0
    hidden_joints: tuple[str, ...] = BELOW_KNEES
    foot_sigma_m: float = 0.003
    foot_sigma_rad: float = 0.005
    offset_sigma_m: float = 0.0
    detector: DetectorConfig = dataclasses.field(default_factory=DetectorConfig)


@runtime_checkable
class Mover(Protocol):
    """A body in motion."""

    @property
    def shaped(self) -> ShapedBody:
        """The body at rest."""
        ...

    @property
    def betas(self) -> Float[np.ndarray, "betas"]:
        """Its shape."""
        ...

    def posed_at(self, t_s: Float[np.ndarray, "n"]) -> PosedBody:
        """The body at any times."""
        ...


def make_unfilmed(
    folder: Path, config: UnfilmedConfig, body: BodyModel | None = None, mover: Mover | None = None
) -> Mover:
    """Writes the session and its truth.

    Args:
        folder: where to.
        config: what to simulate.
        body: body model; the stand-in if left out.
        mover: who moves, within the room of 5 by 4 m about the origin; somebody simulated if left out.
    """
    rng = np.random.default_rng(config.seed)
    person = mover or make_person(rng, (0.0, config.duration_s), body=body)
    rig = wall_rig(config.num_views)
    t_s = np.arange(round(config.duration_s * config.rate)) / config.rate
    hidden = hidden_spans(t_s, config)
    seen = landmarks_of(person.shaped.body, HALPE_26)
    seen = seen.shifted(_mirrored_offsets(rng, config.offset_sigma_m))
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {camera.id: [] for camera in rig}
    for first in range(0, len(t_s), _CHUNK):
        part = slice(first, first + _CHUNK)
        posed = person.posed_at(t_s[part])
        points = seen.positions(posed)
        for camera in rig:
            covered = np.zeros(points.shape[:2], bool)
            found[camera.id].append(
                detect(rng, camera.project(points), covered, HALPE_26, camera.lens.size_px, config.detector)
            )
    folder.mkdir(parents=True, exist_ok=True)
    views = [View(c.id, "room", c.lens.size_px, num_frames=len(t_s), frame_rate=str(config.rate)) for c in rig]
    for camera_id, parts in found.items():
        xy, score = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        gone = hidden[:, None] & hidden_joints(HALPE_26, config.hidden_joints)
        xy, score = np.where(gone[..., None], np.nan, xy), np.where(gone, 0.0, score)
        keypoints = clean(xy[:, None], score[:, None], HALPE_26)
        (folder / "02_keypoints").mkdir(exist_ok=True)
        Keypoints2d(keypoints.xy_px, keypoints.score, HALPE_26).save(folder / "02_keypoints" / f"{camera_id}.npz")
    if config.foot_cameras:
        views += _foot_views(folder, rng, person, t_s, config)
    _write_clocks(folder, [view.id for view in views], t_s)
    covariance = {camera.id: (np.eye(6) * 1e-8).tolist() for camera in rig}
    write_json(folder / "04_rig" / "rig.json", {**rig.to_json(), "covariance": covariance})
    Session(folder, folder.name, f"simulated-{config.seed}", tuple(views), str(config.rate)).save()
    _write_truth(folder, person, t_s, hidden)
    return person


def _mirrored_offsets(rng: np.random.Generator, sigma_m: float) -> Float[np.ndarray, "joints 3"]:
    """Offsets of the keypoints in the rest pose's axes, x to the left: those of the right mirror those of the left."""
    offsets = sigma_m * rng.standard_normal((len(HALPE_26), 3))
    own = np.arange(len(HALPE_26))
    right = HALPE_26.swap_idx < own
    offsets[right] = offsets[HALPE_26.swap_idx[right]] * [-1, 1, 1]
    offsets[HALPE_26.swap_idx == own, 0] = 0.0
    return offsets


def wall_rig(num_views: int) -> Rig:
    """Cameras on the walls of a room of 6 by 5 m, high and low in turn, that look at its middle."""
    cameras = []
    lens = Lens("radtan", _SIZE_PX, (820.0, 820.0), (639.5, 479.5), (-0.12, 0.03, 0.0, 0.0, 0.0))
    for k, angle in enumerate(2 * np.pi * (np.arange(num_views) + 0.5) / num_views):
        centre = np.array([3.6 * np.cos(angle), 3.2 * np.sin(angle), 2.4 if k % 2 else 1.3])
        cameras.append(Camera(f"cam{k:02d}", lens, looking(centre, np.array([0.0, 0.0, 0.9])).inverse()))
    return Rig(tuple(cameras))


def hidden_spans(t_s: Float[np.ndarray, "n"], config: UnfilmedConfig) -> Bool[np.ndarray, "n"]:
    """Instants at which something is hidden; the first stretch begins after half a period."""
    if not config.hidden_s:
        return np.zeros(len(t_s), bool)
    phase = np.mod(t_s + config.hidden_every_s / 2, config.hidden_every_s)
    return np.asarray((phase < config.hidden_s) & (t_s > config.hidden_every_s / 4))


def hidden_joints(skeleton: Skeleton, names: tuple[str, ...] = BELOW_KNEES) -> Bool[np.ndarray, "joints"]:
    """Which joints are meant by names with or without their side."""
    return np.array([name in names or name.split("_", 1)[-1] in names for name in skeleton.joints])


def _foot_views(
    folder: Path, rng: np.random.Generator, person: Mover, t_s: np.ndarray, config: UnfilmedConfig
) -> list[View]:
    lenses: dict[str, Any] = {}
    views, sigma = [], np.repeat([config.foot_sigma_rad, config.foot_sigma_m], 3)
    (folder / "05_egomotion").mkdir(exist_ok=True)
    for role, mount in MOUNTS.items():
        ankle = SMPL_24.idx(f"{role.removesuffix('_foot')}_ankle")
        poses = [person.posed_at(t_s[k : k + _CHUNK]).world_from_joint(ankle) for k in range(0, len(t_s), _CHUNK)]
        exact = SE3(np.concatenate([p.R for p in poses]), np.concatenate([p.t for p in poses])) @ mount
        n = len(t_s)
        noise = np.sqrt(0.5) * (rng.standard_normal((n, 6)) + slow_noise(rng, n, 3).reshape(n, 6))
        way = Egomotion(
            t_s=t_s,
            world_from_cam=exact.retract(noise * sigma),
            covariance=np.broadcast_to(np.diag(sigma**2), (n, 6, 6)).copy(),
            valid=np.ones(n, bool),
            filled=np.zeros(n, bool),
            num_points=np.full(n, 20),
        )
        way.save(folder / "05_egomotion" / f"{role}.npz")
        if config.own_views:
            lenses[role] = _own_view(folder, rng, person, t_s, config, role, exact)
        views.append(View(role, role, _FOOT_SIZE_PX, num_frames=n, frame_rate=str(config.rate)))  # type: ignore[arg-type]
    write_json(folder / "05_egomotion" / "manifest.json", {})
    if lenses:
        write_json(folder / "03_lenses" / "lenses.json", {"lenses": lenses})
    return views


def _own_view(
    folder: Path,
    rng: np.random.Generator,
    person: Mover,
    t_s: np.ndarray,
    config: UnfilmedConfig,
    role: str,
    world_from_cam: SE3,
) -> dict[str, Any]:
    """Writes what a foot camera sees of its wearer, where the body is in its picture, and returns its lens."""
    lens = fisheye_lens(rng, _FOOT_SIZE_PX)
    seen = landmarks_of(person.shaped.body, HALPE_26)
    parts = []
    for first in range(0, len(t_s), _CHUNK):
        part = slice(first, first + _CHUNK)
        points, R = seen.positions(person.posed_at(t_s[part])), world_from_cam.R[part]
        in_cam = np.einsum("tji,tkj->tki", R, points - world_from_cam.t[part, None])
        px = np.where(in_cam[..., 2:] > _LEAST_DEPTH_M, lens.project(in_cam), np.nan)
        parts.append(detect(rng, px, np.zeros(px.shape[:2], bool), HALPE_26, lens.size_px, config.detector))
    xy, score = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    found = clean(xy[:, None], score[:, None], HALPE_26)
    Keypoints2d(found.xy_px, found.score, HALPE_26).save(folder / "02_keypoints" / f"{role}.npz")
    return lens.to_json()


def _write_clocks(folder: Path, view_ids: Sequence[str], t_s: np.ndarray) -> None:
    clock = dataclasses.asdict(Clock(0.0, 1.0, 1e-6, 1e-9))
    write_json(folder / "01_sync" / "clocks.json", {"clocks": dict.fromkeys(view_ids, clock)})
    for view_id in view_ids:
        write_npz(folder / "01_sync" / f"{view_id}.times.npz", {"t_local_s": t_s})


def _write_truth(folder: Path, person: Mover, t_s: np.ndarray, hidden: np.ndarray) -> None:
    parts = [person.posed_at(t_s[k : k + _CHUNK]) for k in range(0, len(t_s), _CHUNK)]
    arrays = {
        "t_s": t_s,
        "betas": person.betas,
        "joints_m": np.concatenate([part.joints for part in parts]),
        "world_rotations": np.concatenate([part.world_rotations for part in parts]).astype(np.float32),
        "hidden": hidden,
    }
    write_npz(folder / "truth" / "smpl.npz", arrays)
