"""Silhouettes that another tool found."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from capture.masks import list_masks, read_mask
from core.errors import InputError


def write_mask(path: Path, gray: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), gray)


def test_a_mask_says_where_the_person_is_and_where_nothing_is_said(tmp_path: Path) -> None:
    write_mask(tmp_path / "0.png", np.array([[0, 1, 127], [128, 129, 255]], np.uint8))
    mask = read_mask(tmp_path / "0.png")
    assert mask.person.tolist() == [[False, True, True], [False, True, True]]
    assert mask.ignored.tolist() == [[False, False, False], [True, False, False]]


def test_frames_are_the_last_numbers_of_the_names(tmp_path: Path) -> None:
    for name in ("cam1_10.png", "cam1_9.png", "cam1_000011.jpg"):
        write_mask(tmp_path / name, np.zeros((2, 2), np.uint8))
    assert list(list_masks(tmp_path)) == [9, 10, 11]
    assert list_masks(tmp_path, 12)[11].name == "cam1_000011.jpg"


@pytest.mark.parametrize(
    ("name", "says"),
    [("person.png", "no frame number"), ("a0003.png", "of frame 3 too"), ("7.png", "of frame 7, the view has 7")],
)
def test_a_mask_of_no_one_frame_is_refused(name: str, says: str, tmp_path: Path) -> None:
    for each in ("003.png", name):
        write_mask(tmp_path / each, np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match=says):
        list_masks(tmp_path, 7)
