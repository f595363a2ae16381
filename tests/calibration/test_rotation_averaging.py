from __future__ import annotations

import numpy as np
import pytest

from calibration.rotation_averaging import average_rotations, vote
from core.transforms import geodesic, so3_exp


def noisy(R: np.ndarray, rng: np.random.Generator, sigma_deg: float) -> np.ndarray:
    return R @ so3_exp(np.radians(sigma_deg) * rng.standard_normal((*R.shape[:-2], 3)))


def edges_of(
    truth: np.ndarray, pairs: list[tuple[int, int]], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    pair = np.array(pairs)
    return pair, noisy(np.swapaxes(truth[pair[:, 0]], -1, -2) @ truth[pair[:, 1]], rng, 1.0)


def errors_deg(R: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Angles after the common rotation that the first node fixes."""
    return np.degrees(geodesic(truth[0] @ R[0].T @ R, truth))


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_wrong_edges_do_not_poison_the_others(share: float, rng: np.random.Generator) -> None:
    truth = so3_exp(rng.standard_normal((24, 3)))
    pairs = [(i, j) for i in range(24) for j in range(i + 1, 24) if min(j - i, 24 - j + i) <= 5]
    pair, R = edges_of(truth, pairs, rng)
    wrong = rng.random(len(pair)) < share
    R[wrong] = so3_exp(2 * rng.standard_normal((int(wrong.sum()), 3)))
    weight = np.where(wrong, 3.0, 1.0)  # the wrong ones are trusted more, so that the spanning tree takes them
    found, group = average_rotations(24, pair, R, weight)
    assert (group == 0).all()
    # edges err by 1 degree in each axis; a node has ten of them
    assert errors_deg(found, truth).max() < 3.0


def test_a_chain_is_followed_to_its_end(rng: np.random.Generator) -> None:
    truth = so3_exp(rng.standard_normal((24, 3)))
    pair, R = edges_of(truth, [(k, k + 1) for k in range(23)], rng)
    found, group = average_rotations(24, pair, R, np.ones(23))
    assert (group == 0).all()
    assert errors_deg(found, truth).max() < 3.5 * np.sqrt(23)


def test_groups_that_share_nothing_stay_apart(rng: np.random.Generator) -> None:
    truth = so3_exp(rng.standard_normal((6, 3)))
    pair, R = edges_of(truth, [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5)], rng)
    _, group = average_rotations(6, pair, R, np.ones(5))
    assert group.tolist() == [0, 0, 0, 1, 1, 1]
    alone, group = average_rotations(2, np.zeros((0, 2), int), np.zeros((0, 3, 3)), np.zeros(0))
    assert group.tolist() == [0, 1] and alone.shape == (2, 3, 3)


def test_the_rotation_that_comes_back_wins_the_vote(rng: np.random.Generator) -> None:
    true = so3_exp(np.array([0.3, -0.2, 0.5]))
    right = noisy(np.broadcast_to(true, (8, 3, 3)), rng, 1.5)
    scattered = so3_exp(2 * rng.standard_normal((24, 3)))
    R, ballot = np.concatenate([right, scattered]), np.concatenate([np.arange(8), np.repeat(np.arange(8), 3)])
    mean, votes, lead = vote(R, np.full(32, 1.0), ballot)
    assert np.degrees(geodesic(mean, true)) < 2.0
    assert votes == pytest.approx(8) and lead > 4


def test_a_ballot_counts_once_however_many_candidates_it_has() -> None:
    R = np.broadcast_to(np.eye(3), (5, 3, 3)).copy()
    _, votes, lead = vote(R, np.ones(5), np.array([0, 0, 0, 0, 1]))
    assert votes == 2 and lead == 2
