from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cameras import Camera, Lens, Rig
from core.errors import InputError
from core.transforms import SE3

LENSES = {
    "pinhole": Lens("pinhole", (1280, 960), (600.0, 610.0), (640.0, 470.0)),
    "radtan": Lens("radtan", (1280, 960), (900.0, 905.0), (640.0, 470.0), (-0.3, 0.1, 0.001, -0.002, 0.01)),
    "rational": Lens(
        "rational", (1280, 960), (700.0, 705.0), (640.0, 470.0), (0.1, 0.05, 0.001, -0.001, 0.01, 0.2, 0.03, 0.002)
    ),
    "fisheye": Lens("fisheye", (1280, 960), (300.0, 310.0), (640.0, 470.0), (-0.02, 0.005, -0.003, 0.0005)),
}


def points_seen_by(lens: Lens, rng: np.random.Generator, n: int = 60) -> np.ndarray:
    """Points in front of the camera that project well inside the picture, between 0.5 m and 5 m away."""
    px = rng.uniform(0.05, 0.95, size=(n, 2)) * np.array(lens.size_px)
    return lens.unproject(px) * rng.uniform(0.5, 5.0, size=(n, 1))


@pytest.mark.parametrize("model", LENSES)
def test_unproject_undoes_project(model: str, rng: np.random.Generator) -> None:
    lens = LENSES[model]
    px = rng.uniform(0, 1, size=(200, 2)) * (np.array(lens.size_px) - 1)
    rays = lens.unproject(px)
    assert np.isfinite(rays).all()
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1.0, atol=1e-12)
    np.testing.assert_allclose(lens.project(rays * 3.0), px, atol=1e-7)


@pytest.mark.parametrize("model", LENSES)
def test_jacobians_are_the_derivatives(model: str, rng: np.random.Generator) -> None:
    lens = LENSES[model]
    points = points_seen_by(lens, rng)
    px, by_point, by_params = lens.project_with_jacobian(points)
    np.testing.assert_allclose(px, lens.project(points))
    step = 1e-6
    numeric_point = np.stack(
        [(lens.project(points + d) - lens.project(points - d)) / (2 * step) for d in step * np.eye(3)], axis=-1
    )
    np.testing.assert_allclose(by_point, numeric_point, rtol=1e-5, atol=1e-4)
    params = lens.params
    numeric_params = np.stack(
        [
            (lens.with_params(params + d).project(points) - lens.with_params(params - d).project(points)) / (2 * step)
            for d in step * np.eye(len(params))
        ],
        axis=-1,
    )
    np.testing.assert_allclose(by_params, numeric_params, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("model", LENSES)
def test_projection_equals_opencv(model: str, rng: np.random.Generator) -> None:
    lens = LENSES[model]
    points = points_seen_by(lens, rng)
    distortion = np.array(lens.distortion)
    if model == "fisheye":
        ahead = points[:, 2] > 0.1  # cv2.fisheye divides by z
        points = points[ahead]
        expected, _ = cv2.fisheye.projectPoints(points[None], np.zeros(3), np.zeros(3), lens.K, distortion)
    else:
        expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), lens.K, distortion)
    np.testing.assert_allclose(lens.project(points), expected.reshape(-1, 2), atol=1e-6)


def test_points_behind_a_perspective_lens_are_missing() -> None:
    px = LENSES["radtan"].project(np.array([[0.1, 0.0, -1.0], [0.0, 0.0, 1.0]]))
    assert np.isnan(px[0]).all()
    np.testing.assert_allclose(px[1], LENSES["radtan"].centre_px)


def test_points_past_the_turning_point_of_the_polynomial_are_missing() -> None:
    # with k1 = -0.3 alone the image radius falls again beyond r = 1 / sqrt(0.9): a plausible pixel, but a false one
    lens = Lens("radtan", (1280, 960), (900.0, 900.0), (640.0, 480.0), (-0.3, 0.0, 0.0, 0.0, 0.0))
    assert np.isfinite(lens.project(np.array([1.0, 0.0, 1.0]))).all()
    assert np.isnan(lens.project(np.array([1.1, 0.0, 1.0]))).all()


def test_points_past_a_pole_of_the_rational_lens_are_missing() -> None:
    # with k4 = -0.8 alone the denominator vanishes at r = 1 / sqrt(0.8): beyond it the picture is turned round
    lens = Lens("rational", (640, 480), (500.0, 500.0), (320.0, 240.0), (0.0, 0.0, 0.0, 0.0, 0.0, -0.8, 0.0, 0.0))
    assert np.isfinite(lens.project(np.array([1.1, 0.0, 1.0]))).all()
    assert np.isnan(lens.project(np.array([[1.15, 0.0, 1.0], [2.0, 0.0, 1.0]]))).all()


def test_a_point_straight_behind_a_fisheye_is_missing() -> None:
    px = LENSES["fisheye"].project(np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert np.isnan(px[:2]).all()
    np.testing.assert_allclose(px[2], LENSES["fisheye"].centre_px)


def test_a_fisheye_sees_behind_its_own_plane() -> None:
    lens = LENSES["fisheye"]
    px = lens.project(np.array([1.0, 0.0, -0.1]))
    np.testing.assert_allclose(lens.unproject(px), np.array([1.0, 0.0, -0.1]) / np.hypot(1, 0.1), atol=1e-9)


@given(st.floats(-np.pi, np.pi), st.floats(1e-8, 1.3))
def test_fisheye_keeps_the_azimuth(azimuth: float, theta: float) -> None:
    lens = Lens("fisheye", (500, 500), (200.0, 200.0), (250.0, 250.0), (0.01, -0.002, 0.0, 0.0))
    point = np.array([np.sin(theta) * np.cos(azimuth), np.sin(theta) * np.sin(azimuth), np.cos(theta)])
    offset = lens.project(point) - 250.0
    assert np.hypot(*offset) * np.hypot(*point[:2]) == pytest.approx(float(offset @ point[:2]), rel=1e-9)


def test_scaled_keeps_pixel_centres_at_integers() -> None:
    lens = LENSES["pinhole"]
    point = np.array([0.2, -0.1, 1.0])
    half = lens.scaled(0.5)
    # pixel (1, 1) of the half picture covers pixels 2 and 3 of the full one, whose middle is 2.5
    np.testing.assert_allclose(half.project(point), (lens.project(point) + 0.5) / 2 - 0.5)


def test_lens_refuses_what_is_no_lens() -> None:
    with pytest.raises(InputError, match="5 distortion coefficients, not 4"):
        Lens("radtan", (10, 10), (1.0, 1.0), (5.0, 5.0), (0.0,) * 4)
    with pytest.raises(InputError, match="must be positive"):
        Lens("pinhole", (10, 10), (-1.0, 1.0), (5.0, 5.0))


def some_rig(rng: np.random.Generator) -> Rig:
    poses = SE3.from_rotvec(rng.normal(scale=0.2, size=(4, 3)), rng.normal((0, 0, 4), size=(4, 3)))
    return Rig(tuple(Camera(f"cam{i}", lens, poses[i]) for i, lens in enumerate(LENSES.values())))


def test_rig_survives_json_exactly(rng: np.random.Generator) -> None:
    rig = some_rig(rng)
    again = Rig.from_json(json.loads(json.dumps(rig.to_json())))
    assert again.ids == rig.ids
    for a, b in zip(rig, again, strict=True):
        assert a.lens == b.lens
        np.testing.assert_array_equal(a.cam_from_world.matrix, b.cam_from_world.matrix)


def test_moving_the_world_moves_no_pixel(rng: np.random.Generator) -> None:
    rig, points = some_rig(rng), rng.normal(scale=0.3, size=(10, 3))
    new_from_world = SE3.from_rotvec(np.array([0.3, 1.0, -0.4]), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(rig.moved(new_from_world).project(new_from_world.apply(points)), rig.project(points))


def test_rig_names_what_it_does_not_hold(rng: np.random.Generator) -> None:
    rig = some_rig(rng)
    with pytest.raises(InputError, match="cam9: the rig has no such camera"):
        rig["cam9"]
    with pytest.raises(InputError, match="camera ids repeat"):
        Rig((rig["cam0"], rig["cam0"]))
    with pytest.raises(InputError, match="not a rig of this project"):
        Rig.from_json({"cameras": [{"id": "x"}]})


@pytest.mark.parametrize(
    ("R", "t"),
    [
        (np.diag([1.0, 1.0, -1.0]), np.zeros(3)),
        (2.0 * np.eye(3), np.zeros(3)),
        (np.eye(2), np.zeros(3)),
        (np.eye(3), np.array([0.0, np.nan, 0.0])),
    ],
    ids=["mirrored", "scaled", "flat", "nowhere"],
)
def test_a_pose_that_no_camera_can_have_is_refused(R: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> None:
    data = some_rig(rng).to_json()
    data["cameras"][1]["cam_from_world"] = {"R": R.tolist(), "t_m": t.tolist()}
    with pytest.raises(InputError, match=r"cam_from_world of cam1 is no rigid transform"):
        Rig.from_json(data)
