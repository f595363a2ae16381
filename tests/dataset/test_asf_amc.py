"""ASF/AMC files: a bone turns about its own axes, and damaged files are named by their line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from core.errors import InputError
from dataset.importers.asf_amc import read_asf_amc

ASF = """# a comment
:version 1.10
:units
  length 0.45
  angle deg
:root
  order TX TY TZ RX RY RZ
  axis XYZ
  position 0 0 0
  orientation 0 0 0
:bonedata
  begin
    id 1
    name femur
    direction 0 -1 0
    length 9
    axis 0 0 20 XYZ
    dof rx ry rz
    limits (-160.0 20.0)
           (-70.0 70.0)
           (-60.0 70.0)
  end
  begin
    id 2
    name tibia
    direction 0.6 -0.8 0
    length 8
    axis 10 20 30 XYZ
    dof rx
  end
  begin
    id 3
    name foot
    direction 0 0 1
    length 2
    axis 0 0 0 XYZ
  end
:hierarchy
  begin
    root femur
    femur tibia
    tibia foot
  end
"""
AMC = """#!OML:ASF x.asf
:FULLY-SPECIFIED
:DEGREES
1
root 1 2 3 10 20 30
femur 5 6 7
tibia 40
2
root 1 2 4 10 20 30
femur 5 6 8
tibia 41
"""
UNIT_M = 0.0254 / 0.45


def written(tmp_path: Path, asf: str = ASF, amc: str = AMC) -> tuple[Path, Path]:
    (tmp_path / "a.asf").write_text(asf)
    (tmp_path / "a_1.amc").write_text(amc)
    return tmp_path / "a_1.amc", tmp_path / "a.asf"


def about_axes(axes: list[float], angles: list[float], order: str = "xyz") -> Rotation:
    """C M C^-1 with turns about fixed axes, the first of the order first."""
    C = Rotation.from_euler("xyz", axes, degrees=True)
    return C * Rotation.from_euler(order, angles, degrees=True) * C.inv()


def test_bones_turn_about_their_own_axes(tmp_path: Path) -> None:
    motion = read_asf_amc(*written(tmp_path))
    assert motion.names == ("root", "femur", "tibia", "foot", "foot_end") and motion.rate == 120
    root = Rotation.from_euler("xyz", [10, 20, 30], degrees=True)
    femur = root * about_axes([0, 0, 20], [5, 6, 7])
    tibia = femur * about_axes([10, 20, 30], [40], "x")
    start = UNIT_M * np.array([1, 2, 3])
    knee = start + UNIT_M * femur.apply([0, -9, 0])
    ankle = knee + UNIT_M * tibia.apply([4.8, -6.4, 0])
    expected = [start, start, knee, ankle, ankle + UNIT_M * tibia.apply([0, 0, 2])]
    np.testing.assert_allclose(motion.positions[0], expected, atol=1e-12)
    np.testing.assert_allclose(motion.rotations[0, 2], tibia.as_matrix(), atol=1e-12)
    assert motion.positions[1, 0, 2] == pytest.approx(4 * UNIT_M)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("femur 5 6 8", "femur 5 6", r"a_1.amc, line 10: 2 numbers, the channels are 3"),
        ("tibia 41", "tibia inf", r"a_1.amc, line 11: 'inf' is not a finite number"),
        ("tibia 41\n", "", r"line 10: the last frame does not have all"),
        ("tibia 41", "fibula 41", r"line 11: bone 'fibula' where 'tibia' belongs"),
        ("\n2\n", "\n3\n", r"line 8: '3' where frame 2"),
        ("tibia 40", "tail 40", r"differ: tail, tibia"),
    ],
)
def test_damaged_motions_are_named_by_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in AMC
    with pytest.raises(InputError, match=message):
        read_asf_amc(*written(tmp_path, amc=AMC.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("length 0.45", "length 0", "unit of length is 0.0"),
        ("length 0.45", "length x", r"line 4: 'x' is not a finite number"),
        ("direction 0 -1 0", "direction 0 -1", r"line 15: 2 numbers"),
        ("dof rx ry rz", "dof rx rx rz", r"a bone 'femur' with dof 'RX RX RZ'"),
        ("axis 0 0 20 XYZ", "axis 0 0 20 XXZ", "order of the axes is 'XXZ'"),
        ("tibia foot\n  end", "end", "lacks bone 'foot'"),
        ("root femur\n", "root tibia\n", "'tibia' cannot hang on 'femur'"),
        ("order TX TY TZ RX RY RZ", "order TX TX", "the root's order"),
        ("    length 9\n", "", "a bone without length"),
    ],
)
def test_damaged_skeletons_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ASF
    with pytest.raises(InputError, match=message):
        read_asf_amc(*written(tmp_path, asf=ASF.replace(old, new, 1)))
