"""Paths against exact ones: noise that is new in every frame and noise that stays, gaps, wrong points, the algebra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_triangulate import NOISE_PX, ring_rig

from core.errors import InputError
from core.skeletons import COCO_17
from fitting import trajectories
from fitting.points import Points3d, triangulate_points
from fitting.trajectories import Paths, load_paths, smooth_paths

T_S = np.arange(120) / 30
CHI2_95 = 7.815  # of three degrees of freedom


def walk(rng: np.random.Generator) -> np.ndarray:
    """Joints that go to and fro at 0.3 to 1 Hz, (frames, joints, 3)."""
    rate, phase = rng.uniform(0.3, 1.0, (17, 3)), rng.uniform(0, 2 * np.pi, (17, 3))
    sway = np.sin(2 * np.pi * rate * T_S[:, None, None] + phase)
    return np.array([0, 0, 1.0]) + 0.4 * sway


def seen(
    rng: np.random.Generator, truth: np.ndarray, num_views: int = 5, staying: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints with noise of which a share stays over a dozen frames."""
    xy = ring_rig(num_views).project(truth)
    noise = np.sqrt(1 - staying) * rng.standard_normal(xy.shape)
    slow = rng.standard_normal(xy[:, 0].shape)
    for frame in range(xy.shape[1]):
        noise[:, frame] += np.sqrt(staying) * slow
        slow = 0.92 * slow + np.sqrt(1 - 0.92**2) * rng.standard_normal(slow.shape)
    return xy + NOISE_PX * noise, np.ones(xy.shape[:-1])


def followed(xy: np.ndarray, score: np.ndarray) -> tuple[Points3d, Paths]:
    rig = ring_rig(len(xy))
    points = triangulate_points(rig, xy, score, COCO_17, t_s=T_S)
    return points, smooth_paths(rig, xy, score, points, 0.1)


def share_inside(found: Points3d | Paths, truth: np.ndarray) -> float:
    offset = (found.xyz_m - truth)[found.valid]
    squared = np.einsum("ni,nij,nj->n", offset, np.linalg.inv(found.covariance[found.valid]), offset)
    return float((squared < CHI2_95).mean())


def test_paths_are_nearer_than_points_and_say_how_near(rng: np.random.Generator) -> None:
    truth = walk(rng)
    points, paths = followed(*seen(rng, truth))
    near, far = (np.linalg.norm(found.xyz_m - truth, axis=-1).mean() for found in (paths, points))
    assert near < 0.55 * far
    assert paths.valid.all() and paths.measured.all()
    assert 0.92 < share_inside(paths, truth) < 0.995


def test_noise_that_stays_is_not_averaged_out_on_paper(rng: np.random.Generator) -> None:
    truth = walk(rng)
    _, paths = followed(*seen(rng, truth, staying=0.5))
    assert paths.staying == pytest.approx(0.5, abs=0.15)
    assert share_inside(paths, truth) > 0.92


def test_a_short_gap_is_bridged_and_flagged_and_a_long_one_left_open(rng: np.random.Generator) -> None:
    truth = walk(rng)
    xy, score = seen(rng, truth)
    score[:, 30:40, 3], score[:, 60:90, 5] = 0.0, 0.0
    _, paths = followed(xy, score)
    assert paths.valid[30:40, 3].all() and not paths.measured[30:40, 3].any()
    assert np.linalg.norm(paths.xyz_m[30:40, 3] - truth[30:40, 3], axis=-1).max() < 0.05
    assert not paths.valid[60:90, 5].any() and np.isnan(paths.xyz_m[60:90, 5]).all()
    sigma = np.sqrt(np.trace(paths.covariance[:, 3], axis1=-2, axis2=-1))
    assert sigma[35] > 2 * np.median(sigma)
    assert np.linalg.norm(paths.xyz_m[35, 3] - truth[35, 3]) < 4 * sigma[35]


def test_a_view_alone_helps_where_a_point_cannot_be_triangulated(rng: np.random.Generator) -> None:
    truth = walk(rng)
    xy, score = seen(rng, truth)
    score[1:, 40:46, 9] = 0.0
    alone = followed(xy, score)[1]
    score[0, 40:46, 9] = 0.0
    blind = followed(xy, score)[1]
    variance = [np.trace(paths.covariance[43, 9]) for paths in (alone, blind)]
    assert variance[0] < 0.7 * variance[1] and not alone.measured[43, 9]


def test_a_point_that_two_views_misplace_does_not_bend_the_path(rng: np.random.Generator) -> None:
    truth = walk(rng)
    xy, score = seen(rng, truth)
    score[2:, 50, 4] = 0.0
    xy[:2, 50, 4] = ring_rig(5).project(truth[50, 4] + [0.3, -0.2, 0.1])[:2]
    points, paths = followed(xy, score)
    assert np.linalg.norm(points.xyz_m[50, 4] - truth[50, 4]) > 0.2, "nothing in that frame tells"
    assert not paths.measured[50, 4]
    assert np.linalg.norm(paths.xyz_m[50, 4] - truth[50, 4]) < 0.02


def test_a_joint_at_rest_is_averaged_over_many_frames(rng: np.random.Generator) -> None:
    truth = np.broadcast_to(walk(rng)[:1], (len(T_S), 17, 3))
    points, paths = followed(*seen(rng, truth))
    near, far = (np.linalg.norm(found.xyz_m - truth, axis=-1).mean() for found in (paths, points))
    assert near < 0.35 * far  # a level a hundredth of the first one averages over two dozen frames


def test_blocks_are_those_of_the_dense_inverse(rng: np.random.Generator) -> None:
    T, J = 60, 2
    A = rng.normal(size=(T, J, 3, 3))
    A = A @ np.swapaxes(A, -1, -2) + np.eye(3)
    upper = np.stack([A[..., i, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))])
    right, stiffness = rng.normal(size=(3, T, J)), 100 * rng.uniform(0.5, 2, (T - 3, J))
    path, blocks = trajectories._solve(upper, right, stiffness)
    for joint in range(J):
        H = np.zeros((T, 3, T, 3))
        H[np.arange(T), :, np.arange(T)] = A[:, joint]
        D = np.zeros((T - 3, T))
        for k, c in enumerate((-1.0, 3.0, -3.0, 1.0)):
            D[np.arange(T - 3), np.arange(T - 3) + k] = c
        H += np.einsum("mt,m,ms,ij->tisj", D, stiffness[:, joint], D, np.eye(3))
        inverse = np.linalg.inv(H.reshape(3 * T, 3 * T))
        np.testing.assert_allclose(path[:, joint].ravel(), inverse @ right[:, :, joint].T.ravel(), atol=1e-11)
        inverse = inverse.reshape(T, 3, T, 3)
        for k in range(4):
            dense = inverse[np.arange(k, T), :, np.arange(T - k)]
            np.testing.assert_allclose(blocks[: T - k, k, joint], dense, atol=1e-11)


def test_clips_too_short_for_a_path_keep_their_points(rng: np.random.Generator) -> None:
    xy, score = seen(rng, walk(rng))
    rig = ring_rig(5)
    points = triangulate_points(rig, xy[:, :4], score[:, :4], COCO_17, t_s=T_S[:4])
    paths = smooth_paths(rig, xy[:, :4], score[:, :4], points, 0.1)
    np.testing.assert_array_equal(paths.xyz_m, points.xyz_m)


def test_paths_survive_the_disk(rng: np.random.Generator, tmp_path: Path) -> None:
    _, paths = followed(*seen(rng, walk(rng)))
    paths.save(tmp_path / "paths.npz")
    again = load_paths(tmp_path / "paths.npz")
    np.testing.assert_array_equal(again.xyz_m, paths.xyz_m)
    assert again.staying == paths.staying and again.skeleton is COCO_17
    np.savez(tmp_path / "other.npz", t_s=np.zeros(3))
    with pytest.raises(InputError, match="not a file of paths"):
        load_paths(tmp_path / "other.npz")


def test_long_recordings_in_stretches_have_the_same_paths(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    xy, score = seen(rng, walk(rng))
    whole = followed(xy, score)[1]
    monkeypatch.setattr(trajectories, "_STRETCH", 50)
    monkeypatch.setattr(trajectories, "_OVERLAP", 40)
    parts = followed(xy, score)[1]
    assert parts.valid.all()
    # levels of motion come from what a stretch holds: a tenth of the noise left
    sigma = np.sqrt(np.einsum("tjii->tj", whole.covariance))
    assert (np.linalg.norm(parts.xyz_m - whole.xyz_m, axis=-1) / sigma).max() < 0.1
