"""Boards of every kind: found where they are, numbered one way, refused where they cannot be what was declared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rendered import facing, render

from capture.april_grid import kalibr_from_target, read_kalibr_target, write_kalibr_target
from capture.charuco import Grid, MarkerSet, agreeing, detect_markers
from capture.checkerboard import find_checkerboard
from capture.finder import TargetFinder, refuse_contradicted
from capture.prints import target_image
from capture.stills import list_stills, read_still
from capture.targets import SCHEMA, Target, charuco_board, load_targets
from core.cameras import Lens
from core.errors import InputError
from core.files import write_json
from core.transforms import SE3

LENS = Lens("pinhole", (480, 360), (420.0, 420.0), (239.5, 179.5))
FISHEYE = Lens("fisheye", (400, 400), (150.0, 150.0), (199.5, 199.5), (0.02, -0.005, 0.0, 0.0))
CHARUCO = Target("board", "charuco", "static", (5, 6), 0.08, 0.06, "DICT_4X4_50", 2)
TAGS = Target("tags", "aprilgrid", "static", (4, 3), 0.104, 0.08, "DICT_APRILTAG_36h11")
CHECKER = Target("checker", "checkerboard", "carried", (6, 5), 0.06)
POSES = [[0.3, -0.4, 0.2], [0.1, 0.2, 2.0], [-0.4, 0.3, -1.4]]


def truth_of(target: Target, lens: Lens, pose: SE3) -> np.ndarray:
    return lens.project(pose.apply(target.points_m))


@pytest.mark.parametrize("target", [CHARUCO, replace(CHARUCO, legacy=True), TAGS, CHECKER], ids=lambda t: t.id)
@pytest.mark.parametrize("turn", POSES)
def test_every_board_is_found_and_numbered(target: Target, turn: list[float], rng: np.random.Generator) -> None:
    pose = facing(target, turn, [0.02, -0.01, 0.7])
    found = TargetFinder({target.id: target}).find(render(target, LENS, pose, rng))
    error = np.linalg.norm(found.xy_px - truth_of(target, LENS, pose)[found.point_idx], axis=-1)
    assert len(found) >= 0.85 * target.num_points
    assert np.median(error) < 0.03 and error.max() < 0.15
    assert (np.diff(found.point_idx) > 0).all()


def test_opencv_finds_the_same_corners_less_exactly(rng: np.random.Generator) -> None:
    for legacy in (False, True):
        board = replace(CHARUCO, legacy=legacy)
        pose = facing(board, POSES[0], [0.0, 0.0, 0.7])
        image = render(board, LENS, pose, rng)
        truth = truth_of(board, LENS, pose)
        corners, ids, _, _ = cv2.aruco.CharucoDetector(charuco_board(board)).detectBoard(image)
        found = TargetFinder({"board": board}).find(image)
        assert set(found.point_idx) >= set(ids.ravel())
        theirs = np.linalg.norm(corners.reshape(-1, 2) - truth[ids.ravel()], axis=-1)
        ours = np.linalg.norm(found.xy_px - truth[found.point_idx], axis=-1)
        assert np.median(ours) < 0.5 * np.median(theirs) < 0.2


@pytest.mark.parametrize(
    ("declared", "hint"),
    [
        (replace(CHARUCO, legacy=True), r"describe it with legacy false"),
        (replace(CHARUCO, grid=(6, 5)), r"describe it with squares \[5, 6\]"),
    ],
)
def test_a_board_described_wrongly_is_refused_with_the_right_description(
    declared: Target, hint: str, rng: np.random.Generator
) -> None:
    shown = replace(declared, legacy=not declared.legacy) if declared.legacy else CHARUCO
    against: list[str] = []
    sightings = 0
    for turn in POSES:
        seen = TargetFinder({"board": declared}).look(render(shown, LENS, facing(shown, turn, [0, 0, 0.7]), rng))
        sightings += len(seen.points) > 0
        against += seen.against.values()
    assert sightings == 0 and len(against) == len(POSES)
    with pytest.raises(InputError, match=rf"cam: 3 pictures show markers of board .*{hint}"):
        refuse_contradicted({"board": sightings}, {"board": against}, "cam")


def test_one_odd_picture_refuses_no_board() -> None:
    refuse_contradicted({"board": 40}, {"board": ["with legacy true"] * 3}, "cam")
    refuse_contradicted({"board": 2}, {"board": [""] * 2}, "cam")


def test_a_misread_marker_gives_no_corners(rng: np.random.Generator) -> None:
    pose = facing(CHARUCO, POSES[0], [0.0, 0.0, 0.7])
    image = render(CHARUCO, LENS, pose, rng)
    markers = detect_markers(image, CHARUCO.dictionary, CHARUCO.marker_ids).of(CHARUCO.marker_ids)
    assert len(markers.ids) == 15
    ids = markers.ids.copy()
    ids[ids == 0] = -1  # taken for another of the board, which is not seen itself
    misread = MarkerSet(np.where(ids == 14, 0, ids)[ids >= 0], markers.corners_px[ids >= 0])
    kept, believable = agreeing(misread, Grid.of(CHARUCO))
    assert believable and len(kept.ids) == len(misread.ids) - 1 and 0 not in kept.ids


def test_a_board_in_a_mirror_is_not_seen(rng: np.random.Generator) -> None:
    for target in (CHARUCO, TAGS):
        image = render(target, LENS, facing(target, POSES[0], [0.0, 0.0, 0.7]), rng)
        assert not len(TargetFinder({target.id: target}).find(np.ascontiguousarray(image[:, ::-1])))


def test_a_board_and_its_picture_on_a_screen_are_nobodys(rng: np.random.Generator) -> None:
    image = render(CHARUCO, LENS, facing(CHARUCO, POSES[0], [0.0, 0.0, 1.0]), rng)
    screen = cv2.resize(image, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    both = np.full((360, 900), 90, np.uint8)
    both[:, :480], both[: screen.shape[0], 490 : 490 + screen.shape[1]] = image, screen
    assert not len(TargetFinder({"board": CHARUCO}).find(both))


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_tags_may_be_turned_on_their_grid(quarter: int, rng: np.random.Generator) -> None:
    picture = target_image(TAGS, 500.0, margin_m=0.03)
    turned = picture.copy()
    tag = round(TAGS.marker_m * 500)
    for x, y in (TAGS.points_m[:, :2].reshape(3, 2, 4, 2, 2)[:, 1, :, 0].reshape(-1, 2) + 0.03) * 500:
        at = (slice(round(y), round(y) + tag), slice(round(x), round(x) + tag))
        turned[at] = np.rot90(picture[at], quarter)
    assert (turned != picture).any()
    blurred = cv2.GaussianBlur(turned, (0, 0), 0.7)
    found = TargetFinder({"tags": TAGS}).find(blurred)
    assert len(found) >= 40
    np.testing.assert_allclose(found.xy_px, (TAGS.points_m[found.point_idx, :2] + 0.03) * 500 - 0.5, atol=0.1)


def test_an_april_grid_is_kalibrs(tmp_path: Path) -> None:
    in_kalibr = kalibr_from_target(TAGS).apply(TAGS.points_m)
    # Kalibr's GridCalibrationTargetAprilgrid: row by row from the lower left, z out of the print
    steps = [np.array([0, 0.08, 0.104, 0.184, 0.208, 0.288, 0.312, 0.392])[: 2 * n] for n in TAGS.grid]
    x, y = np.meshgrid(*steps)
    np.testing.assert_allclose(in_kalibr, np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=-1), atol=1e-12)
    write_kalibr_target(tmp_path / "april.yaml", TAGS)
    again = read_kalibr_target(tmp_path / "april.yaml", "tags", "static")
    np.testing.assert_allclose(again.points_m, TAGS.points_m, atol=1e-12)
    assert again.marker_ids == TAGS.marker_ids == tuple(range(12))
    write_kalibr_target(tmp_path / "checker.yaml", CHECKER)
    assert read_kalibr_target(tmp_path / "checker.yaml", "checker", "carried").grid == CHECKER.grid
    with pytest.raises(InputError, match="board: Kalibr knows no charuco"):
        write_kalibr_target(tmp_path / "no.yaml", CHARUCO)
    (tmp_path / "circles.yaml").write_text("target_type: 'circlegrid'\n")
    with pytest.raises(InputError, match="circlegrid"):
        read_kalibr_target(tmp_path / "circles.yaml", "c", "lens")
    (tmp_path / "short.yaml").write_text("target_type: aprilgrid\ntagCols: 6\n")
    with pytest.raises(InputError, match="missing"):
        read_kalibr_target(tmp_path / "short.yaml", "c", "lens")


def test_an_april_grid_survives_the_file(tmp_path: Path) -> None:
    write_json(tmp_path / "t.json", {"schema": SCHEMA, "targets": [TAGS.to_json()]})
    again = load_targets(tmp_path / "t.json")["tags"]
    np.testing.assert_allclose(again.points_m, TAGS.points_m, atol=1e-12)
    assert again.size_m == pytest.approx(TAGS.size_m)


@pytest.mark.parametrize("dictionary", ["DICT_APRILTAG_36h11", "DICT_APRILTAG_16h5", "DICT_7X7_250"])
def test_single_markers_of_any_dictionary(dictionary: str, rng: np.random.Generator) -> None:
    tag = Target("tag", "marker", "static", marker_m=0.2, dictionary=dictionary, first_marker=7)
    pose = facing(tag, [0.3, -0.2, 0.5], [0.05, 0.05, 0.7])
    found = TargetFinder({"tag": tag}).find(render(tag, LENS, pose, rng))
    assert found.point_idx.tolist() == [0, 1, 2, 3]
    assert np.abs(found.xy_px - truth_of(tag, LENS, pose)).max() < 0.15


def test_a_symmetric_checkerboard_serves_lenses_alone(tmp_path: Path) -> None:
    board = Target("b", "checkerboard", "lens", (7, 5), 0.03)
    write_json(tmp_path / "t.json", {"schema": SCHEMA, "targets": [board.to_json()]})
    assert load_targets(tmp_path / "t.json")["b"].num_points == 35
    carried = replace(board, mounting="carried")
    write_json(tmp_path / "t.json", {"schema": SCHEMA, "targets": [carried.to_json()]})
    with pytest.raises(InputError, match="looks the same turned by half a turn"):
        load_targets(tmp_path / "t.json")


def test_a_part_of_a_checkerboard_serves_a_lens(rng: np.random.Generator) -> None:
    pose = facing(CHECKER, [0.1, 0.1, 0.3], [0.26, 0.0, 0.7])
    image = render(CHECKER, LENS, pose, rng)
    assert not len(find_checkerboard(image, CHECKER)[0])
    number, xy, _ = find_checkerboard(image, CHECKER, part=True)
    assert 9 <= len(number) < CHECKER.num_points
    truth = truth_of(CHECKER, LENS, pose)
    nearest = np.linalg.norm(xy[:, None] - truth, axis=-1).argmin(axis=1)
    assert np.linalg.norm(xy - truth[nearest], axis=-1).max() < 0.15
    # one rigid shift takes its numbering to the board's
    shift = CHECKER.points_m[nearest] - CHECKER.points_m[number]
    turned = CHECKER.points_m[nearest] + CHECKER.points_m[number]
    assert min(np.ptp(shift, axis=0).max(), np.ptp(turned, axis=0).max()) < 1e-9


def test_any_number_of_threads_gives_the_same(rng: np.random.Generator) -> None:
    pictures = [(k, render(CHARUCO, LENS, facing(CHARUCO, turn, [0, 0, 0.8]), rng)) for k, turn in enumerate(POSES)]
    finder = TargetFinder({"board": CHARUCO})
    alone, together = (list(finder.look_at_all(pictures, threads=n)) for n in (1, 3))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.points.xy_px, b.points.xy_px)
        np.testing.assert_array_equal(a.points.frame_idx, b.points.frame_idx)


@pytest.mark.slow
def test_real_lab_pictures(shared: Path) -> None:
    folder = shared / "data/caliscope_lab_aruco"
    tag = Target("tag", "marker", "carried", marker_m=0.2, dictionary="DICT_4X4_50", first_marker=0)
    finder = TargetFinder({"tag": tag})
    pictures = list_stills(folder / "aruco_extrinsic")
    found = [len(finder.find(read_still(path))) == 4 for path in pictures]
    assert sum(found) >= 31
    board = Target("board", "checkerboard", "lens", (9, 6), 0.03)
    shown = {
        path.name: len(find_checkerboard(read_still(path), board)[0])
        for path in list_stills(folder / "chessboard_intrinsic")
    }
    assert [name for name, count in shown.items() if count < 50] == ["cam_0_frame_000.jpg"]
