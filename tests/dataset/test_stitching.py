"""Stitched sessions: nothing jumps, feet stay, bones keep their lengths, and boundaries are where labels change."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError, StageError
from core.skeletons import SMPL_24
from dataset.blending import aligned, mixed, moved, weights_of_second
from dataset.bones import Bones
from dataset.build import build_from
from dataset.cutting import part
from dataset.features import heading
from dataset.resample import Motion
from dataset.rotations import rotvec_from_matrix, yaw_matrix
from dataset.schema import Clip, ClipLabels
from dataset.settings import BuildConfig
from dataset.shards import AmdDataset, motion_from_clip
from dataset.splits import SplitConfig
from dataset.stitching import StitchConfig, Stitched, boundary_frames, changes, pieces_of, stitch
from dataset.untrimmed import stitch_dataset
from dataset.verify import verify
from simulation.clips import simulated_clip
from tests.dataset.conftest import stick_joints

NAMES = ("walk", "wave")
_UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_FEET = [SMPL_24.idx(name) for name in ("left_ankle", "left_foot", "right_ankle", "right_foot")]


def still(
    yaw: float, place: tuple[float, float], frames: int = 90, velocity: float = 0.0, action: int = 0, seed: int = 1
) -> Clip:
    """A stick person in one pose who glides forward at `velocity`, m/s, both feet down where they stand still."""
    forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    pelvis = np.array([*place, 0.95]) + velocity / 30 * np.arange(frames)[:, None] * forward
    poses = np.zeros((frames, 24, 3))
    poses[:, 16:18] = np.random.default_rng(seed).normal(0, 0.4, (2, 3))
    # at rest the stick body faces world -y
    poses[:, 0] = rotvec_from_matrix(yaw_matrix(np.asarray(yaw + np.pi / 2)) @ _UPRIGHT)
    return clip_of(f"still-{yaw:.2f}-{action}", poses, pelvis, stick_joints(poses, pelvis), action)


def clip_of(clip_id: str, poses: np.ndarray, pelvis: np.ndarray, joints: np.ndarray, action: int = 0) -> Clip:
    frames = len(poses)
    actions = np.zeros((frames, 2), dtype=np.uint8)
    actions[:, action] = 1
    return Clip(
        clip_id,
        ClipLabels("30/1", "s1", "rec", 0.0, "neutral", "sticks", "", NAMES),
        poses=poses.astype(np.float32),
        trans=(pelvis - [0.0, -0.2, 0.03]).astype(np.float32),
        betas=np.zeros(10, dtype=np.float32),
        joints_m=joints.astype(np.float32),
        joint_covariance=np.tile(np.float32([1e-4, 2e-5, 0, 4e-4, 0, 9e-4]), (frames, 24, 1)),
        valid=np.ones((frames, 24), dtype=bool),
        reasons=np.zeros(frames, dtype=np.int32),
        contacts=np.ones((frames, 4), dtype=np.float32),
        actions=actions,
    )


@pytest.fixture(scope="module")
def people() -> list[Clip]:
    """Some minutes of one simulated person in four recordings, without the errors of a fit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulation.clips._POSE_SIGMA_RAD", 0.0)
        clips = [simulated_clip(f"rec{i}", 3 + 10 * i, "s1", 25.0) for i in range(4)]
    body = Bones.of(clips[0])
    return [body.wear(clip) for clip in clips]


@pytest.fixture(scope="module")
def session(people: list[Clip]) -> Stitched:
    (found,) = stitch(people, "s1", StitchConfig(session_s=1000.0))
    return found


def bone_lengths(joints: np.ndarray) -> np.ndarray:
    assert SMPL_24.parents is not None
    return np.linalg.norm(joints[:, 1:] - joints[:, list(SMPL_24.parents[1:])], axis=-1)


# -- the mix of two clips, against truths that can be said in advance


def test_who_glides_on_at_the_same_speed_is_not_seen_to_join() -> None:
    first, second = still(0.3, (0.0, 0.0), velocity=1.0), still(-2.0, (5.0, 1.0), velocity=1.0)
    n, bones = 15, Bones.of(first)
    following = aligned(first, second, n)
    path = np.concatenate(
        [first.joints_m[:-n, 0], mixed(first, following, n, bones).joints_m[:, 0], following.joints_m[n:, 0]]
    )
    forward = np.array([np.cos(0.3), np.sin(0.3), 0.0])
    expected = np.array([0.0, 0.0, 0.95]) + np.arange(len(path))[:, None] / 30 * forward
    np.testing.assert_allclose(path, expected, atol=2e-6)
    assert len(path) == 90 + 90 - n


def test_standing_feet_stay_while_the_arms_go_over() -> None:
    first, second = still(0.3, (0.0, 0.0), seed=1), still(2.5, (1.0, -2.0), seed=2)
    middle = mixed(first, aligned(first, second, 15), 15, Bones.of(first))
    np.testing.assert_allclose(
        middle.joints_m[:, _FEET], np.broadcast_to(first.joints_m[:1, _FEET], (15, 4, 3)), atol=2e-6
    )
    np.testing.assert_allclose(heading(middle.joints_m), heading(first.joints_m)[0], atol=0.1)
    assert (middle.contacts == 1).all()
    arms = np.linalg.norm(np.diff(middle.poses[:, 16:18], axis=0), axis=-1)
    assert arms.min() > 0 and arms.max() < 3 * arms.mean()


def test_a_foot_that_only_one_puts_down_counts_as_moving() -> None:
    first, second = still(0.0, (0.0, 0.0)), still(0.0, (0.0, 0.0))
    first.contacts[:, 2:] = 0
    middle = mixed(first, aligned(first, second, 15), 15, Bones.of(first))
    np.testing.assert_array_equal(middle.contacts, np.broadcast_to([1.0, 1.0, 0.0, 0.0], (15, 4)))


def test_weights_leave_value_velocity_and_acceleration_at_both_ends() -> None:
    w = np.concatenate([[0, 0, 0], weights_of_second(399), [1, 1, 1]])
    assert (np.diff(w) >= 0).all() and w[3 + 199] == 0.5
    np.testing.assert_allclose(w + w[::-1], 1.0, atol=1e-12)
    # 1.875 and 5.77 are the largest slope and curvature of the quintic
    assert np.abs(np.diff(w)).max() * 400 < 1.88 and np.abs(np.diff(w, 2)).max() * 400**2 < 5.8
    assert np.abs(np.diff(w, 2))[[0, 1, 2, -1, -2, -3]].max() * 400**2 < 0.4


@given(st.floats(-3.1, 3.1), st.floats(-5, 5), st.floats(-5, 5))
@settings(max_examples=20)
def test_moving_is_rigid_and_takes_covariance_along(yaw: float, x: float, y: float) -> None:
    clip = still(0.4, (1.0, 2.0), frames=5)
    there = moved(clip, yaw, np.array([x, y, 0.0]))
    turn = yaw_matrix(np.asarray(yaw))
    np.testing.assert_allclose(there.joints_m, clip.joints_m.astype(float) @ turn.T + [x, y, 0.0], atol=1e-9)
    np.testing.assert_allclose(Bones.of(there).offsets_m, Bones.of(clip).offsets_m, atol=1e-6)
    np.testing.assert_allclose(there.joints_m[:, 0] - there.trans, clip.joints_m[:, 0] - clip.trans, atol=1e-6)
    upright = np.array([[1e-4, 2e-5, 0], [2e-5, 4e-4, 0], [0, 0, 9e-4]])
    expected = (turn @ upright @ turn.T)[np.triu_indices(3)]
    np.testing.assert_allclose(there.joint_covariance, np.broadcast_to(expected, (5, 24, 6)), atol=1e-10)
    back = moved(there, -yaw, -yaw_matrix(np.asarray(-yaw)) @ np.array([x, y, 0.0]))
    np.testing.assert_allclose(back.joints_m, clip.joints_m, atol=1e-6)


def test_another_shape_wears_the_session_body() -> None:
    clip = still(0.0, (2.0, 0.0))
    tall = dataclasses.replace(clip, joints_m=1.1 * clip.joints_m, trans=1.1 * clip.trans, betas=clip.betas + 1)
    worn = Bones.of(clip).wear(tall)
    np.testing.assert_allclose(worn.joints_m, clip.joints_m, atol=1e-5)
    np.testing.assert_allclose(worn.trans, clip.trans, atol=1e-5)
    np.testing.assert_array_equal(worn.betas, clip.betas)
    assert Bones.of(clip).wear(clip) is clip


# -- sessions


def test_boundaries_are_exactly_where_labels_change(session: Stitched) -> None:
    clip = session.clip
    assert clip.actions is not None and (clip.actions.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(session.boundaries, changes(clip.actions))
    np.testing.assert_array_equal(session.boundaries, boundary_frames(clip))
    assert set(session.boundaries) <= set(session.joins) and len(session.boundaries) > 0.9 * len(session.joins)
    pieces = clip.labels.provenance["pieces"]
    assert len(pieces) == len(session.joins) + 1


def test_every_piece_is_there_frame_by_frame(people: list[Clip], session: Stitched) -> None:
    """Outside the mixes a session is its pieces, moved rigidly: the shape of a body in its heading frame is kept."""
    n, half = session.num_mixed, session.num_mixed // 2
    starts = [0, *(session.joins - half)]
    ends = [*(session.joins + half + 1), len(session.clip)]
    by_id = {clip.id: clip for clip in people}
    for name, start, stop in zip(session.clip.labels.provenance["pieces"], starts, ends, strict=True):
        clip_id, _, frames = name.partition(":")
        first, last = map(int, frames.split("-"))
        source = part(by_id[clip_id], first, last, "p")
        assert len(source) == stop - start
        inner = slice(n if start else 0, len(source) - (n if stop < len(session.clip) else 0))
        here = part(session.clip, int(start), int(stop), "p")
        assert here.actions is not None and source.actions is not None
        np.testing.assert_array_equal(here.actions[inner], source.actions[inner])
        np.testing.assert_array_equal(here.valid[inner], source.valid[inner])
        np.testing.assert_allclose(here.poses[inner, 1:], source.poses[inner, 1:], atol=1e-6)
        np.testing.assert_allclose(here.joints_m[inner, :, 2], source.joints_m[inner, :, 2], atol=1e-5)
        gaps = [np.linalg.norm(c.joints_m[inner, :1] - c.joints_m[inner], axis=-1) for c in (here, source)]
        np.testing.assert_allclose(gaps[0], gaps[1], atol=1e-5)
    first = session.clip.labels.provenance["pieces"][0].partition(":")
    begin = int(first[2].split("-")[0])
    whole = by_id[first[0]].joints_m[begin : begin + session.joins[0] - half]
    np.testing.assert_array_equal(session.clip.joints_m[: len(whole)], whole.astype(np.float32))


def test_limbs_keep_their_lengths(people: list[Clip], session: Stitched) -> None:
    lengths = bone_lengths(session.clip.joints_m)
    np.testing.assert_allclose(
        lengths, np.broadcast_to(np.median(bone_lengths(people[0].joints_m), axis=0), lengths.shape), atol=2e-5
    )


def test_nothing_jumps_at_a_join(session: Stitched) -> None:
    """Speeds and accelerations at joins stay within what the person does elsewhere, and what the mix must add."""
    joints, n = session.clip.joints_m.astype(float), session.num_mixed
    near = np.zeros(len(joints), dtype=bool)
    for join in session.joins:
        near[join - n : join + n] = True
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(axis=1) * 30
    # a hand may have to cross its reach, 1.2 m, within the mix, at most 1.875 times as fast as on average
    assert speed[near[1:]].max() < speed[~near[1:]].max() + 1.875 * 1.2 * 30 / n
    bend = np.linalg.norm(np.diff(joints, 2, axis=0), axis=-1).max(axis=1)
    edges = np.concatenate([session.joins - n // 2, session.joins + n // 2 + 1])
    # the second differences whose middle is the last frame of the one side, or the first of the other
    assert max(bend[edges - 2].max(), bend[edges - 1].max()) < bend[~near[2:]].max()


def slide(session: Stitched) -> tuple[np.ndarray, np.ndarray]:
    """Speeds on the floor of feet that stand, m/s: in the mixes, and elsewhere."""
    feet = session.clip.joints_m[:, _FEET, :2].astype(float)
    speed = np.linalg.norm(np.diff(feet, axis=0), axis=-1) * 30
    stands = np.minimum(session.clip.contacts[1:], session.clip.contacts[:-1]) > 0.5
    inside = np.zeros(len(speed), dtype=bool)
    for join in session.joins:
        inside[join - session.num_mixed // 2 : join + session.num_mixed // 2] = True
    return speed[inside][stands[inside]], speed[~inside][stands[~inside]]


def test_feet_that_stand_slide_less_than_where_the_pelvis_is_mixed(
    session: Stitched, people: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = slide(session)
    assert inside.mean() < 0.03 and np.median(inside) < 0.02 and outside.mean() < 0.01
    assert session.clip.joints_m[:, _FEET, 2].min() > min(c.joints_m[:, _FEET, 2].min() for c in people) - 0.03

    def from_the_pelvis(first: Clip, second: Clip, n: int, bones: Bones) -> Clip:
        found, w = mixed(first, second, n, bones), weights_of_second(n)[:, None]
        pelvis = (1 - w) * first.joints_m[-n:, 0] + w * second.joints_m[:n, 0]
        return dataclasses.replace(found, joints_m=found.joints_m + (pelvis - found.joints_m[:, 0])[:, None])

    monkeypatch.setattr("dataset.stitching.mixed", from_the_pelvis)
    (usual,) = stitch(people, "s1", StitchConfig(session_s=1000.0))
    assert inside.mean() < 0.8 * slide(usual)[0].mean()


def test_the_seed_alone_decides(people: list[Clip]) -> None:
    make = partial(stitch, people[:2], "s1")
    first, again = make(StitchConfig(session_s=20.0)), make(StitchConfig(session_s=20.0))
    assert len(first) > 1 and [s.clip.id for s in first] == [f"s1-{i:03d}" for i in range(len(first))]
    for a, b in zip(first, again, strict=True):
        assert all(np.array_equal(a.clip.arrays()[k], b.clip.arrays()[k]) for k in a.clip.arrays())
    other = make(StitchConfig(session_s=20.0, seed=1))
    assert [s.clip.labels.provenance["pieces"] for s in other] != [s.clip.labels.provenance["pieces"] for s in first]
    used = [p for s in first for p in s.clip.labels.provenance["pieces"]]
    assert len(used) == len(set(used)) == sum(len(pieces_of(c, StitchConfig())) for c in people[:2])


def test_pieces_avoid_invalid_frames_and_short_stretches() -> None:
    clip = still(0.0, (0.0, 0.0), frames=300)
    assert clip.actions is not None
    clip.actions[200:] = [0, 1]
    clip.joints_m[100] = np.nan
    found = [p.id.partition(":")[2] for p in pieces_of(clip, StitchConfig(min_piece_s=1.0))]
    assert found == ["0-100", "101-200", "200-300"]
    assert [p.id.partition(":")[2] for p in pieces_of(clip, StitchConfig(min_piece_s=3.33))] == ["0-100", "200-300"]


def test_clips_of_other_rates_and_vocabularies_join_in() -> None:
    first, second = still(0.0, (0.0, 0.0)), still(1.0, (0.0, 0.0), frames=180, action=1)
    labels = dataclasses.replace(second.labels, rate="60/1", action_names=("sit", "dance"))
    (found,) = stitch([first, dataclasses.replace(second, labels=labels)], "s1", StitchConfig())
    assert found.clip.labels.action_names == ("walk", "wave", "sit", "dance") and len(found.joins) == 1
    assert found.clip.rate == Fraction(30) and len(found.clip) == 90 + 90 - found.num_mixed


def test_people_are_not_mixed_nor_labels_lost() -> None:
    first, second = still(0.0, (0.0, 0.0)), still(1.0, (0.0, 0.0))
    other = dataclasses.replace(second, labels=dataclasses.replace(second.labels, subject="s2"))
    with pytest.raises(InputError, match="clips of 2 people, s1, s2"):
        stitch([first, other], "x")
    bare = dataclasses.replace(second, actions=None, labels=dataclasses.replace(second.labels, action_names=()))
    with pytest.raises(InputError, match=r"clip still-1\.00-0 has no labels, others have"):
        stitch([first, bare], "x")
    with pytest.raises(InputError, match="was not stitched"):
        boundary_frames(first)


# -- a dataset of sessions


@dataclasses.dataclass(frozen=True)
class Simulated:
    """Reads a recording of one of three people, each in two recordings."""

    def __call__(self, item: str) -> list[Clip]:
        return [simulated_clip(item, int(item[1:]), f"s{int(item[1:]) % 3}", 12.0)]


@pytest.fixture(scope="module", params=["subject", "clip"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "amd"
    split = SplitConfig(split_by=request.param, val_share=0.3, test_share=0.3)
    build_from([f"r{i}" for i in range(6)], Simulated(), folder, BuildConfig(split=split))
    return folder


def test_a_dataset_of_sessions_leaks_nothing_and_knows_its_boundaries(source: Path, tmp_path: Path) -> None:
    stitch_dataset(source, tmp_path / "long", StitchConfig(session_s=20.0))
    verify(tmp_path / "long").require(tmp_path / "long")
    clips, long = {clip.id: clip for clip in AmdDataset(source).clips}, AmdDataset(tmp_path / "long")
    assert {clip.split for clip in long.clips} == {clip.split for clip in clips.values()}
    for info in long.clips:
        clip = long.read(info.id)
        pieces = [clips[name.partition(":")[0]] for name in clip.labels.provenance["pieces"]]
        assert {(piece.split, piece.subject) for piece in pieces} == {(info.split, info.subject)}
        assert clip.actions is not None
        np.testing.assert_array_equal(boundary_frames(clip), changes(clip.actions))
    first = long.read(long.clips[0].id)
    tail = part(first, 100, len(first), "tail")
    assert tail.actions is not None
    np.testing.assert_array_equal(boundary_frames(tail), changes(tail.actions))
    assert isinstance(motion_from_clip(first, 1.0), Motion)


def test_other_settings_are_another_dataset(source: Path, tmp_path: Path) -> None:
    stitch_dataset(source, tmp_path / "long")
    with pytest.raises(StageError, match=r"was made otherwise: setting read.*motifs stitch"):
        stitch_dataset(source, tmp_path / "long", StitchConfig(seed=1))
    with pytest.raises(InputError, match="no stretch of one labelling is 99 s long"):
        stitch_dataset(source, tmp_path / "none", StitchConfig(min_piece_s=99.0))
