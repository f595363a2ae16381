"""Where the simulated cameras stand, what lenses they have, and how the lens board is held before them."""

from __future__ import annotations

import numpy as np

from core.arrays import Float
from core.cameras import Camera, Lens, Rig
from core.transforms import SE3, so3_exp
from simulation.scenery import looking

ROOM_M = np.array([5.0, 4.0, 2.6])
HIGH_M, LOW_M = 2.2, 1.1
_FROM_WALL_M = 0.2
_STILL_ANGLES = (0.0, 0.55, 0.95)  # of the lens board off the axis, as a share of the half field of view


def perspective_lens(rng: np.random.Generator, size_px: tuple[int, int], hfov_deg: float) -> Lens:
    """A radial-tangential lens near a nominal field of view, with barrel distortion and an off-centre axis."""
    width, height = size_px
    k1 = rng.uniform(-0.16, -0.06)
    # the field of view is that of the distorted picture's half width
    x = np.tan(np.deg2rad(hfov_deg / 2))
    k2 = 0.25 * k1**2 + rng.uniform(0.0, 0.004)  # keeps the radial curve rising over the whole picture
    focal = width / 2 / (x * (1 + k1 * x**2 + k2 * x**4)) * rng.uniform(0.98, 1.03)
    centre = np.array([(width - 1) / 2, (height - 1) / 2]) + rng.uniform(-0.012, 0.012, 2) * width
    tangential = rng.uniform(-6e-4, 6e-4, 2)
    distortion = (k1, k2, float(tangential[0]), float(tangential[1]), 0.0)
    return Lens("radtan", size_px, (focal, focal * rng.uniform(0.999, 1.001)), (centre[0], centre[1]), distortion)


def fisheye_lens(rng: np.random.Generator, size_px: tuple[int, int]) -> Lens:
    """A Kannala-Brandt lens of about 150 degrees across the picture."""
    focal = size_px[0] / np.deg2rad(150.0) * rng.uniform(0.99, 1.02)
    centre = (np.array(size_px) - 1) / 2 + rng.uniform(-0.01, 0.01, 2) * size_px[0]
    distortion = (rng.uniform(-0.02, 0.03), rng.uniform(-0.012, 0.004), rng.uniform(-0.003, 0.003), 0.0)
    return Lens("fisheye", size_px, (focal, focal), (centre[0], centre[1]), distortion)


def room_rig(rng: np.random.Generator, num_cameras: int, size_px: tuple[int, int]) -> Rig:
    """Cameras around the walls, high and low by turns; high ones look at the floor's middle, low ones level."""
    cameras = []
    for i in range(num_cameras):
        bearing = np.pi / 4 + 2 * np.pi * i / num_cameras + rng.uniform(-0.08, 0.08)
        ray = np.array([np.cos(bearing), np.sin(bearing)])
        reach = np.min((ROOM_M[:2] / 2 - _FROM_WALL_M) / np.abs(ray))
        high = i % 2 == 0
        height = (HIGH_M if high else LOW_M) + rng.uniform(-0.08, 0.08)
        place = np.array([*(reach * ray), height])
        # low cameras look level, so that they see the boards on floor and ceiling
        aim = np.array([*rng.uniform(-0.25, 0.25, 2), 0.55 if high else 1.05])
        pose = looking(place, aim, roll_rad=rng.uniform(-0.03, 0.03))
        cameras.append(Camera(f"room{i:02d}", perspective_lens(rng, size_px, 85.0), pose.inverse()))
    return Rig(tuple(cameras))


def photo_poses(rng: np.random.Generator, num_photos: int, table_m: Float[np.ndarray, "2 3"]) -> SE3:
    """`world_from_cam` of hand-held stills: half from under the edge of the table, half across the room.

    The former see the boards under the table and on the ceiling together, the latter those of floor and ceiling.

    Args:
        table_m: lower and upper corner of the table's top.
    """
    poses = []
    middle, half = table_m.mean(axis=0), (table_m[1] - table_m[0]) / 2
    for i in range(num_photos):
        bearing = 2 * np.pi * i / num_photos + rng.uniform(-0.1, 0.1)
        ray = np.array([np.cos(bearing), np.sin(bearing)])
        if i % 2:
            edge = np.min(half[:2] / np.maximum(np.abs(ray), 1e-6))
            place = middle[:2] + (edge + rng.uniform(0.05, 0.25)) * ray
            place = np.clip(place, -ROOM_M[:2] / 2 + 0.25, ROOM_M[:2] / 2 - 0.25)
            inwards = (middle[:2] - place) / np.linalg.norm(middle[:2] - place)
            low = np.array([*place, rng.uniform(0.08, 0.2)])
            poses.append(looking(low, low + np.array([*(0.35 * inwards), 1.0]), roll_rad=rng.uniform(-0.5, 0.5)))
        else:
            reach = np.min((ROOM_M[:2] / 2 - rng.uniform(0.25, 0.6)) / np.abs(ray))
            place = np.array([*(reach * ray), rng.uniform(1.0, 1.7)])
            aim = np.array([*rng.uniform(-0.4, 0.4, 2), place[2] + rng.uniform(-0.1, 0.35)])
            # held upright: the taller picture has both floor and ceiling in it
            poses.append(looking(place, aim, roll_rad=np.pi / 2 + rng.uniform(-0.1, 0.1)))
    return SE3.stack(poses) if poses else SE3.identity(0)


def lens_board_poses(rng: np.random.Generator, lens: Lens, num_stills: int, board_m: tuple[float, float]) -> SE3:
    """`cam_from_board` of a board held before a camera: over the whole picture, near and far, tilted every way."""
    width = lens.size_px[0]
    edge = lens.unproject(np.array([[0.0, lens.centre_px[1]], [width - 1.0, lens.centre_px[1]]]))
    half_view = float(np.arccos(np.clip(edge[:, 2], -1, 1)).min())
    wide = lens.model == "fisheye"
    poses = []
    for i in range(num_stills):
        share = _STILL_ANGLES[0] if i < 3 else _STILL_ANGLES[1 + i % 2]
        off_axis = share * (half_view if wide else half_view * 0.62)
        azimuth = 2 * np.pi * (i * 0.382 + rng.uniform(-0.03, 0.03))
        distance = rng.uniform(0.34, 0.46) if wide else rng.uniform(0.5, 0.85)
        towards = so3_exp(off_axis * np.array([np.cos(azimuth), np.sin(azimuth), 0.0]))
        tilt_axis = rng.uniform(0, 2 * np.pi)
        tilt = so3_exp(np.deg2rad(rng.uniform(12, 38)) * np.array([np.cos(tilt_axis), np.sin(tilt_axis), 0.0]))
        roll = so3_exp(np.array([0.0, 0.0, rng.uniform(-0.5, 0.5)]))
        R = towards @ tilt @ roll
        middle = distance * towards[:, 2]
        poses.append(SE3(R, middle - R @ np.array([board_m[0] / 2, board_m[1] / 2, 0.0])))
    return SE3.stack(poses)
