"""AMASS motions: fitted sequences out and in again, every layout, and what files of other origin do."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from core.errors import InputError
from core.files import read_npz
from fitting.amass import AmassMotion, read_amass, to_amass, write_amass
from fitting.body_kinds import KINDS, SMPL, SMPL_H, SMPL_X, BodyKind
from fitting.sequence import SmplSequence
from fitting.stand_in import stand_in_body


@pytest.fixture
def sequence(rng: np.random.Generator) -> SmplSequence:
    """Five fitted frames, the fourth not to be used."""
    frames, body = 5, stand_in_body()
    poses, trans, betas = 0.3 * rng.normal(size=(frames, 24, 3)), rng.normal(size=(frames, 3)), rng.normal(size=10)
    usable = np.arange(frames) != 3
    return SmplSequence(
        t_s=np.arange(frames) * 1001 / 30000, rate="30000/1001", poses=poses.reshape(frames, 72), trans=trans,
        betas=betas, gender="female", body_model=body.name, body_sha256=body.sha256,
        joints_m=body.with_shape(betas).with_pose(poses, trans).joints,
        joint_covariance=np.zeros((frames, 24, 3, 3)), joint_valid=rng.random((frames, 24)) < 0.9,
        frame_valid=usable, reasons=np.where(usable, 0, 2), contacts=rng.random((frames, 4)),
    )  # fmt: skip


def test_a_fitted_sequence_comes_back_but_for_its_hands(tmp_path: Path, sequence: SmplSequence) -> None:
    write_amass(tmp_path / "walk_poses.npz", sequence)
    motion = read_amass(tmp_path / "walk_poses.npz")
    assert motion.kind is SMPL_H and motion.rate == Fraction(30000, 1001) and motion.gender == "female"
    np.testing.assert_array_equal(motion.betas, [*sequence.betas, *np.zeros(6)])
    back, given_poses = motion.to_kind(SMPL), sequence.poses.reshape(-1, 24, 3)
    np.testing.assert_array_equal(back.poses[:, :22], given_poses[:, :22])
    assert not back.poses[:, 22:].any()
    # the hand joints turn hands, and move no joint
    joints = stand_in_body().with_shape(back.betas[:10]).with_pose(back.poses, back.trans).joints
    np.testing.assert_allclose(joints, sequence.joints_m, atol=1e-12)


def test_the_file_has_amass_arrays_and_what_amass_has_no_place_for(tmp_path: Path, sequence: SmplSequence) -> None:
    write_amass(tmp_path / "walk_poses.npz", sequence)
    arrays = read_npz(tmp_path / "walk_poses.npz")
    assert arrays["poses"].shape == (5, 156) and arrays["trans"].shape == (5, 3) and arrays["betas"].shape == (16,)
    assert arrays["mocap_framerate"] == arrays["mocap_frame_rate"] == 30000 / 1001
    assert str(arrays["gender"]) == "female" and str(arrays["surface_model_type"]) == "smplh"
    np.testing.assert_array_equal(arrays["valid"], sequence.joint_valid)
    np.testing.assert_array_equal(arrays["reasons"], [0, 0, 0, 2, 0])
    np.testing.assert_array_equal(arrays["contacts"], sequence.contacts)


def test_the_layout_may_be_chosen(sequence: SmplSequence) -> None:
    np.testing.assert_array_equal(to_amass(sequence, SMPL)["poses"], sequence.poses)
    wide = to_amass(sequence, SMPL_X)
    assert wide["poses"].shape == (5, 165) and str(wide["surface_model_type"]) == "smplx"
    # betas of SMPL are no betas of SMPL-X
    assert not wide["betas"].any()


def _finite(*shape: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float64, shape, elements=st.floats(-10, 10))


@st.composite
def _motions(draw: st.DrawFn) -> AmassMotion:
    kind, frames = draw(st.sampled_from(KINDS)), draw(st.integers(1, 3))
    return AmassMotion(
        kind,
        draw(_finite(frames, kind.num_joints, 3)),
        draw(_finite(frames, 3)),
        draw(_finite(draw(st.integers(0, 20)))),
        draw(st.sampled_from(["neutral", "female", "male"])),
        draw(st.fractions(1, 1000, max_denominator=1001)),
        draw(st.none() | _finite(frames, 8)),
    )


@given(motion=_motions())
@settings(max_examples=50)
def test_every_motion_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, motion: AmassMotion) -> None:
    path = tmp_path_factory.mktemp("round") / "a.npz"
    motion.save(path)
    found = read_amass(path)
    assert (found.kind, found.gender, found.rate) == (motion.kind, motion.gender, motion.rate)
    np.testing.assert_array_equal(found.poses, motion.poses)
    np.testing.assert_array_equal(found.trans, motion.trans)
    np.testing.assert_array_equal(found.betas[: len(motion.betas)], motion.betas)
    assert len(found.betas) >= 16 and not found.betas[len(motion.betas) :].any()
    assert (found.dmpls is None) == (motion.dmpls is None)
    if found.dmpls is not None and motion.dmpls is not None:
        np.testing.assert_array_equal(found.dmpls, motion.dmpls)


@given(motion=_motions(), kind=st.sampled_from(KINDS))
@settings(max_examples=50)
def test_kinds_share_the_body_and_hands_stay_hands(motion: AmassMotion, kind: BodyKind) -> None:
    there = motion.to_kind(kind)
    back = there.to_kind(motion.kind)
    assert there.poses.shape == (len(motion), kind.num_joints, 3)
    np.testing.assert_array_equal(there.poses[:, :22], motion.poses[:, :22])
    np.testing.assert_array_equal(back.trans, motion.trans)
    fingers = -30 if {kind, motion.kind} <= {SMPL_H, SMPL_X} else len(motion.poses[0])
    np.testing.assert_array_equal(back.poses[:, fingers:], motion.poses[:, fingers:])
    for name in kind.skeleton.joints[22:]:
        if name not in motion.kind.skeleton.joints:
            assert not there.poses[:, kind.skeleton.idx(name)].any()
    kept = kind is motion.kind or SMPL_X not in (kind, motion.kind)
    np.testing.assert_array_equal(there.betas, motion.betas if kept else np.zeros_like(motion.betas))


# -- files of other origin

FRAMES = 4


def _file(path: Path, width: int = 156, **changes: object) -> Path:
    arrays = {
        "poses": np.full((FRAMES, width), 0.1, np.float32), "trans": np.ones((FRAMES, 3)), "betas": np.ones(16),
        "gender": np.array("male"), "mocap_framerate": np.array(120.0), "dmpls": np.zeros((FRAMES, 8)), **changes,
    }  # fmt: skip
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize("gender", [np.array("male"), np.array(b"male"), np.array(["Male"]), np.array("b'male'"),
                                    np.array([b"male"]), np.array('b"male"')])  # fmt: skip
def test_the_gender_is_read_however_it_is_stored(tmp_path: Path, gender: np.ndarray) -> None:
    assert read_amass(_file(tmp_path / "a.npz", gender=gender)).gender == "male"


@pytest.mark.parametrize(
    ("changes", "rate"),
    [
        ({"mocap_framerate": np.array(59.94)}, Fraction(2997, 50)),
        ({"mocap_framerate": None, "mocap_frame_rate": np.array([100])}, 100),
        ({"mocap_framerate": None, "mocap_frame_rate": np.array("120")}, 120),
        ({"mocap_framerate": None, "mocap_frame_rate": np.array(b"120")}, 120),
        ({"mocap_framerate": np.array(29.97), "mocap_frame_rate": np.array(30000 / 1001)}, Fraction(30000, 1001)),
        ({"mocap_framerate": np.array(29.97), "rate": np.array("30000/1001")}, Fraction(30000, 1001)),
    ],
)
def test_both_spellings_of_the_rate(tmp_path: Path, changes: dict, rate: Fraction) -> None:
    assert read_amass(_file(tmp_path / "a.npz", **changes)).rate == rate


def test_layouts_by_their_columns_and_objects_that_nobody_needs(tmp_path: Path) -> None:
    labels = np.array([["LFHD", None]], dtype=object)
    for width, kind in ((72, SMPL), (156, SMPL_H), (165, SMPL_X)):
        path = _file(tmp_path / f"{width}.npz", width, latent_labels=labels, betas=np.ones((1, 16)))
        motion = read_amass(path)
        assert motion.kind is kind and motion.poses.shape == (FRAMES, kind.num_joints, 3)
        np.testing.assert_array_equal(motion.betas, np.ones(16))
    motion = read_amass(_file(tmp_path / "bare.npz", betas=None, gender=None, dmpls=None))
    assert motion.gender == "neutral" and not motion.betas.any() and motion.dmpls is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poses": None}, "has no poses"),
        ({"trans": None}, "has no trans"),
        ({"trans": np.zeros((3, 3))}, "no known layout"),
        ({"poses": np.zeros((FRAMES, 63))}, "no known layout"),
        ({"poses": np.zeros((FRAMES, 52, 3))}, "no known layout"),
        ({"poses": np.zeros((0, 156)), "trans": np.zeros((0, 3))}, "no known layout"),
        ({"poses": np.full((FRAMES, 156), "a")}, "no known layout"),
        ({"poses": np.full((FRAMES, 156), None)}, "Object arrays cannot be loaded"),
        ({"gender": np.array(["male"], object)}, "Object arrays cannot be loaded"),
        ({"surface_model_type": np.array("smplx")}, "is 'smplx', and poses of 156 columns are smplh's"),
        ({"mocap_framerate": None}, "no frame rate"),
        ({"mocap_framerate": np.array(-1.0)}, "mocap_framerate is -1.0: a frame rate must be positive"),
        ({"mocap_framerate": np.array(np.nan)}, "not a frame rate"),
        ({"mocap_framerate": np.array("fast")}, "not a frame rate"),
        ({"mocap_frame_rate": np.array(60.0)}, "two frame rates: mocap_frame_rate 60, mocap_framerate 120"),
        ({"mocap_frame_rate": np.array(119.88)}, "two frame rates"),
        ({"betas": np.arange(32.0).reshape(2, 16)}, "betas change from frame to frame"),
        ({"betas": np.full(16, np.nan)}, "are no shape"),
        ({"betas": np.array("tall")}, "are no shape"),
        ({"dmpls": np.zeros((3, 8))}, r"dmpls \(3, 8\) beside 4 frames"),
    ],
)  # fmt: skip
def test_what_contradicts_or_lacks_something_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_amass(_file(tmp_path / "BAD.npz", **changes))
    assert caught.value.item == str(tmp_path / "BAD.npz")
