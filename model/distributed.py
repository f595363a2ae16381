"""The processes that train together: one, several on a machine, or many machines (Lightning Fabric, `torchrun`).

Every process holds the whole network and takes its rows of each batch. Gradients are added up over the processes in one
flat buffer, always in the same order, so that a run that goes on after a kill has the sums of an undisturbed one; the
buckets of `DistributedDataParallel` are filled in another order in the first step after a start.

What touches the run's folder is done by the main process alone (`World.from_main`), and the others are told the
outcome. That goes through a group of its own over sockets: the end of a process closes them, and the rest learns of it
at once, where a GPU's collectives would wait.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

from core.errors import InputError, MotifsError, StageError
from model.devices import choose_device
from model.settings import Hardware, Precision

T = TypeVar("T")
_FABRIC_PRECISION = {"float32": "32-true", "bf16": "bf16-mixed"}


_rank = 0


def in_main_process() -> bool:
    """Whether this process is the only one, or the main one, of the last run that it took part in."""
    return _rank == 0


@contextlib.contextmanager
def connected(hardware: Hardware, precision: Precision) -> Iterator[World]:
    """Joins the other processes of the run, starting them where need be, while the block runs.

    Raises:
        InputError: if the machine does not have what is asked for.
        StageError: if the processes do not find each other.
    """
    fabric = _fabric(hardware, precision)
    wait = timedelta(seconds=hardware.timeout_s)
    with _together(f"process {fabric.global_rank} of {fabric.world_size}"):
        fabric.launch()
        # on a CPU the default group is such a group already
        control = dist.new_group(backend="gloo", timeout=wait) if dist.is_initialized() and _on_gpu(fabric) else None
    global _rank
    world = World(fabric, control)
    _rank = world.rank
    yield world
    # after a failure the groups wait for who is gone; the process ends then, and they with it
    if dist.is_initialized():
        dist.destroy_process_group()


class World:
    """All processes of a run, seen from one of them.

    Attributes:
        rank: of this process, counted from 0.
        size: number of processes.
        device: where this process computes.
    """

    def __init__(self, fabric: Any, control: Any) -> None:
        self.rank, self.size, self.device = fabric.global_rank, fabric.world_size, fabric.device
        self._fabric, self._control = fabric, control

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The network computes in the run's precision in this block."""
        context: contextlib.AbstractContextManager[Any] = self._fabric.autocast()
        return context

    def from_main(self, work: Callable[[], T]) -> T:
        """What `work` returns in the main process, in every process; if it fails there, all end.

        Raises:
            StageError: if the main process is gone.
        """
        if self.size == 1:
            return work()
        box: list[Any] = [None, False]
        try:
            if self.is_main:
                box = [work(), True]
        finally:  # the others must not wait for what has failed
            with _together(self._name()):
                dist.broadcast_object_list(box, src=0, group=self._control)
        if not box[1]:
            self._leave()
        value: T = box[0]
        return value

    def fail(self, error: MotifsError) -> NoReturn:
        """Ends every process for a reason that all of them have found; the main one gives it."""
        if self.is_main:
            raise error
        self._leave()

    def total_counts(self, counts: torch.Tensor) -> torch.Tensor:
        """Whole numbers, summed over all processes. Called in every step: who is missing is found out here.

        Raises:
            StageError: if another process is gone.
        """
        if self.size > 1:
            with _together(self._name()):
                dist.all_reduce(counts, group=self._control)
        return counts

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replaces each tensor by its sum over all processes.

        Raises:
            StageError: if another process is gone.
        """
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _together(self._name()):
            dist.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def _leave(self) -> NoReturn:
        """Ends this process when the main one has said why and is gone; torchrun would end that one too otherwise."""
        with contextlib.suppress(RuntimeError):
            dist.broadcast(torch.zeros(1), src=0, group=self._control)
        raise SystemExit(1)

    def _name(self) -> str:
        return f"process {self.rank} of {self.size}"


@contextlib.contextmanager
def _together(name: str) -> Iterator[None]:
    """Says what became of a collective in which another process did not take part."""
    try:
        yield
    except RuntimeError as error:  # of a closed connection, and of one that has said nothing for too long
        raise StageError(
            name,
            f"has lost another process of the run ({_reason(error)})",
            "see what the one that ended first says; the same command goes on from the last checkpoint",
        ) from error


def _reason(error: Exception) -> str:
    """The first sentence of a library's message, without the place in its code."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[[^]]*\]\s*", "", first).split(". ")[0]


def _fabric(hardware: Hardware, precision: Precision) -> Any:
    devices, nodes = _started_by_torchrun() or (hardware.devices, hardware.nodes)
    chosen = choose_device(hardware.device)
    wait = timedelta(seconds=hardware.timeout_s)
    lightning, strategies = _lightning()
    try:
        return lightning.Fabric(
            accelerator=chosen.type,
            devices=[chosen.index] if chosen.index is not None and devices == 1 else devices,
            num_nodes=nodes,
            precision=_FABRIC_PRECISION[precision],
            strategy=strategies.DDPStrategy(timeout=wait) if devices * nodes > 1 else "auto",
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{devices} devices on {nodes} nodes", _reason(error), "ask for what is there") from error


def _started_by_torchrun() -> tuple[int, int] | None:
    """Processes on each machine and machines, as torchrun has told this process."""
    if not dist.is_available() or not dist.is_torchelastic_launched():
        return None
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return here, int(os.environ["WORLD_SIZE"]) // here


def _lightning() -> tuple[Any, Any]:
    """Fabric and its strategies, which come by themselves or with all of Lightning."""
    for name in ("lightning_fabric", "lightning.fabric"):
        try:
            found = importlib.import_module(name), importlib.import_module(f"{name}.strategies")
        except ImportError:
            continue
        logging.getLogger(name).setLevel(logging.WARNING)  # a banner of every process otherwise
        return found
    problem = "training needs Lightning Fabric, which is not installed"
    raise InputError("lightning-fabric", problem, "pip install lightning-fabric")


def _on_gpu(fabric: Any) -> bool:
    return bool(fabric.device.type == "cuda")
