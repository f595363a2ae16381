from __future__ import annotations

import numpy as np

from calibration.cluster_noise import beyond, cells, jackknife

CLUSTERS, EACH = 12, 20


def line_fits(rng: np.random.Generator, common: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimates of lines through points that are off by 1, and by `common` together with their cluster: (trials, 2)
    errors, the jackknife's covariances, and what independent points would have."""
    trials, cluster = 400, np.repeat(np.arange(CLUSTERS), EACH)
    errors, shown = np.empty((trials, 2)), np.empty((trials, 2, 2))
    x = np.repeat(np.linspace(-1, 1, CLUSTERS), EACH) + rng.uniform(-0.05, 0.05, CLUSTERS * EACH)
    J = np.stack([np.ones_like(x), x], axis=-1)[:, None, :]
    A = J[:, 0]
    for k in range(trials):
        off = rng.standard_normal(len(x)) + common * rng.standard_normal(CLUSTERS)[cluster]
        errors[k] = np.linalg.lstsq(A, off, rcond=None)[0]
        shown[k] = jackknife(J, (off - A @ errors[k])[:, None], cluster, np.zeros((2, 2)))
    return errors, shown, np.linalg.inv(A.T @ A)


def test_clusters_that_err_together_are_seen_in_the_residuals(rng: np.random.Generator) -> None:
    errors, shown, alone = line_fits(rng, common=1.0)
    true, found = np.diag(errors.T @ errors) / len(errors), np.diagonal(shown, axis1=1, axis2=2).mean(axis=0)
    assert (true > 10 * np.diag(alone)).all()  # twenty points that are off together weigh as one
    # 400 trials tell a variance to 7 %; leaving out the clusters at the ends makes the jackknife too wide, not narrow
    assert (found > 0.85 * true).all() and (found < 1.6 * true).all()


def test_independent_points_are_stated_as_they_are(rng: np.random.Generator) -> None:
    _, shown, alone = line_fits(rng, common=0.0)
    ratio = np.diagonal(shown, axis1=1, axis2=2).mean(axis=0) / np.diag(alone)
    assert (ratio > 0.85).all() and (ratio < 1.6).all()


def test_few_clusters_tell_nothing_and_one_that_holds_a_direction_says_so(rng: np.random.Generator) -> None:
    J, off = np.ones((9, 1, 1)), rng.standard_normal((9, 1))
    assert not jackknife(J, off, np.repeat([0, 1, 2], 3), np.zeros((1, 1))).any()
    lone = np.zeros((20, 1, 2))
    lone[:, 0, 0], lone[:4, 0, 1] = 1.0, 1.0  # the first cluster alone fixes the second unknown
    found = jackknife(lone, rng.standard_normal((20, 1)), np.repeat(np.arange(5), 4), np.zeros((2, 2)))
    assert found[1, 1] > 100 * found[0, 0]


def test_the_larger_of_two_covariances_is_taken_in_every_direction() -> None:
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    stated, shown = turn @ np.diag([1.0, 4.0, 9.0]) @ turn.T, turn @ np.diag([2.0, 1.0, 9.0]) @ turn.T
    total = stated + beyond(stated[None], shown[None])[0]
    np.testing.assert_allclose(total, turn @ np.diag([2.0, 4.0, 9.0]) @ turn.T, atol=1e-12)


def test_cells_cut_the_picture() -> None:
    xy = np.array([[0.0, 0.0], [99.9, 0.0], [99.9, 49.9], [101.0, -3.0]])
    assert cells(xy, (100, 50), 4).tolist() == [0, 12, 15, 12]
