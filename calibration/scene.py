"""What a bundle adjustment works on: observations, the scene they are of, and the derivatives of the one by the other.

Images (a static camera, a photograph, one frame of a moving camera) see targets (a board that hangs in the room, the
carried rig at one instant, a single free point). A free point is a target whose rotation is held and whose X is 0.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from core.arrays import Bool, Float, Int
from core.cameras import Lens
from core.transforms import SE3, hat


@dataclass(frozen=True, eq=False)
class Observations:
    """Image points of known target points, flat.

    Attributes:
        image_idx: (n,) image that saw the point.
        target_idx: (n,) target it belongs to.
        points_m: (n, 3) the point in the target's frame, metres.
        xy_px: (n, 2) where it was seen.
        sigma_px: (n,) standard deviation of each coordinate.
    """

    image_idx: Int[np.ndarray, "n"]
    target_idx: Int[np.ndarray, "n"]
    points_m: Float[np.ndarray, "n 3"]
    xy_px: Float[np.ndarray, "n 2"]
    sigma_px: Float[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.image_idx)

    def __getitem__(self, rows: Int[np.ndarray, "m"] | Bool[np.ndarray, "n"]) -> Observations:
        return Observations(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))

    @staticmethod
    def concatenate(parts: list[Observations]) -> Observations:
        """One table from several."""
        names = [f.name for f in dataclasses.fields(Observations)]
        return Observations(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True, eq=False)
class PosePrior:
    """Gaussian priors on the images' poses: `information` (images, 6, 6) about `world_from_cam`."""

    world_from_cam: SE3
    information: Float[np.ndarray, "images 6 6"]


@dataclass(frozen=True, eq=False)
class LensPrior:
    """Gaussian priors on lens parameters: `information` (lenses, p, p) about `mean` (lenses, p)."""

    mean: Float[np.ndarray, "lenses p"]
    information: Float[np.ndarray, "lenses p p"]


@dataclass(frozen=True, eq=False)
class Scene:
    """What a bundle adjustment solves for, and which of it may move.

    Attributes:
        lenses: distinct lenses.
        lens_idx: (images,) lens of each image.
        world_from_cam: (images,) poses of the images.
        world_from_target: (targets,) poses of the targets.
        image_free: (images, 6) which of rotation and translation may move.
        target_free: (targets, 6) the same for targets.
        lens_free: (lenses, p) the same for lens parameters, p the longest parameter vector; all False to hold them.
        pose_prior: priors on images.
        lens_prior: priors on lenses.
    """

    lenses: tuple[Lens, ...]
    lens_idx: Int[np.ndarray, "images"]
    world_from_cam: SE3
    world_from_target: SE3
    image_free: Bool[np.ndarray, "images 6"]
    target_free: Bool[np.ndarray, "targets 6"]
    lens_free: Bool[np.ndarray, "lenses p"]
    pose_prior: PosePrior | None = None
    lens_prior: LensPrior | None = None

    @staticmethod
    def fixed_lenses(
        lenses: tuple[Lens, ...],
        lens_idx: Int[np.ndarray, "images"],
        world_from_cam: SE3,
        world_from_target: SE3,
        *,
        held_images: Int[np.ndarray, "a"] | None = None,
        held_targets: Int[np.ndarray, "b"] | None = None,
    ) -> Scene:
        """A scene with known lenses in which all poses are free except those named."""
        image_free, target_free = np.ones((len(world_from_cam), 6), bool), np.ones((len(world_from_target), 6), bool)
        if held_images is not None:
            image_free[held_images] = False
        if held_targets is not None:
            target_free[held_targets] = False
        lens_free = np.zeros((len(lenses), num_params(lenses)), bool)
        return Scene(lenses, lens_idx, world_from_cam, world_from_target, image_free, target_free, lens_free)


def num_params(lenses: tuple[Lens, ...]) -> int:
    """Length of the longest parameter vector."""
    return max(len(lens.params) for lens in lenses)


def scene_step(scene: Scene, image_step: np.ndarray, target_step: np.ndarray, lens_step: np.ndarray) -> Scene | None:
    """The scene moved by (images, 6), (targets, 6), (lenses, p or 0); None if a focal length would turn negative."""
    lenses = []
    moved = lens_step if lens_step.shape[1] else np.zeros(scene.lens_free.shape)
    for lens, step in zip(scene.lenses, moved, strict=True):
        params = lens.params + step[: len(lens.params)]
        if params[:2].min() <= 0:
            return None
        lenses.append(lens.with_params(params))
    return dataclasses.replace(
        scene,
        lenses=tuple(lenses),
        world_from_cam=scene.world_from_cam.retract(image_step),
        world_from_target=scene.world_from_target.retract(target_step),
    )


def reproject(
    scene: Scene, observations: Observations, *, jacobians: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Residuals in pixels (n, 2), and if asked for their derivatives by image, target and lens (n, 2, 6 | 6 | p).

    With p_c = Rc^T (p_w - t_c): dp_c/dw_c = hat(p_c), dp_c/dt_c = -Rc^T, dp_c/dw_t = -Rc^T R_t hat(X) and
    dp_c/dt_t = Rc^T.
    """
    o = observations
    cam_from_world_R = np.swapaxes(scene.world_from_cam.R, -1, -2)[o.image_idx]
    target_R = scene.world_from_target.R[o.target_idx]
    p_w = np.einsum("nij,nj->ni", target_R, o.points_m) + scene.world_from_target.t[o.target_idx]
    p_c = np.einsum("nij,nj->ni", cam_from_world_R, p_w - scene.world_from_cam.t[o.image_idx])
    n, p = len(o), num_params(scene.lenses)
    px = np.full((n, 2), np.nan)
    by_point, by_lens = np.zeros((n, 2, 3)), np.zeros((n, 2, p if jacobians else 0))
    lens_of_row = scene.lens_idx[o.image_idx]
    for k, lens in enumerate(scene.lenses):
        rows = np.flatnonzero(lens_of_row == k)
        if jacobians:
            px[rows], by_point[rows], by_lens[rows, :, : len(lens.params)] = lens.project_with_jacobian(p_c[rows])
        else:
            px[rows] = lens.project(p_c[rows])
    residual = px - o.xy_px
    if not jacobians:
        return residual, by_point, by_point, by_lens
    by_world = by_point @ cam_from_world_R
    by_image = np.concatenate([by_point @ hat(p_c), -by_world], axis=-1)
    by_target = np.concatenate([-by_world @ target_R @ hat(o.points_m), by_world], axis=-1)
    return residual, by_image, by_target, by_lens
