"""What a foot camera sees of its wearer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capture.keypoints import Keypoints2d
from core.cameras import Lens
from core.errors import InputError
from core.skeletons import COCO_17, HALPE_26
from core.transforms import SE3, so3_exp
from fitting.foot_mount import FootObservation
from fitting.own_view import joined, loaded, own_keypoints, own_rays, own_view_term, saved

LENS = Lens("fisheye", (512, 512), (195.0, 195.0), (255.5, 255.5), (0.01, -0.005, 0.0, 0.0))
T, K = 6, len(HALPE_26)


@pytest.fixture
def cameras(rng: np.random.Generator) -> SE3:
    return SE3(so3_exp(rng.normal(0, 0.5, (T, 3))), rng.normal(0, 1, (T, 3)))


@pytest.fixture
def points(rng: np.random.Generator, cameras: SE3) -> np.ndarray:
    """Points before the moving camera, in the world."""
    in_cam = rng.uniform([-0.5, -0.5, 0.3], [0.5, 0.5, 1.5], (T, K, 3))
    return np.einsum("tij,tkj->tki", cameras.R, in_cam) + cameras.t[:, None]


def project(cameras: SE3, points: np.ndarray) -> np.ndarray:
    return LENS.project(np.einsum("tji,tkj->tki", cameras.R, points - cameras.t[:, None]))


def test_the_term_is_zero_at_the_truth_and_differentiates(
    rng: np.random.Generator, cameras: SE3, points: np.ndarray
) -> None:
    rays = own_rays(LENS, project(cameras, points), np.ones((T, K)), 0.1)
    assert own_view_term(rays, cameras, points, 3.0, 12.0).cost == pytest.approx(0.0, abs=1e-9)
    off = points + rng.normal(0, 0.01, points.shape)
    term = own_view_term(rays, cameras, off, 3.0, 12.0)
    for index in ((0, 3, 0), (2, 10, 1), (5, 20, 2)):
        step = np.zeros_like(off)
        step[index] = 1e-6
        plus, minus = (own_view_term(rays, cameras, off + s * step, 3.0, 12.0).cost for s in (1, -1))
        assert term.gradient[index] == pytest.approx((plus - minus) / 2e-6, rel=1e-4)
    assert np.linalg.eigvalsh(term.hessian).min() > -1e-6


def test_the_wearer_is_taken_with_the_right_sides(
    rng: np.random.Generator, cameras: SE3, points: np.ndarray, tmp_path: Path
) -> None:
    """Somebody else is surer and first; the wearer's sides are exchanged in the fourth frame."""
    px = project(cameras, points)
    wearer = px + rng.normal(0, 1, px.shape)
    wearer[3] = wearer[3, HALPE_26.swap_idx]
    other = rng.uniform(0, 511, px.shape)
    score = np.stack([np.full((T, K), 0.95), np.full((T, K), 0.6)], axis=1)
    path = tmp_path / "foot.npz"
    Keypoints2d(np.stack([other, wearer], axis=1).astype(np.float32), score.astype(np.float32), HALPE_26).save(path)
    t_s = np.arange(T) / 30
    xy, found = own_keypoints(path, HALPE_26, t_s, t_s, 30.0, px)
    assert np.abs(xy - px).max() < 6 and np.all(found > 0.5)
    unknown, _ = own_keypoints(path, HALPE_26, t_s, t_s, 30.0, np.full_like(px, np.nan))
    np.testing.assert_allclose(unknown, other, atol=1e-3)  # nothing to tell them apart by: the surest


def test_other_joints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foot.npz"
    Keypoints2d(np.zeros((T, 1, 17, 2), np.float32), np.ones((T, 1, 17), np.float32), COCO_17).save(path)
    t_s = np.arange(T) / 30
    with pytest.raises(InputError, match="COCO_17"):
        own_keypoints(path, HALPE_26, t_s, t_s, 30.0, np.zeros((T, K, 2)))


def test_rays_are_cut_and_joined(cameras: SE3, points: np.ndarray) -> None:
    rays = own_rays(LENS, project(cameras, points), np.full((T, K), 0.7), 0.1)
    foot = FootObservation(7, cameras, np.tile(np.eye(6), (T, 1, 1)), rays)
    parts = [foot.frames(slice(0, 2)), foot.frames(np.arange(2, T))]
    whole = joined([part.own for part in parts if part.own is not None])
    back = loaded("left", saved("left", whole))
    assert back is not None
    for name in ("xy", "scale", "seen", "weight"):
        np.testing.assert_array_equal(getattr(back, name), getattr(rays, name))
    assert loaded("right", saved("left", whole)) is None
