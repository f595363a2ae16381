"""Probes of frozen vectors: k nearest neighbours, ridge regression onto classes, and both with few labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.arrays import Float, Int
from model.metrics import ridge, weighted_knn

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

    def predict(
        self,
        train: Float[np.ndarray, "train width"],
        label: Int[np.ndarray, "train"],
        test: Float[np.ndarray, "test width"],
        num_classes: int,
    ) -> Int[np.ndarray, "test"]:
        """Classes of test vectors; they are expected standardised where the probe wants it (`standardised`)."""
        if self.method == "knn":
            return weighted_knn(train, label, test, num_classes, self.neighbours).argmax(axis=1)
        if self.method == "ridge":
            weights = ridge(train, np.eye(num_classes)[label], self.alpha)
            return (test @ weights[:-1] + weights[-1]).argmax(axis=1)
        means = np.stack([train[label == c].mean(axis=0) for c in range(num_classes)])
        return ((test[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)


def standardised(
    train: Float[np.ndarray, "train width"], *others: Float[np.ndarray, "others width"]
) -> tuple[np.ndarray, ...]:
    """Vectors in units of the training vectors' spread, floored."""
    mean, sd = train.mean(axis=0), np.maximum(train.std(axis=0), SD_FLOOR)
    return tuple((x - mean) / sd for x in (train, *others))


def accuracy(
    probe: Probe,
    vectors: Float[np.ndarray, "clips width"],
    label: Int[np.ndarray, "clips"],
    train: np.ndarray,
    test: np.ndarray,
    test_vectors: np.ndarray | None = None,
) -> float:
    """Share of test clips that a probe trained on the training clips names rightly.

    Args:
        vectors: of all clips.
        label: of all clips.
        train: positions or mask of the training clips.
        test: likewise of the test clips.
        test_vectors: vectors of all clips for testing, where they are not the same (another part of the clip).
    """
    x, y = vectors[train], (vectors if test_vectors is None else test_vectors)[test]
    if probe.standardise:
        x, y = standardised(x, y)
    found = probe.predict(x, label[train], y, int(label.max()) + 1)
    return float((found == label[test]).mean())


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
    known, num_classes = label[train], int(label.max()) + 1
    found = []
    for _ in range(draws):
        of_class = (np.flatnonzero(known == c) for c in range(num_classes))
        picked = np.concatenate([rng.choice(has, min(shots, len(has)), replace=False) for has in of_class])
        found.append(float((probe.predict(x[picked], known[picked], y, num_classes) == label[test]).mean()))
    return float(np.mean(found)), float(np.std(found))
