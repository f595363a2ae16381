"""What is known of one person over one sequence, and how much of it is believed: the input of the fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.arrays import Float
from core.cameras import Rig
from core.errors import InputError
from core.files import write_npz
from core.transforms import SE3
from fitting.foot_mount import FootObservation
from fitting.landmarks import Landmarks
from fitting.mount_geometry import MountGeometryConfig
from fitting.objective import Weights
from fitting.own_view import loaded, saved
from fitting.rays import Rays, rays_of
from fitting.solver import SolverConfig
from fitting.standing import StandingConfig


@dataclass(frozen=True)
class EstimateConfig:
    """Settings of the fit.

    Attributes:
        weights: how much each term is believed.
        solver: iterations of each stage.
        standing: when soles are held where they are.
        geometry: how the foot cameras sit on the feet, as far as the lab knows.
        min_score: keypoints below this detector score are not used.
        floor: whether the world has a floor at z = 0.
        subject_frames: frames that shape, and each foot camera's mount, are found on.
        rough_step_s: time between the frames of the first round, whose poses the others start between.
        window_s: length of the stretches that a recording is fitted in.
        overlap_s: how far each of them reaches into its neighbours.
    """

    weights: Weights = dataclasses.field(default_factory=Weights)
    solver: SolverConfig = dataclasses.field(default_factory=SolverConfig)
    standing: StandingConfig = dataclasses.field(default_factory=StandingConfig)
    geometry: MountGeometryConfig = dataclasses.field(default_factory=MountGeometryConfig)
    min_score: float = 0.1
    floor: bool = True
    subject_frames: int = 64
    rough_step_s: float = 0.1
    window_s: float = 12.0
    overlap_s: float = 1.0


@dataclass(frozen=True, eq=False)
class Measurements:
    """What is known of one person over one sequence.

    Attributes:
        rig: the room cameras.
        xy_px: keypoints (views, frames, joints, 2), NaN where missing, left and right in order.
        score: detector scores (views, frames, joints).
        points_m: triangulated keypoints (frames, joints, 3), NaN where not valid.
        step_s: time between frames.
        feet: what foot cameras measured, by view.
        betas: shape, if it is known.
        staying: share of the keypoints' variance that stays from frame to frame (`fitting.trajectories`).
    """

    rig: Rig
    xy_px: np.ndarray
    score: np.ndarray
    points_m: np.ndarray
    step_s: float
    feet: Mapping[str, FootObservation] = dataclasses.field(default_factory=dict)
    betas: np.ndarray | None = None
    staying: float = 0.0

    def __len__(self) -> int:
        return len(self.points_m)

    @property
    def known(self) -> Float[np.ndarray, "frames"]:
        """How many points are known of each frame."""
        return np.isfinite(self.points_m).all(axis=-1).sum(axis=1).astype(float)

    def frames(self, index: np.ndarray | slice) -> Measurements:
        """The same of some of the frames; `step_s` stays that of the sequence."""
        return dataclasses.replace(
            self,
            xy_px=self.xy_px[:, index],
            score=self.score[:, index],
            points_m=self.points_m[index],
            feet={view: foot.frames(index) for view, foot in self.feet.items()},
        )

    def save(self, path: Path, **more: np.ndarray) -> None:
        """Writes all but the rig as `.npz`, with further arrays beside it."""
        names = ("xy_px", "score", "points_m", "step_s", "staying")
        arrays = {name: np.asarray(getattr(self, name)) for name in names} | more
        for view, foot in self.feet.items():
            arrays[f"foot {view}"] = np.array(foot.ankle_idx)
            arrays |= {f"R {view}": foot.world_from_cam.R, f"t_m {view}": foot.world_from_cam.t}
            arrays[f"information {view}"] = foot.information
            if foot.own is not None:
                arrays |= saved(view, foot.own)
        write_npz(path, arrays, compressed=False)

    @staticmethod
    def of_arrays(rig: Rig, arrays: Mapping[str, np.ndarray]) -> Measurements:
        """From what `save` wrote."""
        views = [name.removeprefix("foot ") for name in arrays if name.startswith("foot ")]
        feet = {
            view: FootObservation(
                int(arrays[f"foot {view}"]),
                SE3(arrays[f"R {view}"], arrays[f"t_m {view}"]),
                arrays[f"information {view}"],
                loaded(view, arrays),
            )
            for view in views
        }
        xy_px, score, points_m = (arrays[name] for name in ("xy_px", "score", "points_m"))
        return Measurements(
            rig, xy_px, score, points_m, float(arrays["step_s"]), feet, staying=float(arrays["staying"])
        )

    def rays(self, min_score: float) -> Rays:
        """The keypoints as undistorted rays."""
        V = len(self.rig)
        return rays_of(self.rig, self.xy_px.reshape(V, -1, 2), self.score.reshape(V, -1), min_score)

    def checked(self, landmarks: Landmarks) -> Measurements:
        """Itself.

        Raises:
            InputError: if the arrays do not fit each other.
        """
        V, T, K = self.score.shape
        if self.points_m.shape != (T, K, 3) or len(landmarks) != K or len(self.rig) != V:
            raise InputError("fit", "keypoints, points, landmarks and rig differ in length", "triangulate again")
        return self
