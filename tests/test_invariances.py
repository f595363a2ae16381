"""Geometry that must not depend on where the world's origin is or how it is turned, for worlds drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from calibration.registration import register
from calibration.resection import pose_candidates
from calibration.smoothing import smooth_way
from core.cameras import Camera, Lens, Rig
from core.distortion import radial_limit
from core.skeletons import COCO_17
from core.transforms import SE3, geodesic, so3_exp, so3_log
from dataset.features import frame_features
from fitting.points import triangulate_points
from fitting.stand_in import stand_in_body

_LENS = Lens("radtan", (800, 600), (600.0, 610.0), (400.0, 300.0), (-0.15, 0.03, 0.001, -0.001, 0.0))
seeds = st.integers(0, 2**32 - 1)


def any_world(rng: np.random.Generator) -> SE3:
    """Turned anyhow, up to 20 m away."""
    axis = rng.standard_normal(3)
    return SE3.from_rotvec(rng.uniform(0, np.pi) * axis / np.linalg.norm(axis), rng.uniform(-20, 20, 3))


def rig_around(rng: np.random.Generator, num_views: int) -> Rig:
    """Cameras three to six metres from the origin that look at it, at least half a radian apart."""
    cameras = []
    for k, angle in enumerate(np.linspace(0, np.pi, num_views) + rng.uniform(0, 1)):
        centre = rng.uniform(3, 6) * np.array([np.cos(angle), np.sin(angle), rng.uniform(-0.3, 0.6)])
        z = -centre / np.linalg.norm(centre)
        x = np.cross(z, [0, 0, 1.0])
        x /= np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z])
        cameras.append(Camera(f"cam{k}", _LENS, SE3(R, -R @ centre)))
    return Rig(tuple(cameras))


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(3, 6))
def test_points_turn_with_the_world(seed: int, num_views: int) -> None:
    rng = np.random.default_rng(seed)
    rig, world = rig_around(rng, num_views), any_world(rng)
    moved = Rig(tuple(Camera(c.id, c.lens, c.cam_from_world @ world.inverse()) for c in rig))
    truth = rng.uniform(-0.8, 0.8, (6, len(COCO_17), 3))
    xy = rig.project(truth) + rng.normal(0, 1.0, (num_views, 6, len(COCO_17), 2))
    found, turned = (triangulate_points(r, xy, np.ones(xy.shape[:-1]), COCO_17) for r in (rig, moved))
    np.testing.assert_array_equal(found.valid, turned.valid)
    np.testing.assert_allclose(turned.xyz_m, world.apply(found.xyz_m), atol=1e-5)
    expected = world.R @ found.covariance @ world.R.T
    np.testing.assert_allclose(turned.covariance, expected, atol=1e-3 * expected.max())


@settings(max_examples=40, deadline=None)
@given(seeds, st.booleans(), st.integers(8, 40))
def test_a_camera_is_found_from_any_points(seed: int, planar: bool, num: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.5, 0.5, (num, 3)) * [1, 1, 0 if planar else 1]
    target = any_world(rng)
    turn = rng.standard_normal(3)
    truth = SE3.from_rotvec(rng.uniform(0.3, 1.0) * turn / np.linalg.norm(turn), np.array([0.1, -0.1, 2.0]))
    if planar:
        assume(abs(truth.R[2, 2]) > 0.2)  # edge on, a plane tells nothing
    in_cam = truth.apply(points)
    rays = in_cam / np.linalg.norm(in_cam, axis=-1, keepdims=True)
    for frame in (SE3.identity(), target):
        found = pose_candidates(frame.apply(points), rays)
        expected = truth @ frame.inverse()
        off = min(np.linalg.norm(pose.apply(frame.apply(points)) - in_cam, axis=-1).max() for pose in found)
        assert off < 1e-4
        assert min(geodesic(pose.R, expected.R) for pose in found) < 1e-3


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(6, 40), st.floats(0.05, 50.0))
def test_a_map_of_any_scale_is_laid_onto_its_room(seed: int, num: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    world, points = any_world(rng), rng.uniform(-1, 1, (num, 3))
    room = scale * (points @ world.R.T) + world.t
    wrong = rng.permutation(num)[: num // 4]
    room[wrong] += scale * rng.uniform(1, 3, (len(wrong), 3))
    found = register(points, room, np.full(num, 0.003 * scale))
    assert found.scale == pytest.approx(scale, rel=0.01)
    assert geodesic(found.world_from_map.R, world.R) < 0.02
    assert not found.inlier[wrong].any() and found.inlier.sum() == num - len(wrong)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_a_body_turns_about_its_root(seed: int) -> None:
    rng = np.random.default_rng(seed)
    body, world = stand_in_body(), any_world(rng)
    shaped = body.with_shape(rng.normal(size=10))
    R = so3_exp(rng.normal(0, 0.5, (3, 24, 3)))
    transl = rng.normal(size=(3, 3))
    posed = shaped.with_rotations(R, transl)
    turned = R.copy()
    turned[:, 0] = world.R @ R[:, 0]
    root = posed.joints[:, 0]
    again = shaped.with_rotations(turned, transl + world.apply(root) - root)
    np.testing.assert_allclose(again.joints, world.apply(posed.joints), atol=1e-9)
    np.testing.assert_allclose(again.mesh(), world.apply(posed.mesh()), atol=1e-9)
    bones = np.linalg.norm(np.diff(posed.joints[:, [1, 4, 7, 10]], axis=1), axis=-1)
    np.testing.assert_allclose(bones, np.broadcast_to(bones[:1], bones.shape), atol=1e-12)  # no pose stretches a leg


@settings(max_examples=10, deadline=None)
@given(seeds, st.floats(-1000.0, 1000.0))
def test_a_smoothed_way_turns_with_the_world_and_its_clock(seed: int, later_s: float) -> None:
    rng = np.random.default_rng(seed)
    t_s = np.arange(60) / 30
    place = np.stack([np.sin(2 * t_s), np.cos(t_s), 0.2 * t_s], axis=-1)
    measured = SE3(so3_exp(np.outer(t_s, rng.normal(size=3)) + rng.normal(0, 0.01, (60, 3))), place)
    measured = SE3(measured.R, measured.t + rng.normal(0, 0.005, (60, 3)))
    covariance = np.tile(np.diag([1e-4] * 3 + [25e-6] * 3), (60, 1, 1))
    known = rng.random(60) > 0.2
    world = any_world(rng)
    one = smooth_way(t_s, measured, covariance, known)
    other = smooth_way(t_s + later_s, SE3(world.R @ measured.R, world.apply(measured.t)), covariance, known)
    np.testing.assert_array_equal(one.valid, other.valid)
    np.testing.assert_array_equal(one.used, other.used)
    np.testing.assert_allclose(
        other.world_from_cam.t[one.valid], world.apply(one.world_from_cam.t[one.valid]), atol=1e-5
    )
    np.testing.assert_allclose(other.world_from_cam.R[one.valid], world.R @ one.world_from_cam.R[one.valid], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(-np.pi, np.pi), st.tuples(st.floats(-50, 50), st.floats(-50, 50)))
def test_frame_vectors_know_no_direction_and_no_place(seed: int, yaw: float, floor: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 0.02, (20, 24, 3))
    joints = np.array([0, 0, 1]) + rng.uniform(-0.5, 0.5, (1, 24, 3)) + np.cumsum(steps, axis=0)
    poses, contacts = rng.normal(0, 0.5, (20, 24, 3)), (rng.random((20, 4)) > 0.5).astype(float)
    turn = so3_exp(np.array([0.0, 0.0, yaw]))
    moved, turned = joints @ turn.T + np.array([*floor, 0.0]), poses.copy()
    turned[:, 0] = so3_log(turn @ so3_exp(poses[:, 0]))
    one, other = (frame_features(p, j, contacts, 30.0) for p, j in ((poses, joints), (turned, moved)))
    np.testing.assert_allclose(one, other, atol=2e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["pinhole", "radtan", "rational", "fisheye"]),
    st.lists(st.floats(-0.25, 0.25), min_size=8, max_size=8), st.floats(200, 3000), seeds,
)  # fmt: skip
@example(
    "rational", [0.0, 0.25, 0.0, 0.0, 0.0, 0.0, -0.25, 0.0], 200.0, 0
)  # a pole shortly behind the picture's corner
@example("rational", [0.0] * 6 + [0.25, 2e-309], 200.0, 0)  # a leading coefficient over which nothing can be divided
def test_what_a_lens_sees_it_can_point_at(model: str, drawn: list[float], focal: float, seed: int) -> None:
    size = {"pinhole": 0, "radtan": 5, "rational": 8, "fisheye": 4}[model]
    k = np.array(drawn)[:size]
    if model in ("radtan", "rational"):
        k[2:4] *= 0.02  # decentring
    lens = Lens(model, (1280, 960), (focal, 1.01 * focal), (640.0, 470.0), tuple(k.tolist()))  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    angle, turn = rng.uniform(0, 0.9, 50), rng.uniform(0, 2 * np.pi, 50)
    limit = radial_limit(model, lens.distortion)
    within = angle < 0.7 * limit if model == "fisheye" else np.tan(angle) < 0.7 * limit
    rays = np.stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)], axis=-1)[within]
    px = lens.project(rays * rng.uniform(0.3, 30, (len(rays), 1)))
    assert np.isfinite(px).all()
    np.testing.assert_allclose(lens.unproject(px), rays, atol=1e-5)
