"""Several people before several cameras, every detection's person known: who is taken for whom.

Misfits are judged in metres: 2 to 3 px at 4.5 m and 770 px of focal length are 1 to 2 cm, people are apart by 30 cm and
more, and the gate lies at 25 cm. So what is found at all is right, up to joints that are found on somebody in front.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from capture.keypoints import Keypoints2d
from core.cameras import Camera, Lens, Rig
from core.errors import InputError
from core.skeletons import BODY_25, COCO_17, SMPL_24
from core.transforms import SE3
from fitting.people import FollowConfig, People, PeopleConfig, find_people
from fitting.people.births import is_human
from fitting.people.matching import assign, disentangled, meet, misfit_m
from fitting.people.sightings import RayTable, Sight, body_of
from simulation.crowd import Crowd, Walker, record_crowd, ring_of_cameras, route, wandering
from simulation.detector import DetectorConfig
from simulation.stick_person import walking_person

RATE_HZ = 20
PERFECT = DetectorConfig(0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def times(num_views: int, duration_s: float, rates: Sequence[float] = (RATE_HZ,)) -> list[np.ndarray]:
    """Frame times of views whose clocks do not tick together."""
    chosen = [rates[view % len(rates)] for view in range(num_views)]
    return [0.007 * v + np.arange(int(duration_s * rate)) / rate for v, rate in enumerate(chosen)]


def crossing() -> list[Walker]:
    """Two people of nearly one height pass each other at 0.35 m, twice."""
    knots = [(0, -2, 0), (1, -2, 0), (5, 2, 0), (6, 2, np.pi), (10, -2, np.pi)]
    return [
        Walker(route([(t, sign * x, sign * 0.175, turn + (sign < 0) * np.pi) for t, x, turn in knots]), height)
        for sign, height in ((1, 1.70), (-1, 1.73))
    ]


def staying(x: float, y: float, height: float = 1.7, heading: float = 0.0) -> Walker:
    """Somebody who steps in one place."""
    return Walker(route([(0, x, y, heading), (1, x, y, heading)]), height)


def track_of(crowd: Crowd, people: People) -> dict[int, int]:
    """The track that most detections of each walker are on."""
    truth = np.concatenate([t.ravel() for t in crowd.truth])
    owner = np.concatenate([o.ravel() for o in people.owner])
    paired = {}
    for walker in range(len(crowd.walkers)):
        mine = owner[(truth == walker) & (owner >= 0)]
        if len(mine):
            paired[walker] = int(np.bincount(mine).argmax())
    return paired


def shares(crowd: Crowd, people: People) -> tuple[float, float]:
    """Shares of detections on their person's track, and of those on a track that are somebody else's."""
    truth = np.concatenate([t.ravel() for t in crowd.truth])
    owner = np.concatenate([o.ravel() for o in people.owner])
    paired = track_of(crowd, people)
    expected = np.array([paired.get(n, -2) for n in range(len(crowd.walkers))])
    right = (truth >= 0) & (owner == expected[truth]) & (owner >= 0)
    return right.sum() / (truth >= 0).sum(), 1 - right.sum() / max((owner >= 0).sum(), 1)


def is_told_apart(crowd: Crowd, people: People, right: float = 0.97) -> bool:
    """Whether everybody has one track of their own, with nearly all their detections and hardly any other."""
    paired = track_of(crowd, people)
    assert len(people.tracks) == len(crowd.walkers) == len(set(paired.values())), people.tracks
    found, wrong = shares(crowd, people)
    assert found > right
    assert wrong < 0.003
    return True


def test_two_apart(rng: np.random.Generator) -> None:
    walkers = [staying(-1.2, 0.3), Walker(route([(0, 1.5, -1, 1.5), (6, 1.5, 1, 1.5)]), 1.8)]
    crowd = record_crowd(rng, ring_of_cameras(4), walkers, times(4, 6))
    people = find_people(crowd.rig, crowd.found, crowd.t_s)
    assert is_told_apart(crowd, people)
    for number, walker in enumerate(walkers):
        track = people.tracks[track_of(crowd, people)[number]]
        truth = walker.joints_at(track.t_s)
        hips = track.xyz_m[:, [people.body.idx("left_hip"), people.body.idx("right_hip")]].mean(axis=1)
        # three or four views at 1 to 2 cm each, and frames up to 25 ms from the instant
        assert np.median(np.linalg.norm(hips - truth[:, BODY_25.idx("mid_hip")], axis=-1)) < 0.03
        assert track.stature_m == pytest.approx(walker.stature_m, rel=0.05)


@pytest.mark.parametrize("num_views", [2, 4])
def test_crossing(rng: np.random.Generator, num_views: int) -> None:
    crowd = record_crowd(rng, ring_of_cameras(num_views), crossing(), times(num_views, 10))
    assert is_told_apart(crowd, find_people(crowd.rig, crowd.found, crowd.t_s))


def test_hugging(rng: np.random.Generator) -> None:
    """Breast to breast for four seconds; each hides much of the other from every camera."""
    walkers = []
    for sign, height in ((-1, 1.75), (1, 1.66)):
        way = [(t, sign * x, 0.0, (sign > 0) * np.pi) for t, x in ((0, 1.5), (3, 0.15), (7, 0.15), (10, 1.5))]
        walkers.append(Walker(route(way), height))
    crowd = record_crowd(rng, ring_of_cameras(4), walkers, times(4, 10))
    people = find_people(crowd.rig, crowd.found, crowd.t_s)
    assert is_told_apart(crowd, people)
    assert all(len(track.spans_s) == 1 for track in people.tracks)


def test_who_walks_out_and_returns_is_the_same(rng: np.random.Generator) -> None:
    out = route([(0, 0, 0, 0), (4, 4.6, 0, 0), (5, 6, 0, 0), (9, 0, 6, -1.6), (10, 0, 4.6, -1.6), (14, 0, 0, -1.6)])
    walkers = [Walker(out, 1.85, spans_s=((0, 5), (9, 14))), Walker(wandering(rng, 14.0, 0.8), 1.62)]
    crowd = record_crowd(rng, ring_of_cameras(4), walkers, times(4, 14))
    people = find_people(crowd.rig, crowd.found, crowd.t_s)
    assert len(people.tracks) == 2
    assert shares(crowd, people)[1] < 0.003
    assert [len(people.tracks[track_of(crowd, people)[n]].spans_s) for n in (0, 1)] == [2, 1]
    never = find_people(crowd.rig, crowd.found, crowd.t_s, PeopleConfig(max_absence_s=0.0))
    assert len(never.tracks) == 3, "what is not joined is a track of its own"
    assert np.array_equal(
        np.concatenate(never.who([0, 2]) if never.tracks[2].t_s[0] > 5 else never.who([0, 1])) >= 0,
        np.concatenate(people.who([0])) >= 0,
    ), "and can be joined by name"


def test_two_who_leave_and_return_are_known_by_their_size(rng: np.random.Generator) -> None:
    def leaving(height: float, x: float, back_x: float) -> Walker:
        way = [(0, x, 0, 1.6), (4, x, 5, 1.6), (8, back_x, 5, -1.6), (12, back_x, 0, -1.6)]
        return Walker(route(way), height, spans_s=((0, 4), (8, 12)))

    unlike = [leaving(1.85, -0.6, 0.6), leaving(1.60, 0.6, -0.6)]
    crowd = record_crowd(rng, ring_of_cameras(4), unlike, times(4, 12))
    people = find_people(crowd.rig, crowd.found, crowd.t_s)
    assert len(people.tracks) == 2
    assert shares(crowd, people)[1] < 0.003
    alike = [leaving(1.70, -0.6, 0.6), leaving(1.70, 0.6, -0.6)]
    crowd = record_crowd(rng, ring_of_cameras(4), alike, times(4, 12))
    people = find_people(crowd.rig, crowd.found, crowd.t_s)
    assert len(people.tracks) == 4, "nobody can tell, so nothing is said"


def test_the_order_of_detections_does_not_count(rng: np.random.Generator) -> None:
    crowd = record_crowd(rng, ring_of_cameras(3), crossing(), times(3, 6), mixing=0.0)
    mixed, orders = [], []
    for found in crowd.found:
        order = rng.permuted(np.tile(np.arange(2), (found.num_frames, 1)), axis=1)
        rows = np.arange(found.num_frames)[:, None]
        mixed.append(Keypoints2d(found.xy_px[rows, order], found.score[rows, order], BODY_25))
        orders.append((rows, order))
    people, again = (find_people(crowd.rig, found, crowd.t_s) for found in (crowd.found, mixed))
    for owner, other, (rows, order) in zip(people.owner, again.owner, orders, strict=True):
        np.testing.assert_array_equal(owner[rows, order], other)


def test_ghosts_are_nobody_and_posters_do_not_move(rng: np.random.Generator) -> None:
    mirror = Walker(route([(0, 4, -1, 2), (8, 4, 1, 2)]), 1.7, views=(1,), mirrored=True)
    poster = Walker(staying(-1.5, 2.0).way, 1.75, views=(0, 2, 3), still=True)
    walkers = [Walker(wandering(rng, 8.0, 1.0), 1.7), poster, mirror]
    crowd = record_crowd(rng, ring_of_cameras(4), walkers, times(4, 8))
    people = find_people(crowd.rig, crowd.found, crowd.t_s)
    paired = track_of(crowd, people)
    assert len(people.tracks) == 2
    assert people.tracks[paired[1]].moved_m < 0.05 < people.tracks[paired[0]].moved_m
    reflected = np.concatenate([o[t == 2] for o, t in zip(people.owner, crowd.truth, strict=True)])
    assert (reflected >= 0).mean() < 0.01


def test_a_camera_stops_one_sees_nobody_one_has_no_frames(rng: np.random.Generator) -> None:
    t_s = times(5, 8)
    t_s[1], t_s[3] = t_s[1][:60], t_s[3][:0]
    crowd = record_crowd(rng, ring_of_cameras(5), crossing(), t_s)
    found = list(crowd.found)
    frames, joints = found[4].num_frames, len(BODY_25)
    found[4] = Keypoints2d(
        np.zeros((frames, 0, joints, 2), np.float32), np.zeros((frames, 0, joints), np.float32), BODY_25
    )
    people = find_people(crowd.rig, found, crowd.t_s)
    crowd = dataclasses.replace(crowd, truth=(*crowd.truth[:4], np.zeros((frames, 0), dtype=int)))
    assert is_told_apart(crowd, people)
    assert [owner.shape for owner in people.owner] == [k.xy_px.shape[:2] for k in found]


def test_nobody_is_seen_for_a_span(rng: np.random.Generator) -> None:
    """All views lose everybody for a second and a half: tracks go on, with nothing in between."""
    crowd = record_crowd(rng, ring_of_cameras(3), crossing(), times(3, 8))
    found = []
    for keypoints, t_s in zip(crowd.found, crowd.t_s, strict=True):
        gone = ((t_s > 2.2) & (t_s < 2.9))[:, None, None]
        xy = np.where(gone[..., None], np.float32(np.nan), keypoints.xy_px)
        found.append(Keypoints2d(xy, np.where(gone, np.float32(0), keypoints.score), BODY_25))
    people = find_people(crowd.rig, found, crowd.t_s)
    assert len(people.tracks) == 2
    assert shares(crowd, people)[1] < 0.003
    for owner, t_s in zip(people.owner, crowd.t_s, strict=True):
        assert (owner[(t_s > 2.2) & (t_s < 2.9)] == -1).all()


def test_rates_and_clocks_of_their_own(rng: np.random.Generator) -> None:
    t_s = times(4, 10, rates=(30, 12, 50, 8))
    crowd = record_crowd(rng, ring_of_cameras(4), crossing(), t_s)
    assert is_told_apart(crowd, find_people(crowd.rig, crowd.found, crowd.t_s))


def test_one_view_alone_goes_on_with_a_person(rng: np.random.Generator) -> None:
    """From 2 to 5 s all but the first view are covered, and again before 1 s, when nobody is known yet."""
    crowd = record_crowd(rng, ring_of_cameras(4), crossing(), times(4, 7))
    found = [crowd.found[0]]
    for keypoints, t_s in zip(crowd.found[1:], crowd.t_s[1:], strict=True):
        covered = ((t_s < 1) | ((t_s > 2) & (t_s < 5)))[:, None, None]
        xy = np.where(covered[..., None], np.float32(np.nan), keypoints.xy_px)
        found.append(Keypoints2d(xy, np.where(covered, np.float32(0), keypoints.score), BODY_25))
    people = find_people(crowd.rig, found, crowd.t_s)
    truth, owner = crowd.truth[0], people.owner[0]
    paired = track_of(crowd, people)
    assert len(people.tracks) == 2
    right = owner == np.array([paired[0], paired[1]])[truth]
    assert right[truth >= 0].mean() > 0.97


def test_exchanged_sides_are_still_the_person(rng: np.random.Generator) -> None:
    detector = DetectorConfig(swap_fraction=0.3)
    crowd = record_crowd(rng, ring_of_cameras(4), crossing(), times(4, 6), detector)
    assert is_told_apart(crowd, find_people(crowd.rig, crowd.found, crowd.t_s), right=0.95)


@pytest.mark.parametrize("skeleton", [COCO_17, SMPL_24])
def test_other_skeletons(rng: np.random.Generator, skeleton) -> None:  # type: ignore[no-untyped-def]
    crowd = record_crowd(rng, ring_of_cameras(3), crossing(), times(3, 4), PERFECT)
    source = [BODY_25.joints.index(j) if j in BODY_25.joints else -1 for j in skeleton.joints]
    found = []
    for keypoints in crowd.found:
        score = np.where(np.array(source) >= 0, keypoints.score[:, :, source], np.float32(0))
        found.append(Keypoints2d(keypoints.xy_px[:, :, source], score, skeleton))
    people = find_people(crowd.rig, found, crowd.t_s)
    assert len(people.tracks) == 2
    assert shares(crowd, people)[1] == 0


def test_the_world_may_lie_anywhere(rng: np.random.Generator) -> None:
    crowd = record_crowd(rng, ring_of_cameras(3), crossing(), times(3, 4))
    moved = crowd.rig.moved(SE3.from_rotvec(np.array([0.4, -1.0, 2.0]), np.array([30.0, -7.0, 2.0])))
    people, again = (find_people(rig, crowd.found, crowd.t_s) for rig in (crowd.rig, moved))
    for owner, other in zip(people.owner, again.owner, strict=True):
        np.testing.assert_array_equal(owner, other)


def test_nobody_at_all(rng: np.random.Generator) -> None:
    t_s = times(3, 2)
    shape = (len(t_s[0]), 2, len(BODY_25))
    nobody = Keypoints2d(np.full((*shape, 2), np.nan, np.float32), np.zeros(shape, np.float32), BODY_25)
    people = find_people(ring_of_cameras(3), [nobody] * 3, t_s)
    assert people.tracks == ()
    assert all((owner == -1).all() for owner in people.owner)


def test_what_does_not_fit_together_is_refused(rng: np.random.Generator) -> None:
    crowd = record_crowd(rng, ring_of_cameras(3), crossing(), times(3, 1))
    with pytest.raises(InputError, match="2 cameras, 3 views"):
        find_people(Rig(crowd.rig.cameras[:2]), crowd.found, crowd.t_s)
    with pytest.raises(InputError, match="20 frames of keypoints and 19 frame times"):
        find_people(crowd.rig, crowd.found, [t[:-1] for t in crowd.t_s])
    with pytest.raises(InputError, match="must increase"):
        find_people(crowd.rig, crowd.found, [t[::-1] for t in crowd.t_s])
    with pytest.raises(InputError, match="fewer than two views have frames"):
        empty = [Keypoints2d(k.xy_px[:0], k.score[:0], BODY_25) for k in crowd.found[1:]]
        find_people(crowd.rig, [crowd.found[0], *empty], [crowd.t_s[0], np.zeros(0), np.zeros(0)])
    with pytest.raises(InputError, match="detect all views alike"):
        other = Keypoints2d(crowd.found[0].xy_px[:, :, :17], crowd.found[0].score[:, :, :17], COCO_17)
        find_people(crowd.rig, [other, *crowd.found[1:]], crowd.t_s)


# -- the parts


@pytest.mark.parametrize(
    ("model", "distortion", "focal"),
    [("radtan", (-0.25, 0.06, 0.002, -0.001, 0.0), 700.0), ("fisheye", (-0.03, 0.01, 0.0, 0.0), 330.0),
     ("pinhole", (), 900.0)],
)  # fmt: skip
def test_tables_of_rays_are_true_to_the_lens(rng: np.random.Generator, model, distortion, focal) -> None:  # type: ignore[no-untyped-def]
    lens = Lens(model, (1280, 720), (focal, focal), (645.0, 350.0), distortion)
    camera = Camera("c", lens, SE3.from_rotvec(np.array([0.3, 1.0, -0.2]), np.array([1.0, 2.0, 3.0])))
    px = rng.uniform(0, 1, (2000, 2)) * [1279, 719]
    ray = RayTable(camera).directions(px)
    true = lens.unproject(px) @ camera.world_from_cam.R.T
    known = np.isfinite(ray[:, 0])
    assert known.mean() > 0.97
    off_px = np.linalg.norm(ray - true, axis=-1)[known] * focal
    assert off_px.max() < 0.1
    far = np.array([[np.nan, 3.0], [np.inf, 3.0], [1e5, 1e5], [-400.0, 10.0]])
    assert np.isnan(RayTable(camera).directions(far)).all()


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(0, 5))
def test_assignment_is_the_best_there_is(seed: int, tracks: int, people: int) -> None:
    misfit = np.random.default_rng(seed).uniform(0, 1, (4, tracks, people)) ** 2
    misfit[misfit > 0.8] = np.inf
    who = assign(misfit, 0.5)
    for costs, chosen in zip(misfit, who, strict=True):
        used = chosen[chosen >= 0]
        assert len(set(used)) == len(used)
        row = np.flatnonzero(chosen >= 0)
        assert (costs[row, used] < 0.5).all()
        clipped = np.minimum(costs, 0.5)
        best = linear_sum_assignment(clipped)
        pairs = min(tracks, people)
        assert costs[row, used].sum() + 0.5 * (pairs - len(used)) == pytest.approx(clipped[best].sum(), abs=1e-9)


def sight_of(rig: Rig, joints: np.ndarray) -> Sight:
    """Exact rays (views, people, joints) of people (people, joints, 3)."""
    away = joints[None] - rig.centres[:, None, None]
    direction = away / np.linalg.norm(away, axis=-1, keepdims=True)
    return Sight(rig.centres, direction, np.ones(direction.shape[:-1]))


def main_joints(t_s: np.ndarray) -> np.ndarray:
    body = body_of(BODY_25)
    return walking_person(t_s)[:, [BODY_25.idx(j) for j in body.joints]]


def test_rays_meet_at_the_joints() -> None:
    body, rig = body_of(BODY_25), ring_of_cameras(4)
    true = main_joints(np.array([1.0, 9.0]))
    before = main_joints(np.array([0.9, 8.9]))
    trust, centre = np.ones(true.shape[:2]), rig.centres[:, None]
    who = np.tile(np.arange(2), (4, 1))
    met = meet(before, trust, centre, sight_of(rig, true), who, body.swap_idx)
    assert np.abs(met.xyz_m - true).max() < 0.01, "the prediction counts for a hundredth of its error of 10 cm"
    assert (met.views == 4).all()
    swapped = sight_of(rig, true)
    swapped.direction[2] = swapped.direction[2][:, body.swap_idx]
    met = meet(before, trust, centre, swapped, who, body.swap_idx)
    off = np.linalg.norm(met.xyz_m - true, axis=-1)
    assert np.median(off) < 0.01
    assert off.max() < 0.1, "sides that are close in a picture may stay exchanged"


def test_two_who_took_each_others_detection_give_it_back() -> None:
    body, rig = body_of(BODY_25), ring_of_cameras(3)
    true = np.concatenate([main_joints(np.array([1.0])), main_joints(np.array([1.0])) + np.array([0.1, 0.4, 0.0])])
    trust, centre, sight = np.ones(true.shape[:2]), np.tile(rig.centres[:, None], (1, 2, 1)), sight_of(rig, true)
    wrong = np.array([[0, 1], [1, 0], [0, 1]])
    met = meet(true, trust, centre, sight, wrong, body.swap_idx)
    assert met.misfit_m.min() > 0.05
    set_right, who = disentangled(met, true, trust, centre, sight, wrong, body.swap_idx, 0.03)
    np.testing.assert_array_equal(who, [[0, 1]] * 3)
    assert np.abs(set_right.xyz_m - true).max() < 1e-3
    kept, who = disentangled(set_right, true, trust, centre, sight, who, body.swap_idx, 0.03)
    np.testing.assert_array_equal(who, [[0, 1]] * 3)
    np.testing.assert_array_equal(kept.xyz_m, set_right.xyz_m)


def test_one_view_moves_a_person_across_its_rays() -> None:
    body, rig = body_of(BODY_25), ring_of_cameras(4)
    true = main_joints(np.array([1.0]))
    towards = true.mean(axis=1)[0] - rig.centres[0]
    depth = towards / np.linalg.norm(towards)
    aside = np.cross(depth, [0, 0, 1.0])
    who = np.array([[0], [-1], [-1], [-1]])
    moved = true + 0.1 * aside + 0.2 * depth
    met = meet(moved, np.ones(true.shape[:2]), rig.centres[:, None], sight_of(rig, true), who, body.swap_idx)
    off = (met.xyz_m - true).mean(axis=(0, 1))
    assert abs(off @ aside) < 0.02
    assert -0.02 < off @ depth < 0.2, "the size in the picture tells something of the depth"


def test_misfit_is_a_distance_in_the_room() -> None:
    body, rig = body_of(BODY_25), ring_of_cameras(3)
    true = main_joints(np.array([0.0]))
    sight = sight_of(rig, true)
    trust, centre = np.ones((1, *true.shape[:2])), rig.centres[:, None]
    assert misfit_m(true[None], trust, centre, sight, body.swap_idx).max() < 1e-6
    raised = true + np.array([0.0, 0.0, 0.1])
    risen = misfit_m(raised[None], trust, centre, sight, body.swap_idx)
    assert ((risen > 0.08) & (risen < 0.101)).all(), "cameras look slightly down"
    one_wrong = raised.copy()
    one_wrong[0, 3] += 50.0
    with_outlier = misfit_m(one_wrong[None], trust, centre, sight, body.swap_idx)
    assert (with_outlier - risen < 0.6 / len(body)).all(), "an outlier costs its cap"
    assert np.isinf(misfit_m(np.full_like(true, np.nan)[None], trust, centre, sight, body.swap_idx)).all()
    behind = Sight(sight.centre, -sight.direction, sight.weight)
    assert misfit_m(true[None], trust, centre, behind, body.swap_idx).min() == pytest.approx(0.6)


def test_human_sizes() -> None:
    body = body_of(BODY_25)
    adult = main_joints(np.array([0.0]))[0]
    assert is_human(np.stack([0.6 * adult, adult, 1.2 * adult]), body).all()
    assert not is_human(np.stack([0.3 * adult, 2.0 * adult]), body).any()
    assert is_human(np.full_like(adult, np.nan), body), "nothing speaks against it"


def test_steps_need_not_be_a_tenth_of_a_second(rng: np.random.Generator) -> None:
    crowd = record_crowd(rng, ring_of_cameras(3), crossing(), times(3, 6))
    config = PeopleConfig(follow=FollowConfig(step_s=1 / RATE_HZ))
    assert is_told_apart(crowd, find_people(crowd.rig, crowd.found, crowd.t_s, config))
