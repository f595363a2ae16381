"""Figures against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from model.metrics import (
    effective_rank,
    mpjpe_mm,
    perplexity,
    ridge,
    token_spread,
    top_k_accuracy,
    weighted_knn,
)


def test_rank_of_equal_and_of_collapsed_channels(rng: np.random.Generator) -> None:
    square = np.kron(np.eye(4), np.ones((8, 1)))
    # centred indicators of four groups of equal size span three directions with equal singular values
    assert effective_rank(square) == pytest.approx(3.0)
    assert effective_rank(rng.normal(size=(50, 1)) * np.ones((1, 8))) == pytest.approx(1.0)
    assert effective_rank(np.ones((5, 3))) == 1.0 and token_spread(np.ones((5, 3))) == 0.0


def test_perplexity_counts_labels_in_use() -> None:
    assert perplexity(np.array([0, 0, 2, 2, 5, 5])) == pytest.approx(3.0)
    assert perplexity(np.array([1, 1])) == pytest.approx(1.0)


def test_mpjpe_counts_valid_frames_only() -> None:
    truth = np.zeros((2, 3, 3))
    guess = truth.copy()
    guess[0, :, 0] = 0.01
    guess[1] = 7.0
    assert mpjpe_mm(guess, truth, np.array([True, False])) == pytest.approx(10.0)
    assert np.isnan(mpjpe_mm(guess, truth, np.array([False, False])))


def test_neighbours_vote_by_likeness() -> None:
    train = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    votes = weighted_knn(train, np.array([0, 0, 2]), np.array([[2.0, 0.1], [0.0, 3.0]]), 3, k=2)
    assert votes.argmax(axis=1).tolist() == [0, 2] and votes[0, 2] == 0
    # the nearer of two neighbours counts exp((difference of cosines) / 0.07) times as much
    like = train @ [0.0, 1.0] / np.linalg.norm(train, axis=1)
    assert votes[1, 2] / votes[1, 0] == pytest.approx(np.exp((like[2] - like[1]) / 0.07))


def test_top_k() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    labels = np.array([1, 2])
    assert top_k_accuracy(scores, labels, 1) == 0.5 and top_k_accuracy(scores, labels, 2) == 1.0
    assert top_k_accuracy(scores, labels, 1, np.array([1, 3])) == 0.75


@pytest.mark.parametrize("samples", [40, 4])
def test_ridge_solves_its_own_equations(rng: np.random.Generator, samples: int) -> None:
    x, y = rng.normal(size=(samples, 6)), rng.normal(size=(samples, 2))
    weights = ridge(x, y, 0.5)
    residual = y - x @ weights[:-1] - weights[-1]
    # the gradient vanishes: X^T r = alpha w on centred data, and the intercept leaves no mean
    assert np.allclose((x - x.mean(axis=0)).T @ residual, 0.5 * weights[:-1])
    assert np.allclose(residual.mean(axis=0), 0)
