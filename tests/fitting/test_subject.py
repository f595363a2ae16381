"""Which of several people is annotated: the choice itself, and `motifs triangulate` with several in the views."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from calibration.egomotion import Egomotion
from capture.keypoints import Keypoints2d
from capture.session import Session, View
from core.errors import GateError, InputError, MotifsError
from core.files import read_json, read_npz, write_json, write_npz
from core.skeletons import BODY_25
from core.transforms import SE3
from fitting.people import People, Track
from fitting.people.sightings import body_of
from fitting.people.subject import FootWay, choose_subject, foot_distance, foot_notes, named_ids
from fitting.points import load_points3d
from fitting.triangulate import OUT, TriangulateConfig, run
from simulation.crowd import Crowd, Walker, record_crowd, ring_of_cameras, route
from simulation.stick_person import person_on_way

RATE_HZ = 20
DURATION_S = 5.0
BODY = body_of(BODY_25)
ABOVE_M = np.array([0.0, 0.0, 0.08])  # where a foot camera sits over the ankle


def pacing(y: float, phase: float = 0.0) -> Walker:
    """Somebody who walks to and fro along x."""
    knots = [(t, (-1.2 if n % 2 else 1.2), y, np.pi * (n % 2 == 0) + phase) for n, t in enumerate((0, 2.5, 5, 7.5, 10))]
    return Walker(route(knots), 1.7)


def track(number: int, y: float, spans: tuple[tuple[float, float], ...] = ((0.0, 10.0),), views: int = 4,
          moves: bool = True) -> Track:  # fmt: skip
    """A track as following leaves it, from the truth."""
    t_s = np.concatenate([np.arange(first, last, 0.1) for first, last in spans])
    joints = person_on_way(t_s if moves else 0 * t_s, pacing(y).way)[:, [BODY_25.idx(j) for j in BODY.joints]]
    shape = joints.shape[:2]
    return Track(number, t_s, joints, np.ones(shape), np.full(len(t_s), views), spans, BODY)


def people_of(*tracks: Track) -> People:
    return People(tracks, (), (), (), (0.0, 10.0), BODY)


def feet_of(worn: Track, left: str = "left", right: str = "right") -> dict[str, FootWay]:
    """Foot cameras on a track's feet, named as given."""
    t_s = np.arange(0.0, 10.0, 1 / 60)
    joints = person_on_way(t_s, pacing(float(worn.places_m[0, 1])).way)
    return {
        f"{named}_cam": FootWay(named, t_s, joints[:, BODY_25.idx(f"{side}_ankle")] + ABOVE_M)
        for side, named in (("left", left), ("right", right))
    }


def test_the_wearer_of_the_foot_cameras() -> None:
    one, two = track(0, -0.5), track(1, 0.5, views=6)
    subject = choose_subject(people_of(one, two), feet=feet_of(one))
    assert subject.ids == (0,)
    assert subject.health.ok
    assert subject.foot_m[0] == pytest.approx(0.08, abs=0.03)
    assert "track 0: 0.0" in subject.why
    assert "track 1: 1.0" in subject.why


def test_pieces_of_the_wearer_are_joined() -> None:
    pieces = track(0, -0.5, ((0.0, 4.0),)), track(1, 0.5), track(2, -0.5, ((6.0, 10.0),))
    assert choose_subject(people_of(*pieces), feet=feet_of(pieces[0])).ids == (0, 2)


def test_feet_that_are_nobodys_are_refused_with_the_distances() -> None:
    people = people_of(track(0, -0.5), track(1, 0.5))
    subject = choose_subject(people, feet=feet_of(track(2, 2.5)))
    assert subject.ids == ()
    assert not subject.health.ok
    assert "track 1: 2.0" in subject.health.action
    assert "marker map" in subject.health.action
    exchanged = choose_subject(people, feet=feet_of(people.tracks[0], left="right", right="left"))
    assert exchanged.ids == ()
    assert "the left foot camera follows the right ankle of track 0, at 0.08 m" in exchanged.health.action
    assert foot_distance(people.tracks[0], feet_of(people.tracks[0], "right", "left"), crossed=True) < 0.1


def test_where_the_feet_leave_their_cameras_is_noted() -> None:
    one = track(0, -0.5)
    feet = feet_of(one)
    assert foot_notes(people_of(one), [0], feet, 0.35) == []
    gone = (feet["left_cam"].t_s > 3) & (feet["left_cam"].t_s < 5)
    aside = np.where(gone[:, None], feet["left_cam"].centre_m + 1.0, feet["left_cam"].centre_m)
    feet["left_cam"] = dataclasses.replace(feet["left_cam"], centre_m=aside)
    said = "left_cam is farther than 0.35 m from the ankle of track 0 from 3.1 to 4.9 s"
    assert foot_notes(people_of(one), [0], feet, 0.35) == [said]


def test_feet_that_could_be_twos_are_refused() -> None:
    one, double = track(0, -0.5), track(1, -0.45)
    subject = choose_subject(people_of(one, double), feet=feet_of(one))
    assert subject.ids == ()
    assert subject.health.name == "foot_margin_m"


def test_foot_cameras_that_saw_nothing_decide_nothing() -> None:
    one = track(0, -0.5)
    blind = {name: dataclasses.replace(way, centre_m=np.nan * way.centre_m) for name, way in feet_of(one).items()}
    assert choose_subject(people_of(one), feet=blind).why == "seen most"


def test_who_is_seen_most() -> None:
    people = people_of(track(0, -0.5, ((0.0, 5.0),)), track(1, 0.5))
    assert choose_subject(people).ids == (1,)
    poster = people_of(track(0, -0.5, moves=False, views=8), track(1, 0.5))
    assert choose_subject(poster).ids == (1,), "a poster comes last however many see it"
    assert choose_subject(people_of(track(0, -0.5, moves=False))).ids == (0,), "who is alone may stand still"


def test_two_who_are_alike_are_refused_by_name() -> None:
    subject = choose_subject(people_of(track(0, -0.5), track(1, 0.5, ((0.0, 4.0),)), track(2, 0.5, ((5.0, 9.5),))))
    assert subject.ids == (0,), "four tenths and a little more are not alike"
    subject = choose_subject(people_of(track(0, -0.5, ((0.0, 4.6),)), track(1, 0.6, ((5.0, 10.0),))))
    assert subject.ids == ()
    assert subject.health.value == pytest.approx(0.92)
    for said in ("track 1 (5.0 to 10.0 s, about x", "y 0.6 m)", "track 0 (0.0 to 4.6 s", "--subject", "as in 0+1"):
        assert said in subject.health.action


def test_asked_by_name() -> None:
    people = people_of(track(0, -0.5, ((0.0, 5.0),)), track(1, 0.5))
    assert choose_subject(people, "0").ids == (0,)
    assert choose_subject(people, "1+0+1").ids == (1, 0)
    assert choose_subject(people, "longest").ids == (1,)
    assert choose_subject(people, "largest", heights={0: 0.6, 1: 0.4}).ids == (0,)
    assert choose_subject(people, "0", feet=feet_of(people.tracks[1])).ids == (0,), "a name goes over feet"
    with pytest.raises(InputError, match=r"subject 2: there is no such track.*track 0 \(0.0 to 5.0 s"):
        choose_subject(people, "2")
    with pytest.raises(InputError, match="names nobody"):
        named_ids("the tall one")
    assert choose_subject(people_of()).ids == ()


# -- the stage


def write_session(folder: Path, crowd: Crowd, feet: dict[str, FootWay] | None = None) -> Session:
    """A session at the point where everything but triangulation is done."""
    views = [
        View(camera.id, "room", camera.lens.size_px, num_frames=len(t), frame_rate=str(RATE_HZ))
        for camera, t in zip(crowd.rig, crowd.t_s, strict=True)
    ]
    for name, way in (feet or {}).items():
        views.append(View(name, f"{way.side}_foot", (640, 480)))  # type: ignore[arg-type]
        n = len(way.t_s)
        pose = SE3(np.tile(np.eye(3), (n, 1, 1)), way.centre_m)
        known = np.ones(n, dtype=bool)
        (folder / "05_egomotion").mkdir(parents=True, exist_ok=True)
        ego = Egomotion(way.t_s, pose, np.tile(1e-6 * np.eye(6), (n, 1, 1)), known, ~known, np.full(n, 20))
        ego.save(folder / "05_egomotion" / f"{name}.npz")
    session = Session(folder, "s", "anna", tuple(views), rate=str(RATE_HZ))
    for name in ("01_sync", "02_keypoints", "04_rig"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    session.save()
    write_json(folder / "04_rig" / "rig.json", crowd.rig.to_json())
    clocks = {}
    for camera, found, t_s in zip(crowd.rig, crowd.found, crowd.t_s, strict=True):
        clocks[camera.id] = {"offset_s": 0.5, "rate": 1.0}
        write_npz(folder / "01_sync" / f"{camera.id}.times.npz", {"t_local_s": t_s - 0.5})
        found.save(folder / "02_keypoints" / f"{camera.id}.npz")
    write_json(folder / "01_sync" / "clocks.json", {"clocks": clocks})
    return session


def recorded(rng: np.random.Generator, walkers: list[Walker], num_views: int = 4) -> Crowd:
    t_s = [0.5 + 0.011 * view + np.arange(int(DURATION_S * RATE_HZ)) / RATE_HZ for view in range(num_views)]
    return record_crowd(rng, ring_of_cameras(num_views), walkers, t_s)


def refused(folder: Path, kind: type[MotifsError], *says: str, config: TriangulateConfig | None = None) -> None:
    with pytest.raises(kind) as caught:
        run(folder, config)
    for part in says:
        assert part in str(caught.value)


def with_view(crowd: Crowd, view: int, found: Keypoints2d) -> Crowd:
    return dataclasses.replace(crowd, found=(*crowd.found[:view], found, *crowd.found[view + 1 :]))


def test_two_people_are_refused_until_one_is_named(rng: np.random.Generator, tmp_path: Path) -> None:
    walkers = [pacing(-0.6), pacing(0.6)]
    crowd = recorded(rng, walkers)
    write_session(tmp_path, crowd)
    refused(tmp_path, GateError, "subject_likeness", "name the subject with --subject NUMBER: track")
    kept = read_json(tmp_path / f"{OUT}.refused" / "people.json")
    assert [entry["id"] for entry in kept["tracks"]] == [0, 1]
    assert (tmp_path / f"{OUT}.refused" / "people.png").is_file()
    chosen = min(kept["tracks"], key=lambda entry: entry["place_m"][1])["id"]
    manifest = run(tmp_path, TriangulateConfig(subject=str(chosen)))
    facts = manifest.metrics["people"]
    assert facts["subject"] == {"tracks": [chosen], "why": "named by the user"}
    entry = facts["tracks"][chosen]
    assert entry["share"] == pytest.approx(1.0, abs=0.03)
    assert entry["median_views"] == 4
    assert entry["stature_m"] == pytest.approx(1.7, rel=0.05)
    points = load_points3d(tmp_path / OUT / "points3d.npz")
    truth = walkers[0].joints_at(points.t_s)
    assert np.nanmedian(np.linalg.norm(points.xyz_m - truth, axis=-1)) < 0.02
    assert points.valid.mean() > 0.97
    arrays = read_npz(tmp_path / OUT / "people.npz")
    assert set(arrays["track"]) == {0, 1}
    assert arrays["owner cam0"].shape == crowd.truth[0].shape
    assert not (tmp_path / f"{OUT}.refused").exists()
    refused(tmp_path, InputError, "names nobody", config=TriangulateConfig(subject="him"))


def test_the_wearer_is_annotated_whoever_else_is_there(rng: np.random.Generator, tmp_path: Path) -> None:
    walkers = [pacing(-0.6), pacing(0.6)]
    t_s = np.arange(0.0, 6.0, 1 / 60)
    joints = walkers[1].joints_at(t_s)
    feet = {s: FootWay(s, t_s, joints[:, BODY_25.idx(f"{s}_ankle")] + ABOVE_M) for s in ("left", "right")}
    crowd = recorded(rng, walkers)
    write_session(tmp_path, crowd, feet)
    manifest = run(tmp_path)
    points = load_points3d(tmp_path / OUT / "points3d.npz")
    assert np.nanmedian(np.linalg.norm(points.xyz_m - walkers[1].joints_at(points.t_s), axis=-1)) < 0.02
    assert "wears the foot cameras" in manifest.metrics["people"]["subject"]["why"]
    assert any("foot_distance_m" in entry for entry in manifest.metrics["people"]["tracks"])
    assert "way of left" in manifest.data["inputs"]
    aside = {
        name: dataclasses.replace(way, centre_m=way.centre_m + np.array([0, 0, 1.5])) for name, way in feet.items()
    }
    write_session(tmp_path / "other", crowd, aside)
    refused(tmp_path / "other", GateError, "foot_distance_m 1.5", "nobody's ankles follow the foot cameras (track")


def test_numbers_that_are_none_are_missing_joints(rng: np.random.Generator, tmp_path: Path) -> None:
    crowd = recorded(rng, [pacing(-0.3)], num_views=3)
    spoilt, missing = crowd, crowd
    for view, found in enumerate(crowd.found):
        bad = rng.random(found.score.shape) < 0.1
        kinds = rng.integers(0, 6, bad.sum())
        xy, score = found.xy_px.copy(), found.score.copy()
        rows = np.array([[np.nan, 5], [np.inf, 5], [-np.inf, np.nan], [5, 5], [5, 5], [1e9, 5]], np.float32)
        xy[bad] = rows[kinds]
        score[bad] = np.array([0.9, 0.9, 0.9, np.nan, -3.0, 0.9], np.float32)[kinds]
        spoilt = with_view(spoilt, view, Keypoints2d(xy, score, BODY_25))
        none = Keypoints2d(
            np.where(bad[..., None], np.float32(np.nan), found.xy_px),
            np.where(bad, np.float32(0), found.score),
            BODY_25,
        )
        missing = with_view(missing, view, none)
    for name, each in (("spoilt", spoilt), ("missing", missing)):
        write_session(tmp_path / name, each)
        run(tmp_path / name)
    one, two = (load_points3d(tmp_path / name / OUT / "points3d.npz") for name in ("spoilt", "missing"))
    np.testing.assert_array_equal(one.xyz_m, two.xyz_m)
    # of three views two must know a joint in two neighbouring frames: 1 - 3 x 0.81 x 0.19^2 - 0.19^3 = 0.905
    assert one.valid.mean() > 0.87


def test_a_view_that_disagrees_is_named(rng: np.random.Generator, tmp_path: Path) -> None:
    """From the side, a clock that is wrong by 0.8 s shows somebody nobody else sees."""
    crowd = recorded(rng, [pacing(-0.3)])
    late = (crowd.t_s[0], crowd.t_s[1] + 0.8, *crowd.t_s[2:])
    write_session(tmp_path, dataclasses.replace(crowd, t_s=late))
    refused(tmp_path, GateError, "cam1", "inlier_share", "check its clock and its place")


def test_what_is_missing_is_noted(rng: np.random.Generator, tmp_path: Path) -> None:
    """One view sees nobody, one stops, one has frames beyond its times; nobody is there from 2 to 3.5 s."""
    crowd = recorded(rng, [pacing(-0.3)], num_views=5)
    for view, found in enumerate(crowd.found):
        gone = ((crowd.t_s[view] > 2.0) & (crowd.t_s[view] < 3.5))[:, None, None] | (view == 1)
        xy = np.where(gone[..., None], np.float32(np.nan), found.xy_px)
        crowd = with_view(crowd, view, Keypoints2d(xy, np.where(gone, np.float32(0), found.score), BODY_25))
    longer = Keypoints2d(*(np.concatenate([a, a[:7]]) for a in (crowd.found[3].xy_px, crowd.found[3].score)), BODY_25)
    short = Keypoints2d(crowd.found[2].xy_px[:30], crowd.found[2].score[:30], BODY_25)
    crowd = with_view(with_view(crowd, 3, longer), 2, short)
    write_session(tmp_path, crowd)
    manifest = run(tmp_path)
    notes = "\n".join(manifest.metrics["notes"])
    for said in ("cam1: nobody was detected in it", "cam2: it lasts from 0.5 to 2.0 s only",
                 "cam3: the last 7 frames of its keypoints have no time",
                 "the subject is not seen by two views from 2.0 to 3.5 s"):  # fmt: skip
        assert said in notes
    points = load_points3d(tmp_path / OUT / "points3d.npz")
    absent = (points.t_s > 2.1) & (points.t_s < 3.4)
    assert not points.valid[absent].any()
    assert points.valid[~absent].mean() > 0.9
    assert len(manifest.metrics["people"]["tracks"]) == 1, "who comes back is the same"


def test_nobody_is_found(rng: np.random.Generator, tmp_path: Path) -> None:
    crowd = recorded(rng, [pacing(-0.3)], num_views=3)
    for view, found in enumerate(crowd.found):
        crowd = with_view(crowd, view, Keypoints2d(np.nan * found.xy_px, 0 * found.score, BODY_25))
    write_session(tmp_path, crowd)
    refused(tmp_path, GateError, "people 0 < 1", "no two views agree about anybody of human size")


def test_one_view_with_frames_is_not_enough(rng: np.random.Generator, tmp_path: Path) -> None:
    crowd = recorded(rng, [pacing(-0.3)], num_views=2)
    empty = Keypoints2d(crowd.found[1].xy_px[:0], crowd.found[1].score[:0], BODY_25)
    write_session(tmp_path, with_view(crowd, 1, empty))
    refused(tmp_path, MotifsError, "1 room views have both keypoints and a place in the rig")
