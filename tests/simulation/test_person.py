"""The simulated person: human, planted, smooth, exact at any time, the same for the same seed."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from core.errors import InputError
from core.skeletons import SMPL_24
from core.transforms import geodesic, so3_exp
from simulation.activities import A_POSE
from simulation.furniture import Furniture
from simulation.person import ACTIVITIES, ROOM_SIZE_M, Person, make_person, simulate_motion
from simulation.trajectories import Gait, Stance, Track, turn_steps, walk_steps

SPAN = (8.0, 20.0)
RATE = 120
SEEDS = (1, 2)


@pytest.fixture(scope="module", params=SEEDS)
def person(request: pytest.FixtureRequest) -> Person:
    return make_person(np.random.default_rng(request.param), SPAN)


@pytest.fixture(scope="module")
def t_s() -> np.ndarray:
    return np.arange(SPAN[0] - 0.5, SPAN[1] + 0.5, 1 / RATE)


def test_it_waits_in_an_a_pose_without_any_motion(person: Person) -> None:
    poses, trans = person.pose_at(np.linspace(0.0, SPAN[0], 50))
    assert (poses == poses[0]).all()
    assert (trans == trans[0]).all()
    joints = person.joints_at(np.zeros(1))[0]
    arm = joints[SMPL_24.idx("left_wrist")] - joints[SMPL_24.idx("left_shoulder")]
    away_from_plumb = np.arccos(-arm[2] / np.linalg.norm(arm))
    assert away_from_plumb == pytest.approx(A_POSE["arm_out"], abs=0.12)
    assert (person.activity_at(np.array([0.0, SPAN[0]])) == "stand").all()


def test_bones_keep_their_length(person: Person, t_s: np.ndarray) -> None:
    joints, parents = person.joints_at(t_s), person.shaped.body.parents
    lengths = np.linalg.norm(joints[:, 1:] - joints[:, parents[1:]], axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[0], lengths.shape), atol=1e-12)


def test_planted_feet_do_not_skate(person: Person, t_s: np.ndarray) -> None:
    """While heel and toes are down nothing of a foot moves; while one is down that part stays within 5 mm."""
    contacts = person.contacts_at(t_s) > 0
    for k, side in enumerate(("left", "right")):
        heel, toe = contacts[:, 2 * k], contacts[:, 2 * k + 1]
        ankle = person.world_from_foot(t_s, side).t
        toes = person.joints_at(t_s)[:, SMPL_24.idx(f"{side}_foot")]
        for planted, point, limit in ((heel & toe, ankle, 0.003), (toe, toes, 0.005)):
            starts = np.flatnonzero(planted & ~np.r_[False, planted[:-1]])
            for start in starts:
                stop = start + int(np.argmin(np.r_[planted[start:], False]))
                drift = point[start:stop, :2] - point[start, :2]
                assert np.linalg.norm(drift, axis=1).max() < limit


def test_the_floor_is_touched_and_not_pierced(person: Person, t_s: np.ndarray) -> None:
    sparse = t_s[:: RATE // 8]
    lowest = person.mesh_at(sparse)[..., 2].min(axis=1)
    assert lowest.min() > -0.005
    touching = person.contacts_at(sparse).any(axis=1)
    assert lowest[touching].max() < 0.005
    assert touching.mean() > 0.9


def test_speeds_and_accelerations_are_human(person: Person, t_s: np.ndarray) -> None:
    joints = person.joints_at(t_s)
    velocity = np.diff(joints, axis=0) * RATE
    acceleration = np.linalg.norm(np.diff(velocity, axis=0), axis=-1) * RATE
    assert np.linalg.norm(velocity, axis=-1).max() < 5.5  # a swinging foot in a brisk walk reaches 4 to 5 m/s
    trunk = [SMPL_24.idx(name) for name in ("pelvis", "spine3", "head")]
    assert acceleration[:, trunk].max() < 12
    assert acceleration.max() < 80


def test_rotations_have_no_jumps(person: Person, t_s: np.ndarray) -> None:
    rotations = person.posed_at(t_s).rotations
    speed = geodesic(rotations[1:], rotations[:-1]) * RATE
    assert speed.max() < 15  # radians a second; a knee in swing reaches 6 to 8
    assert np.abs(np.diff(speed, axis=0)).max() < 2.5


def test_joints_stay_within_their_limits(person: Person, t_s: np.ndarray) -> None:
    angle = np.linalg.norm(person.pose_at(t_s)[0], axis=-1)
    limits = {"knee": 2.4, "hip": 2.1, "ankle": 0.9, "foot": 0.8, "elbow": 2.5, "spine1": 0.5, "head": 0.8, "neck": 0.8}
    for joint, name in enumerate(SMPL_24.joints):
        limit = limits.get(name.split("_")[-1])
        if limit is not None:
            assert angle[:, joint].max() < limit, name
    knees = person.pose_at(t_s)[0][:, [SMPL_24.idx("left_knee"), SMPL_24.idx("right_knee")], 0]
    assert knees.min() > 0  # a knee never bends backwards


def test_it_stays_in_the_room_and_off_the_table(person: Person, t_s: np.ndarray) -> None:
    pelvis = person.joints_at(t_s)[:, 0, :2]
    assert (np.abs(pelvis) < np.array(ROOM_SIZE_M) / 2 - 0.25).all()
    table = Furniture()
    outside = np.abs(pelvis - table.table_centre) - np.array(table.table_size) / 2
    assert np.linalg.norm(np.maximum(outside, 0), axis=-1).min() > 0.15


def test_it_sits_on_the_chair_and_reaches_over_the_table(person: Person, t_s: np.ndarray) -> None:
    furniture, labels = Furniture(), person.activity_at(t_s)
    assert set(labels) <= set(ACTIVITIES)
    assert {"walk", "turn", "sit_down", "sit", "reach", "stand_up"} <= set(labels)
    joints = person.joints_at(t_s)
    seated = labels == "sit"
    np.testing.assert_allclose(joints[seated, 0, :2], np.tile(furniture.chair_xy, (seated.sum(), 1)), atol=0.01)
    skin = person.mesh_at(t_s[seated][:1])[0]
    on_seat = (np.abs(skin[:, :2] - furniture.chair_xy) < 0.2).all(axis=1) & (skin[:, 2] > 0.3)
    assert skin[on_seat, 2].min() == pytest.approx(furniture.chair_seat_height, abs=0.02)
    hands = joints[labels == "reach"][:, [SMPL_24.idx("left_hand"), SMPL_24.idx("right_hand")]]
    inside = (np.abs(hands[..., :2] - furniture.table_centre) < np.array(furniture.table_size) / 2).all(axis=-1)
    assert inside.any()
    assert (hands[inside][:, 2] > furniture.table_height).all()


def test_foot_frames_are_the_ankle_joints(person: Person) -> None:
    t = np.array([9.123, 10.456])
    posed = person.posed_at(t)
    for side in ("left", "right"):
        ankle = SMPL_24.idx(f"{side}_ankle")
        frame = person.world_from_foot(t, side)
        np.testing.assert_array_equal(frame.t, posed.joints[:, ankle])
        np.testing.assert_array_equal(frame.R, posed.world_rotations[:, ankle])


def test_poses_reproduce_the_joints(person: Person) -> None:
    t = np.linspace(8.5, 19.5, 7)
    poses, trans = person.pose_at(t)
    again = person.shaped.with_pose(poses, trans)
    np.testing.assert_allclose(again.joints, person.joints_at(t), atol=1e-9)


def test_a_single_instant_equals_the_same_instant_in_a_series(person: Person, t_s: np.ndarray) -> None:
    series, k = person.joints_at(t_s), 700
    np.testing.assert_allclose(person.joints_at(t_s[k : k + 1])[0], series[k], atol=1e-12)


def test_the_same_seed_gives_the_same_person_and_another_gives_another() -> None:
    t = np.linspace(8, 13, 30)
    first, second, other = (make_person(np.random.default_rng(seed), (8.0, 13.0)).pose_at(t) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert np.abs(first[0] - other[0]).max() > 0.1


def test_any_span_is_filled(rng: np.random.Generator) -> None:
    motion = simulate_motion(rng, 30.0, Fraction(30))
    assert motion["poses"].shape == (900, 24, 3)
    assert motion["contacts"].shape == (900, 4)
    assert len(set(motion["labels"])) >= 5
    moving = np.linalg.norm(np.diff(motion["trans"], axis=0), axis=1) > 1e-3
    assert moving[-200:].any()


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(InputError, match="stand_at"):
        make_person(np.random.default_rng(0), SPAN, stand_at=(1.15, 0.0, 0.0))
    with pytest.raises(InputError, match="motion_span_s"):
        make_person(np.random.default_rng(0), (3.0, 4.0))


# -- the parts


def test_a_track_meets_its_knots_smoothly() -> None:
    track = Track(np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0, 1.0]), np.array([0.0, 0.5, 0.0]))
    np.testing.assert_allclose(track.at(track.t_s), track.value, atol=1e-15)
    np.testing.assert_array_equal(track.at(np.array([-5.0, 9.0])), [0.0, 1.0])
    h = 1e-4
    slope = (track.at(np.array([1 + h])) - track.at(np.array([1 - h]))) / (2 * h)
    bend = (track.at(np.array([1 + h])) - 2 * track.at(np.array([1.0])) + track.at(np.array([1 - h]))) / h**2
    # the third derivative is of order 100, so differences over h are good to about 100 h^2 and 100 h
    assert slope[0] == pytest.approx(0.5, abs=1e-5)
    assert bend[0] == pytest.approx(0.0, abs=0.05)


def test_steps_alternate_and_arrive() -> None:
    steps = walk_steps(Stance(0.0, 0.0, 0.0), np.array([[1.0, 0.2], [1.5, 1.0]]), "left", 0.5)
    sides = [side for side, _ in steps]
    assert all(a != b for a, b in itertools.pairwise(sides))
    assert (steps[-1][1].x, steps[-1][1].y) == pytest.approx((1.5, 1.0))
    turned = turn_steps(Stance(0.0, 0.0, 0.3), -2.0)
    assert turned[0][0] == "right"  # the inner foot opens
    assert turned[-1][1].heading == pytest.approx(-2.0)


def test_feet_stand_a_width_apart() -> None:
    gait, stance = Gait(), Stance(1.0, 2.0, 0.7)
    left, right = np.array(stance.foot("left", gait)), np.array(stance.foot("right", gait))
    assert np.hypot(*(left - right)[:2]) == pytest.approx(gait.width_m)
    np.testing.assert_allclose((left + right)[:2] / 2, [1.0, 2.0], atol=1e-12)


def test_axis_angles_and_rotations_agree(person: Person) -> None:
    t = np.array([12.0])
    np.testing.assert_allclose(so3_exp(person.pose_at(t)[0]), person.posed_at(t).rotations, atol=1e-9)
