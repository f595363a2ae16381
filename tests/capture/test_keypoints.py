"""2D joints: every layout gives the same arrays, damaged ones are refused by name, and one person can be followed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from capture.detectors import guess_format, openpose, read_keypoints
from capture.keypoints import Keypoints2d, best_person, clean, load_keypoints, select_person
from core.errors import InputError
from core.files import write_npz
from core.skeletons import BODY_25, BODY_25B, COCO_17


def sample(rng: np.random.Generator, frames: int = 4, people: int = 2) -> Keypoints2d:
    xy = rng.uniform(1, 900, (frames, people, 17, 2)).round(2)
    score = rng.uniform(0.05, 1, (frames, people, 17)).round(2)
    score[1, 1], score[2, 0, 3], score[3] = 0, 0, 0
    return clean(xy, score, COCO_17)


def rows(keypoints: Keypoints2d, frame: int, person: int) -> list[list[float]]:
    data = np.concatenate([keypoints.xy_px, keypoints.score[..., None]], axis=-1)
    return np.nan_to_num(data[frame, person].astype(float)).tolist()


def people_of(keypoints: Keypoints2d, frame: int) -> list[int]:
    return [p for p in range(keypoints.num_people) if keypoints.valid[frame, p].any()]


def write_coco(path: Path, keypoints: Keypoints2d, *, images: bool) -> Path:
    entries = [
        {"image_id": 1 + f, "keypoints": [v for row in rows(keypoints, f, p) for v in row], "score": 1.0}
        for f in range(keypoints.num_frames)
        for p in people_of(keypoints, f)
    ]
    data: Any = entries
    if images:
        data = {"annotations": entries, "images": [{"id": 1 + f} for f in range(keypoints.num_frames)]}
    path.write_text(json.dumps(data))
    return path


def write_mmpose(path: Path, keypoints: Keypoints2d) -> Path:
    frames = [
        {
            "frame_id": f + 1,
            "instances": [
                {
                    "keypoints": [row[:2] for row in rows(keypoints, f, p)],
                    "keypoint_scores": [row[2] for row in rows(keypoints, f, p)],
                }
                for p in people_of(keypoints, f)
            ],
        }
        for f in range(keypoints.num_frames)
    ]
    path.write_text(json.dumps({"meta_info": {}, "instance_info": frames}))
    return path


def assert_same(found: Keypoints2d, expected: Keypoints2d) -> None:
    assert found.skeleton is expected.skeleton
    np.testing.assert_allclose(found.xy_px, expected.xy_px, atol=1e-3)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-3)


def test_openpose_folders_are_read_as_written(tmp_path: Path, rng: np.random.Generator) -> None:
    keypoints = sample(rng)
    openpose.write(tmp_path / "cam", keypoints, "cam2")
    assert sorted(p.name for p in (tmp_path / "cam").iterdir())[0] == "cam2_000000000000_keypoints.json"
    assert guess_format(tmp_path / "cam") == "openpose"
    assert_same(read_keypoints(tmp_path / "cam", "openpose", COCO_17), keypoints)


def test_an_openpose_folder_with_holes_keeps_its_frame_numbers(tmp_path: Path, rng: np.random.Generator) -> None:
    keypoints = sample(rng)
    openpose.write(tmp_path / "cam", keypoints, "v")
    (tmp_path / "cam/v_000000000001_keypoints.json").unlink()
    found = read_keypoints(tmp_path / "cam", "openpose", COCO_17)
    assert found.num_frames == 4
    assert not found.valid[1].any()
    np.testing.assert_allclose(found.xy_px[2], keypoints.xy_px[2], atol=1e-3)


def test_coco_files_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    keypoints = sample(rng)
    path = write_coco(tmp_path / "c.json", keypoints, images=False)
    assert guess_format(path) == "coco"
    found = read_keypoints(path, "coco", COCO_17)
    assert_same(found, Keypoints2d(keypoints.xy_px[:3], keypoints.score[:3], COCO_17))  # nobody in the last frame
    annotated = read_keypoints(write_coco(tmp_path / "a.json", keypoints, images=True), "coco", COCO_17)
    assert annotated.num_frames == 4
    np.testing.assert_allclose(annotated.score, keypoints.score / 2, atol=1e-3)  # flags: 2 is sure


def test_mmpose_files_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    keypoints = sample(rng)
    path = write_mmpose(tmp_path / "m.json", keypoints)
    assert guess_format(path) == "mmpose"
    assert_same(read_keypoints(path, "mmpose", COCO_17), keypoints)


@settings(max_examples=30, deadline=None)
@given(
    xy=hnp.arrays(np.float64, (2, 2, 17, 2), elements=st.floats(allow_nan=True, allow_infinity=True)),
    score=hnp.arrays(np.float64, (2, 2, 17), elements=st.floats(allow_nan=True, allow_infinity=True)),
)
def test_whatever_a_detector_writes_becomes_found_or_missing(
    tmp_path_factory: pytest.TempPathFactory, xy: np.ndarray, score: np.ndarray
) -> None:
    keypoints = clean(xy, score, COCO_17)
    np.testing.assert_array_equal(keypoints.valid, np.isfinite(keypoints.xy_px).all(axis=-1))
    np.testing.assert_array_equal(keypoints.valid, np.isfinite(keypoints.xy_px).any(axis=-1))
    np.testing.assert_array_equal(keypoints.valid, np.isfinite(score) & keypoints.valid)
    assert ((keypoints.score >= 0) & (keypoints.score <= 1)).all()
    path = tmp_path_factory.mktemp("k") / "k.npz"
    keypoints.save(path)
    again = load_keypoints(path)
    np.testing.assert_array_equal(again.xy_px, keypoints.xy_px)
    np.testing.assert_array_equal(again.score, keypoints.score)
    assert again.skeleton is COCO_17


def test_zeros_are_missing() -> None:
    keypoints = clean(np.zeros((1, 1, 17, 2)), np.full((1, 1, 17), 0.9), COCO_17)
    assert not keypoints.valid.any()


def test_another_number_of_joints_is_refused_with_what_would_fit(tmp_path: Path, rng: np.random.Generator) -> None:
    keypoints = sample(rng)
    openpose.write(tmp_path / "cam", keypoints, "v")
    message = r"v_000000000000_keypoints\.json: it has 17 joints a person, BODY_25 has 25.*COCO_17"
    with pytest.raises(InputError, match=message):
        read_keypoints(tmp_path / "cam", "openpose", BODY_25)
    with pytest.raises(InputError, match=r"c\.json: it has 17 joints"):
        read_keypoints(write_coco(tmp_path / "c.json", keypoints, images=False), "coco", BODY_25)
    with pytest.raises(InputError, match=r"m\.json: it has 17 joints"):
        read_keypoints(write_mmpose(tmp_path / "m.json", keypoints), "mmpose", BODY_25)


@pytest.mark.parametrize(
    ("layout", "content", "message"),
    [
        ("coco", "[", "not a JSON file"),
        ("coco", "[]", "no list of COCO"),
        ("coco", '[{"image_id": "x", "keypoints": [1]}]', "holds no number"),
        ("coco", '[{"image_id": 1, "keypoints": "abc"}]', "not a list of numbers"),
        ("coco", '[{"image_id": 1, "keypoints": [[1], [2, 3]]}]', "not a list of numbers"),
        ("coco", '[{"image_id": 1, "keypoints": []}, {"image_id": 99999999999, "keypoints": []}]', "frame numbers"),
        ("coco", '{"annotations": [{"image_id": 1}], "images": [{"id": 2}]}', "not listed"),
        ("mmpose", "{}", "no MMPose"),
        ("mmpose", '[{"frame_id": "a", "instances": []}]', "whole numbers"),
        ("mmpose", '[{"instances": [{"keypoints": []}]}]', "cannot be read"),
        ("mmpose", '[{"instances": [5]}]', "cannot be read"),
        ("mmpose", '[{"frame_id": 0, "instances": []}, {"frame_id": 9999999, "instances": []}]', "frame numbers"),
        ("yolo", "{}", "no such layout"),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, layout: str, content: str, message: str) -> None:
    (tmp_path / "k.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_keypoints(tmp_path / "k.json", layout, COCO_17)


@pytest.mark.parametrize("content", ["[1, 2]", '{"people": 3}', '{"people": [3]}', '{"people": [{"id": 1}]}'])
def test_hostile_frames_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "f_1.json").write_text(content)
    with pytest.raises(InputError, match=r"f_1\.json"):
        read_keypoints(tmp_path, "openpose", COCO_17)


def test_an_empty_person_is_nobody(tmp_path: Path) -> None:
    (tmp_path / "f_1.json").write_text('{"people": [{}]}')
    assert not read_keypoints(tmp_path, "openpose", COCO_17).valid.any()


def test_folders_that_are_not_openpose_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read_keypoints(tmp_path / "none", "openpose", COCO_17)
    with pytest.raises(InputError, match="no JSON files"):
        read_keypoints(tmp_path, "openpose", COCO_17)
    (tmp_path / "frame.json").write_text("{}")
    with pytest.raises(InputError, match="no frame number"):
        read_keypoints(tmp_path, "openpose", COCO_17)
    with pytest.raises(InputError, match="is a folder"):
        read_keypoints(tmp_path / "frame.json", "openpose", COCO_17)
    with pytest.raises(InputError, match="neither COCO results nor MMPose"):
        guess_format(tmp_path / "frame.json")
    (tmp_path / "frame.json").unlink()
    for name in ("a_1.json", "b_01.json"):
        (tmp_path / name).write_text('{"people": []}')
    with pytest.raises(InputError, match="another file has frame number"):
        read_keypoints(tmp_path, "openpose", COCO_17)


def test_damaged_arrays_are_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "k.npz", {"xy_px": np.zeros((2, 1, 17, 2))})
    with pytest.raises(InputError, match="no array 'score'"):
        load_keypoints(tmp_path / "k.npz")
    arrays = {"xy_px": np.zeros((2, 1, 25, 2)), "score": np.zeros((2, 1, 25)), "skeleton": np.array("COCO_17")}
    write_npz(tmp_path / "k.npz", arrays)
    with pytest.raises(InputError, match="are no COCO_17 joints"):
        load_keypoints(tmp_path / "k.npz")


def test_one_person_is_followed_through_changes_of_order(rng: np.random.Generator) -> None:
    body = rng.uniform(0, 100, (17, 2))
    big = np.stack([3 * body + [100 + 5 * t, 50] for t in range(10)])
    small = np.stack([body + np.array([600 - 5 * t, 300]) for t in range(10)])
    order = rng.integers(0, 2, 10)
    xy = np.where(order[:, None, None, None] == 0, np.stack([big, small], axis=1), np.stack([small, big], axis=1))
    score = np.ones((10, 2, 17))
    score[6] = 0  # lost for one frame
    keypoints = clean(xy, score, COCO_17)
    chosen = select_person(keypoints)
    np.testing.assert_array_equal(chosen, np.where(np.arange(10) == 6, -1, order))
    followed = best_person(keypoints)
    assert followed.num_people == 1
    keep = np.arange(10) != 6
    np.testing.assert_allclose(followed.xy_px[keep, 0], big[keep], rtol=1e-6)
    assert np.isnan(followed.xy_px[6]).all()


def test_the_followed_person_is_kept_when_a_larger_one_comes(rng: np.random.Generator) -> None:
    body = rng.uniform(1, 100, (17, 2))
    xy = np.stack([np.stack([body + 2 * t, 5 * body + 500]) for t in range(8)])
    score = np.ones((8, 2, 17))
    score[:3, 1] = 0
    assert (select_person(clean(xy, score, COCO_17)) == 0).all()


def test_real_detections_are_read(shared: Path) -> None:
    folder = shared / "data/pose2sim_single/pose2d_body25b_associated/cam01_json"
    found = read_keypoints(folder, "openpose", BODY_25B)
    assert found.xy_px.shape == (100, 1, 25, 2)
    assert found.valid.mean() > 0.9
    nose = found.xy_px[0, 0, BODY_25B.idx("nose")]
    np.testing.assert_allclose(nose, [505.232, 431.63], atol=1e-3)
    everyone = read_keypoints(shared / "data/pose2sim_single/pose2d_body25b/cam01_json", "openpose", BODY_25B)
    same = np.nanmedian(np.linalg.norm(best_person(everyone).xy_px - found.xy_px, axis=-1))
    assert same < 1e-3


@pytest.mark.parametrize("first", [2, 30])
def test_numbers_that_begin_nowhere_are_refused_instead_of_shifting_the_person_in_time(
    first: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    openpose.write(tmp_path / "o", sample(rng), "cam")
    for path in sorted((tmp_path / "o").iterdir(), reverse=True):
        number = int(path.name.split("_")[1]) + first
        path.rename(path.with_name(f"cam_{number:012d}_keypoints.json"))
    with pytest.raises(InputError, match=f"its frames begin at number {first}, so frame 0 is not known"):
        read_keypoints(tmp_path / "o", "openpose", COCO_17)
