"""Is one representation better than another on the same clips, or could their names as well be exchanged?

A sign-flip permutation test over clips: under the hypothesis that nothing distinguishes two methods, each clip's
difference is as likely to have the other sign. Clips of one actor are alike, so differences that hold for these actors
need not hold for others: the test says whether a difference is more than chance among clips, not among people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.arrays import Bool, Float

DRAWS = 10_000
_ROWS = 500  # draws held in memory at once
# group -> seed -> row of figures
Cells = Mapping[str, Mapping[int, Mapping[str, Any]]]


@dataclass(frozen=True)
class Paired:
    """One method less another.

    Attributes:
        difference: of the two figures that a table has: mean over groups of the mean over clips for what was told
            rightly, mean over all windows for errors; a clip's value is its mean over seeds.
        p: how often chance alone would give a difference as large, of either sign; at least 1 / (draws + 1).
        clips: how many were compared.
    """

    difference: float
    p: float
    clips: int


def written(right: Bool[np.ndarray, "clips"]) -> str:
    """A yes or no for each clip as a row of ones and zeros."""
    return "".join("01"[int(value)] for value in right)


def compare(first: Cells, second: Cells, draws: int = DRAWS, seed: int = 0) -> Paired | None:
    """Two rows of a table, clip by clip; None where they do not tell of single clips, or are of other groups.

    Raises:
        ValueError: if they were judged on other clips.
    """
    if first.keys() != second.keys():
        return None
    differences, weights = [], []
    for group in first:
        a, b = _of_clips(first[group]), _of_clips(second[group])
        if a is None or b is None:
            return None
        if a.keys() != b.keys():
            raise ValueError(f"{group}: {len(a)} clips and {len(b)} others")
        differences.append(np.array([a[clip][0] - b[clip][0] for clip in sorted(a)]))
        windows = np.array([a[clip][1] for clip in sorted(a)], dtype=np.float64)
        # clips of rights weigh alike within their group, and groups among each other
        weights.append(windows if windows.all() else np.full(len(windows), 1 / len(windows)))
    return permutation_test(np.concatenate(differences), np.concatenate(weights), draws, seed)


def permutation_test(
    difference: Float[np.ndarray, "clips"], weight: Float[np.ndarray, "clips"], draws: int = DRAWS, seed: int = 0
) -> Paired:
    """The test over differences of clips.

    Args:
        difference: of each clip.
        weight: of each in the mean.
        draws: random choices of signs.
        seed: of them.
    """
    rng = np.random.default_rng(seed)
    weighted = difference * weight / weight.sum()
    found, larger = float(weighted.sum()), 0
    for first in range(0, draws, _ROWS):
        signs = 2.0 * rng.integers(0, 2, (min(_ROWS, draws - first), len(weighted))) - 1.0
        # a hair's breadth: sums in another order must not decide what is as large
        larger += int((np.abs(signs @ weighted) >= abs(found) - 1e-12).sum())
    return Paired(found, (1 + larger) / (1 + draws), len(weighted))


def _of_clips(seeds: Mapping[int, Mapping[str, Any]]) -> dict[int, tuple[float, int]] | None:
    """Value of each clip, the mean over seeds, and its windows (0 for what is told of it as a whole); None without."""
    found: dict[int, list[float]] = {}
    windows: dict[int, int] = {}
    for row in seeds.values():
        if "right" in row:
            values = {i: (float(value == "1"), 0) for i, value in enumerate(row["right"])}
        elif "by_clip" in row:
            values = {int(clip): (float(mean), int(number)) for clip, (mean, number) in row["by_clip"].items()}
        else:
            return None
        for clip, (value, number) in values.items():
            found.setdefault(clip, []).append(value)
            windows[clip] = number
    return {clip: (float(np.mean(values)), windows[clip]) for clip, values in found.items()}
