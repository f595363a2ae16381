"""What stays the same of a person throughout a session: the body's shape, and where the foot cameras sit on the feet.

Both are found on single frames, spread over the recording and chosen where much was seen: as they do not change, what
some tens of such frames say of them is nearly all there is to know, and every stretch of the recording can then be
fitted by itself with the same person in it. Their covariance travels into that of every joint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.arrays import Float, Int
from core.errors import InputError
from core.files import read_json, write_json
from core.skeletons import SMPL_24
from core.threads import one_blas_thread
from core.transforms import SE3
from fitting.backend import CPU
from fitting.fit_model import FitModel
from fitting.foot_mount import FootObservation, initial_mount
from fitting.initialise import initial_pose
from fitting.landmarks import Landmarks
from fitting.measurements import EstimateConfig, Measurements
from fitting.mount_geometry import ridden_feet
from fitting.objective import FitState, Objective
from fitting.shape import betas_from_bones
from fitting.smpl import BodyModel
from fitting.solver import Minimum, SolverConfig, factorise, minimise

_MAX_MOUNT_SIGMA = (np.deg2rad(6.0), 0.02)  # a mount less certain than this helps no frame
_HIDDEN = 1.5  # how much larger offsets are than those found: part of them passes for shape and posture
_LEAST_OFFSET_M = 0.002
_STEPS = 6  # along a valley in which nothing is gained: twice as many change simulated sessions by 0.01 mm in the mean
_WIDE = 4.0  # how much less a pose's prior says here: an odd way to move must not pass for an odd shape
_SEEN_SHARE = 0.6  # of its keypoints that a frame must have, of what the best frames have


@dataclass(frozen=True, eq=False)
class Subject:
    """A person in a session.

    Attributes:
        betas: shape.
        offsets: how far the detector's joints lie from the model's (`Landmarks.shifted`), metres.
        mounts: `ankle_from_cam` by foot view.
        covariance: of the betas, the offsets, and each mount's (rotation, translation) increments.
        refused: foot cameras that were left out, and why.
    """

    betas: Float[np.ndarray, "betas"]
    offsets: Float[np.ndarray, "keypoints 3"]
    mounts: Mapping[str, SE3]
    covariance: Float[np.ndarray, "g g"]
    refused: Mapping[str, str]

    @property
    def mount_sigma(self) -> dict[str, Float[np.ndarray, "6"]]:
        """Standard deviations of each mount: 3 rotations (radians), 3 translations (metres)."""
        first = len(self.betas) + self.offsets.size
        sigma = np.sqrt(np.diagonal(self.covariance)[first:]).reshape(-1, 6)
        return dict(zip(self.mounts, sigma, strict=True))

    def mounts_json(self) -> dict[str, Any]:
        """What was found about each foot camera's mount, and which were left out and why."""
        sigma = self.mount_sigma
        mounts = {
            view: {
                "ankle_from_cam": {"rotvec": mount.rotvec.tolist(), "t_m": mount.t.tolist()},
                "sigma_rad": sigma[view][:3].tolist(),
                "sigma_m": sigma[view][3:].tolist(),
            }
            for view, mount in self.mounts.items()
        }
        return {"mounts": mounts, "refused": dict(self.refused)}

    def save(self, path: Path, body: BodyModel) -> None:
        """Writes `subject.json`; the betas belong to a body."""
        arrays = {"betas": self.betas, "offsets_m": self.offsets, "covariance": self.covariance}
        numbers = {name: array.tolist() for name, array in arrays.items()}
        write_json(path, {**numbers, **self.mounts_json(), "body_model": body.name, "body_sha256": body.sha256})

    @staticmethod
    def load(path: Path) -> Subject:
        """Reads what `save` wrote.

        Raises:
            InputError: if the file is missing or damaged.
        """
        data = read_json(path)
        try:
            mounts = {
                view: SE3.from_rotvec(*(np.array(entry["ankle_from_cam"][key], float) for key in ("rotvec", "t_m")))
                for view, entry in data["mounts"].items()
            }
            betas, offsets, covariance = (np.array(data[name], float) for name in ("betas", "offsets_m", "covariance"))
            return Subject(betas, offsets.reshape(-1, 3), mounts, covariance, data["refused"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(str(path), f"no file of a subject ({error!r})", "run `motifs fit` with --redo") from error


@one_blas_thread
def estimate_subject(model: FitModel, measured: Measurements, config: EstimateConfig, device: str = CPU) -> Subject:
    """Shape and mounts of a person.

    Args:
        model: the body.
        measured: keypoints and what else is known, of the whole session.
        config: settings.
        device: where the normal equations are solved (`fitting.backend`).

    Raises:
        InputError: if the trunk is never seen.
    """
    body, landmarks = model.body, model.keypoints
    trusted = {view: _foot_seen(landmarks, measured.points_m, foot) for view, foot in measured.feet.items()}
    frames = _chosen_frames(measured, trusted, config.subject_frames)
    part, trusted = measured.frames(frames), {view: seen[frames] for view, seen in trusted.items()}
    betas = measured.betas
    if betas is None:
        betas = betas_from_bones(body, landmarks, part.points_m)
    start = FitState(*initial_pose(body.with_shape(betas), landmarks, part.points_m), betas)
    on_points = Objective(
        model, None, config.weights, points_m=part.points_m,
        floor=config.floor, fixed=measured.betas, device=device,
    )  # fmt: skip
    rough = minimise(start, on_points.linearise, FitState.retract, dataclasses.replace(config.solver, tolerance=1e-2))
    # shape and offsets go on along a valley: a thousandth of the cost is near enough
    solver = dataclasses.replace(config.solver, tolerance=1e-3, damping=0.1, iterations=_STEPS)
    # frames of one recording share their mean pose: that it is not at rest must not count once for each of them, and
    # would otherwise be explained by offsets
    wide = _WIDE * config.weights.rest_scale * np.sqrt(len(frames))
    weights = dataclasses.replace(config.weights, rest_scale=wide)
    on_keypoints = dataclasses.replace(on_points, points_m=None, rays=part.rays(config.min_score), weights=weights)
    start = dataclasses.replace(rough.state, offsets=np.zeros((model.num_keypoints, 3)))
    fine = minimise(start, on_keypoints.linearise, FitState.retract, solver)
    spread_m = max(_HIDDEN * _offset_spread(fine, weights.offset_sigma_m), _LEAST_OFFSET_M)
    weights = dataclasses.replace(weights, offset_sigma_m=spread_m)
    on_keypoints = dataclasses.replace(on_keypoints, weights=weights)
    fine = minimise(fine.state, on_keypoints.linearise, FitState.retract, solver)
    ankles = {view: foot.ankle_idx for view, foot in part.feet.items()}
    ridden = ridden_feet(model.feet, ankles, config.geometry)
    on_keypoints = dataclasses.replace(on_keypoints, ridden=ridden, geometry=config.geometry)
    solver = dataclasses.replace(solver, iterations=config.solver.iterations)
    return _with_feet(on_keypoints, fine, part.feet, trusted, solver)


def _chosen_frames(measured: Measurements, trusted: Mapping[str, np.ndarray], most: int) -> Int[np.ndarray, "n"]:
    """Frames spread over those that show most of the body, and over those in which each foot is known twice."""
    count = np.isfinite(measured.points_m).all(axis=-1).sum(axis=1)
    often = np.percentile(count, 95)
    chosen = [_spread(np.flatnonzero(count >= _SEEN_SHARE * often), most)]
    for view, foot in measured.feet.items():
        chosen.append(_spread(np.flatnonzero(foot.known & trusted[view]), most))
    return np.unique(np.concatenate(chosen))


def _offset_spread(minimum: Minimum[FitState], sigma_m: float) -> float:
    """How far this detector's joints lie from the model's, by the offsets found: MacKay's fixed point (1992, 4.4)."""
    state = minimum.state
    assert state.offsets is not None
    where = state.globals_of[1]
    unknown = np.diagonal(np.linalg.inv(factorise(minimum.system).schur))[where].sum() / sigma_m**2
    counted = max(state.offsets.size - float(unknown), 1.0)
    return float(np.sqrt((state.offsets**2).sum() / counted))


def _spread(frames: np.ndarray, most: int) -> np.ndarray:
    return frames[np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int)]


def _foot_seen(landmarks: Landmarks, points_m: np.ndarray, foot: FootObservation) -> np.ndarray:
    """Frames in which the room cameras saw the shank and the foot itself: at least three points below the hip."""
    side = SMPL_24.joints[foot.ankle_idx].split("_")[0]
    names = [f"{side}_{part}" for part in ("knee", "ankle", "heel", "big_toe", "small_toe")]
    idx = [landmarks.names.index(name) for name in names if name in landmarks.names]
    return np.asarray(np.isfinite(points_m[:, idx]).all(axis=-1).sum(axis=1) >= min(3, len(idx)))


def _with_feet(
    objective: Objective,
    fine: Minimum[FitState],
    feet: Mapping[str, FootObservation],
    trusted: Mapping[str, np.ndarray],
    solver: SolverConfig,
) -> Subject:
    """The subject with every foot camera whose mount can be determined; the others are left out and said why."""
    refused, mounts = {}, {}
    posed = fine.state.posed(objective.model.body)
    for view, foot in feet.items():
        mount = initial_mount(posed, foot, trusted[view])
        if mount is None:
            refused[view] = "too few frames in which both the room cameras and the foot camera know the foot"
        else:
            mounts[view] = mount
    while mounts:
        # where the room cameras did not see the foot, its camera says nothing of the mount
        seen = {view: feet[view].only(trusted[view]) for view in mounts}
        with_feet = dataclasses.replace(objective, feet=seen)
        state = dataclasses.replace(fine.state, mounts=dict(mounts))
        result = minimise(state, with_feet.linearise, FitState.retract, solver)
        found = _subject(result, refused)
        loose = {
            v: s
            for v, s in found.mount_sigma.items()
            if s[:3].max() > _MAX_MOUNT_SIGMA[0] or s[3:].max() > _MAX_MOUNT_SIGMA[1]
        }
        if not loose:
            return found
        for view, sigma in loose.items():
            refused[view] = (
                f"its mount is uncertain by {np.rad2deg(sigma[:3].max()):.1f} degrees and "
                f"{1000 * sigma[3:].max():.0f} mm: record ankle circles and toe raises in view of room cameras"
            )
            del mounts[view]
    return _subject(fine, refused)


def _subject(minimum: Minimum[FitState], refused: Mapping[str, str]) -> Subject:
    state = minimum.state
    assert state.offsets is not None
    covariance = np.linalg.inv(factorise(minimum.system).schur)
    return Subject(state.betas, state.offsets, state.mounts, covariance, refused)
