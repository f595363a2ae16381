"""The steps of a run: Atoms alone, then mining, then both stages together (methods 1.1, 1.6, 1.7).

Every step depends only on its number, the recipe's seed and the state in the checkpoint: windows and masks of the whole
batch come from (seed, step), and each process takes its rows of them. The loss is a sum over sequences divided by the
number of sequences of the whole batch, so neither the number of processes nor the parts that each takes its rows in
change it by more than the rounding of sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import numpy as np
import torch

from core.errors import InputError, StageError
from dataset.loader import WindowSampler
from dataset.prefetch import prefetch
from dataset.shards import AmdDataset
from model.a4mer import A4Mer
from model.bodies import draw_variation
from model.checkpoint import Checkpoint
from model.distributed import Hardware, World
from model.lexicon import Lexicon, apply_lexicon, mine
from model.losses import num_sequences
from model.masking import draws, generator_of
from model.optimiser import learning_rate, make_optimizer
from model.pretext import Prediction
from model.recipes import Recipe
from model.segments import MotionBatch
from model.windows import Segmentation, find_atoms, input_statistics, make_batch

Windows = Mapping[str, np.ndarray]
Part = tuple[MotionBatch, dict[str, torch.Tensor]]
# a penalty, and its derivative by the moments that it is of
Slope = tuple[torch.Tensor, torch.Tensor]


class Training:
    """A run in progress, the same in every process: network, optimiser, segments, place in the schedule.

    Raises:
        InputError: if a batch has fewer rows than there are processes and parts.
    """

    def __init__(self, dataset: AmdDataset, recipe: Recipe, world: World, hardware: Hardware) -> None:
        self.dataset, self.recipe, self.world, self.hardware = dataset, recipe, world, hardware
        parts = world.size * hardware.accumulate
        if not 1 <= parts <= recipe.batch_size:
            problem = f"cannot be divided into {parts} parts ({world.size} x {hardware.accumulate})"
            world.fail(InputError(f"a batch of {recipe.batch_size} windows", problem, "take a part for each at most"))
        self.sampler = WindowSampler(
            dataset, "train", recipe.data.window_s, recipe.data.rate_hz, recipe.seed,
            batch_size=recipe.batch_size, rank=world.rank, num_ranks=world.size, cache_mb=recipe.data.cache_mb,
            tempo=recipe.bodies.tempo,
        )  # fmt: skip
        if recipe.bodies.vary and recipe.data.inputs != "motion":
            problem = f"cannot be varied where the network sees rotations (data.inputs={recipe.data.inputs})"
            world.fail(
                InputError("bodies", problem, "set data.inputs=motion, or bodies.limbs, posture_rad, reach to 0")
            )
        self.model = fresh_model(dataset, recipe).to(world.device).train()
        if hardware.compile:
            self.model.compile_parts()
        self.optimizer = make_optimizer(self.model, recipe.optim)
        self.segmentation = Segmentation({}, {}, {}, {})
        self.lexicon: Lexicon | None = None
        self.step = 0

    @property
    def phase(self) -> str:
        """`stage1` before mining, `joint` after it."""
        return "stage1" if self.step < self.recipe.stage1_steps else "joint"

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes up the state of a checkpoint."""
        self.step, self.lexicon = checkpoint.step, checkpoint.lexicon
        self.model.load_state_dict(checkpoint.model)
        if checkpoint.optimizer is not None:
            self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        torch.set_rng_state(checkpoint.rng)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the step."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "lexicon": self.lexicon,
        }

    def segment(self) -> None:
        """Finds the Atoms of every clip, and its Motifs once they have been mined."""
        self.segmentation = self.world.from_main(self._segmented)

    def mine(self) -> None:
        """From Atoms to Motifs, between the phases; the optimiser starts anew."""
        self.lexicon = self.world.from_main(self._mined)
        self.segment()
        self.optimizer = make_optimizer(self.model, self.recipe.optim)

    def steps(self, end: int, before: Callable[[], None], after: Callable[[dict[str, Any]], None]) -> None:
        """Steps up to `end`; calls `before` each of them, and `after` each with its line of the log."""
        with closing(prefetch(self.sampler, self.step, end, self.hardware.readers)) as batches:
            for _, windows in batches:
                before()
                line = self._do_step(windows)
                self.step += 1
                after(line)

    def _segmented(self) -> Segmentation:
        recipe, clips = self.recipe, self.dataset.clips
        atoms = find_atoms(self.dataset, clips, recipe.data, recipe.atoms)
        if all(len(atoms.cuts_s[clip.id]) < 2 for clip in self.dataset.of_split("train")):
            problem = "every training clip is a single Atom, so there is none to tell from others"
            raise InputError(str(self.dataset.path), problem, "add longer clips, or set atoms.rule=clock")
        if self.lexicon is None:
            return atoms
        return apply_lexicon(
            self.lexicon, recipe.model, self.dataset, clips, atoms, recipe.data, recipe.mining, self.world.device
        )  # fmt: skip

    def _mined(self) -> Lexicon:
        recipe, clips = self.recipe, self.dataset.of_split("train")
        return mine(self.model, self.dataset, clips, self.segmentation, recipe.data, recipe.mining, recipe.seed)

    def _do_step(self, windows: Windows) -> dict[str, Any]:
        """One step of the optimiser; returns its line of the log."""
        lr = self._set_learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        parts = self._parts(windows)
        names = list(parts[0][1])
        counts = torch.tensor([[num_sequences(masks[name]) for name in names] for _, masks in parts]).sum(dim=0)
        counts = self.world.total_counts(counts).clamp(min=1).to(self.world.device)
        # a single part goes through the network once; several would have to be kept for the second half of the step
        passed = self._pass(*parts[0]) if len(parts) == 1 else None
        spread = self._spread(parts, passed)
        sums = torch.zeros(len(names), device=self.world.device)
        for part in parts:
            sums += self._backward(self._pass(*part) if passed is None else passed, counts, spread)
        self.world.add_up([w.grad for w in self.model.parameters() if w.grad is not None] + [sums])
        losses = dict(zip(names, (sums / counts).tolist(), strict=True))
        losses |= {name: float(penalty) for name, (penalty, _) in spread.items()}
        self._check(losses)
        self.optimizer.step()
        self.model.update_teacher()
        return {"step": self.step, "phase": self.phase, "loss": sum(losses.values()), **losses, "lr": lr}

    def _parts(self, windows: Windows) -> list[Part]:
        """The rows of this process with what is hidden in them, in as many parts as it takes them in."""
        number, world, recipe = self.hardware.accumulate, self.world, self.recipe
        num_frames = windows["valid"].shape[1]
        mine = slice(world.rank, None, world.size)
        draw_BT = draws(recipe.batch_size, num_frames, generator_of(recipe.seed, self.step))[mine]
        variation = draw_variation(recipe.bodies, recipe.batch_size, recipe.seed, self.step).rows(mine)
        parts = []
        for first in range(number):
            rows = {name: array[first::number] for name, array in windows.items()}
            batch, _ = make_batch(rows, self.dataset.clips, self.segmentation, recipe.data.rate_hz)
            batch = variation.rows(slice(first, None, number)).apply(batch)
            parts.append((batch, self.model.masks(batch, draw_BT[first::number])))
        return parts

    def _pass(self, batch: MotionBatch, masks: dict[str, torch.Tensor]) -> dict[str, Prediction]:
        """A part through the network."""
        device = self.world.device
        with self.world.autocast():
            found = self.model(batch.to(device), {name: masked.to(device) for name, masked in masks.items()})
        return dict(found)

    def _spread(self, parts: list[Part], passed: dict[str, Prediction] | None) -> dict[str, Slope]:
        """Penalties on the tokens of the whole batch and their slopes, by the name of the term (see `model.spread`)."""
        if self.recipe.model.spread == 0:
            return {}
        with torch.no_grad():
            of_parts = [self.model.moments(self._pass(*part) if passed is None else passed) for part in parts]
        totals = {name: torch.stack([own[name] for own in of_parts]).sum(dim=0) for name in of_parts[0]}
        self.world.add_up(list(totals.values()))
        return {f"{name}_spread": self.model.spread_slope(total) for name, total in totals.items()}

    def _backward(self, found: dict[str, Prediction], counts: torch.Tensor, spread: dict[str, Slope]) -> torch.Tensor:
        """Adds a part's share of the gradient; returns the sums of its losses."""
        sums = torch.stack([self.model.loss_sum(prediction) for prediction in found.values()])
        loss = (sums / counts).sum()
        for name, own in self.model.moments(found).items():
            loss = loss + (spread[f"{name}_spread"][1] * own).sum()
        loss.backward()
        return sums.detach()

    def _set_learning_rate(self) -> float:
        recipe = self.recipe
        if self.phase == "stage1":
            lr = learning_rate(self.step, recipe.stage1_steps, recipe.optim)
        else:
            lr = learning_rate(self.step - recipe.stage1_steps, recipe.joint_steps, recipe.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _check(self, losses: Mapping[str, float]) -> None:
        if not math.isfinite(total := sum(losses.values())):
            action = "lower the learning rate, or check the data"
            self.world.fail(StageError(f"step {self.step}", f"the loss is {total}", action))


def fresh_model(dataset: AmdDataset, recipe: Recipe) -> A4Mer:
    """The untrained network of a recipe, with the statistics of its dataset."""
    torch.manual_seed(recipe.seed)
    model = A4Mer(recipe.model)
    stats = input_statistics(dataset, recipe.data.inputs)
    model.set_statistics(*(torch.from_numpy(x.astype(np.float32)) for x in (stats.mean, stats.sd)))
    return model
