"""Targets: what is printed is what is found, and impossible descriptions are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.prints import target_image
from capture.targets import SCHEMA, Target, aruco_dictionary, charuco_board, load_targets, save_targets
from core.errors import InputError
from core.transforms import SE3

CHARUCO: dict[str, Any] = {
    "id": "floor",
    "kind": "charuco",
    "mounting": "static",
    "squares": [5, 4],
    "square_m": 0.1,
    "marker_m": 0.075,
    "dictionary": "DICT_5X5_1000",
    "first_marker": 20,
}
MARKER: dict[str, Any] = {
    "id": "tag",
    "kind": "marker",
    "mounting": "static",
    "marker_id": 3,
    "size_m": 0.2,
    "dictionary": "DICT_5X5_1000",
}
POSE = {"rotvec": [0.0, 0.5, 0.0], "t_m": [1.0, 2.0, 3.0]}
RIG: dict[str, Any] = {
    "id": "rig",
    "kind": "rig",
    "mounting": "carried",
    "panels": [
        {k: v for k, v in (CHARUCO | {"target_from_panel": POSE, "first_marker": 100}).items() if k != "mounting"},
        {k: v for k, v in (MARKER | {"target_from_panel": POSE}).items() if k not in ("mounting", "id")},
    ],
}


def written(tmp_path: Path, *targets: dict[str, Any]) -> Path:
    path = tmp_path / "targets.json"
    path.write_text(json.dumps({"schema": SCHEMA, "targets": targets}))
    return path


def test_a_charuco_target_is_found_where_its_points_say() -> None:
    target = Target.from_json(CHARUCO)
    picture = target_image(target, 1003.0, margin_m=0.05)
    corners, ids, _, _ = cv2.aruco.CharucoDetector(charuco_board(target)).detectBoard(picture)
    px_per_m = 100 / target.square_m  # 1003 px/m makes 100.3 px a square, rounded to whole pixels
    expected = (target.points_m[ids.ravel(), :2] + 0.05) * px_per_m - 0.5
    assert sorted(ids.ravel()) == list(range(target.num_points))
    # an ideal print: OpenCV's subpixel search stops at 0.1 px (CharucoParameters' default)
    assert np.abs(corners.reshape(-1, 2) - expected).max() < 0.1
    assert picture.shape == (400 + 100, 500 + 100)


def test_a_charuco_target_agrees_with_opencv_about_points_and_ids() -> None:
    target = Target.from_json(CHARUCO)
    board = charuco_board(target)
    np.testing.assert_allclose(target.points_m, board.getChessboardCorners(), atol=1e-7)
    assert tuple(board.getIds().ravel()) == target.marker_ids


def test_a_marker_is_found_where_its_points_say() -> None:
    target = Target.from_json(MARKER)
    picture = target_image(target, 700.0, margin_m=0.1)
    corners, ids, _ = cv2.aruco.ArucoDetector(aruco_dictionary(target.dictionary)).detectMarkers(picture)
    assert ids.ravel().tolist() == [3]
    # unrefined corners are whole pixels of the black side of the edge
    expected = (target.points_m[:, :2] + 0.1) * 700 - 0.5
    assert np.abs(corners[0].reshape(-1, 2) - expected).max() <= 1.0


def test_a_checkerboard_picture_has_its_corners() -> None:
    target = Target.from_json(
        {"id": "lens", "kind": "checkerboard", "mounting": "lens", "corners": [4, 7], "square_m": 0.06}
    )
    picture = target_image(target, 500.0, margin_m=0.06)
    found, corners = cv2.findChessboardCornersSB(picture, target.grid)
    assert found
    expected = (target.points_m[:, :2] + 0.06) * 500 - 0.5
    distance = np.linalg.norm(corners.reshape(-1, 1, 2) - expected, axis=-1).min(axis=0)
    assert distance.max() < 0.2
    assert target.size_m == pytest.approx((5 * 0.06, 8 * 0.06))


def test_an_inverted_target_is_the_negative() -> None:
    plain, inverted = (Target.from_json(MARKER | {"inverted": flag}) for flag in (False, True))
    np.testing.assert_array_equal(
        target_image(plain, 500.0, margin_m=0.1), 255 - target_image(inverted, 500.0, margin_m=0.1)
    )


def test_a_rig_is_its_panels_placed() -> None:
    target = Target.from_json(RIG)
    board, tag = target.panels
    pose = SE3.from_rotvec(np.array(POSE["rotvec"]), np.array(POSE["t_m"]))
    np.testing.assert_allclose(target.points_m[:12], pose.apply(board.points_m))
    np.testing.assert_allclose(target.points_m[12:], pose.apply(tag.points_m))
    assert target.parts == ((board, 0), (tag, 12))
    assert tag.id == "rig/1"
    assert tag.mounting == "carried"
    with pytest.raises(InputError, match="not planar"):
        target_image(target, 100.0)


@settings(max_examples=40, deadline=None)
@given(
    grid=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    square_m=st.floats(0.01, 1.0),
    share=st.floats(0.1, 0.9),
    first=st.integers(0, 900),
    rotvec=st.tuples(*[st.floats(-1.5, 1.5)] * 3),
    flags=st.tuples(st.booleans(), st.booleans()),
)
def test_a_target_survives_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    grid: tuple[int, int],
    square_m: float,
    share: float,
    first: int,
    rotvec: tuple[float, float, float],
    flags: tuple[bool, bool],
) -> None:
    pose = SE3.from_rotvec(np.array(rotvec), np.array([1.0, -2.0, 0.0]))
    board = Target(
        "b",
        "charuco",
        "world",
        grid,
        square_m,
        share * square_m,
        "DICT_5X5_1000",
        first,
        *flags,
        world_from_target=pose,
    )
    path = tmp_path_factory.mktemp("targets") / "targets.json"
    save_targets(path, [board])
    again = load_targets(path)["b"]
    assert again.world_from_target is not None
    np.testing.assert_allclose(again.world_from_target.matrix, pose.matrix, atol=1e-12)
    fields = (
        "id",
        "kind",
        "mounting",
        "grid",
        "square_m",
        "marker_m",
        "dictionary",
        "first_marker",
        "legacy",
        "inverted",
    )
    assert [getattr(again, f) for f in fields] == [getattr(board, f) for f in fields]


def test_a_rig_survives_the_file(tmp_path: Path) -> None:
    target = Target.from_json(RIG)
    save_targets(tmp_path / "t.json", [target])
    again = load_targets(tmp_path / "t.json")["rig"]
    np.testing.assert_allclose(again.points_m, target.points_m, atol=1e-12)
    assert again.marker_ids == target.marker_ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "circle"}, "unknown kind 'circle'"),
        ({"sqare_m": 1}, "unknown key 'sqare_m'"),
        ({"mounting": "glued"}, "unknown mounting 'glued'"),
        ({"mounting": "world"}, "no world_from_target"),
        ({"squares": [1, 4]}, "is no board"),
        ({"squares": [1000000, 1000000]}, "is no board"),
        ({"squares": "ab"}, "wrong kind"),
        ({"square_m": float("nan")}, "square_m is nan"),
        ({"marker_m": 0.2}, "does not fit"),
        ({"dictionary": "DICT_9X9"}, "no such ArUco dictionary"),
        ({"dictionary": "Board"}, "no such ArUco dictionary"),
        ({"first_marker": 995}, "are not in DICT_5X5_1000"),
        ({"first_marker": -1}, "are not in DICT_5X5_1000"),
        ({"world_from_target": {"rotvec": [0, 0], "t_m": [0, 0, 0]}}, "three finite numbers"),
    ],
)
def test_an_impossible_target_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_targets(written(tmp_path, CHARUCO | change))


def test_shared_markers_are_refused_across_a_family_of_dictionaries(tmp_path: Path) -> None:
    tag = MARKER | {"marker_id": 22, "dictionary": "DICT_5X5_50"}
    with pytest.raises(InputError, match="marker 22 of DICT_5X5_50 is on both floor and tag"):
        load_targets(written(tmp_path, CHARUCO, tag))
    other = tag | {"dictionary": "DICT_4X4_50"}
    assert list(load_targets(written(tmp_path, CHARUCO, other))) == ["floor", "tag"]


def test_repeated_ids_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="target ids repeat: floor"):
        load_targets(written(tmp_path, CHARUCO, CHARUCO | {"first_marker": 500}))
    (tmp_path / "targets.json").write_text('{"targets": []}')
    with pytest.raises(InputError, match="schema"):
        load_targets(tmp_path / "targets.json")
    with pytest.raises(InputError, match="an object"):
        load_targets(written(tmp_path, 3))  # type: ignore[arg-type]


def test_a_picture_too_large_is_refused() -> None:
    with pytest.raises(InputError, match="lower the resolution"):
        target_image(Target.from_json(CHARUCO), 1e6)
