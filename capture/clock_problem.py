"""All that is known about the clocks as one weighted least-squares problem, and the test whether it agrees with itself.

Every method states what it measured as whitened linear rows on the offsets and rate errors of the clocks (`Evidence`):
residuals have unit variance, so methods weigh by their own uncertainty and their agreement has a chi-square law. With
`t = o + (1 + r) l`, an instant seen at local time l of one view and m of another says `o + r l - o' - r' m = m - l`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import chdtri

from core.arrays import Float
from core.clock import Clock

SESSION = ""  # stands for the session clock where a view's name could stand
_HELD_S = 1e-9  # standard deviation of the offset that is held where nothing sets the session clock


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one measurement says of some views' clocks.

    Attributes:
        method: how it was measured (`qr`).
        views: whose clocks it speaks of.
        matrix: (rows, 2 views) whitened rows on (offset, rate - 1) of each view in turn.
        right: (rows,) their whitened right sides.
        absolute: whether it ties the views to the session clock, not only to each other.
    """

    method: str
    views: tuple[str, ...]
    matrix: Float[np.ndarray, "rows unknowns"]
    right: Float[np.ndarray, "rows"]
    absolute: bool


@dataclass(frozen=True)
class Tie:
    """One instant on the clock of a view and on another's, with what is known of how one runs against the other.

    Attributes:
        view: the view.
        local_s: the instant on its clock, seconds.
        other: the other view, or `SESSION`.
        other_s: the instant there.
        sigma_s: standard deviation of one against the other.
        slope: seconds of `view` for one second of the other; None if not measured.
        slope_sigma: its standard deviation.
    """

    view: str
    local_s: float
    other: str
    other_s: float
    sigma_s: float
    slope: float | None = None
    slope_sigma: float = 0.0


def evidence(method: str, ties: Sequence[Tie], common_sigma_s: float = 0.0) -> Evidence:
    """Ties as evidence.

    Args:
        method: how they were measured.
        ties: at least one.
        common_sigma_s: standard deviation of an error that all the ties share with full weight, seconds.
    """
    views = tuple(dict.fromkeys(v for tie in ties for v in (tie.view, tie.other) if v != SESSION))
    column = {view: 2 * i for i, view in enumerate(views)}
    rows, right = np.zeros((len(ties), 2 * len(views))), np.zeros(len(ties))
    for i, tie in enumerate(ties):
        rows[i, column[tie.view] + np.arange(2)] += (1.0, tie.local_s)
        if tie.other != SESSION:
            rows[i, column[tie.other] + np.arange(2)] -= (1.0, tie.other_s)
        right[i] = tie.other_s - tie.local_s
    covariance = np.diag([tie.sigma_s**2 for tie in ties]) + common_sigma_s**2
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    rows, right = whiten @ rows, whiten @ right
    sloped = [tie for tie in ties if tie.slope is not None]
    more, more_right = np.zeros((len(sloped), 2 * len(views))), np.zeros(len(sloped))
    for i, tie in enumerate(sloped):
        slope = float(tie.slope or 1.0)  # (1 + r) slope = 1 + r'
        more[i, column[tie.view] + 1] = slope / tie.slope_sigma
        if tie.other != SESSION:
            more[i, column[tie.other] + 1] -= 1.0 / tie.slope_sigma
        more_right[i] = (1.0 - slope) / tie.slope_sigma
    absolute = any(tie.other == SESSION for tie in ties)
    return Evidence(method, views, np.vstack([rows, more]), np.concatenate([right, more_right]), absolute)


@dataclass(frozen=True, eq=False)
class Solution:
    """Clocks of some views.

    Attributes:
        views: their names.
        x: (2 views,) offset and rate - 1 of each in turn.
        covariance: (2 views, 2 views).
        square: sum of the squares of all whitened residuals, those of the rates' prior among them.
        num_spare: by how many rows there are more than unknowns.
    """

    views: tuple[str, ...]
    x: Float[np.ndarray, "unknowns"]
    covariance: Float[np.ndarray, "unknowns unknowns"]
    square: float
    num_spare: int

    def clock(self, view: str) -> Clock:
        """A view's clock; its offset's uncertainty is stated where it is least."""
        i = 2 * self.views.index(view)
        (offset, rate), block = self.x[i : i + 2], self.covariance[i : i + 2, i : i + 2]
        at_s = -float(block[0, 1] / block[1, 1]) if block[1, 1] > 0 else 0.0
        sigma = float(np.sqrt(max(block[0, 0] - block[0, 1] ** 2 / max(block[1, 1], 1e-300), 0.0)))
        return Clock(float(offset), 1.0 + float(rate), sigma, float(np.sqrt(max(block[1, 1], 0.0))), at_s)

    def contrast(
        self, local_s: Mapping[str, float], base: str
    ) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n n"]]:
        """Session times of local times, and their covariance; relative to the view `base` unless that is `SESSION`."""
        rows = np.zeros((len(local_s), len(self.x)))
        plain = np.zeros(len(local_s))
        for k, (view, at_s) in enumerate(local_s.items()):
            i = 2 * self.views.index(view)
            rows[k, i : i + 2] = (1.0, at_s)
            plain[k] = at_s
        if base != SESSION:
            first = list(local_s).index(base)
            rows, plain = rows - rows[first], plain - plain[first]
        return rows @ self.x + plain, rows @ self.covariance @ rows.T


def solve(evidences: Sequence[Evidence], views: Sequence[str], rate_sigma: float, held: str = "") -> Solution:
    """Weighted least squares for offset and rate of every view.

    Args:
        evidences: what was measured.
        views: whose clocks are wanted; evidence may speak of these alone.
        rate_sigma: standard deviation of the rates of recorders about 1: a prior on every view.
        held: view whose clock is the session clock where nothing absolute was measured.
    """
    column = {view: 2 * i for i, view in enumerate(views)}
    n = 2 * len(views)
    prior = np.zeros((len(views), n))
    prior[np.arange(len(views)), np.arange(1, n, 2)] = 1 / rate_sigma
    blocks, right = [prior], [np.zeros(len(views))]
    for item in evidences:
        where = np.concatenate([column[view] + np.arange(2) for view in item.views])
        wide = np.zeros((len(item.right), n))
        wide[:, where] = item.matrix
        blocks.append(wide)
        right.append(item.right)
    if held:
        row = np.zeros((1, n))
        row[0, column[held]] = 1 / _HELD_S
        blocks.append(row)
        right.append(np.zeros(1))
    A, b = np.vstack(blocks), np.concatenate(right)
    # seconds and rates differ by orders of magnitude: without scaling, the weaker ones would drown in rounding
    scale = 1 / np.maximum(np.linalg.norm(A, axis=0), 1e-30)
    q, r = np.linalg.qr(A * scale)
    inverse = np.linalg.pinv(r) * scale[:, None]
    x = inverse @ (q.T @ b)
    return Solution(tuple(views), x, inverse @ inverse.T, float(((A @ x - b) ** 2).sum()), len(b) - n)


def groups_of(views: Sequence[str], evidences: Sequence[Evidence]) -> list[tuple[tuple[str, ...], bool]]:
    """Views that evidence ties together, and whether each group is tied to the session clock."""
    parent = {view: view for view in views} | {SESSION: SESSION}

    def root(view: str) -> str:
        while parent[view] != view:
            view = parent[view]
        return view

    for item in evidences:
        names = (*item.views, SESSION) if item.absolute else item.views
        for name in names[1:]:
            parent[root(name)] = root(names[0])
    groups: dict[str, list[str]] = {}
    for view in views:
        groups.setdefault(root(view), []).append(view)
    return [(tuple(members), name == root(SESSION)) for name, members in groups.items()]


@dataclass(frozen=True, eq=False)
class MethodClocks:
    """Clocks of views by one method alone.

    Attributes:
        method: the method.
        solution: the clocks.
        base: view to which they are relative, or `SESSION`.
    """

    method: str
    solution: Solution
    base: str


def by_method(evidences: Sequence[Evidence], rate_sigma: float) -> list[MethodClocks]:
    """What each method alone says, one entry for every group of views that it ties together."""
    found = []
    for method in dict.fromkeys(item.method for item in evidences):
        own = [item for item in evidences if item.method == method]
        views = tuple(dict.fromkeys(view for item in own for view in item.views))
        for members, absolute in groups_of(views, own):
            part = [item for item in own if set(item.views) <= set(members)]
            held = "" if absolute else members[0]
            found.append(MethodClocks(method, solve(part, members, rate_sigma, held), SESSION if absolute else held))
    return found


@dataclass(frozen=True)
class Misfit:
    """How what one method measured agrees with itself.

    Attributes:
        method: its name.
        view: the view of the measurement that fits worst.
        deviations: root mean square of its residuals, in their own standard deviations.
        limit: the same for the 99.9 % quantile of their chi-square; above it the method contradicts itself.
    """

    method: str
    view: str
    deviations: float
    limit: float


def misfits(evidences: Sequence[Evidence], rate_sigma: float) -> list[Misfit]:
    """Every method that measured more than its clocks need, against its own solution.

    Args:
        evidences: what was measured.
        rate_sigma: standard deviation of rates about 1, wide enough that a rate alone is no contradiction.
    """
    found = []
    for item in by_method(evidences, rate_sigma):
        solution = item.solution
        if solution.num_spare < 1:
            continue
        worst = ("", -1.0)
        for part in evidences:
            if part.method == item.method and set(part.views) <= set(solution.views):
                where = np.concatenate([2 * solution.views.index(view) + np.arange(2) for view in part.views])
                worst = max(worst, (part.views[0], _square(part, solution.x[where])), key=lambda pair: pair[1])
        limit = float(chdtri(solution.num_spare, 0.001)) / solution.num_spare
        deviations = np.sqrt([solution.square / solution.num_spare, limit])
        found.append(Misfit(item.method, worst[0], *deviations.tolist()))
    return found


def _square(item: Evidence, x: np.ndarray) -> float:
    """Mean square of the residuals of one piece of evidence."""
    return float(np.mean((item.matrix @ x - item.right) ** 2))


@dataclass(frozen=True)
class Agreement:
    """How two methods agree on the clocks of the views that both saw.

    Attributes:
        methods: their names.
        view: the view on which they differ most, by their own uncertainty.
        base: view to which its time is compared, or `SESSION`.
        difference_s: by how much they differ there.
        excess: chi-square of all their differences over its 99.9 % quantile; above 1 they contradict each other.
    """

    methods: tuple[str, str]
    view: str
    base: str
    difference_s: float
    excess: float


def agreements(found: Sequence[MethodClocks], at_s: Mapping[str, float]) -> list[Agreement]:
    """Every pair of methods compared on the views they share.

    Args:
        found: of `by_method`.
        at_s: local time of each view at which clocks are compared.
    """
    compared = []
    for one, two in combinations(found, 2):
        shared = [view for view in one.solution.views if view in two.solution.views]
        absolute = one.base == two.base == SESSION
        if one.method == two.method or len(shared) < 2 - absolute:
            continue
        base = SESSION if absolute else shared[0]
        local_s = {view: at_s[view] for view in shared}
        (t1, c1), (t2, c2) = (item.solution.contrast(local_s, base) for item in (one, two))
        keep = slice(0 if absolute else 1, None)
        difference, covariance = (t1 - t2)[keep], (c1 + c2)[keep, keep] + 1e-12 * np.eye(len(shared))[keep, keep]
        square = float(difference @ np.linalg.solve(covariance, difference))
        worst = int(np.argmax(np.abs(difference) / np.sqrt(np.diag(covariance))))
        excess = square / float(chdtri(len(difference), 0.001))
        view = shared[keep][worst]
        compared.append(Agreement((one.method, two.method), view, base, float(difference[worst]), excess))
    return compared


@dataclass(frozen=True)
class Reading:
    """A view's clock by one method alone, against the clock that all of them gave.

    Attributes:
        offset_s: offset by that method at the compared local time, brought to the common solution's zero.
        sigma_s: its own standard deviation; None for the view with which the method compares the others, of which it
            says nothing by itself.
        residual_s: by how much it differs from the common solution.
    """

    offset_s: float
    sigma_s: float | None
    residual_s: float


def readings(
    found: Sequence[MethodClocks], session_s: Mapping[str, float], at_s: Mapping[str, float]
) -> dict[str, dict[str, Reading]]:
    """For every view and method, where that method alone puts the clock: {view: {method: reading}}.

    Args:
        found: of `by_method`.
        session_s: session time of each view's compared local time by the common solution.
        at_s: those local times.
    """
    table: dict[str, dict[str, Reading]] = {}
    for item in found:
        local_s = {view: at_s[view] for view in item.solution.views}
        mine, covariance = item.solution.contrast(local_s, item.base)
        residual = mine - np.array([session_s[view] for view in local_s])
        if item.base != SESSION:  # its zero is free
            residual = residual - residual.mean()
        for k, view in enumerate(local_s):
            sigma = None if view == item.base else float(np.sqrt(max(covariance[k, k], 0.0)))
            offset = session_s[view] + float(residual[k]) - local_s[view]
            table.setdefault(view, {})[item.method] = Reading(offset, sigma, float(residual[k]))
    return table
