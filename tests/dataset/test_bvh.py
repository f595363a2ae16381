"""BVH files: exact forward kinematics in any order of channels, and damaged files named by their line."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from core.errors import InputError
from dataset.importers.articulated import rate_of_frame_time
from dataset.importers.bvh import read_bvh

GOOD = """HIERARCHY
ROOT hips
{
  OFFSET 1 2 3
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT knee {
    OFFSET 0 -40 0
    CHANNELS 3 Yrotation Zrotation Xrotation
    End Site
    {
      OFFSET 0 -45 5
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
10 90 -5 10 20 30 5 6 7
11 91 -4 11 21 31 -5 -6 -7
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "take.bvh"
    path.write_text(text)
    return path


def test_joints_and_rotations_are_exact(tmp_path: Path) -> None:
    motion = read_bvh(written(tmp_path, GOOD))
    assert motion.names == ("hips", "knee", "knee_end") and motion.rate == 30
    hips = Rotation.from_euler("ZXY", [[10, 20, 30], [11, 21, 31]], degrees=True)
    knee = hips * Rotation.from_euler("YZX", [[5, 6, 7], [-5, -6, -7]], degrees=True)
    root = np.array([[10, 90, -5], [11, 91, -4.0]])  # the channels replace the root's OFFSET
    np.testing.assert_allclose(motion.positions[:, 0], root)
    np.testing.assert_allclose(motion.positions[:, 1], root + hips.apply([0, -40, 0]))
    np.testing.assert_allclose(motion.positions[:, 2], motion.positions[:, 1] + knee.apply([0, -45, 5]))
    np.testing.assert_allclose(motion.rotations[:, 1], knee.as_matrix(), atol=1e-12)


@given(
    st.sampled_from(["".join(p) for p in permutations("XYZ")]), st.lists(st.floats(-180, 180), min_size=3, max_size=3)
)
def test_any_order_of_rotations(tmp_path_factory: pytest.TempPathFactory, order: str, angles: list[float]) -> None:
    channels = " ".join(f"{axis}rotation" for axis in order)
    text = GOOD.replace("Yrotation Zrotation Xrotation\n", f"{channels}\n")
    text = text.replace("30 5 6 7", f"30 {angles[0]!r} {angles[1]!r} {angles[2]!r}")
    motion = read_bvh(written(tmp_path_factory.mktemp("bvh"), text))
    local = motion.rotations[0, 0].T @ motion.rotations[0, 1]
    np.testing.assert_allclose(local, Rotation.from_euler(order, angles, degrees=True).as_matrix(), atol=1e-9)


def test_position_channels_replace_the_offset_of_any_joint_axis_by_axis(tmp_path: Path) -> None:
    text = GOOD.replace(
        "CHANNELS 3 Yrotation Zrotation Xrotation", "CHANNELS 4 Yrotation Zrotation Xrotation Zposition"
    )
    text = text.replace("5 6 7\n", "5 6 7 9\n").replace("-5 -6 -7\n", "-5 -6 -7 8\n")
    motion = read_bvh(written(tmp_path, text))
    offset = motion.rotations[1, 0].T @ (motion.positions[1, 1] - motion.positions[1, 0])
    np.testing.assert_allclose(offset, [0, -40, 8], atol=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("10 20 30 5", "10 20 30", r"line 18: 8 numbers, the channels are 9"),
        ("11 91", "nan 91", r"line 19: 'nan' is not a finite number"),
        ("11 91", "11 x", r"line 19: 'x' is not a finite number"),
        ("11 91", "1e999 91", r"line 19: '1e999' is not a finite"),
        ("Frames: 2", "Frames: 3", r"line 16: '3' frames declared, 2 there"),
        ("Frames: 2", "Frames: -1", r"line 16: '-1' frames declared"),
        ("CHANNELS 3 Y", "CHANNELS 4 Y", r"line 8: CHANNELS"),
        ("CHANNELS 3 Y", "CHANNELS 3 W", r"line 8: CHANNELS"),
        ("Zrotation Xrotation Yrotation", "Xposition Xrotation Yrotation", r"line 5: a position channel stands twice"),
        ("OFFSET 0 -40 0", "OFFSET 0 -40", r"line 7: OFFSET"),
        ("OFFSET 0 -40 0", "OFFSET 0 inf 0", r"line 7: OFFSET"),
        ("  JOINT knee {", "  JOINT bare\n  JOINT knee {", r"joint 'bare' has no OFFSET"),
        ("JOINT knee", "JOINT hips", r"line 6: a second joint 'hips'"),
        ("}\nMOTION", "}\nROOT b\n{\nOFFSET 0 0 0\n}\nMOTION", r"line 15: a joint outside the one root"),
        ("}\nMOTION", "MOTION", r"line 14: 'MOTION' does not belong"),
        ("Frame Time: 0.0333333", "Frame Time: 0", "frame time is '0'"),
        ("Frame Time: 0.0333333", "Frame Time: 1/0", "frame time is"),
        ("Frame Time: 0.0333333", "Frame Time: 1e-999999999", "frame time is"),
        ("MOTION", "MOVEMENT", r"'MOVEMENT' does not belong"),
    ],
)
def test_damaged_files_are_named_by_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError, match=message):
        read_bvh(written(tmp_path, GOOD.replace(old, new, 1)))


@pytest.mark.parametrize("content", [b"", b"\0\1\2\xff" * 100, b"HIERARCHY\n" + b"ROOT a\n{\n" * 50])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "take.bvh"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_bvh(path)


def test_a_hierarchy_without_end_is_refused(tmp_path: Path) -> None:
    joints = "".join(f"JOINT j{i}\n{{\nOFFSET 0 0 0\n" for i in range(2000))
    with pytest.raises(InputError, match="more than 1000 joints"):
        read_bvh(written(tmp_path, "HIERARCHY\nROOT r\n{\nOFFSET 0 0 0\n" + joints))


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("0.0333333", "30"), ("0.00833333", "120"), ("0.008333", "120"), ("0.033367", "30000/1001"), ("0.01", "100"),
        ("0.0333667", "30000/1001"), ("0.0417083", "24000/1001"), ("0.0166667", "60"), ("8.333333e-3", "120"),
    ],
)  # fmt: skip
def test_rates_are_rational(text: str, rate: str) -> None:
    assert rate_of_frame_time(text, "take") == Fraction(rate)
