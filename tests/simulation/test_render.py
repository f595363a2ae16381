"""The renderer against projection: what is drawn must lie where the lens says, row by row."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest
import trimesh

from capture.targets import Target, charuco_board
from core.cameras import Lens
from core.transforms import SE3
from simulation.picture import Canvas, Grain, develop
from simulation.render import MeshScene, QuadScene, lens_samples, quads_block, window_of
from simulation.scenery import Scenery, looking
from simulation.textures import Atlas, plain

PINHOLE = Lens("pinhole", (320, 240), (200.0, 200.0), (159.5, 119.5))
RADTAN = Lens("radtan", (320, 240), (180.0, 181.0), (162.0, 117.0), (-0.12, 0.01, 5e-4, -3e-4, 0.0))
FISHEYE = Lens("fisheye", (320, 320), (125.0, 125.0), (158.0, 161.0), (0.02, -0.008, 0.001, 0.0))
BOARD = Target("board", "charuco", "static", (5, 4), 0.2, 0.14, "DICT_4X4_250")


def _board_scene(world_from_board: SE3) -> QuadScene:
    scenery = Scenery()
    quads = scenery.printed(BOARD, world_from_board)
    return QuadScene(Atlas(scenery.pictures), quads)


def _facing(distance_m: float, tilt: float) -> SE3:
    """A board before a camera at the origin, its middle on the axis."""
    pose = SE3.from_rotvec(np.array([tilt, 0.6 * tilt, 0.2]), np.zeros(3))
    return SE3(pose.R, np.array([0, 0, distance_m]) - pose.R @ np.array([0.5, 0.4, 0.0]))


def _corner_errors(picture: np.ndarray, true_px: np.ndarray) -> np.ndarray:
    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    corners, ids, _, _ = cv2.aruco.CharucoDetector(charuco_board(BOARD)).detectBoard(gray)
    assert ids is not None
    fine = cv2.cornerSubPix(
        gray, corners.reshape(-1, 1, 2).astype(np.float32), (3, 3), (-1, -1), (cv2.TERM_CRITERIA_EPS, 50, 1e-3)
    )
    return fine.reshape(-1, 2) - true_px[ids.ravel()]


@pytest.mark.parametrize("lens", [PINHOLE, RADTAN, FISHEYE], ids=lambda lens: lens.model)
@pytest.mark.parametrize("per_side", [1, 2])
def test_corners_are_drawn_where_the_lens_projects_them(lens: Lens, per_side: int) -> None:
    pose = _facing(1.3 * lens.focal_px[0] / 200, 0.3)  # as large in every picture
    layer = _board_scene(pose).look(lens_samples(lens, per_side), SE3.identity())
    errors = _corner_errors(develop(layer.colour, per_side), lens.project(pose.apply(BOARD.points_m)))
    assert len(errors) >= 8
    # a corner's localisation in an 8-bit picture is good for some hundredths of a pixel; bias is what matters here
    assert np.median(np.linalg.norm(errors, axis=1)) < 0.1
    assert np.abs(errors.mean(axis=0)).max() < 0.05


def test_a_window_that_no_ray_of_hits_anything_stays_empty() -> None:
    window = (0, 0, 4, 3)  # a corner of the picture: a box around a board holds such places where the board is oblique
    layer = _board_scene(_facing(4.0, 0.3)).look(lens_samples(PINHOLE, 2), SE3.identity(), window)
    assert layer.colour.shape == (6, 8, 3)
    assert np.isinf(layer.distance_m).all()


def test_each_row_is_seen_from_its_own_pose() -> None:
    board, height = _facing(1.2, 0.25), PINHOLE.size_px[1]
    share = np.linspace(0, 1, height, endpoint=False)
    start, sweep = np.array([-0.04, 0.0, 0.0]), np.array([0.08, 0.02, 0.03])
    turn = 0.05 * share[:, None] * np.array([0.3, 0.0, 1.0])
    by_row = SE3.from_rotvec(turn, start + share[:, None] * sweep)
    picture = _board_scene(board).look(lens_samples(PINHOLE, 1), by_row).colour
    points = board.apply(BOARD.points_m)
    row = np.full(len(points), height / 2)
    for _ in range(20):  # the row that sees a point is the row it is projected to
        cam_from_world = by_row[np.clip(np.rint(row), 0, height - 1).astype(int)].inverse()
        px = PINHOLE.project(cam_from_world.apply(points))
        row = px[:, 1]
    errors = _corner_errors(picture, px)
    assert np.median(np.linalg.norm(errors, axis=1)) < 0.12
    # a global shutter at the middle of the frame would be wrong by pixels
    middle = PINHOLE.project(by_row[height // 2].inverse().apply(points))
    assert np.abs(middle - px).max() > 2.0


def test_samples_are_the_lens_own_rays() -> None:
    for lens in (RADTAN, FISHEYE):
        samples = lens_samples(lens, 2)
        u, v = np.meshgrid(np.arange(2 * lens.size_px[0]), np.arange(2 * lens.size_px[1]))
        px = (np.stack([u, v], axis=-1) + 0.5) / 2 - 0.5
        seen = np.abs(samples.rays).sum(axis=-1) > 0
        # float32 rays: 6e-8 x focal length
        assert np.abs(lens.project(samples.rays[seen].astype(float)) - px[seen]).max() < 1e-3
        nominal = 1 / (2 * lens.focal_px[0])
        assert samples.angle[lens.size_px[1], lens.size_px[0]] == pytest.approx(nominal, rel=0.03)


def test_a_pattern_finer_than_a_pixel_is_gray_and_not_moire() -> None:
    scenery = Scenery()
    fine = (np.indices((512, 512)).sum(axis=0) % 2).astype(np.uint8) * 255
    wall = scenery.add(cv2.merge([fine] * 3))
    quad = scenery.rectangle((-4, -4, 6), (8, 0, 0), (0, 8, 0), wall, glows=True)  # 15.6 mm texels, 30 mm pixels
    far = QuadScene(Atlas(scenery.pictures), quad).look(lens_samples(PINHOLE, 1), SE3.identity())
    centre = far.colour[90:150, 110:210, 0].astype(float) / lens_samples(PINHOLE, 1).light[90:150, 110:210]
    assert centre.mean() == pytest.approx(127.5, abs=3)
    assert centre.std() < 5  # against 127 of the pattern itself


def test_a_ball_covers_its_solid_angle_and_hides_what_is_behind() -> None:
    ball = trimesh.creation.icosphere(4, radius=0.5)
    vertices = np.asarray(ball.vertices) + np.array([0, 0, 3.0])
    mesh = MeshScene(vertices, np.asarray(ball.faces), np.full((len(vertices), 3), 200.0))
    layer = mesh.look(lens_samples(PINHOLE, 2), SE3.identity())
    # a cone of half angle asin(r/d) on the axis: a disc of radius f tan(asin(r/d)) px
    radius = PINHOLE.focal_px[0] * np.tan(np.arcsin(0.5 / 3.0))
    assert np.isfinite(layer.distance_m).sum() / 4 == pytest.approx(np.pi * radius**2, rel=0.01)
    assert layer.distance_m.min() == pytest.approx(2.5, abs=1e-3)
    points = np.array([[0.0, 0, 4.0], [0.0, 0, 2.0], [1.5, 0, 4.0]])
    assert mesh.blocked(np.zeros(3), points, 0.05).tolist() == [True, False, False]


def test_a_thing_is_drawn_only_where_it_is_nearer() -> None:
    scenery = Scenery()
    red, blue = scenery.add(plain((0, 0, 255))), scenery.add(plain((255, 0, 0)))
    atlas = Atlas(scenery.pictures)
    back = scenery.rectangle((-3, -3, 3), (6, 0, 0), (0, 6, 0), red, glows=True)
    pillar = scenery.rectangle((-0.2, -3, 1.5), (0.4, 0, 0), (0, 6, 0), blue, glows=True)
    samples = lens_samples(PINHOLE, 1)
    still = QuadScene(atlas, back).look(samples, SE3.identity())
    canvas = Canvas(still, 1).and_thing(
        partial(QuadScene(atlas, pillar).look, samples, SE3.identity()), (0, 0, 320, 240)
    )
    thing = scenery.rectangle((-0.5, -0.2, 2.0), (1.0, 0, 0), (0, 0.4, 0), red, glows=True)
    moving = QuadScene(Atlas([plain((0, 255, 0))] * 2), thing)
    window = window_of(PINHOLE, thing.vertices_m)
    picture = canvas.with_thing(partial(moving.look, samples, SE3.identity()), window)
    assert picture[120, 160].argmax() == 0  # the pillar, nearer
    assert picture[120, 120].argmax() == 1  # the thing, before the wall
    assert picture[120, 40].argmax() == 2 and canvas.picture[120, 120].argmax() == 2
    assert quads_block(pillar, np.zeros(3), np.array([[0.0, 0, 2], [1.0, 0, 2]]), 0.01).tolist() == [True, False]


def test_grain_is_noise_of_the_size_asked_and_the_same_every_time() -> None:
    image = np.full((240, 320, 3), 120, np.uint8)
    first, again = (Grain(np.random.default_rng(3), (320, 240), 2.0).on(image, 7) for _ in range(2))
    other = Grain(np.random.default_rng(3), (320, 240), 2.0).on(image, 8)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert (first.astype(float) - image).std() == pytest.approx(np.sqrt(4 + 1 / 12), rel=0.03)


def test_looking_points_the_axis_at_the_aim_with_the_picture_upright() -> None:
    pose = looking(np.array([2.0, 1.0, 2.2]), np.array([0.0, 0.0, 0.5]))
    np.testing.assert_allclose(pose.inverse().apply(np.array([0.0, 0.0, 0.5]))[:2], 0, atol=1e-12)
    assert pose.R[2, 1] < 0 and pose.R[2, 0] == pytest.approx(0)  # y down, x level
    assert np.linalg.det(pose.R) == pytest.approx(1)
