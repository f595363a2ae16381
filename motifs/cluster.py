"""A Dask cluster to run sessions on: one on this machine for as long as the work takes, or the lab's own.

A worker process does one stage at a time: stages set the threads of the numerical libraries for their whole process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from core.errors import InputError
from core.versions import code_version

if TYPE_CHECKING:
    from distributed import Client

GPU = "GPU"
"""Label of workers that have a GPU: `dask worker ADDRESS --resources GPU=1`."""
# a fit of a short session with its libraries holds 1.5 GiB
_WORKER_GIB = 2
_CONNECT_S = 10
_SETTINGS = {
    "distributed.worker.daemon": False,  # stages start processes of their own
    # a stage may hold Python's lock for minutes; that a worker is gone is told by its connection
    "distributed.scheduler.worker-ttl": None,
    # no task waits at a worker, to go down with the one that is at work there
    "distributed.scheduler.worker-saturation": 1.0,
    # what a stage has left in memory does not keep a worker from the next one; at 95 % of its share it is ended
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "logging.distributed": "error",
}


def local_workers(cores: int, num_sessions: int) -> int:
    """Worker processes for this machine: one for each session as far as cores and memory go."""
    from distributed.system import MEMORY_LIMIT

    return max(min(cores, num_sessions, int(MEMORY_LIMIT / 2**30 / _WORKER_GIB)), 1)


@contextmanager
def local_cluster(num_workers: int, gpu: bool = False) -> Iterator[Client]:
    """Workers on this machine, reached from nowhere else; they end with the block.

    Args:
        num_workers: processes, which share the machine's memory; one that needs more than its share is ended.
        gpu: whether workers are labelled `GPU`, one for each that torch finds.
    """
    import dask
    from distributed import Client, Nanny, Scheduler, SpecCluster
    from distributed.system import MEMORY_LIMIT

    gpus = min(_num_gpus(), num_workers) if gpu else 0
    # their pages for people, too, are served to this machine alone
    inside = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    options = {"nthreads": 1, "memory_limit": MEMORY_LIMIT // num_workers, "silence_logs": logging.ERROR, **inside}
    with_gpu = [{"resources": {GPU: 1}, "env": {"CUDA_VISIBLE_DEVICES": str(k)}} for k in range(gpus)]
    own = [*with_gpu, *({} for _ in range(num_workers - gpus))]
    workers: dict[int | str, Any] = {k: {"cls": Nanny, "options": {**options, **extra}} for k, extra in enumerate(own)}
    scheduler = {"cls": Scheduler, "options": {"port": 0, **inside}}
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with (
        dask.config.set(_SETTINGS),
        SpecCluster(workers, scheduler, silence_logs=logging.ERROR) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def lab_cluster(address: str, gpu: bool = False) -> Iterator[Client]:
    """A client of a running scheduler.

    Args:
        address: as `dask scheduler` prints it: `tcp://host:8786`, or `tls://` with Dask's own settings for it.
        gpu: whether a worker with a GPU is needed.

    Raises:
        InputError: if nobody answers there, or one of its workers cannot do the work: it runs another version of this
            code, or several tasks at a time in one process; or none has a GPU and `gpu`.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:  # OSError holds the time-out too
        problem = f"no scheduler answers at {address} ({type(error).__name__})"
        action = "start one with `dask scheduler`, and give the address that it prints"
        raise InputError("--scheduler", problem, action) from error
    with client:
        _check_workers(client, address, gpu)
        yield client


def _check_workers(client: Client, address: str, gpu: bool) -> None:
    """Looks at the workers that are there; those that come later are looked at by their first task."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    for name, facts in workers.items():
        if facts["nthreads"] > 1:
            problem = f"it does {facts['nthreads']} tasks at a time in one process"
            action = f"start it with `dask worker {address} --nworkers N --nthreads 1`"
            raise InputError(f"worker {name}", problem, action)
    if gpu and workers and not any(GPU in facts["resources"] for facts in workers.values()):
        problem = f"none of {len(workers)} workers has a GPU, and --fit.device cuda was asked for"
        raise InputError(
            "--scheduler", problem, f"start one with `dask worker {address} --nthreads 1 --resources GPU=1`"
        )
    for name, told in client.run(code_version, on_error="return").items():
        require_version(code_version(), f"worker {name}", told)


class VersionError(InputError):
    """A worker runs other code than the command; `item` says which worker."""


def require_version(asked: str, worker: str, found: object = None) -> None:
    """Checks that a worker runs the code of the command that sends it work.

    Args:
        asked: version of the command.
        worker: as it is called.
        found: what the worker told; its own version where this is called in it.

    Raises:
        VersionError: if it does not.
    """
    found = code_version() if found is None else found
    if found != asked:
        problem = f"it runs version {found} of this code, the command {asked}"
        raise VersionError(worker, problem, "install the same version for all workers")


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()
