"""Settings that the command line shows, apart from what they set: who asks for help waits for no network library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class Hardware:
    """On what a run computes. None of it changes the run's figures by more than the rounding of sums.

    Attributes:
        device: cpu, cuda, or auto for a GPU where there is one.
        devices: processes on this machine, one for each GPU; torchrun's own number where it started them.
        nodes: machines, where something other than torchrun (SLURM) starts a process on each.
        accumulate: parts that each process takes its rows of a batch in, for want of memory.
        compile: `torch.compile` the network; the first steps of each phase take minutes then.
        readers: processes that read windows ahead, for each training process.
        timeout_s: how long a process waits for the others before it gives up.
    """

    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    accumulate: int = 1
    compile: bool = False
    readers: int = 0
    timeout_s: float = 1800.0


@dataclass(frozen=True)
class EvalConfig:
    """How heads are trained and tasks are set.

    Attributes:
        steps: of each head's training.
        batch_size: windows in a step.
        lr: learning rate.
        train_windows: windows whose tokens the heads are trained on.
        test_windows: largest number of windows that they are judged on.
        horizon_s: future to predict, seconds.
        gap_s: shortest gap to interpolate; gaps are at most twice as long.
        neighbours: of the k-NN vote.
        seed: of the heads and their batches.
    """

    steps: int = 100
    batch_size: int = 16
    lr: float = 2e-3
    train_windows: int = 64
    test_windows: int = 64
    horizon_s: float = 3.0
    gap_s: float = 4.0
    neighbours: int = 20
    seed: int = 0
