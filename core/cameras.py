"""Lenses, cameras and rigs.

Camera frame as in OpenCV: x right, y down, z forward; pixel centres at integers. The lens model is always stated, never
inferred from the number of coefficients. Distortions and their order are OpenCV's own:

| model    | coefficients            | source                                                        |
|----------|-------------------------|---------------------------------------------------------------|
| pinhole  | none                    |                                                               |
| radtan   | k1 k2 p1 p2 k3          | Brown 1971                                                    |
| rational | k1 k2 p1 p2 k3 k4 k5 k6 | Claus and Fitzgibbon 2005                                     |
| fisheye  | k1 k2 k3 k4             | Kannala and Brandt 2006 (the equidistant model of cv2.fisheye)|

A point that a lens cannot see (behind it, or past the angle where its polynomial turns back) projects to NaN.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from core.arrays import Bool, Float
from core.distortion import distort, straighten_fisheye, straighten_perspective
from core.errors import InputError
from core.transforms import SE3

LensModel = Literal["pinhole", "radtan", "rational", "fisheye"]
NUM_DISTORTIONS: Mapping[str, int] = {"pinhole": 0, "radtan": 5, "rational": 8, "fisheye": 4}

_MIN_COSINE = 1e-6  # of a ray with the axis, below which it has no place in a plane before the camera


@dataclass(frozen=True)
class Lens:
    """Intrinsics of one camera.

    Attributes:
        model: name of the distortion model.
        size_px: image width and height.
        focal_px: fx, fy.
        centre_px: principal point cx, cy.
        distortion: the model's coefficients in OpenCV's order.
    """

    model: LensModel
    size_px: tuple[int, int]
    focal_px: tuple[float, float]
    centre_px: tuple[float, float]
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.model not in get_args(LensModel):
            raise InputError("lens", f"unknown model {self.model!r}", f"use one of {', '.join(NUM_DISTORTIONS)}")
        expected = NUM_DISTORTIONS[self.model]
        if len(self.distortion) != expected:
            raise InputError(
                "lens",
                f"model {self.model} takes {expected} distortion coefficients, not {len(self.distortion)}",
                "state the right model or pad the coefficients with zeros",
            )
        if min(self.focal_px) <= 0 or min(self.size_px) <= 0:
            raise InputError(
                "lens",
                f"focal lengths {self.focal_px} and size {self.size_px} must be positive",
                "check the calibration",
            )
        if not all(map(math.isfinite, (*self.focal_px, *self.centre_px, *self.distortion))):
            raise InputError("lens", "one of its numbers is not finite", "check the calibration")

    @property
    def params(self) -> Float[np.ndarray, "p"]:
        """[fx, fy, cx, cy, *distortion], the vector that calibration solves for."""
        return np.array([*self.focal_px, *self.centre_px, *self.distortion])

    def with_params(self, params: Float[np.ndarray, "p"]) -> Lens:
        """The same lens with another parameter vector."""
        fx, fy, cx, cy, *distortion = (float(v) for v in params)
        return dataclasses.replace(self, focal_px=(fx, fy), centre_px=(cx, cy), distortion=tuple(distortion))

    @property
    def K(self) -> Float[np.ndarray, "3 3"]:
        """Camera matrix without skew."""
        return np.array(
            [[self.focal_px[0], 0, self.centre_px[0]], [0, self.focal_px[1], self.centre_px[1]], [0, 0, 1.0]]
        )

    def scaled(self, factor: float) -> Lens:
        """The lens of the same picture resized by `factor`; pixel centres stay at integers."""
        return dataclasses.replace(
            self,
            size_px=(round(self.size_px[0] * factor), round(self.size_px[1] * factor)),
            focal_px=(self.focal_px[0] * factor, self.focal_px[1] * factor),
            centre_px=((self.centre_px[0] + 0.5) * factor - 0.5, (self.centre_px[1] + 0.5) * factor - 0.5),
        )

    def contains(self, px: Float[np.ndarray, "*n 2"], margin_px: float = 0.0) -> Bool[np.ndarray, "*n"]:
        """Whether pixels lie inside the image by at least `margin_px`; NaN is outside."""
        w, h = self.size_px
        m = margin_px - 0.5
        with np.errstate(invalid="ignore"):
            inside = (px[..., 0] >= m) & (px[..., 0] <= w - 1 - m) & (px[..., 1] >= m) & (px[..., 1] <= h - 1 - m)
        return np.asarray(inside)

    def project(self, points_in_cam: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Pixels of points in the camera frame (metres); NaN where the lens cannot see them."""
        distorted = distort(self.model, self.distortion, points_in_cam, jacobians=False)[0]
        return distorted * np.array(self.focal_px) + np.array(self.centre_px)

    def project_with_jacobian(
        self, points_in_cam: Float[np.ndarray, "*n 3"]
    ) -> tuple[Float[np.ndarray, "*n 2"], Float[np.ndarray, "*n 2 3"], Float[np.ndarray, "*n 2 p"]]:
        """Pixels, their derivatives by the point and by `params`."""
        distorted, by_point, by_distortion = distort(self.model, self.distortion, points_in_cam, jacobians=True)
        focal = np.array(self.focal_px)
        px = distorted * focal + np.array(self.centre_px)
        by_params = np.zeros((*px.shape, 4 + len(self.distortion)))
        by_params[..., 0, 0], by_params[..., 1, 1] = distorted[..., 0], distorted[..., 1]
        by_params[..., 0, 2] = by_params[..., 1, 3] = 1.0
        by_params[..., 4:] = focal[:, None] * by_distortion
        return px, focal[:, None] * by_point, by_params

    def unproject(self, px: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 3"]:
        """Unit rays in the camera frame through pixels; NaN where no ray reaches the pixel."""
        d = (px - np.array(self.centre_px)) / np.array(self.focal_px)
        if self.model == "fisheye":
            rays = straighten_fisheye(self.distortion, d)
        else:
            x, y = straighten_perspective(self.model, self.distortion, d[..., 0], d[..., 1])[:2]
            rays = np.stack([x, y, np.ones_like(x)], axis=-1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)

    def undistort_px(self, px: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Normalised image coordinates (x/z, y/z) of pixels; NaN for rays at 90 degrees or more from the axis."""
        return self.undistort_with_scale(px)[0]

    def undistort_with_scale(
        self, px: Float[np.ndarray, "*n 2"]
    ) -> tuple[Float[np.ndarray, "*n 2"], Float[np.ndarray, "*n 2"]]:
        """`undistort_px`, and how many pixels a small change of each coordinate is there, along its own axis."""
        focal = np.array(self.focal_px)
        if self.model != "fisheye":
            d = (px - np.array(self.centre_px)) / focal
            x, y, *slope = straighten_perspective(self.model, self.distortion, d[..., 0], d[..., 1])
            return np.stack([x, y], axis=-1), np.stack(slope, axis=-1) * focal
        rays = self.unproject(px)
        with np.errstate(divide="ignore", invalid="ignore"):
            normal = np.where(rays[..., 2:] > _MIN_COSINE, rays[..., :2] / rays[..., 2:], np.nan)
        at = np.concatenate([normal, np.ones_like(normal[..., :1])], axis=-1)
        by_point = self.project_with_jacobian(at)[1]
        return normal, np.stack([by_point[..., 0, 0], by_point[..., 1, 1]], axis=-1)

    def to_json(self) -> dict[str, Any]:
        """Plain types; the inverse of `from_json`."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Lens:
        """Reads what `to_json` wrote."""
        return Lens(
            model=data["model"],
            size_px=(int(data["size_px"][0]), int(data["size_px"][1])),
            focal_px=(float(data["focal_px"][0]), float(data["focal_px"][1])),
            centre_px=(float(data["centre_px"][0]), float(data["centre_px"][1])),
            distortion=tuple(float(v) for v in data["distortion"]),
        )


@dataclass(frozen=True, eq=False)
class Camera:
    """A lens at a place: `cam_from_world` is stored, everything else is derived from it."""

    id: str
    lens: Lens
    cam_from_world: SE3

    @property
    def world_from_cam(self) -> SE3:
        """Pose of the camera in the world."""
        return self.cam_from_world.inverse()

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Optical centre in the world, metres."""
        return self.world_from_cam.t

    def project(self, points_in_world: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Pixels of world points; NaN where the lens cannot see them."""
        return self.lens.project(self.cam_from_world.apply(points_in_world))

    def to_json(self) -> dict[str, Any]:
        """Plain types; the inverse of `from_json`."""
        return {
            "id": self.id,
            "lens": self.lens.to_json(),
            "cam_from_world": {"R": self.cam_from_world.R.tolist(), "t_m": self.cam_from_world.t.tolist()},
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Camera:
        """Reads what `to_json` wrote; see `checked`."""
        R, t = (np.array(data["cam_from_world"][name], float) for name in ("R", "t_m"))
        return Camera.checked(data["id"], Lens.from_json(data["lens"]), R, t)

    @staticmethod
    def checked(camera_id: str, lens: Lens, R: np.ndarray, t: np.ndarray) -> Camera:
        """A camera whose `cam_from_world` comes from a file.

        Raises:
            ValueError: if the pose turns into a mirror, changes sizes or is not finite.
        """
        rigid = R.shape == (3, 3) and t.shape == (3,) and bool(np.isfinite(t).all())
        if not (rigid and np.allclose(R @ R.T, np.eye(3), atol=1e-6) and np.linalg.det(R) > 0):
            raise ValueError(f"cam_from_world of {camera_id} is no rigid transform")
        return Camera(camera_id, lens, SE3(R, t))


@dataclass(frozen=True, eq=False)
class Rig:
    """Static cameras that share one world frame, in a fixed order with unique ids."""

    cameras: tuple[Camera, ...]

    def __post_init__(self) -> None:
        ids = [camera.id for camera in self.cameras]
        if len(set(ids)) != len(ids):
            raise InputError("rig", f"camera ids repeat: {ids}", "give every camera its own id")

    @property
    def ids(self) -> tuple[str, ...]:
        """Camera ids in order."""
        return tuple(camera.id for camera in self.cameras)

    def __len__(self) -> int:
        return len(self.cameras)

    def __iter__(self) -> Iterator[Camera]:
        return iter(self.cameras)

    def __getitem__(self, camera_id: str) -> Camera:
        for camera in self.cameras:
            if camera.id == camera_id:
                return camera
        raise InputError(camera_id, f"the rig has no such camera, only {', '.join(self.ids)}", "check the camera's id")

    def subset(self, ids: Sequence[str]) -> Rig:
        """The cameras named, in the order named."""
        return Rig(tuple(self[camera_id] for camera_id in ids))

    @property
    def centres(self) -> Float[np.ndarray, "views 3"]:
        """Optical centres in the world, metres."""
        return np.stack([camera.centre for camera in self.cameras])

    def project(self, points_in_world: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "views *n 2"]:
        """Pixels of the same world points in every view."""
        return np.stack([camera.project(points_in_world) for camera in self.cameras])

    def moved(self, new_from_world: SE3) -> Rig:
        """The same rig expressed in another world frame."""
        world_from_new = new_from_world.inverse()
        return Rig(
            tuple(dataclasses.replace(c, cam_from_world=c.cam_from_world @ world_from_new) for c in self.cameras)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain types; the inverse of `from_json`."""
        return {"cameras": [camera.to_json() for camera in self.cameras]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Rig:
        """Reads what `to_json` wrote.

        Raises:
            InputError: if a field is missing or of the wrong kind.
        """
        try:
            return Rig(tuple(Camera.from_json(camera) for camera in data["cameras"]))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise InputError(
                "rig", f"not a rig of this project ({error!r})", "write it again with `motifs calibrate rig`"
            ) from error
