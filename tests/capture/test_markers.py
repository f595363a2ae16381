"""Markers: corners of rendered boards are found where the lens puts them, and nothing is found where nothing is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rendered import facing, render

from capture.charuco import Grid, homographies
from capture.checkerboard import find_checkerboard
from capture.finder import TargetFinder
from capture.markers import MarkerPoints, load_markers
from capture.prints import target_image
from capture.stills import list_stills, read_still
from capture.targets import Target
from core.cameras import Lens
from core.errors import InputError
from core.files import write_npz
from core.transforms import SE3

DICTIONARY = "DICT_4X4_1000"
PINHOLE = Lens("pinhole", (480, 360), (300.0, 300.0), (239.5, 179.5))
FISHEYE = Lens("fisheye", (400, 400), (150.0, 150.0), (199.5, 199.5), (0.02, -0.005, 0.0, 0.0))
BOARD = Target("board", "charuco", "static", (6, 5), 0.1, 0.075, DICTIONARY, 0)
TAG = Target("tag", "marker", "static", marker_m=0.2, dictionary=DICTIONARY, first_marker=40)


@pytest.mark.parametrize(
    ("lens", "pose"),
    [
        (PINHOLE, facing(BOARD, [0.3, -0.4, 0.2], [0.1, -0.05, 0.8])),
        (PINHOLE, facing(BOARD, [0.1, 0.2, 2.0], [0.0, 0.0, 1.2])),
        # 60 degrees off the axis of a fisheye, where straight lines are far from straight
        (FISHEYE, facing(BOARD, [0.0, 0.6, 0.0], [0.55, 0.1, 0.4])),
        (FISHEYE, facing(BOARD, [0.2, 0.1, 0.4], [0.0, 0.0, 0.35])),
    ],
)
def test_board_corners_are_where_the_lens_puts_them(lens: Lens, pose: SE3, rng: np.random.Generator) -> None:
    image = render(BOARD, lens, pose, rng)
    truth = lens.project(pose.apply(BOARD.points_m))
    found = TargetFinder({"board": BOARD}).find(image)
    visible = lens.contains(truth, 8.0).sum()
    error = np.linalg.norm(found.xy_px - truth[found.point_idx], axis=-1)
    assert len(found) >= 0.8 * visible
    # 2 gray levels of noise on edges of 100: a fit of some 100 pixels is good to a few hundredths of a pixel
    assert np.median(error) < (0.02 if lens is PINHOLE else 0.06)  # a fisheye bends the edges of small squares
    assert error.max() < (0.1 if lens is PINHOLE else 0.2)
    # the stated uncertainty has a floor for what real prints add, so that rendered ones stay inside it
    assert np.sqrt((error**2 / 2 / found.sigma_px.astype(float) ** 2).mean()) < 1.2
    assert np.median(found.sigma_px) < 0.05


def test_a_board_that_leaves_the_picture_gives_the_corners_that_are_in_it(rng: np.random.Generator) -> None:
    pose = facing(BOARD, [0.0, 0.2, 0.0], [0.5, 0.1, 0.7])
    found = TargetFinder({"board": BOARD}).find(render(BOARD, PINHOLE, pose, rng))
    truth = PINHOLE.project(pose.apply(BOARD.points_m))
    assert 0 < len(found) < BOARD.num_points
    assert np.linalg.norm(found.xy_px - truth[found.point_idx], axis=-1).max() < 0.1


def test_a_single_marker_gives_its_four_corners(rng: np.random.Generator) -> None:
    pose = facing(TAG, [0.3, -0.2, 0.5], [0.1, 0.1, 0.9])
    found = TargetFinder({"tag": TAG}).find(render(TAG, PINHOLE, pose, rng), frame_idx=7)
    assert found.point_idx.tolist() == [0, 1, 2, 3]
    assert found.frame_idx.tolist() == [7] * 4
    error = found.xy_px - PINHOLE.project(pose.apply(TAG.points_m))
    assert np.abs(error).max() < 3 * found.sigma_px.max()


def test_boards_and_markers_of_one_dictionary_are_told_apart() -> None:
    second = replace(BOARD, id="second", first_marker=15)
    rig = Target("rig", "rig", "carried", panels=(second, TAG), target_from_panel=(SE3.identity(), SE3.identity()))
    scene = np.full((400, 900), 200, np.uint8)
    for target, x in ((BOARD, 20), (second, 350), (TAG, 700)):
        picture = target_image(target, 500.0)
        scene[40 : 40 + picture.shape[0], x : x + picture.shape[1]] = picture
    found = TargetFinder({"board": BOARD, "rig": rig}).find(scene)
    assert found.target_ids == ("board", "rig")
    board, parts = found.of_target("board"), found.of_target("rig")
    np.testing.assert_allclose(board.xy_px, BOARD.points_m[:, :2] * 500 + [19.5, 39.5], atol=0.05)
    assert parts.point_idx.tolist() == list(range(24))
    np.testing.assert_allclose(parts.xy_px[:20], BOARD.points_m[:, :2] * 500 + [349.5, 39.5], atol=0.05)
    assert not len(found.of_target("elsewhere"))


def test_an_inverted_board_is_found() -> None:
    inverted = replace(BOARD, inverted=True)
    picture = target_image(inverted, 500.0, margin_m=0.05)
    assert len(TargetFinder({"board": inverted}).find(picture)) == BOARD.num_points
    assert not len(TargetFinder({"board": BOARD}).find(picture))


def test_a_marker_seen_twice_belongs_to_nobody() -> None:
    picture = target_image(TAG, 500.0, margin_m=0.05)
    assert len(TargetFinder({"tag": TAG}).find(picture)) == 4
    assert not len(TargetFinder({"tag": TAG}).find(np.hstack([picture, picture])))


def test_noise_holds_no_targets(rng: np.random.Generator) -> None:
    finder = TargetFinder({"board": BOARD, "tag": TAG})
    for blur in (1, 3, 8):
        noise = cv2.GaussianBlur(rng.integers(0, 256, (300, 400)).astype(np.float32), (0, 0), blur)
        noise = (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)
        assert not len(finder.find(noise))


def test_covered_chessboard_corners_are_left_out() -> None:
    picture = target_image(BOARD, 500.0, margin_m=0.05)
    where = BOARD.points_m[7, :2] * 500 + 24.5
    cv2.circle(picture, where.round().astype(int).tolist(), 8, 128, -1)
    found = TargetFinder({"board": BOARD}).find(picture)
    assert sorted(set(range(20)) - set(found.point_idx.tolist())) == [7]


def test_homographies_take_the_points_where_they_were_given(rng: np.random.Generator) -> None:
    xy = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]) + rng.normal(0, 0.1, (5, 4, 2))
    px = 50 * xy + rng.normal(0, 2, xy.shape)
    p = np.einsum("mij,mkj->mki", homographies(xy, px), np.concatenate([xy, np.ones((5, 4, 1))], axis=-1))
    np.testing.assert_allclose(p[..., :2] / p[..., 2:], px, atol=1e-9)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_grid_knows_the_corners_around_each_marker(legacy: bool) -> None:
    grid = Grid.of(replace(BOARD, grid=(5, 6), legacy=legacy))
    for corners, near in zip(grid.marker_xy, grid.near_corner, strict=True):
        inside = near[near >= 0]
        distance = np.abs(grid.corner_xy[inside] - corners.mean(axis=0))
        np.testing.assert_allclose(distance, 0.5, atol=1e-6)  # OpenCV keeps boards in float32


def test_a_table_survives_the_file(tmp_path: Path) -> None:
    table = TargetFinder({"board": BOARD, "tag": TAG}).find(target_image(BOARD, 500.0, margin_m=0.05), 3)
    table.save(tmp_path / "m.npz")
    again = load_markers(tmp_path / "m.npz")
    assert again.target_ids == ("board", "tag")
    for name in ("frame_idx", "target", "point_idx", "xy_px", "sigma_px"):
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name))
    assert len(MarkerPoints.concatenate([table, again], table.target_ids)) == 40
    assert not len(MarkerPoints.concatenate([], ["a"]))


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "m.npz", {"frame_idx": np.zeros(3)})
    with pytest.raises(InputError, match="no array"):
        load_markers(tmp_path / "m.npz")
    MarkerPoints.empty(["a"]).save(tmp_path / "m.npz")
    assert not len(load_markers(tmp_path / "m.npz"))
    columns = {k: np.zeros(2, np.int32) for k in ("frame_idx", "target", "point_idx", "sigma_px")}
    write_npz(tmp_path / "m.npz", columns | {"xy_px": np.zeros((3, 2)), "target_ids": np.array(["a"])})
    with pytest.raises(InputError, match="do not fit together"):
        load_markers(tmp_path / "m.npz")


def test_a_checkerboard_is_found_or_not_at_all() -> None:
    target = Target("lens", "checkerboard", "lens", (4, 7), 0.06)
    points, xy, sigma = find_checkerboard(target_image(target, 400.0, margin_m=0.06), target)
    assert len(points) == len(xy) == len(sigma) == 28
    assert not len(find_checkerboard(np.full((100, 100), 90, np.uint8), target)[0])


@pytest.mark.slow
def test_real_checkerboards_are_found(shared: Path) -> None:
    target = Target("lens", "checkerboard", "lens", (4, 7), 0.06)
    stills = list_stills(shared / "data/pose2sim_single/calibration/intrinsics/cam03")
    found = [len(find_checkerboard(read_still(path), target)[0]) == 28 for path in stills]
    assert sum(found) >= 4
