"""Tables of cells: a row for each method, a column for each group, means over groups, deviations over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# (protocol, row) -> group -> seed -> figures
Results = Mapping[str, Mapping[str, Mapping[int, Mapping[str, Any]]]]


def accuracy_table(results: Results, groups: Sequence[str]) -> list[str]:
    """Lines of a table of accuracies: each group, the unweighted mean, and its deviation over seeds."""
    head = f"{'':58} {' '.join(f'{g[-9:]:>9}' for g in groups)} {'mean':>6} {'seeds':>6} {'sd':>5}"
    return [head, *(_accuracy_line(name, cells, groups) for name, cells in results.items())]


def _accuracy_line(name: str, cells: Mapping[str, Mapping[int, Mapping[str, Any]]], groups: Sequence[str]) -> str:
    summary = accuracy_summary(cells, groups)
    columns = " ".join(f"{summary['groups'].get(g, float('nan')):9.3f}" for g in groups)
    return f"{name:58} {columns} {_number(summary['mean'], 6, 3)} {summary['seeds']:6d} {_number(summary['sd'], 5, 3)}"


def accuracy_summary(cells: Mapping[str, Mapping[int, Mapping[str, Any]]], groups: Sequence[str]) -> dict[str, Any]:
    """Mean over seeds of each group, mean over groups (None while one is missing), deviation of it over seeds."""
    by_group = {g: float(np.mean([row["accuracy"] for row in cells[g].values()])) for g in groups if g in cells}
    whole = [s for s in _seeds(cells) if all(s in cells.get(g, {}) for g in groups)]
    means = [float(np.mean([cells[g][s]["accuracy"] for g in groups])) for s in whole]
    return {
        "groups": by_group,
        "mean": float(np.mean(list(by_group.values()))) if len(by_group) == len(groups) else None,
        "sd": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "seeds": len(_seeds(cells)),
    }


def error_table(results: Results, groups: Sequence[str]) -> list[str]:
    """Lines of a table of errors: each group, the mean over all windows and over moving ones, and the curve."""
    times = sorted({t for cells in results.values() for s in cells.values() for row in s.values() for t in row["at"]})
    head = f"{'':50} {' '.join(f'{g[-9:]:>9}' for g in groups)} {'mm':>6} {'sd':>5} {'moving':>7} "
    return [
        head + " ".join(f"{t:>6}" for t in times),
        *(_error_line(n, cells, groups, times) for n, cells in results.items()),
    ]


def _error_line(
    name: str, cells: Mapping[str, Mapping[int, Mapping[str, Any]]], groups: Sequence[str], times: Sequence[str]
) -> str:
    found = error_summary(cells)
    columns = " ".join(f"{found['groups'].get(g, float('nan')):9.1f}" for g in groups)
    curve = " ".join(f"{found['at'][t]:6.1f}" if t in found["at"] else f"{'':6}" for t in times)
    return f"{name:50} {columns} {found['mm']:6.1f} {_number(found['sd'], 5, 1)} {found['moving_mm']:7.1f} {curve}"


def error_summary(cells: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> dict[str, Any]:
    """Means over the windows of all groups that are there, then over seeds."""
    seeds = _seeds(cells)
    per_seed = [[row[s] for row in cells.values() if s in row] for s in seeds]
    pooled = [_over_windows(rows) for rows in per_seed]
    keys = pooled[0]["at"]
    return {
        "groups": {g: float(np.mean([row["mm"] for row in rows.values()])) for g, rows in cells.items()},
        "mm": float(np.mean([p["mm"] for p in pooled])),
        "sd": float(np.std([p["mm"] for p in pooled], ddof=1)) if len(pooled) > 1 else None,
        "moving_mm": float(np.mean([p["moving_mm"] for p in pooled])),
        "at": {t: float(np.mean([p["at"][t] for p in pooled])) for t in keys},
        "windows": pooled[0]["windows"],
        "seeds": len(seeds),
    }


def _over_windows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    windows, moving = ([row[name] for row in rows] for name in ("windows", "moving"))
    at = {t: float(np.average([row["at"][t] for row in rows], weights=windows)) for t in rows[0]["at"]}
    still = [row["moving_mm"] or 0.0 for row in rows]
    return {
        "mm": float(np.average([row["mm"] for row in rows], weights=windows)),
        "moving_mm": float(np.average(still, weights=moving)) if sum(moving) else float("nan"),
        "at": at,
        "windows": int(sum(windows)),
    }


def _seeds(cells: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> list[int]:
    return sorted({seed for rows in cells.values() for seed in rows})


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"
