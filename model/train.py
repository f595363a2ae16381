"""Training from its start, or from where it stopped, to its end: what is logged, judged, mined and kept, and when.

A run that is killed goes on from its last checkpoint and cuts its logs back to it, so that its curve is, digit by
digit, that of an undisturbed run on the same hardware. `model.run` says what its folder holds.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from core.errors import InputError
from core.files import write_json
from dataset.shards import AmdDataset
from model.checkpoint import identity_sha256
from model.devices import choose_device, reproducible
from model.distributed import Hardware, World, connected
from model.logs import METRICS, Logs, cut_back, read_lines
from model.loop import Training
from model.monitors import mining_figures, mining_flags, refuse_collapse, token_flags
from model.progress import Progress
from model.recipes import Recipe
from model.run import MINING, RunFolder, TrainResult, only_process, run_identity
from model.validation import validate


def train(
    dataset: Path,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = True,
    hardware: Hardware | None = None,
    stop_at: int | None = None,
) -> TrainResult:
    """Trains A4Mer on the training split of a dataset.

    Args:
        dataset: folder that `motifs build` made.
        recipe: everything that the run depends on.
        out: the run's folder.
        resume: go on from the checkpoint in `out`; otherwise a run that is there is replaced.
        hardware: what to compute on; None for this process alone.
        stop_at: end before this step, to go on later.

    Raises:
        InputError: if the dataset or the checkpoint cannot be read, or the hardware is not there.
        StageError: if `out` belongs to a run of another configuration, the loss is no number, the tokens have
            collapsed, or another process of the run is gone.
    """
    hardware = Hardware() if hardware is None else hardware
    choose_device(hardware.device)  # before any file is read
    data = AmdDataset(dataset)
    end = recipe.total_steps if stop_at is None else min(stop_at, recipe.total_steps)
    with (
        connected(hardware, recipe.precision) as world,
        reproducible(recipe.threads),
        contextlib.ExitStack() as held,
    ):
        return _Course(data, recipe, out, world, hardware).run(held, resume, end)


class _Course:
    """A run with its folder; the main process keeps logs, bar and checkpoints."""

    def __init__(self, dataset: AmdDataset, recipe: Recipe, out: Path, world: World, hardware: Hardware) -> None:
        identity = run_identity(recipe, dataset)
        self.recipe, self.world, self.hardware = recipe, world, hardware
        self.folder = RunFolder(out, identity, recipe.total_steps)
        self._same_everywhere(identity_sha256(identity))
        self.training = Training(dataset, recipe, world, hardware)

    def run(self, held: contextlib.ExitStack, resume: bool, end: int) -> TrainResult:
        """Holds the folder, goes on from its checkpoint up to a step, and sums up."""

        def begin() -> Any:
            held.enter_context(only_process(self.folder.path))
            return self.folder.begin(resume)

        checkpoint = self.world.from_main(begin)
        if checkpoint is not None:
            self.training.restore(checkpoint)
        done = self.world.from_main(lambda: self.folder.finished(self.training.step))
        if done is not None:
            return done
        self.training.segment()
        self.world.from_main(self._open)
        with contextlib.ExitStack() as shown:
            if self.world.is_main:
                shown.callback(self._close)
            self.training.steps(end, self._before, lambda line: self._after(line, end))
            return self.world.from_main(self._result)

    def _same_everywhere(self, mine: str) -> None:
        if self.world.from_main(lambda: mine) != mine:
            problem = "its recipe or its dataset is not the main process's"
            raise InputError(f"process {self.world.rank}", problem, "copy the same dataset to every machine")

    def _open(self) -> None:
        step, recipe = self.training.step, self.recipe
        about = {"processes": self.world.size, "computes_on": str(self.world.device), "settings": self.hardware}
        self.folder.open_at(step, self.training.dataset.path.name, about)
        self.logs = Logs(self.folder.path, step)
        where = f" by {self.world.size} processes" if self.world.size > 1 else ""
        self.bar = Progress(f"train {recipe.name}{where}", step, recipe.total_steps)
        evaluations = read_lines(self.folder.path / METRICS)
        self.flags: list[str] = evaluations[-1]["flags"] if evaluations else []

    def _close(self) -> None:
        self.bar.close()
        self.logs.close()

    def _before(self) -> None:
        """What is due before a step: the mining between the phases, an evaluation."""
        training = self.training
        if training.step == self.recipe.stage1_steps and training.lexicon is None:
            self.world.from_main(lambda: self._evaluate("stage1 end"))
            training.mine()
            self.world.from_main(self._judge_mining)
        if training.step % self.recipe.eval_every == 0:
            self.world.from_main(lambda: self._evaluate(""))

    def _after(self, line: dict[str, Any], end: int) -> None:
        """What is due after a step: its line, and a checkpoint now and then."""
        if not self.world.is_main:
            return
        self.logs.loss(line)
        self.bar.advance(line)
        step = self.training.step
        if step % self.recipe.checkpoint_every == 0 or step == end:
            self.folder.save(step, self.training.state())

    def _result(self) -> TrainResult:
        """Sums up; a run at its end is evaluated once more."""
        step = self.training.step
        if step == self.recipe.total_steps:
            cut_back(self.folder.path / METRICS, step)
            self._evaluate("end")
        return self.folder.result(step)

    def _evaluate(self, when: str) -> None:
        training, recipe = self.training, self.recipe
        with self.world.autocast():
            figures = validate(training.model, training.dataset, training.segmentation, recipe)
        flags = token_flags(figures, recipe.monitors) if self._warm() else []
        phase = "stage1" if training.lexicon is None else "joint"
        self.logs.metrics({"step": training.step, "phase": phase, "when": when, **figures, "flags": flags})
        for flag in flags:
            self.bar.note(f"step {training.step}: {flag}")
        refuse_collapse(training.step, flags, self.flags)
        self.flags = flags

    def _warm(self) -> bool:
        return self.training.step >= self.recipe.optim.warmup_steps

    def _judge_mining(self) -> None:
        training, recipe = self.training, self.recipe
        assert training.lexicon is not None
        clips = training.dataset.of_split("train")
        figures = mining_figures(training.lexicon, training.segmentation, clips, recipe.data.rate_hz)
        flags = mining_flags(figures, recipe.data.window_s, recipe.monitors)
        write_json(self.folder.path / MINING, {**figures, "flags": flags})
        self.logs.mining(figures, training.step)
        for flag in flags:
            self.bar.note(f"mining: {flag}")
