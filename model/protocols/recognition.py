"""Recognition of a clip's action with one group of people left out: k-NN, ridge, and few labels.

Every row names how its probe was set. `fixed` rows use settings stated in advance; `chosen` rows leave the part of the
clip, the levels and pooling of the tokens and the probe's settings to the training groups alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.protocols.encoders import Encoder, SegmentTokens
from model.protocols.motions import PARTS, LabelledMotions
from model.protocols.pooling import vectors, views
from model.protocols.probes import Probe, accuracy, few_shot
from model.protocols.selection import choose, knn_probes, ridge_probes

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
    found: dict[str, Row] = {}
    everything: dict[str, np.ndarray] = {}
    for part in parts:
        pooled = {str(view): vectors(tokens[part], view) for view in views(list(tokens[part]))}
        found |= {f"{part} | {name}": row for name, row in _rows(pooled, motions, test, seed).items()}
        everything |= {f"{part}: {view}": x for view, x in pooled.items()}
    if len(parts) > 1:
        found |= {f"any part | {name}": row for name, row in _rows(everything, motions, test, seed).items()}
    return found


def _rows(pooled: Mapping[str, np.ndarray], motions: LabelledMotions, test: int, seed: int) -> dict[str, Row]:
    """Rows of vectors among which the training groups choose, if there are several."""
    label, group = motions.label, motions.group
    halves = group != test, group == test
    view_knn, knn = choose(pooled, knn_probes(), label, group, test)
    view, ridge = choose(pooled, ridge_probes(), label, group, test)
    fixed, _ = choose(pooled, (KNN,), label, group, test)
    rows = {
        "k-NN, k = 20": {"accuracy": accuracy(KNN, pooled[fixed], label, *halves), "view": fixed},
        "k-NN, chosen": {"accuracy": accuracy(knn, pooled[view_knn], label, *halves), "view": view_knn, "probe": knn},
        "ridge": {"accuracy": accuracy(ridge, pooled[view], label, *halves), "view": view, "probe": ridge},
    }
    return rows | {f"{n}-shot ridge": _few(pooled[view], motions, test, n, seed) for n in SHOTS}


def _few(x: np.ndarray, motions: LabelledMotions, test: int, shots: int, seed: int) -> Row:
    halves = motions.group != test, motions.group == test
    rng = np.random.default_rng([seed, test, shots])
    mean, sd = few_shot(FEW_RIDGE, x, motions.label, *halves, shots, DRAWS, rng)
    return {"accuracy": mean, "sd_over_draws": sd}
