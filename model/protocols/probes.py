"""Probes of frozen vectors: k nearest neighbours, ridge regression onto classes, and both with few labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from core.arrays import Bool, Float, Int
from model.metrics import weighted_knn
from model.protocols.ridge import RidgePath

Method = Literal["knn", "ridge", "class mean"]
# What varies less (metres, metres a second) in the training groups is noise that another group may not share.
SD_FLOOR = 0.01
ALPHAS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
NEIGHBOURS = (1, 5, 20)


@dataclass(frozen=True)
class Probe:
    """A probe with its settings.

    Attributes:
        method: `knn` (cosine, weight exp(s / 0.07)), `ridge` (one-hot classes), or `class mean` (nearest, Euclidean).
        standardise: z-score by the training clips, whose labels do not matter for it.
        neighbours: of `knn`.
        alpha: of `ridge`.
    """

    method: Method
    standardise: bool = True
    neighbours: int = 20
    alpha: float = 100.0


def predictions(
    probes: Sequence[Probe],
    train: Float[np.ndarray, "train width"],
    label: Int[np.ndarray, "train"],
    test: Float[np.ndarray, "test width"],
    num_classes: int,
) -> list[Int[np.ndarray, "test"]]:
    """Classes of test vectors by each probe; what probes share is computed once."""
    sides = {True: standardised(train, test), False: (train, test)}
    ridges = {
        z: RidgePath(sides[z][0], np.eye(num_classes)[label])
        for z in {p.standardise for p in probes if p.method == "ridge"}
    }
    found = []
    for probe in probes:
        x, y = sides[probe.standardise]
        if probe.method == "ridge":
            found.append(ridges[probe.standardise].predict(y, probe.alpha).argmax(axis=1))
        elif probe.method == "knn":
            found.append(weighted_knn(x, label, y, num_classes, probe.neighbours).argmax(axis=1))
        else:
            means = np.stack([x[label == c].mean(axis=0) for c in range(num_classes)])
            found.append(((y[:, None] - means) ** 2).sum(axis=2).argmin(axis=1))
    return found


def standardised(
    train: Float[np.ndarray, "train width"], *others: Float[np.ndarray, "others width"]
) -> tuple[np.ndarray, ...]:
    """Vectors in units of the training vectors' spread, floored."""
    mean, sd = train.mean(axis=0), np.maximum(train.std(axis=0), SD_FLOOR)
    return tuple((x - mean) / sd for x in (train, *others))


def told_rightly(
    probes: Sequence[Probe],
    vectors: Float[np.ndarray, "clips width"],
    label: Int[np.ndarray, "clips"],
    train: np.ndarray,
    test: np.ndarray,
) -> list[Bool[np.ndarray, "test"]]:
    """Which test clips each probe, trained on the training clips, names rightly.

    Args:
        probes: to judge.
        vectors: of all clips.
        label: of all clips.
        train: positions or mask of the training clips.
        test: likewise of the test clips.
    """
    found = predictions(probes, vectors[train], label[train], vectors[test], int(label.max()) + 1)
    return [np.asarray(told == label[test]) for told in found]


def few_shot(
    probe: Probe,
    vectors: Float[np.ndarray, "clips width"],
    label: Int[np.ndarray, "clips"],
    train: np.ndarray,
    test: np.ndarray,
    shots: int,
    draws: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Mean accuracy and its deviation over draws of `shots` labelled clips of each class.

    All training clips, without their labels, serve for the z-score. A class with fewer clips gives those it has.
    """
    x, y = vectors[train], vectors[test]
    if probe.standardise:
        x, y = standardised(x, y)
    once = replace(probe, standardise=False)
    known, num_classes = label[train], int(label.max()) + 1
    found = []
    for _ in range(draws):
        of_class = (np.flatnonzero(known == c) for c in range(num_classes))
        picked = np.concatenate([rng.choice(has, min(shots, len(has)), replace=False) for has in of_class])
        (told,) = predictions((once,), x[picked], known[picked], y, num_classes)
        found.append(float((told == label[test]).mean()))
    return float(np.mean(found)), float(np.std(found))
