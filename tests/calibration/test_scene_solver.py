"""The scene map's registration and adjustment on known rooms, and cameras found on it."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from calibration import colmap, scene_matching
from calibration.colmap import Structure, reconstruct
from calibration.features import Features
from calibration.point_bundle import PointScene, Sights, _inflation, _Normal, _project, solve_points
from calibration.registration import register
from calibration.robust import robust_weight
from calibration.scene_matching import MatchConfig, match_frames
from calibration.scene_points import SceneMap
from calibration.scene_solver import Anchors, feature_sigma, solve_scene
from core.cameras import Lens
from core.errors import GateError, StageError
from core.transforms import SE3, align_points, geodesic, so3_exp
from simulation.scenery import looking

HAND = Lens("radtan", (960, 720), (590.0, 590.0), (481.0, 357.0), (-0.08, 0.01, 1e-4, -2e-4, 0.0))
FOOT = Lens("fisheye", (512, 512), (195.0, 195.0), (256.0, 254.0), (0.01, -0.004, 0.001, 0.0))
ROOM_M = np.array([5.0, 4.0, 2.6])
NUM_WALK, NUM_ROOM = 24, 6
MAP_FROM_WORLD = 2.3  # units of the reconstruction a metre


@dataclass(frozen=True, eq=False)
class Seen:
    """A room of points as structure from motion leaves it, and its truth."""

    structure: Structure
    features: list[Features]
    lens_idx: np.ndarray
    world_from_cam: SE3
    points_m: np.ndarray
    anchors: Anchors


def wall_points(rng: np.random.Generator, n: int) -> np.ndarray:
    """Points on the walls and the ceiling."""
    points = rng.uniform(-0.5, 0.5, (n, 3)) * ROOM_M + [0, 0, ROOM_M[2] / 2]
    face = rng.integers(5, size=n)
    for axis in (0, 1):
        for k, side in ((2 * axis, 0.5), (2 * axis + 1, -0.5)):
            points[face == k, axis] = side * ROOM_M[axis]
    points[face == 4, 2] = ROOM_M[2]
    return points


def see_room(rng: np.random.Generator, *, rig_sigma: tuple[float, float] = (2e-4, 1e-3), marks: bool = False) -> Seen:
    """Cameras around a room; the reconstruction is off by noise, a turn, and its scale."""
    points = wall_points(rng, 500)
    poses = []
    for i in range(NUM_WALK + NUM_ROOM):
        share, high = i / NUM_WALK, i >= NUM_WALK
        angle = 2 * np.pi * (share if not high else (i - NUM_WALK) / NUM_ROOM)
        place = np.array([1.9 * np.cos(angle), 1.4 * np.sin(angle), 2.2 if high else 1.4 + 0.3 * np.sin(5 * angle)])
        poses.append(looking(place, np.array([-0.5 * place[0], -0.5 * place[1], 1.5 + 0.5 * np.cos(3 * angle)])))
    pose = SE3.stack(poses)
    rows, features, looks = [], [], rng.integers(0, 90, (len(points), 128)).astype(np.uint8)
    for i in range(len(pose)):
        px = HAND.project(pose[i].inverse().apply(points))
        seen = np.flatnonzero(HAND.contains(px, margin_px=3.0))
        scale = rng.uniform(3, 12, len(seen))
        noise = rng.standard_normal((len(seen), 2)) * feature_sigma(scale)[:, None]
        features.append(Features(px[seen] + noise, scale, looks[seen]))
        rows += [(int(p), i, k) for k, p in enumerate(seen)]
    table = np.array(sorted(rows))
    often = np.bincount(table[:, 0], minlength=len(points)) >= 3
    table = table[often[table[:, 0]]]
    renumber = np.cumsum(often) - 1
    turn = so3_exp(np.array([0.4, -1.1, 0.7]))
    wrong = pose.retract(rng.standard_normal((len(pose), 6)) * np.repeat([0.001, 0.004], 3))
    structure = Structure(
        SE3(turn @ wrong.R, MAP_FROM_WORLD * wrong.t @ turn.T + 3.0),
        np.ones(len(pose), bool),
        MAP_FROM_WORLD * (points[often] + 0.005 * rng.standard_normal((int(often.sum()), 3))) @ turn.T + 3.0,
        renumber[table[:, 0]],
        table[:, 1],
        table[:, 2],
    )
    return Seen(
        structure, features, np.zeros(len(pose), int), pose, points[often], anchors_of(rng, pose, rig_sigma, marks)
    )


def anchors_of(rng: np.random.Generator, pose: SE3, rig_sigma: tuple[float, float], marks: bool) -> Anchors:
    """The room cameras with the rig's noise, and a few located marker points if asked for."""
    cameras = np.arange(NUM_WALK, NUM_WALK + NUM_ROOM)
    sigma = np.repeat(rig_sigma, 3)
    rig = pose[cameras].retract(rng.standard_normal((NUM_ROOM, 6)) * sigma)
    covariance = np.broadcast_to(np.diag(sigma**2), (NUM_ROOM, 6, 6)).copy()
    images, idx, xy = [], [], [np.zeros((0, 2))]
    marks_m = wall_points(rng, 8) if marks else np.zeros((0, 3))
    for i in range(NUM_WALK):
        px = HAND.project(pose[i].inverse().apply(marks_m))
        seen = np.flatnonzero(HAND.contains(px))
        images += [i] * len(seen)
        idx += seen.tolist()
        xy.append(px[seen] + 0.3 * rng.standard_normal((len(seen), 2)))
    rows = np.array(images, np.int64), np.array(idx, np.int64), np.concatenate(xy)
    return Anchors(cameras, rig, covariance, *rows, marks_m, np.full(len(marks_m), 1e-3))


def without_cameras(anchors: Anchors, kept: int) -> Anchors:
    """The anchors with the first few room cameras alone."""
    return dataclasses.replace(
        anchors,
        camera_image=anchors.camera_image[:kept],
        world_from_cam=anchors.world_from_cam[:kept],
        camera_covariance=anchors.camera_covariance[:kept],
    )


def test_a_map_comes_out_in_metres_and_as_certain_as_it_says(rng: np.random.Generator) -> None:
    seen = see_room(rng)
    solved = solve_scene(seen.structure, seen.features, [HAND], seen.lens_idx, seen.anchors)
    assert solved.similarity.scale == pytest.approx(1 / MAP_FROM_WORLD, rel=4 * solved.similarity.scale_sigma)
    assert solved.similarity.scale_sigma < 3e-3
    off = solved.world_from_cam.t - seen.world_from_cam.t
    sigma = np.sqrt(np.einsum("nii->ni", solved.pose_covariance)[:, 3:])
    assert np.median(np.linalg.norm(off, axis=1)) < 2e-3
    assert 0.75 < np.mean(np.abs(off) < 2 * sigma) <= 1.0  # 0.95, of few independent figures
    assert np.degrees(geodesic(solved.world_from_cam.R, seen.world_from_cam.R)).max() < 0.15
    place = {tuple(look): p for look, p in zip(seen_looks(seen), seen.points_m, strict=True)}
    first = np.searchsorted(solved.scene.descriptor_point, np.arange(len(solved.scene)))
    true = np.array([place[tuple(look)] for look in solved.scene.descriptors[first].tolist()])
    error = solved.scene.xyz_m - true
    mahalanobis = np.einsum("pi,pij,pj->p", error, np.linalg.inv(solved.scene.covariance), error)
    assert 0.85 < np.mean(mahalanobis < 7.81) <= 1.0  # the 95 % point of chi-squared with three degrees
    assert len(solved.scene) > 0.8 * len(seen.points_m)


def seen_looks(seen: Seen) -> list[list[int]]:
    """How each true point looks."""
    first = np.searchsorted(seen.structure.point_idx, np.arange(len(seen.points_m)))
    images, rows = seen.structure.image_idx[first], seen.structure.feature_idx[first]
    return [seen.features[i].descriptors[k].tolist() for i, k in zip(images, rows, strict=True)]


def test_a_camera_that_was_moved_is_found_out_and_moves_nothing(rng: np.random.Generator) -> None:
    seen = see_room(rng)
    t = seen.anchors.world_from_cam.t.copy()
    t[2] += [0.5, 0.2, 0.0]
    anchors = dataclasses.replace(seen.anchors, world_from_cam=SE3(seen.anchors.world_from_cam.R, t))
    solved = solve_scene(seen.structure, seen.features, [HAND], seen.lens_idx, anchors)
    assert solved.similarity.inlier.tolist() == [k != 2 for k in range(NUM_ROOM)]
    assert solved.camera_m[2] == pytest.approx(np.hypot(0.5, 0.2), abs=0.03)
    assert np.linalg.norm(solved.world_from_cam.t - seen.world_from_cam.t, axis=1).max() < 8e-3


def test_markers_stand_in_for_room_cameras(rng: np.random.Generator) -> None:
    seen = see_room(rng, marks=True)
    both = solve_scene(seen.structure, seen.features, [HAND], seen.lens_idx, seen.anchors)
    scales = both.scale_by_source
    assert set(scales) == {"cameras", "markers"} and scales["cameras"] == pytest.approx(scales["markers"], rel=5e-3)
    alone = without_cameras(seen.anchors, 0)
    solved = solve_scene(seen.structure, seen.features, [HAND], seen.lens_idx, alone)
    assert set(solved.scale_by_source) == {"markers"} and solved.num_marks == 8
    assert np.median(np.linalg.norm(solved.world_from_cam.t - seen.world_from_cam.t, axis=1)) < 4e-3


@pytest.mark.parametrize("kept", [0, 2])
def test_too_little_of_the_room_gives_no_scale(rng: np.random.Generator, kept: int) -> None:
    seen = see_room(rng)
    with pytest.raises(GateError, match="scale"):
        solve_scene(seen.structure, seen.features, [HAND], seen.lens_idx, without_cameras(seen.anchors, kept))


def test_places_on_a_line_or_at_odds_are_refused(rng: np.random.Generator) -> None:
    line = np.linspace(0, 1, 6)[:, None] * [1.0, 2.0, 0.5]
    with pytest.raises(GateError, match="line"):
        register(line, 2 * line + 1, np.full(6, 0.01))
    with pytest.raises(GateError, match="agree"):
        register(rng.uniform(-2, 2, (7, 3)), rng.uniform(-2, 2, (7, 3)), np.full(7, 0.01))


def test_half_of_the_places_may_be_wrong(rng: np.random.Generator) -> None:
    here = rng.uniform(-2, 2, (12, 3))
    there = 0.5 * here @ so3_exp(np.array([0.3, 0.2, 1.0])).T + [1, 2, 3] + 0.002 * rng.standard_normal((12, 3))
    there[:5] += rng.uniform(0.3, 1.0, (5, 3))
    found = register(here, there, np.full(12, 0.01))
    assert found.inlier.tolist() == [False] * 5 + [True] * 7
    assert found.scale == pytest.approx(0.5, rel=4 * found.scale_sigma) and found.scale_sigma < 3e-3


def test_derivatives_of_the_bundle_are_right(rng: np.random.Generator) -> None:
    pose = SE3.stack([looking(np.array([x, -2.0, 1.0]), np.array([0.0, 0, 1.2])) for x in (-0.6, 0.5)])
    points, nothing = rng.uniform(-0.7, 0.7, (9, 3)) + np.array([0, 0, 1.0]), np.zeros((2, 6, 6))
    lens_idx = np.zeros(2, int)
    scene = PointScene([HAND], lens_idx, pose, points, pose, nothing, points, np.zeros((9, 3, 3)))
    image, point = np.repeat([0, 1], 9), np.tile(np.arange(9), 2)
    sights = Sights(image, point, np.zeros((18, 2)), np.full(18, 1e6))  # so wide that no weight bends
    xy = _project(scene, sights)[0] + rng.standard_normal((18, 2))
    sights = dataclasses.replace(sights, xy_px=xy)
    normal = _Normal(scene, sights)

    def half_cost(moved: PointScene) -> float:
        return float(0.5 * (((_project(moved, sights)[0] - xy) / 1e6) ** 2).sum())

    for k in range(6):
        ends = [
            half_cost(dataclasses.replace(scene, world_from_cam=pose.retract(s * 1e-6 * np.eye(6)[[k, k]])))
            for s in (1, -1)
        ]
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(normal.gu[:, k].sum(), rel=1e-4, abs=1e-16)
    for k in range(3):
        ends = [half_cost(dataclasses.replace(scene, points_m=points + s * 1e-6 * np.eye(3)[k])) for s in (1, -1)]
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(normal.gv[:, k].sum(), rel=1e-4, abs=1e-16)


@pytest.mark.parametrize("wild", [0.0, 0.15])
def test_the_covariance_of_a_robust_estimate_counts_its_tails(rng: np.random.Generator, wild: float) -> None:
    trials, n = 400, 150
    spread = np.where(rng.random((trials, n, 1)) < wild, 5.0, 1.0)
    seen = spread * rng.standard_normal((trials, n, 2))
    place = np.zeros((trials, 1, 2))
    for _ in range(60):
        weight = robust_weight(((seen - place) ** 2).sum(axis=-1).ravel(), "cauchy", 2.5).reshape(trials, n, 1)
        place = (weight * seen).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
    squared = ((seen - place) ** 2).sum(axis=-1)
    weight = robust_weight(squared.ravel(), "cauchy", 2.5).reshape(trials, n)
    stated = np.mean([_inflation(s, w) / w.sum() for s, w in zip(squared, weight, strict=True)])
    # a variance from 800 independent figures is known to 5 %
    assert stated == pytest.approx((place**2).mean(), rel=0.2)


def test_what_nothing_holds_is_refused(rng: np.random.Generator) -> None:
    pose = SE3.stack([looking(np.array([x, -2.0, 1.0]), np.array([0.0, 0, 1.2])) for x in (-0.6, 0.5)])
    points, nothing = rng.uniform(-0.7, 0.7, (9, 3)) + np.array([0, 0, 1.0]), np.zeros((2, 6, 6))
    scene = PointScene([HAND], np.zeros(2, int), pose, points, pose, nothing, points, np.zeros((9, 3, 3)))
    sights = Sights(np.repeat([0, 1], 9), np.tile(np.arange(9), 2), np.zeros((18, 2)), np.ones(18))
    sights = dataclasses.replace(sights, xy_px=_project(scene, sights)[0])
    with pytest.raises(GateError, match="not determined"):
        solve_points(scene, sights)


ROW_S = 20e-6


def foot_frame(
    rng: np.random.Generator, points: np.ndarray, looks: np.ndarray, pose: SE3, motion: np.ndarray, wrong: int
) -> Features:
    """What a foot camera in motion finds: map points row by row, and things that are no part of the map."""
    px = FOOT.project(pose.inverse().apply(points))
    for _ in range(4):  # a point's row decides where the camera was
        late = (np.nan_to_num(px[:, 1]) - FOOT.size_px[1] / 2) * ROW_S
        R = pose.R @ so3_exp(motion[:3] * late[:, None])
        away = points - (pose.t + motion[3:] * late[:, None])
        px = FOOT.project((np.swapaxes(R, -1, -2) @ away[..., None])[..., 0])
    seen = rng.permutation(np.flatnonzero(FOOT.contains(px)))[:90]
    shaken = looks[seen].astype(int) + rng.integers(-12, 13, (len(seen), 128))
    junk = rng.integers(0, 90, (wrong, 128))
    swapped = rng.permutation(len(seen))[: len(seen) // 4]
    shaken[swapped] = shaken[np.roll(swapped, 1)]  # a quarter looks like another point
    xy = np.concatenate([px[seen] + 0.5 * rng.standard_normal((len(seen), 2)), rng.uniform(20, 490, (wrong, 2))])
    return Features(xy, np.full(len(xy), 5.0), np.clip(np.concatenate([shaken, junk]), 0, 255).astype(np.uint8))


@pytest.mark.parametrize("speed", [0.0, 1.0])
def test_a_foot_camera_is_found_in_every_frame_alone(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, speed: float
) -> None:
    points = wall_points(rng, 400)
    looks = rng.integers(0, 90, (400, 128)).astype(np.uint8)
    scene = SceneMap(
        points, np.tile(1e-6 * np.eye(3), (400, 1, 1)), np.full(400, 3e-3), np.full(400, 1e-3), looks, np.arange(400)
    )
    motion = speed * np.array([4.0, -6.0, 3.0, 1.0, 1.5, -0.8])
    poses = {k: looking(np.array([0.3 * k - 1, 0.2, 0.15]), np.array([0.3 * k - 0.6, 0.4, 2.0])) for k in range(4)}
    frames = {k: foot_frame(rng, points, looks, pose, motion, 60) for k, pose in poses.items()}
    frames[4] = Features(
        rng.uniform(0, 511, (80, 2)), np.full(80, 5.0), rng.integers(0, 90, (80, 128)).astype(np.uint8)
    )
    pictures = [(k, np.full((2, 2), k, np.uint8)) for k in frames]
    monkeypatch.setattr(scene_matching, "find_features", lambda gray, config: frames[int(gray[0, 0])])
    found, place = match_frames(scene, FOOT, pictures, MatchConfig(), row_time_s=ROW_S)
    assert sorted(set(found.pose_idx.tolist())) == [0, 1, 2, 3]  # a picture of nothing known gives nothing
    assert np.bincount(found.pose_idx).min() > 45
    for k, pose in poses.items():
        rows = found.pose_idx == k
        late = (found.xy_px[rows, 1] - FOOT.size_px[1] / 2) * ROW_S
        R = pose.R @ so3_exp(motion[:3] * late[:, None])
        away = found.points_m[rows] - (pose.t + motion[3:] * late[:, None])
        px = FOOT.project((np.swapaxes(R, -1, -2) @ away[..., None])[..., 0])
        assert (np.linalg.norm(px - found.xy_px[rows], axis=1) < 3.5).mean() > 0.97
        together = np.full(rows.sum(), rows.sum())
        np.testing.assert_allclose(place[rows], np.sqrt(3e-3**2 + together * 1e-3**2))
    again, _ = match_frames(scene, FOOT, pictures, MatchConfig(), row_time_s=ROW_S)
    np.testing.assert_array_equal(found.xy_px, again.xy_px)
    for k, features in frames.items():  # videos of half the size, padded
        frames[k] = dataclasses.replace(features, xy_px=0.5 * features.xy_px + np.array([20.0, 0.0]))
    mapped, _ = match_frames(scene, FOOT, pictures, MatchConfig(), row_time_s=ROW_S, picture_from_px=(0.5, 20.0, 0.0))
    np.testing.assert_allclose(mapped.xy_px, found.xy_px, atol=1e-9)


def test_no_frames_give_an_empty_table() -> None:
    scene = SceneMap(
        np.zeros((1, 3)), np.zeros((1, 3, 3)), *np.ones((2, 1)), np.ones((1, 128), np.uint8), np.zeros(1, int)
    )
    found, place = match_frames(scene, FOOT, [(3, np.full((64, 64), 80, np.uint8))])
    assert len(found.pose_idx) == len(place) == 0 and found.points_m.shape == (0, 3)


def small_problem(rng: np.random.Generator) -> tuple[list[np.ndarray], dict[tuple[int, int], np.ndarray], SE3]:
    """Eight cameras of one lens that walk past points, with all true matches and a few wrong ones."""
    points = wall_points(rng, 260)
    pose = SE3.stack(
        [
            looking(np.array([x, 0.3 * x * x - 1.2, 1.3 + 0.4 * np.sin(2 * x)]), np.array([0.3 * x, 2.0, 1.4]))
            for x in np.linspace(-1.5, 1.5, 8)
        ]
    )
    seen, xy = [], []
    for i in range(8):
        px = HAND.project(pose[i].inverse().apply(points))
        seen.append(np.flatnonzero(HAND.contains(px)))
        xy.append(px[seen[-1]] + 0.3 * rng.standard_normal((len(seen[-1]), 2)))
    matches = {}
    for a in range(8):
        for b in range(a + 1, 8):
            _, rows, columns = np.intersect1d(seen[a], seen[b], return_indices=True)
            columns[:5] = np.roll(columns[:5], 1)
            matches[a, b] = np.stack([rows, columns], axis=1)
    return xy, matches, pose


def test_colmap_finds_the_poses_again_and_repeats_itself(rng: np.random.Generator) -> None:
    xy, matches, pose = small_problem(rng)
    found = reconstruct([HAND], np.zeros(8, int), xy, matches)
    assert found.registered.all() and len(found.points) > 60
    world, scale = align_points(found.world_from_cam.t, pose.t, with_scale=True)
    error = np.linalg.norm(scale * found.world_from_cam.t @ world.R.T + world.t - pose.t, axis=1)
    assert np.median(error) < 0.01 and error.max() < 0.03  # of a way of 3 m, from about 70 points a picture
    assert np.degrees(geodesic(world.R @ found.world_from_cam.R, pose.R)).max() < 1.0
    again = reconstruct([HAND], np.zeros(8, int), xy, matches)
    np.testing.assert_array_equal(found.world_from_cam.t, again.world_from_cam.t)
    np.testing.assert_array_equal(found.points, again.points)


def test_pictures_that_share_nothing_are_refused(rng: np.random.Generator) -> None:
    xy = [rng.uniform(0, 700, (40, 2)) for _ in range(4)]
    matches = {
        (a, b): np.stack([np.arange(40), rng.permutation(40)], axis=1) for a in range(4) for b in range(a + 1, 4)
    }
    with pytest.raises(StageError, match="join into one model"):
        reconstruct([HAND], np.zeros(4, int), xy, matches)


def test_a_child_that_dies_is_an_error_here(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    xy, matches, _ = small_problem(rng)
    monkeypatch.setattr(colmap, "_PROGRAM", (sys.executable, "-c", "import os; os.abort()"))
    with pytest.raises(StageError, match="status -6"):
        reconstruct([HAND], np.zeros(8, int), xy, matches)
