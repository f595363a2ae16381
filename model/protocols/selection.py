"""Settings of a probe chosen without the test group: by leaving out one training group after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from core.arrays import Float, Int
from model.protocols.probes import ALPHAS, NEIGHBOURS, Probe, told_rightly

# (name of the vectors, probe)
Choice = tuple[str, Probe]


def inner_folds(group: Int[np.ndarray, "clips"], test: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Masks (fit on, judge on) over the clips outside the test group, one for each training group."""
    outer = group != test
    for left_out in np.unique(group[outer]):
        yield outer & (group != left_out), outer & (group == left_out)


def knn_probes() -> tuple[Probe, ...]:
    """The votes to choose from."""
    return tuple(Probe("knn", z, neighbours=k) for z in (True, False) for k in NEIGHBOURS)


def ridge_probes() -> tuple[Probe, ...]:
    """The regressions to choose from."""
    return tuple(Probe("ridge", alpha=alpha) for alpha in ALPHAS)


def inner_scores(
    vectors: Float[np.ndarray, "clips width"],
    probes: Sequence[Probe],
    label: Int[np.ndarray, "clips"],
    group: Int[np.ndarray, "clips"],
    test: int,
) -> dict[Probe, float]:
    """Mean accuracy of each probe over the inner folds; the test group takes no part."""
    rights = (told_rightly(probes, vectors, label, fit, judge) for fit, judge in inner_folds(group, test))
    folds = [[right.mean() for right in of_probes] for of_probes in rights]
    return dict(zip(probes, np.mean(folds, axis=0).tolist(), strict=True))


def best(scores: Mapping[str, Mapping[Probe, float]], probes: Sequence[Probe]) -> Choice:
    """The vectors and, among some probes, the probe with the best score; the first among equals."""
    choices = [(name, probe) for name in scores for probe in probes]
    return max(choices, key=lambda choice: scores[choice[0]][choice[1]])
