"""Settings of a probe chosen without the test group: by leaving out one training group after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from core.arrays import Int
from model.protocols.probes import ALPHAS, NEIGHBOURS, Probe, accuracy

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


def choose(
    vectors: Mapping[str, np.ndarray],
    probes: Sequence[Probe],
    label: Int[np.ndarray, "clips"],
    group: Int[np.ndarray, "clips"],
    test: int,
) -> Choice:
    """The vectors and the probe with the best mean accuracy over the inner folds; the first among equals.

    Args:
        vectors: of all clips, by name of the choice (part of the clip, level, pooling).
        probes: to choose from.
        label: of all clips.
        group: of all clips.
        test: the group that takes no part.
    """
    folds = list(inner_folds(group, test))
    choices = [(name, probe) for name in vectors for probe in probes]
    scores = [
        _mean(accuracy(probe, vectors[name], label, fit, judge) for fit, judge in folds) for name, probe in choices
    ]
    return choices[int(np.argmax(scores))]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
