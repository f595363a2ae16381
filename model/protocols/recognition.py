"""Recognition of a clip's action with one group of people left out: k-NN, ridge, and few labels.

Vectors are mean and deviation of the tokens of all levels; where there are several (A4Mer's), rows with a level's name
are of that level alone, and those of `segments` of all but the finest (`frames`). Rows of a `chosen pooling` leave
levels and pooling to the training groups, those of `any part` the part of the clip, and all but `k-NN, k = 20`,
`ridge, alpha = 100` and the ones with few labels the probe's settings. With few labels nothing is chosen: a choice
would have seen all labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from model.protocols.encoders import Encoder, SegmentTokens
from model.protocols.motions import JOINED, PARTS, LabelledMotions
from model.protocols.paired import written
from model.protocols.pooling import standard_view, vectors, views
from model.protocols.probes import Probe, few_shot, told_rightly
from model.protocols.selection import best, inner_scores, knn_probes, ridge_probes

SHOTS, DRAWS = (1, 5), 10
# the vote and the regression whose settings are stated in advance
KNN = Probe("knn", neighbours=20)
RIDGE = Probe("ridge", alpha=100.0)
Row = Mapping[str, Any]


def encode_parts(
    encoder: Encoder, motions: LabelledMotions, parts: Sequence[str]
) -> dict[str, tuple[Mapping[str, list[SegmentTokens]], ...]]:
    """Tokens of parts of all clips, by the part's name; a joined part's are those of several parts."""
    joined = {name: JOINED.get(name, (name,)) for name in parts}
    simple = {part for names in joined.values() for part in names}
    tokens = {part: encoder.encode([PARTS[part](motion) for motion in motions.motions]) for part in simple}
    return {name: tuple(tokens[part] for part in names) for name, names in joined.items()}


def recognition_rows(
    encoder: Encoder, motions: LabelledMotions, test: int, parts: Sequence[str], seed: int = 0
) -> dict[str, Row]:
    """Accuracies on the clips of a group, by row.

    Args:
        encoder: which has learned nothing from the test group.
        motions: labelled clips of all groups.
        test: position of the group that is judged.
        parts: of the clips, names in `PARTS` or `JOINED`.
        seed: of the draws of few labels.
    """
    tokens = encode_parts(encoder, motions, parts)
    pooled = {
        part: {
            f"{part}: {view}": np.concatenate([vectors(one, view) for one in found], axis=1)
            for view in views(list(found[0]))
        }
        for part, found in tokens.items()
    }
    levels = list(next(iter(tokens.values()))[0])
    fixed = {"": f": {standard_view(levels)}"}
    if len(levels) > 1:
        fixed |= {f", {level}": f": {standard_view([level])}" for level in levels}
    if len(levels) > 2:
        fixed[", segments"] = f": {standard_view(levels[1:])}"
    everything = {name: x for of in pooled.values() for name, x in of.items()}
    probes = (*knn_probes(), *ridge_probes())
    scores = {name: inner_scores(x, probes, motions.label, motions.group, test) for name, x in everything.items()}
    sets = {**pooled, "any part": everything} if len(parts) > 1 else pooled
    rows: dict[str, Row] = {}
    for part, of in sets.items():
        for kind, view in fixed.items():
            standard = {name: x for name, x in of.items() if name.endswith(view)}
            rows |= {f"{part} | {n}{kind}": row for n, row in _rows(standard, scores, motions, test, seed)}
        if len(of) > len(standard):
            chosen = _rows(of, scores, motions, test, seed)
            rows |= {f"{part} | {n}, chosen pooling": row for n, row in chosen}
    return rows


def _rows(
    pooled: Mapping[str, np.ndarray],
    scores: Mapping[str, Mapping[Probe, float]],
    motions: LabelledMotions,
    test: int,
    seed: int,
) -> Iterator[tuple[str, Row]]:
    """Rows of vectors among which, and of probes among which, the training groups choose."""
    within = {name: scores[name] for name in pooled}
    halves = motions.group != test, motions.group == test
    candidates = (
        ("k-NN, k = 20", (KNN,)),
        ("k-NN", knn_probes()),
        ("ridge, alpha = 100", (RIDGE,)),
        ("ridge", ridge_probes()),
    )
    for title, probes in candidates:
        view, probe = best(within, probes)
        (right,) = told_rightly((probe,), pooled[view], motions.label, *halves)
        yield title, {"accuracy": float(right.mean()), "right": written(right), "view": view, "probe": probe}
    if len(pooled) > 1:
        return  # what many labels have chosen says nothing of few
    (x,) = pooled.values()
    for shots in SHOTS:
        rng = np.random.default_rng([seed, test, shots])
        mean, sd = few_shot(RIDGE, x, motions.label, *halves, shots, DRAWS, rng)
        yield f"{shots}-shot ridge", {"accuracy": mean, "sd_over_draws": sd}
