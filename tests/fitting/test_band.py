"""Factors of bands in time, in both orders of elimination, against dense linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.errors import InputError
from fitting.backend import Array, on_host
from fitting.band import factorised

SIZE = 6


def random_band(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Diagonal blocks, blocks below them, and the dense matrix."""
    H = np.zeros((n * SIZE, n * SIZE))
    for i in range(n):
        own = np.arange(max(i - 1, 0) * SIZE, (i + 1) * SIZE)
        J = rng.normal(size=(2 * len(own), len(own)))
        H[np.ix_(own, own)] += J.T @ J
    tiles = H.reshape(n, SIZE, n, SIZE).transpose(0, 2, 1, 3)
    every = np.arange(n)
    below = np.full((n, SIZE, SIZE), 7.0)  # the first is unused
    below[1:] = tiles[every[1:], every[:-1]]
    return tiles[every, every], below, H


def numbers_of(kind: str, array: np.ndarray) -> Array:
    return array.copy() if kind == "numpy" else torch.tensor(array)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 13])
def test_solutions_and_inverse_equal_the_dense_ones(rng: np.random.Generator, n: int, kind: str) -> None:
    blocks, below, H = random_band(rng, n)
    band = factorised(numbers_of(kind, blocks), numbers_of(kind, below), SIZE // 2)
    rows = rng.normal(size=(n, SIZE, 2))
    half = band.forward(numbers_of(kind, rows))
    solved = on_host(band.backward(half)).reshape(-1, 2)
    flat = rows.reshape(-1, 2)
    tolerance = 1e-13 * np.linalg.cond(H)
    np.testing.assert_allclose(solved, np.linalg.solve(H, flat), rtol=tolerance, atol=tolerance)
    gram = np.tensordot(on_host(half), on_host(half), axes=([0, 1], [0, 1]))
    np.testing.assert_allclose(gram, flat.T @ np.linalg.solve(H, flat), rtol=tolerance)
    every = np.arange(n)
    inverse = np.linalg.inv(H).reshape(n, SIZE, n, SIZE).transpose(0, 2, 1, 3)[every, every]
    np.testing.assert_allclose(on_host(band.inverse_blocks()), inverse, rtol=1e-4, atol=1e-5 * inverse.max())


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_blocks_that_nothing_ties_need_no_zeros(rng: np.random.Generator, kind: str) -> None:
    blocks, below, _ = random_band(rng, 5)
    rows = rng.normal(size=(5, SIZE, 2))
    bare = factorised(numbers_of(kind, blocks), None, SIZE)
    zeros = factorised(numbers_of(kind, blocks), numbers_of(kind, 0 * below), SIZE)
    for found in (bare, zeros):
        solved = on_host(found.backward(found.forward(numbers_of(kind, rows))))
        np.testing.assert_allclose(solved, np.linalg.solve(blocks, rows), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(on_host(found.inverse_blocks()), np.linalg.inv(blocks), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("block", range(7))
def test_what_nothing_determines_is_named(rng: np.random.Generator, block: int, kind: str) -> None:
    blocks, below, _ = random_band(rng, 7)
    blocks[block, :, 4] = blocks[block, 4] = 0.0  # the second of the block's two frames, its unknown 1
    below[block, 4] = 0.0
    if block < 6:
        below[block + 1, :, 4] = 0.0
    with pytest.raises(InputError, match=f"unknown 1 of frame {2 * block + 1} is not determined"):
        factorised(numbers_of(kind, blocks), numbers_of(kind, below), SIZE // 2)
