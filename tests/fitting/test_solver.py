"""The arrow solver against dense linear algebra."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from core.errors import InputError
from fitting.solver import ArrowSystem, SolverConfig, factorise, marginals, minimise, solve


def random_system(
    rng: np.random.Generator, T: int, D: int, G: int, linked: bool = False
) -> tuple[ArrowSystem, np.ndarray]:
    """An arrow system and its dense matrix, from random residuals of a frame with the globals and of slots in time.

    Linked ones also tie all slots of a frame to all of the one before.
    """
    H = np.zeros((T * D + G, T * D + G))
    for t in range(T):
        frames = range(max(0, t - 2), t + 1)
        here, shared = np.arange(t * D, (t + 1) * D), np.arange(T * D, T * D + G)
        over_time = [np.concatenate([f * D + 3 * slot + np.arange(3) for f in frames]) for slot in range(D // 3)]
        if linked and t:
            over_time.append(np.arange((t - 1) * D, (t + 1) * D))
        for columns in (np.concatenate([here, shared]), *over_time):
            J = rng.normal(size=(2 * len(columns), len(columns)))
            H[np.ix_(columns, columns)] += J.T @ J
    blocks = H[: T * D, : T * D].reshape(T, D, T, D).transpose(0, 2, 1, 3)
    system = ArrowSystem.zeros(T, D, G, linked=linked)
    for t in range(T):
        if linked and t:
            assert system.link is not None
            system.link[t] = blocks[t, t - 1]
        system.diagonal[t] = blocks[t, t]
        for slot in range(D // 3):
            own = slice(3 * slot, 3 * slot + 3)
            system.back1[t, slot] = blocks[t, t - 1][own, own] if t >= 1 and not linked else 0
            system.back2[t, slot] = blocks[t, t - 2][own, own] if t >= 2 else 0
    system.border[:] = H[: T * D, T * D :].reshape(T, D, G)
    system.corner[:] = H[T * D :, T * D :]
    system.gradient[:] = rng.normal(size=(T, D))
    system.gradient_global[:] = rng.normal(size=G)
    return system, H


def on_device(system: ArrowSystem) -> ArrowSystem:
    """The same in tensors."""
    arrays = {name: torch.tensor(array) for name, array in vars(system).items() if isinstance(array, np.ndarray)}
    return dataclasses.replace(system, **arrays)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(("T", "G"), [(1, 2), (2, 0), (5, 3), (8, 3), (7, 0)])
def test_step_and_marginals_equal_the_dense_ones(
    rng: np.random.Generator, T: int, G: int, linked: bool, kind: str
) -> None:
    D = 6
    system, H = random_system(rng, T, D, G, linked)
    if kind == "torch":
        system = on_device(system)
    factor = factorise(system)
    step, step_global = solve(system, factor)
    gradient = np.concatenate([np.asarray(system.gradient).ravel(), np.asarray(system.gradient_global)])
    dense = -np.linalg.solve(H, gradient)
    tolerance = 1e-12 * np.linalg.cond(H) * np.abs(dense).max()
    np.testing.assert_allclose(np.concatenate([step.ravel(), step_global]), dense, atol=tolerance)
    blocks, cross, block_global = marginals(factor)
    covariance = np.linalg.inv(H)
    for t in range(T):
        np.testing.assert_allclose(blocks[t], covariance[t * D : (t + 1) * D, t * D : (t + 1) * D], atol=1e-5)
    np.testing.assert_allclose(cross.reshape(T * D, G), covariance[: T * D, T * D :], atol=1e-9)
    np.testing.assert_allclose(block_global, covariance[T * D :, T * D :], atol=1e-9)


def test_damping_enlarges_the_diagonal(rng: np.random.Generator) -> None:
    system, H = random_system(rng, 4, 6, 2)
    step, step_global = solve(system, factorise(system, 0.5))
    gradient = np.concatenate([system.gradient.ravel(), system.gradient_global])
    dense = -np.linalg.solve(H + 0.5 * np.diag(np.diag(H)), gradient)
    np.testing.assert_allclose(np.concatenate([step.ravel(), step_global]), dense, atol=1e-9)


def test_an_undetermined_unknown_is_named() -> None:
    with pytest.raises(InputError, match="not determined"):
        factorise(ArrowSystem.zeros(3, 3, 0))


def test_minimise_finds_a_known_optimum_and_never_raises_the_cost() -> None:
    """Rosenbrock's valley, one in each of three frames, tied to a global: the optimum is 1 everywhere."""

    def linearise(state: np.ndarray) -> ArrowSystem:
        x, y, a = state[:-1:2], state[1:-1:2], state[-1]
        system = ArrowSystem.zeros(3, 3, 1)
        system.diagonal[:, 2, 2] = 1.0  # the third of each slot is idle
        residual = np.stack([10 * (y - x**2), a - x], axis=-1)
        J = np.zeros((3, 2, 3))
        J[:, 0, 0], J[:, 0, 1], J[:, 1, 0], J[:, 1, 2] = -20 * x, 10, -1, 1
        H, g = np.swapaxes(J, 1, 2) @ J, np.einsum("tij,ti->tj", J, residual)
        system.diagonal[:, :2, :2], system.border[:, :2] = H[:, :2, :2], H[:, :2, 2:]
        system.corner[:], system.gradient[:, :2] = H[:, 2:, 2:].sum(axis=0) + 1, g[:, :2]
        system.gradient_global[:] = g[:, 2:].sum(axis=0) + (a - 1)
        return dataclasses.replace(system, cost=0.5 * float((residual**2).sum() + (a - 1) ** 2))

    def retract(state: np.ndarray, step: np.ndarray, step_global: np.ndarray) -> np.ndarray:
        return state + np.concatenate([step[:, :2].ravel(), step_global])

    start = np.array([-1.2, 1.0, 0.0, 2.0, 3.0, -1.0, 0.0])
    minimum = minimise(start, linearise, retract, SolverConfig(iterations=100, tolerance=1e-12))
    np.testing.assert_allclose(minimum.state, 1.0, atol=1e-5)
    assert minimum.converged
    assert np.all(np.diff(minimum.costs) < 0)
