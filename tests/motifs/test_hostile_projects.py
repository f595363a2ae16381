"""Small files of other tools' projects that ask for endless memory, or hold numbers beyond every number."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from capture.detectors import coco, openpose
from core.errors import InputError
from core.skeletons import BODY_25, COCO_17
from motifs.projects.caliscope import _caliscope_joints
from motifs.projects.easymocap import _joints
from motifs.projects.freemocap import _freemocap_joints, _on_ground

PERSON = [[1.0, 2.0, 0.5]] * 25


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1, 33, 3), }"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3L,"),
        npy("{'descr': [], 'fortran_order': False, 'shape': (3,), }"),
        npy("{1: 2, 'a': 3}"),
        npz(),
        b"",
    ],
)
def test_freemocap_arrays_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npy"):
        _freemocap_joints(tmp_path / "a.npy", ["a"])


def test_freemocap_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("a = " + "9" * 5000)
    with pytest.raises(InputError, match=r"a\.toml: not TOML"):
        _on_ground(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"000000": [PERSON] * 2000, "999999": []}, "2000 people in one frame"),
        ({"000000": [PERSON] * 90, "999999": []}, "90 people in 1000000 frames"),
        ({"000000": [[[10**400, 2, 0.5]] * 25]}, "no annotation of EasyMocap"),
    ],
)
def test_easymocap_annotations_are_refused(files: dict, says: str, tmp_path: Path) -> None:
    for name, people in files.items():
        content = {"annots": [{"personID": 0, "keypoints": person} for person in people]}
        (tmp_path / "view").mkdir(exist_ok=True)
        (tmp_path / "view" / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=says):
        _joints(tmp_path, {}, {})


def test_openpose_files_of_a_crowd_and_a_far_frame_are_refused(tmp_path: Path) -> None:
    people = [{"pose_keypoints_2d": [1.0, 2.0, 0.5] * 25}] * 90
    (tmp_path / "a_000000000000_keypoints.json").write_text(json.dumps({"people": people}))
    (tmp_path / "a_000000999999_keypoints.json").write_text('{"people": []}')
    with pytest.raises(InputError, match="90 people in 1000000 frames"):
        openpose.read(tmp_path, BODY_25)


def test_coco_results_of_a_crowd_and_a_far_frame_are_refused(tmp_path: Path) -> None:
    person = {"category_id": 1, "keypoints": [1, 2, 0.5] * 17, "score": 1}
    results = [{"image_id": 0, **person}] * 90 + [{"image_id": 999_999, **person}]
    (tmp_path / "a.json").write_text(json.dumps(results))
    with pytest.raises(InputError, match="91 people in 1000000 frames"):
        coco.read(tmp_path / "a.json", COCO_17)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("inf,0,3,1,2\n", "line 2"),
        ("nan,0,3,1,2\n", "line 2"),
        (f"0,{'9' * 400},3,1,2\n", "line 2"),
        (f"0,{'9' * 5000},3,1,2\n", "line 2"),
        ("0,1000000000000,3,1,2\n", "it tells of"),
        ("0,-5,3,1,2\n", "it tells of"),
        ("".join(f"{camera},0,3,1,2\n" for camera in range(2000)), "1000 cameras"),
    ],
)
def test_caliscope_tables_are_refused(rows: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "xy.csv").write_text("cam_id,frame_index,point_id,img_loc_x,img_loc_y\n" + rows)
    with pytest.raises(InputError, match=says):
        _caliscope_joints(tmp_path / "xy.csv")
