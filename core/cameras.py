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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from core.arrays import Bool, Float
from core.errors import InputError
from core.transforms import SE3

LensModel = Literal["pinhole", "radtan", "rational", "fisheye"]
NUM_DISTORTIONS: Mapping[str, int] = {"pinhole": 0, "radtan": 5, "rational": 8, "fisheye": 4}

_NEAR = 1e-6  # metres; a point closer to the camera plane has no direction
_UNPROJECT_STEPS = 12  # Newton converges quadratically; 12 covers the strongest lens in the tests


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
        distorted = _distort(self, points_in_cam, jacobians=False)[0]
        return distorted * np.array(self.focal_px) + np.array(self.centre_px)

    def project_with_jacobian(
        self, points_in_cam: Float[np.ndarray, "*n 3"]
    ) -> tuple[Float[np.ndarray, "*n 2"], Float[np.ndarray, "*n 2 3"], Float[np.ndarray, "*n 2 p"]]:
        """Pixels, their derivatives by the point and by `params`."""
        distorted, by_point, by_distortion = _distort(self, points_in_cam, jacobians=True)
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
            rays = _unproject_fisheye(self, d)
        else:
            rays = _unproject_perspective(self, d)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)

    def undistort_px(self, px: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Normalised image coordinates (x/z, y/z) of pixels; NaN for rays at 90 degrees or more from the axis."""
        rays = self.unproject(px)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(rays[..., 2:] > _NEAR, rays[..., :2] / rays[..., 2:], np.nan)

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


def _radial_limit(lens: Lens) -> float:
    """Largest undistorted radius (perspective) or angle (fisheye) up to which the radial mapping still rises."""
    k = lens.distortion
    if lens.model == "pinhole":
        return np.inf
    if lens.model == "fisheye":
        slope = np.array([9 * k[3], 7 * k[2], 5 * k[1], 3 * k[0], 1.0])
        ceiling = np.pi
    else:
        numerator = np.array([k[4], k[1], k[0], 1.0])
        denominator = np.array([k[7], k[6], k[5], 1.0]) if lens.model == "rational" else np.array([1.0])
        # d/dr [r N(r2)/D(r2)] has the sign of (N + 2 s N') D - 2 s N D', s = r2
        s = np.array([1.0, 0.0])
        grow = np.polyadd(numerator, 2 * np.polymul(s, np.polyder(numerator)))
        slope = np.polysub(
            np.polymul(grow, denominator), 2 * np.polymul(np.polymul(s, numerator), np.polyder(denominator))
        )
        ceiling = np.inf
    roots = np.roots(np.trim_zeros(slope, "f"))
    real = roots[(np.abs(roots.imag) < 1e-9) & (roots.real > 1e-9)].real
    return float(min(np.sqrt(real.min()) if len(real) else np.inf, ceiling))


def _distort(lens: Lens, points: np.ndarray, *, jacobians: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distorted coordinates (*n, 2); if asked for, derivatives by point (*n, 2, 3) and coefficients (*n, 2, q)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if lens.model == "fisheye":
            return _distort_fisheye(lens, points, jacobians)
        return _distort_perspective(lens, points, jacobians)


def _distort_perspective(lens: Lens, points: np.ndarray, jacobians: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z = np.where(points[..., 2] > _NEAR, points[..., 2], np.nan)
    x, y = np.asarray(points[..., 0] / z), np.asarray(points[..., 1] / z)
    x = np.where(x * x + y * y < _radial_limit(lens) ** 2, x, np.nan)
    distorted, by_xy, by_distortion = _perspective_polynomial(lens, x, y, jacobians)
    if not jacobians:
        return distorted, np.empty(0), np.empty(0)
    xy_by_point = np.zeros((*x.shape, 2, 3))
    xy_by_point[..., 0, 0] = xy_by_point[..., 1, 1] = 1 / z
    xy_by_point[..., 0, 2], xy_by_point[..., 1, 2] = -x / z, -y / z
    return distorted, by_xy @ xy_by_point, by_distortion


def _perspective_polynomial(
    lens: Lens, x: np.ndarray, y: np.ndarray, jacobians: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """OpenCV's polynomial on normalised coordinates: values, derivatives by (x, y) and by the coefficients."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*lens.distortion, *[0.0] * 8)[:8]
    r2 = x * x + y * y
    N = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    D = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    g = N / D
    xd = x * g + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    yd = y * g + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    distorted = np.stack([xd, yd], axis=-1)
    if not jacobians:
        return distorted, np.empty(0), np.empty(0)
    dN = k1 + r2 * (2 * k2 + 3 * k3 * r2)
    dD = k4 + r2 * (2 * k5 + 3 * k6 * r2)
    dg = 2 * (dN * D - N * dD) / (D * D)  # times x or y gives dg/dx, dg/dy
    by_xy = np.empty((*x.shape, 2, 2))
    by_xy[..., 0, 0] = g + x * x * dg + 2 * p1 * y + 6 * p2 * x
    by_xy[..., 0, 1] = by_xy[..., 1, 0] = x * y * dg + 2 * p1 * x + 2 * p2 * y
    by_xy[..., 1, 1] = g + y * y * dg + 6 * p1 * y + 2 * p2 * x
    q = len(lens.distortion)
    by_distortion = np.zeros((*x.shape, 2, q))
    if q:
        xy = np.stack([x, y], axis=-1)
        powers = np.stack([r2, r2**2, r2**3], axis=-1)
        radial = xy[..., :, None] * (powers / D[..., None])[..., None, :]
        by_distortion[..., [0, 1, 4]] = radial
        by_distortion[..., 0, 2], by_distortion[..., 1, 2] = 2 * x * y, r2 + 2 * y * y
        by_distortion[..., 0, 3], by_distortion[..., 1, 3] = r2 + 2 * x * x, 2 * x * y
        if q == 8:
            by_distortion[..., 5:8] = -g[..., None, None] * radial
    return distorted, by_xy, by_distortion


def _distort_fisheye(lens: Lens, points: np.ndarray, jacobians: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    rho2 = x * x + y * y
    rho = np.sqrt(rho2)
    theta = np.arctan2(rho, z)
    theta = np.where(theta < _radial_limit(lens), theta, np.nan)
    k = np.array(lens.distortion)
    t2 = theta**2
    bend = 1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3])))
    on_axis = rho < 1e-9 * np.abs(z)
    safe_rho = np.where(on_axis, 1.0, rho)
    scale = np.where(on_axis, 1 / np.where(z == 0, np.nan, z), theta * bend / safe_rho)
    xy = points[..., :2]
    distorted = xy * scale[..., None]
    if not jacobians:
        return distorted, np.empty(0), np.empty(0)
    slope = 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + t2 * 9 * k[3])))
    norm2 = rho2 + z * z
    # scale = r(theta) / rho: d(theta)/d(rho) = z / norm2, d(theta)/dz = -rho / norm2
    by_rho = np.where(on_axis, 0.0, (slope * z / norm2 - scale) / np.where(on_axis, 1.0, rho2))
    by_point = np.empty((*x.shape, 2, 3))
    by_point[..., :2] = xy[..., :, None] * (xy * by_rho[..., None])[..., None, :] + scale[..., None, None] * np.eye(2)
    by_point[..., 2] = -xy * (slope / norm2)[..., None]
    odd = np.stack([theta ** (2 * i + 3) for i in range(4)], axis=-1)
    direction = np.where(on_axis[..., None], 0.0, xy / safe_rho[..., None])
    return distorted, by_point, direction[..., :, None] * odd[..., None, :]


def _unproject_perspective(lens: Lens, d: np.ndarray) -> np.ndarray:
    limit = _radial_limit(lens)
    xy = d.copy()
    for _ in range(_UNPROJECT_STEPS if lens.distortion else 0):
        value, by_xy, _ = _perspective_polynomial(lens, xy[..., 0], xy[..., 1], True)
        determinant = by_xy[..., 0, 0] * by_xy[..., 1, 1] - by_xy[..., 0, 1] * by_xy[..., 1, 0]
        error = value - d
        step = (
            np.stack(
                [
                    by_xy[..., 1, 1] * error[..., 0] - by_xy[..., 0, 1] * error[..., 1],
                    by_xy[..., 0, 0] * error[..., 1] - by_xy[..., 1, 0] * error[..., 0],
                ],
                axis=-1,
            )
            / np.where(np.abs(determinant) > 1e-9, determinant, np.nan)[..., None]
        )
        xy = xy - step
        # Newton may overshoot past the turning point of the polynomial: come back inside
        radius = np.linalg.norm(xy, axis=-1, keepdims=True)
        if np.isfinite(limit):
            xy = np.where(radius > 0.999 * limit, xy * (0.999 * limit / np.maximum(radius, 1e-12)), xy)
    if lens.distortion:
        value = _perspective_polynomial(lens, xy[..., 0], xy[..., 1], False)[0]
        with np.errstate(invalid="ignore"):
            reached = np.linalg.norm(value - d, axis=-1, keepdims=True) < 1e-6
        xy = np.where(reached, xy, np.nan)
    return np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1)


def _unproject_fisheye(lens: Lens, d: np.ndarray) -> np.ndarray:
    k = np.array(lens.distortion)
    radius = np.linalg.norm(d, axis=-1)
    limit = min(_radial_limit(lens), np.pi)
    theta = np.minimum(radius, limit)
    for _ in range(_UNPROJECT_STEPS):
        t2 = theta**2
        value = theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))
        slope = 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + t2 * 9 * k[3])))
        theta = np.clip(theta - (value - radius) / np.maximum(slope, 1e-6), 0, limit)
    t2 = theta**2
    value = theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))
    with np.errstate(invalid="ignore"):
        theta = np.where(np.abs(value - radius) < 1e-6, theta, np.nan)
    safe = np.where(radius > 1e-12, radius, 1.0)
    sine = np.where(radius > 1e-12, np.sin(theta) / safe, 1.0)
    return np.concatenate([d * sine[..., None], np.cos(theta)[..., None]], axis=-1)


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
        """Reads what `to_json` wrote."""
        pose = data["cam_from_world"]
        return Camera(data["id"], Lens.from_json(data["lens"]), SE3(np.array(pose["R"]), np.array(pose["t_m"])))


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
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(
                "rig", f"not a rig of this project ({error!r})", "write it again with `motifs calibrate rig`"
            ) from error
