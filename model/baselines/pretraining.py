"""Pretraining of the systems beside A4Mer, with the same folder, logs and exact resumption.

They learn from the same windows as A4Mer, or from the clips of a benchmark (`model.baselines.sources`).

A system has one phase and no teacher, so this is a loop of its own, in one process; `model.train` is A4Mer's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core.errors import StageError
from core.files import to_jsonable
from dataset.shards import AmdDataset
from model.baselines.motion_codes import MotionCodes
from model.baselines.plain_frames import MaskedFrames, PlainJepa
from model.baselines.skeletons import System
from model.baselines.sources import AmdWindows, BatchSource
from model.baselines.systems import SystemConfig, build_system, config_from_plain, system_name
from model.checkpoint import load_checkpoint
from model.devices import choose_device, reproducible
from model.logs import Logs
from model.masking import generator_of
from model.optimiser import learning_rate, make_optimizer
from model.progress import Progress
from model.recipes import OptimConfig, config_from_json
from model.run import CHECKPOINT, RunFolder, TrainResult, only_process

# of a run, from which a system without statistics of its source takes those of its input
_STATISTICS_BATCHES = 16


@dataclass(frozen=True)
class SystemRecipe:
    """A training run of a system beside A4Mer.

    Attributes:
        name: of the function that made it.
        system: network and pretext task; their type says which system it is.
        window_s: length of the windows.
        rate_hz: frames a second.
        tempo: deviation of the logarithm of how fast windows are played.
        optim: AdamW and its schedule.
        betas: of AdamW.
        batch_size: windows in a step.
        steps: of the whole run.
        seed: of weights, windows, and what the system draws.
        checkpoint_every: steps between checkpoints.
        threads: on the CPU; part of the recipe because sums are ordered by it.
    """

    name: str
    system: SystemConfig
    window_s: float = 4.0
    rate_hz: float = 30.0
    tempo: float = 0.0
    optim: OptimConfig = field(default_factory=OptimConfig)
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 32
    steps: int = 1000
    seed: int = 0
    checkpoint_every: int = 200
    threads: int = 1

    @property
    def kind(self) -> str:
        """Name of the system, see `model.baselines.systems`."""
        return system_name(self.system)


def pretrain(
    dataset: Path | BatchSource,
    recipe: SystemRecipe,
    out: Path,
    *,
    resume: bool = True,
    device: str = "auto",
    stop_at: int | None = None,
) -> TrainResult:
    """Trains a system on the training split of a dataset.

    Args:
        dataset: folder that `motifs build` made, or another source of batches.
        recipe: everything that the run depends on.
        out: the run's folder.
        resume: go on from the checkpoint in `out`; otherwise a run that is there is replaced.
        device: cpu, cuda, or auto for a GPU where there is one.
        stop_at: end before this step, to go on later.

    Raises:
        InputError: if the dataset or the checkpoint cannot be read, or there is no such device.
        StageError: if `out` belongs to a run of another configuration, or the loss is no number.
    """
    computes_on = choose_device(device)
    source = _windows(AmdDataset(dataset), recipe) if isinstance(dataset, Path) else dataset
    end = recipe.steps if stop_at is None else min(stop_at, recipe.steps)
    with reproducible(recipe.threads), only_process(out):
        identity = to_jsonable({"recipe": recipe, "data": source.identity()})
        folder = RunFolder(out, identity, recipe.steps)
        checkpoint = folder.begin(resume)
        model = first_weights(recipe, source).to(computes_on).train()
        optimizer = make_optimizer(model, recipe.optim, recipe.betas)
        step = 0
        if checkpoint is not None:
            step = checkpoint.step
            model.load_state_dict(checkpoint.model)
            optimizer.load_state_dict(dict(checkpoint.optimizer or {}))
        if (done := folder.finished(step)) is not None:
            return done
        folder.open_at(step, source.name, {"computes_on": str(computes_on)})
        logs, bar = Logs(folder.path, step), Progress(f"train {recipe.name}", step, recipe.steps)
        with closing(logs), closing(bar), closing(source.batches(step, end)) as batches:
            for now, raw in batches:
                line = _do_step(model, optimizer, source, raw, recipe, now, computes_on)
                logs.loss(line)
                bar.advance(line)
                if (now + 1) % recipe.checkpoint_every == 0 or now + 1 == end:
                    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "lexicon": None}
                    folder.save(now + 1, {**state, "rng": torch.get_rng_state()})
        return folder.result(end)


def _do_step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    source: BatchSource,
    raw: Any,
    recipe: SystemRecipe,
    step: int,
    device: torch.device,
) -> dict[str, Any]:
    """One step of the optimiser; returns its line of the log."""
    lr = learning_rate(step, recipe.steps, recipe.optim)
    for group in optimizer.param_groups:
        group["lr"] = lr
    generator = generator_of(recipe.seed, step)
    batch = source.prepare(raw, generator)
    with torch.random.fork_rng():
        # layers drop by the global generator: like all else, what they do depends on the step's number alone
        torch.manual_seed(generator.initial_seed())
        found = model.loss(batch.to(device), generator)
    value = float(found.total.detach())
    if not math.isfinite(value):
        problem = f"the loss is {value}"
        raise StageError(f"step {step}", problem, "start another run with a lower optim.lr, or a longer warm-up")
    optimizer.zero_grad(set_to_none=True)
    found.total.backward()
    optimizer.step()
    parts = {name: float(part.detach()) for name, part in found.parts.items()}
    return {"step": step, "phase": "pretraining", "loss": value, **parts, "lr": lr}


def _windows(dataset: AmdDataset, recipe: SystemRecipe) -> AmdWindows:
    """The windows that a recipe takes of a dataset."""
    return AmdWindows(
        dataset,
        recipe.system,
        window_s=recipe.window_s,
        rate_hz=recipe.rate_hz,
        seed=recipe.seed,
        batch_size=recipe.batch_size,
        tempo=recipe.tempo,
    )


def fresh_system(recipe: SystemRecipe, dataset: AmdDataset) -> Any:
    """The network before its first step, whose weights the seed alone decides.

    Args:
        recipe: of the run.
        dataset: of the statistics, for a system that normalises its input.
    """
    return first_weights(recipe, _windows(dataset, recipe))


def first_weights(recipe: SystemRecipe, source: BatchSource) -> Any:
    """`fresh_system` for any source."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        system = build_system(recipe.system)
    if isinstance(system, MotionCodes):
        system.set_statistics(*source.statistics())
    if isinstance(system, MaskedFrames | PlainJepa):
        with closing(source.batches(0, _STATISTICS_BATCHES)) as batches:
            system.set_statistics(source.prepare(raw, generator_of(recipe.seed, now)) for now, raw in batches)
    return system


@dataclass(frozen=True, eq=False)
class TrainedSystem:
    """A finished run.

    Attributes:
        recipe: of the run.
        system: the network, in evaluation.
    """

    recipe: SystemRecipe
    system: System


def load_system(run: Path, device: torch.device) -> TrainedSystem:
    """Reads the newest checkpoint of a run.

    Raises:
        InputError: if there is none, or it is of another version.
    """
    checkpoint = load_checkpoint(run / CHECKPOINT)
    recipe = _recipe_from_json(checkpoint.identity["recipe"], str(run / CHECKPOINT))
    system: nn.Module = build_system(recipe.system)
    system.load_state_dict(checkpoint.model)
    return TrainedSystem(recipe, system.to(device).eval())  # type: ignore[arg-type]


def _recipe_from_json(data: Mapping[str, Any], source: str) -> SystemRecipe:
    system = config_from_plain(data.get("system"), source)
    return config_from_json(SystemRecipe, {**data, "system": system}, source)
