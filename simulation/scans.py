"""Depth scans of a person in an A-pose, with exact truth: what a few RGB-D cameras around the person would measure.

The body is drawn by `fitting.raster`, and every pixel's ray meets the plane of the triangle that it shows. Noise lies
along the ray: one part is new in every pixel, another is smooth over a few centimetres, as that of real depth sensors,
which no number of pixels averages out. Clothes and hair stand off the skin by smooth random fields that touch it in
places (`simulation.clothes`); dark and shiny things leave holes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from core.arrays import Bool, Float
from core.cameras import Camera, Lens
from core.skeletons import SMPL_24
from core.transforms import SE3
from fitting.raster import see
from fitting.scan_pose import A_POSE, upright
from fitting.smpl import BodyModel, PosedBody
from simulation.clothes import clothed

_HOLE_PX = (4, 18)  # smallest and largest radius of a hole: 4 to 18 cm at 2.5 m
_SMOOTH_PX = 6.0  # about 6 cm at 2.5 m: over which the staying part of the noise is alike


# who stands on both feet hardly tilts the pelvis or bends a leg
_STRAYING = np.array([0.0 if name == "pelvis" else 0.4 if name.endswith(("hip", "knee")) else 1.0
                      for name in SMPL_24.joints])  # fmt: skip


@dataclass(frozen=True)
class ScanConfig:
    """What is simulated.

    Attributes:
        num_cameras: depth cameras around the person, the first in front.
        distance_m: of the cameras from the person.
        sigma_m: noise of a depth, of both parts together.
        smooth_share: share of its variance that neighbouring pixels have in common.
        cloth_m: largest distance of clothes from the skin; 0 for a naked person.
        hair_m: thickness of the hair; 0 for none.
        num_holes: patches of 15 cm or so that each camera measures nothing in: dark or shiny things.
        floor: whether the floor is in the scan.
        pose_sigma_rad: how far joints stray from the A-pose.
        betas_sigma: spread of the betas.
    """

    num_cameras: int = 4
    distance_m: float = 2.5
    sigma_m: float = 0.003
    smooth_share: float = 0.3
    cloth_m: float = 0.0
    hair_m: float = 0.0
    num_holes: int = 0
    floor: bool = True
    pose_sigma_rad: float = 0.06
    betas_sigma: float = 1.0


@dataclass(frozen=True, eq=False)
class SimulatedScan:
    """A scan and its truth.

    Attributes:
        points_m: of every camera, in the scan's frame.
        normals: of the surface at each point.
        posed: the body, in a world with z up and the floor at 0.
        scan_from_world: the scan's frame, of the first camera: y down, z forward.
    """

    points_m: tuple[Float[np.ndarray, "_ 3"], ...]
    normals: tuple[Float[np.ndarray, "_ 3"], ...]
    posed: PosedBody
    scan_from_world: SE3

    @property
    def betas(self) -> Float[np.ndarray, "betas"]:
        """The truth."""
        return self.posed.shaped.betas


def simulate_scan(body: BodyModel, config: ScanConfig, rng: np.random.Generator) -> SimulatedScan:
    """A person of random shape, standing on the floor near the middle of the cameras."""
    betas = config.betas_sigma * rng.normal(size=body.num_betas)
    pose = A_POSE + config.pose_sigma_rad * _STRAYING[:, None] * rng.normal(size=A_POSE.shape)
    rotations = upright(pose, rng.uniform(-0.3, 0.3))
    posed = body.with_shape(betas).with_rotations(rotations, np.zeros(3))
    lowest = posed.mesh()[:, 2].min()
    place = np.array([*rng.normal(0, 0.05, 2), -lowest]) - np.array([*posed.joints[0, :2], 0.0])
    posed = body.with_shape(betas).with_rotations(rotations, place)
    skin = clothed(posed, config.cloth_m, config.hair_m, rng)
    cameras = [_camera(k, config, rng) for k in range(config.num_cameras)]
    views = [_depth(camera, skin, body, config, rng) for camera in cameras]
    to_scan = cameras[0].cam_from_world
    points, normals = (tuple(view[k] for view in views) for k in range(2))
    turn = SE3(to_scan.R, np.zeros(3))
    return SimulatedScan(tuple(to_scan.apply(p) for p in points), tuple(turn.apply(n) for n in normals), posed, to_scan)


def _camera(k: int, config: ScanConfig, rng: np.random.Generator) -> Camera:
    """A depth camera at the height of the chest that looks at the person's middle; 320 x 240 pixels, upright."""
    angle = 2 * np.pi * k / config.num_cameras + rng.uniform(-0.1, 0.1) - np.pi / 2
    centre = np.array([config.distance_m * np.cos(angle), config.distance_m * np.sin(angle), 1.3])
    forward = np.array([0.0, 0.0, 0.9]) - centre
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    world_from_cam = np.stack([right, np.cross(forward, right), forward], axis=1)
    lens = Lens("pinhole", (240, 320), (250.0, 250.0), (119.5, 159.5))
    return Camera(f"depth{k}", lens, SE3(world_from_cam, centre).inverse())


def _depth(
    camera: Camera, skin: np.ndarray, body: BodyModel, config: ScanConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """World points and normals that one camera measures."""
    width, height = camera.lens.size_px
    rays = camera.lens.unproject(np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(float))
    rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True) @ camera.world_from_cam.R.T
    far, normals = _floor(camera, rays, config.floor)
    raster, _ = see(camera, skin, body.faces, camera.lens.size_px)
    shown = np.full((height, width), -1)
    shown[raster.window] = raster.face_idx
    on = shown >= 0
    a, b, c = (skin[body.faces[shown[on], k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normals[on] = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    ahead = np.einsum("nc,nc->n", normals[on], rays[on])
    far[on] = np.einsum("nc,nc->n", normals[on], a - camera.centre) / ahead
    grazing = on.copy()
    grazing[on] = ahead > -0.15  # sensors measure nothing on what they see from the side
    far[grazing | _holes(camera, skin, config.num_holes, rng)] = np.nan
    far = far + config.sigma_m * _noise(far.shape, config.smooth_share, rng)
    seen = np.isfinite(far)
    return camera.centre + far[seen][:, None] * rays[seen], normals[seen]


def _floor(camera: Camera, rays: np.ndarray, floor: bool) -> tuple[np.ndarray, np.ndarray]:
    """Distances along the rays to the floor, as far as 4 m, and its normals."""
    far = np.full(rays.shape[:-1], np.nan)
    if floor:
        down = rays[..., 2] < -0.05
        far[down] = -camera.centre[2] / rays[down][:, 2]
        far[far > 4.0] = np.nan
    return far, np.broadcast_to([0.0, 0.0, 1.0], rays.shape).copy()


def _holes(camera: Camera, skin: np.ndarray, count: int, rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """Discs around random places of the person in which nothing is measured."""
    width, height = camera.lens.size_px
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    middles = camera.project(skin[rng.integers(0, len(skin), count)])
    radii = rng.uniform(*_HOLE_PX, count)
    apart = np.hypot(x[..., None] - middles[:, 0], y[..., None] - middles[:, 1])
    return (apart < radii).any(axis=-1)


def _noise(shape: tuple[int, ...], smooth_share: float, rng: np.random.Generator) -> np.ndarray:
    """Unit normal noise of which a share is smooth."""
    smooth = gaussian_filter(rng.normal(size=shape), _SMOOTH_PX, mode="wrap") * (2 * np.sqrt(np.pi) * _SMOOTH_PX)
    return np.sqrt(1 - smooth_share) * rng.normal(size=shape) + np.sqrt(smooth_share) * smooth
