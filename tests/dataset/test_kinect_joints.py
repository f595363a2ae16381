"""From SMPL's joints to Kinect's and back: what both have is never touched; worlds and scales of bodies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.errors import InputError
from core.skeletons import SMPL_24
from dataset.features import REFERENCE_LEG_M, leg_length
from dataset.importers.ntu import KINECT_OF_SMPL as USED_BY_THE_IMPORTER
from dataset.kinect.bodies import before_a_camera, in_body_frame
from dataset.kinect.joint_map import KINECT_25, KINECT_OF_SMPL, ntu_from_smpl, smpl_from_ntu
from dataset.rotations import yaw_matrix, z_up
from simulation.kinect import moving_person

_NUMBERS = st.floats(-10, 10, width=32)
SHARED_SMPL = [SMPL_24.idx(name) for name in KINECT_OF_SMPL]
SHARED_KINECT = list(KINECT_OF_SMPL.values())


@given(arrays(np.float32, (2, 24, 3), elements=_NUMBERS), st.sampled_from([22, 24]))
def test_what_both_have_survives_from_smpl_and_back(joints: np.ndarray, num: int) -> None:
    kinect, of_both = ntu_from_smpl(joints[:, :num])
    back, in_both = smpl_from_ntu(kinect, num)
    shared = [i for i in SHARED_SMPL if i < num]
    assert np.array_equal(back[:, shared], joints[:, shared]) and back.dtype == joints.dtype
    assert np.flatnonzero(in_both).tolist() == sorted(shared)
    assert of_both.sum() == len(shared)


@given(arrays(np.float64, (2, 25, 3), elements=_NUMBERS))
def test_what_both_have_survives_from_kinect_and_back(joints: np.ndarray) -> None:
    smpl, _ = smpl_from_ntu(joints, 24)
    back, in_both = ntu_from_smpl(smpl)
    assert np.array_equal(back[:, SHARED_KINECT], joints[:, SHARED_KINECT])
    assert np.flatnonzero(in_both).tolist() == sorted(SHARED_KINECT)
    # what was made once stays what it was
    assert np.array_equal(ntu_from_smpl(smpl_from_ntu(back, 24)[0])[0], back)


def test_joints_that_are_made_lie_by_their_neighbours() -> None:
    person = moving_person(0, 30, np.random.default_rng(0))
    smpl, _ = smpl_from_ntu(person)
    made, _ = ntu_from_smpl(smpl)
    error_m = np.linalg.norm(made - person, axis=-1).mean(axis=0)
    exact = [KINECT_OF_SMPL[name] for name in KINECT_OF_SMPL if not name.endswith("hand")]
    assert error_m[exact].max() == 0 and error_m.max() < 0.12  # tips and thumbs stand at the palm
    spine1, collar = SMPL_24.idx("spine1"), SMPL_24.idx("left_collar")
    pelvis, spine2, neck, shoulder = (
        person[:, KINECT_25.idx(n)] for n in ("pelvis", "spine2", "neck", "left_shoulder")
    )
    np.testing.assert_allclose(smpl[:, spine1], 0.5 * (pelvis + spine2))
    np.testing.assert_allclose(smpl[:, collar], 0.5 * (neck + shoulder))


def test_missing_joints_stay_missing_and_spoil_their_neighbours_alone() -> None:
    person = moving_person(0, 3, np.random.default_rng(0))
    person[1, KINECT_25.idx("left_shoulder")] = np.nan
    smpl, _ = smpl_from_ntu(person)
    lost = [SMPL_24.joints[i] for i in np.flatnonzero(np.isnan(smpl[1]).any(axis=-1))]
    assert lost == ["left_collar", "left_shoulder"] and np.isfinite(smpl[[0, 2]]).all()


def test_the_importer_and_the_map_agree() -> None:
    assert USED_BY_THE_IMPORTER is KINECT_OF_SMPL
    assert len(KINECT_OF_SMPL) == 20 and KINECT_OF_SMPL["neck"] == 20 and KINECT_OF_SMPL["spine2"] == 1
    with pytest.raises(InputError, match="17 joints"):
        ntu_from_smpl(np.zeros((17, 3)))


@pytest.mark.parametrize("num", [22, 25])
def test_bodies_are_of_one_size_face_along_x_and_stand_on_the_floor(num: int) -> None:
    person = z_up(moving_person(0, 40, np.random.default_rng(1), size=1.2) + np.array([0.3, -1.1, 3.0]))
    start = in_body_frame(person[None], "start", num)
    assert start.shape == (1, 40, num, 3)
    smpl = start[0] if num == 22 else smpl_from_ntu(start[0])[0]
    assert abs(leg_length(smpl) - REFERENCE_LEG_M) < 0.01
    assert abs(smpl[0, 0, :2]).max() < 1e-5 and abs(np.median(smpl[:, [7, 8, 10, 11], 2].min(axis=1))) < 0.02
    left = smpl[0, 16] - smpl[0, 17]
    assert left[1] > 0.9 * np.linalg.norm(left)  # y is to the left: x leads forward
    # where the camera stands does not matter
    turned = person @ yaw_matrix(np.array([1.0]))[0].T + [5.0, -2.0, 0.7]
    np.testing.assert_allclose(in_body_frame(turned[None], "start", num), start, atol=2e-4)
    own = in_body_frame(person[None], "heading", num)
    assert abs(own[0, :, 0, :2]).max() < 1e-5
    facing = before_a_camera(start)
    assert facing[0, 0, 4 if num == 25 else 16, 0] < facing[0, 0, 8 if num == 25 else 17, 0]


def test_who_is_not_there_is_not_there_in_any_frame() -> None:
    away = np.array([0.0, -1.0, 3.0])
    people = np.stack([z_up(moving_person(0, 20, np.random.default_rng(k)) + away) for k in range(2)])
    people[0, :5], people[1, 10:] = np.nan, np.nan
    for coordinates in ("start", "heading"):
        found = in_body_frame(people, coordinates, 25)
        assert np.array_equal(np.isnan(found), np.isnan(people))
    # the first person comes later than the frames that are looked at
    late = np.stack([np.full_like(people[0], np.nan), people[1]])
    assert in_body_frame(late, "start", 25)[1] == pytest.approx(in_body_frame(people[1:], "start", 25)[0], nan_ok=True)
