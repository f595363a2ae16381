"""Health figures of the clocks: how well they are known, whether they are a recorder's, whether methods contradict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from capture.clock_evidence import GivenClock
from capture.clock_problem import SESSION, Agreement, Evidence, misfits
from capture.code_clock import CodeClock
from core.clock import Clock
from core.stage import Health

NEXT = (
    "show every camera the QR time code, give `--given VIEW=OFFSET_S`, or `--method none` if hardware locks the clocks"
)
MAX_RATE_SPREADS = 5.0  # no recorder is further from 1 than that many spreads
_LEAST_LEARNT = 0.05  # of the prior's spread: a rate of which less is known stays at 1


def clock_health(
    clocks: Mapping[str, Clock],
    codes: Mapping[str, Sequence[CodeClock]],
    max_sigma_ms: float,
    max_violation_ms: float,
) -> list[Health]:
    """How well each clock is known, and whether the codes that one camera saw in one stretch fit together."""
    health = [
        Health("clock_sigma_ms", 1e3 * clock.offset_sigma_s, max_sigma_ms, "max", NEXT, view_id)
        for view_id, clock in clocks.items()
    ]
    action = "check that all displays show one clock, or give `--display-period-ms`"
    for view_id, found in codes.items():
        violation = 1e3 * max(clock.violation_s for clock in found)
        health.append(Health("time_code_violation_ms", violation, max_violation_ms, "max", action, view_id))
    return health


def rate_health(clocks: Mapping[str, Clock], given: Mapping[str, GivenClock], rate_sigma: float) -> list[Health]:
    """Whether each clock runs as a recorder can; a rate that the user gave needs no such excuse.

    What was measured moves a rate away from 1, its prior mean; the variance of that move is the prior's less what is
    left of it, so that the figure is the measured rate's distance from 1 over the spread of both.

    Args:
        clocks: the common solution.
        given: what was written by hand.
        rate_sigma: the prior of rates about 1.
    """
    action = (
        "a clock stepped or a method took one sound or display for another: leave it out by `--method`, or give a "
        "larger `--rate-prior-ppm` for a recorder that runs so"
    )
    health = []
    for view_id, clock in clocks.items():
        if view_id in given and given[view_id].rate is not None:
            continue
        learnt = float(np.sqrt(max(rate_sigma**2 - clock.rate_sigma**2, (_LEAST_LEARNT * rate_sigma) ** 2)))
        spreads = abs(clock.rate - 1) / learnt
        health.append(Health("clock_rate_spreads", spreads, MAX_RATE_SPREADS, "max", action, view_id))
    return health


def misfit_health(items: Sequence[Evidence], rate_sigma: float) -> list[Health]:
    """One figure for each method that measured more than its clocks need: its residuals in their own deviations."""
    health = []
    for found in misfits(items, MAX_RATE_SPREADS * rate_sigma):
        action = f"its measurements by {found.method} contradict each other: check them, or leave it out by `--method`"
        health.append(
            Health(f"{found.method}_own_deviations", found.deviations, found.limit, "max", action, found.view)
        )
    return health


def agreement_health(found: Sequence[Agreement]) -> list[Health]:
    """One figure for each pair of methods: where they differ most, against what their uncertainties allow."""
    health = []
    for item in found:
        against = "" if item.base == SESSION else f"_against_{item.base}"
        value = 1e3 * abs(item.difference_s)
        action = f"find out which of {item.methods[0]} and {item.methods[1]} is wrong, and leave it out by `--method`"
        # the limit is that of the chi-square of all views together, put as milliseconds of the worst
        limit = value / max(float(np.sqrt(item.excess)), 1e-9)
        health.append(
            Health(f"{item.methods[0]}_{item.methods[1]}{against}_ms", value, limit, "max", action, item.view)
        )
    return health
