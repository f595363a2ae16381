"""Recognition of a clip's action with one group of people left out: k-NN, ridge, and few labels.

Every row names how its probe was set. `fixed` rows use settings stated in advance; `chosen` rows leave the part of the
clip, the levels and pooling of the tokens and the probe's settings to the training groups alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from model.protocols.encoders import Encoder, SegmentTokens
from model.protocols.motions import PARTS, LabelledMotions
from model.protocols.pooling import vectors, views
from model.protocols.probes import Probe, accuracy, few_shot
from model.protocols.selection import best, inner_scores, knn_probes, ridge_probes

SHOTS, DRAWS = (1, 5), 10
# settings of the fixed rows, which need no choice: of the measurements that this protocol follows
KNN = Probe("knn", neighbours=20)
FEW_RIDGE = Probe("ridge", alpha=100.0)
Row = Mapping[str, Any]


def encode_parts(
    encoder: Encoder, motions: LabelledMotions, parts: Sequence[str]
) -> dict[str, Mapping[str, list[SegmentTokens]]]:
    """Tokens of parts of all clips, by the part's name."""
    return {name: encoder.encode([PARTS[name](motion) for motion in motions.motions]) for name in parts}


def recognition_rows(
    encoder: Encoder, motions: LabelledMotions, test: int, parts: Sequence[str], seed: int = 0
) -> dict[str, Row]:
    """Accuracies on the clips of a group, by row.

    Args:
        encoder: which has learned nothing from the test group.
        motions: labelled clips of all groups.
        test: position of the group that is judged.
        parts: of the clips, names in `PARTS`.
        seed: of the draws of few labels.
    """
    tokens = encode_parts(encoder, motions, parts)
    pooled = {
        part: {f"{part}: {view}": vectors(found, view) for view in views(list(found))} for part, found in tokens.items()
    }
    probes = (*knn_probes(), *ridge_probes())
    everything = {name: x for of in pooled.values() for name, x in of.items()}
    scores = {name: inner_scores(x, probes, motions.label, motions.group, test) for name, x in everything.items()}
    rows = {f"{part} | {n}": row for part, of in pooled.items() for n, row in _rows(of, scores, motions, test, seed)}
    if len(parts) > 1:
        rows |= {f"any part | {name}": row for name, row in _rows(everything, scores, motions, test, seed)}
    return rows


def _rows(
    pooled: Mapping[str, np.ndarray],
    scores: Mapping[str, Mapping[Probe, float]],
    motions: LabelledMotions,
    test: int,
    seed: int,
) -> Iterator[tuple[str, Row]]:
    """Rows of vectors among which the training groups choose, if there are several."""
    within = {name: scores[name] for name in pooled}
    halves = motions.group != test, motions.group == test
    for title, probes in (("k-NN, k = 20", (KNN,)), ("k-NN, chosen", knn_probes()), ("ridge", ridge_probes())):
        view, probe = best(within, probes)
        yield title, {"accuracy": accuracy(probe, pooled[view], motions.label, *halves), "view": view, "probe": probe}
    for shots in SHOTS:
        rng = np.random.default_rng([seed, test, shots])
        mean, sd = few_shot(FEW_RIDGE, pooled[view], motions.label, *halves, shots, DRAWS, rng)
        yield f"{shots}-shot ridge", {"accuracy": mean, "sd_over_draws": sd}
