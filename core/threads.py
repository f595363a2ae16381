"""One BLAS thread where matrices are small.

The systems here are thousands of small blocks: two BLAS threads gain nothing on them, and when other processes hold the
cores they wait for each other in a busy loop (a fit was seen to take a hundred times longer). Parallel work is done by
processes, one for each item of a stage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

F = TypeVar("F", bound=Callable[..., Any])


def one_blas_thread(function: F) -> F:
    """Decorates a function to run with one BLAS thread; the setting before is restored after it."""
    wrapped: F = threadpool_limits.wrap(limits=1, user_api="blas")(function)
    return wrapped
