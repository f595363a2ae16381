"""The training loop: Atoms alone, then mining, then both stages together (methods 1.1, 1.6, 1.7).

Every step depends only on its number, the recipe's seed and the state in the checkpoint: windows and masks come from
generators seeded by (seed, step). A run that is killed goes on from its last checkpoint and cuts its logs back to it,
so that its curve is, digit by digit, that of an undisturbed run.

A run's folder: `config.json` (recipe, data, code and library versions; written before the first step), `losses.jsonl`
(a line a step), `metrics.jsonl` (a line an evaluation), `mining.json`, `checkpoint.pt`, and `result.json` at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.errors import InputError, StageError
from core.files import read_json, sha256_of_file, to_jsonable, write_json, write_text
from dataset.loader import WindowSampler
from dataset.shards import AmdDataset
from model.a4mer import A4Mer, Tokens
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.lexicon import Lexicon, apply_lexicon, mine
from model.metrics import effective_rank, perplexity, token_spread
from model.recipes import OptimConfig, Recipe
from model.windows import Segmentation, find_atoms, iterate_windows, make_batch, whole_windows

CHECKPOINT, LOSSES, METRICS, CONFIG = "checkpoint.pt", "losses.jsonl", "metrics.jsonl", "config.json"
MINING, RESULT = "mining.json", "result.json"
_OWN_FILES = (CHECKPOINT, LOSSES, METRICS, CONFIG, MINING, RESULT)


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        run: its folder.
        steps: steps done.
        losses: for each phase, the mean loss of its first and of its last tenth.
        first: evaluation of the untrained network.
        last: evaluation at the end; `split` says on which clips.
    """

    run: Path
    steps: int
    losses: Mapping[str, Mapping[str, float]]
    first: Mapping[str, Any]
    last: Mapping[str, Any]


def train(
    dataset: Path,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = True,
    device: str = "auto",
    stop_at: int | None = None,
) -> TrainResult:
    """Trains A4Mer on the training split of a dataset.

    Args:
        dataset: folder that `motifs build` made.
        recipe: everything that the run depends on.
        out: the run's folder.
        resume: go on from the checkpoint in `out`; otherwise a run that is there is replaced.
        device: `cpu`, `cuda`, or `auto` for the latter where there is one.
        stop_at: end before this step, to go on later.

    Raises:
        InputError: if the dataset or the checkpoint cannot be read.
        StageError: if `out` belongs to a run of another configuration, or the loss is no number.
    """
    chosen, data = choose_device(device), AmdDataset(dataset)
    with only_process(out), reproducible(recipe.threads):
        run = _Run(data, recipe, out, chosen)
        run.begin(resume)
        if (done := run.finished()) is not None:
            return done
        run.loop(recipe.total_steps if stop_at is None else min(stop_at, recipe.total_steps))
        return run.result()


def choose_device(device: str) -> torch.device:
    """The device of a name; `auto` takes a GPU where there is one.

    Raises:
        InputError: if there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(device, "no such device", "use cpu, cuda or auto") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(device, "this machine has no GPU that torch can use", "use cpu or auto")
    return chosen


@contextlib.contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Fixed threads and deterministic algorithms while the block runs."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    # cuBLAS reads it when it starts; without it, deterministic mode refuses matrix products on a GPU
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


@contextlib.contextmanager
def only_process(out: Path) -> Iterator[None]:
    """Holds the run's folder while the block runs; two processes would write into each other's logs.

    Raises:
        StageError: if another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageError(str(out), "another process is training in it", "wait for it, or use another") from error
        yield


def learning_rate(step: int, num_steps: int, config: OptimConfig) -> float:
    """Linear warm-up, then a cosine to `lr_end`; `step` counts from 0 within the phase."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(num_steps - config.warmup_steps, 1)
    return config.lr_end + 0.5 * (config.lr - config.lr_end) * (1 + math.cos(math.pi * share))


def data_identity(dataset: AmdDataset) -> dict[str, str]:
    """Hashes that name the data of a run: every clip with its split, and the statistics."""
    clips = {clip.id: f"{clip.sha256} {clip.split}" for clip in dataset.clips}
    return {**clips, "meta/stats.json": sha256_of_file(dataset.path / "meta" / "stats.json")}


def make_optimizer(model: A4Mer, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW on everything but the teacher; only matrices decay."""
    weights = [w for w in model.parameters() if w.requires_grad]
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr)


class _Run:
    """A run in progress: its network, its place in the schedule, and its folder."""

    def __init__(self, dataset: AmdDataset, recipe: Recipe, out: Path, device: torch.device) -> None:
        self.dataset, self.recipe, self.out, self.device = dataset, recipe, out, device
        self.identity = to_jsonable({"recipe": recipe, "data": data_identity(dataset)})
        self.sampler = WindowSampler(
            dataset, "train", recipe.data.window_s, recipe.data.rate_hz, recipe.seed,
            batch_size=recipe.batch_size, cache_mb=recipe.data.cache_mb,
        )  # fmt: skip
        torch.manual_seed(recipe.seed)
        self.model = A4Mer(recipe.model).to(device)
        stats = dataset.stats()
        self.model.set_statistics(*(torch.from_numpy(x.astype(np.float32)) for x in (stats.mean, stats.sd)))
        self.optimizer = make_optimizer(self.model, recipe.optim)
        self.segmentation = Segmentation({}, {}, {}, {})
        self.lexicon: Lexicon | None = None
        self.step = 0

    @property
    def phase(self) -> str:
        """`stage1` before mining, `joint` after it."""
        return "stage1" if self.step < self.recipe.stage1_steps else "joint"

    def begin(self, resume: bool) -> None:
        """Takes up the checkpoint in the folder, or prepares an empty one."""
        if not resume:
            for name in _OWN_FILES:
                (self.out / name).unlink(missing_ok=True)
        path = self.out / CHECKPOINT
        if path.is_file():
            self._restore(load_checkpoint(path, self.identity))
        self._write_provenance()
        if self.finished() is None:
            for name in (LOSSES, METRICS):
                _cut_back(self.out / name, self.step)

    def finished(self) -> TrainResult | None:
        """The result that is already there, if the run has come to its end."""
        if self.step < self.recipe.total_steps or not (self.out / RESULT).is_file():
            return None
        return TrainResult(**{**read_json(self.out / RESULT), "run": self.out})

    def loop(self, end: int) -> None:
        """Steps up to `end`."""
        from core.progress import progress

        self.segmentation = find_atoms(self.dataset, self.dataset.clips, self.recipe.data, self.recipe.atoms)
        self._segment()
        with progress(f"train {self.recipe.name}", self.recipe.total_steps) as advance:
            advance(self.step)
            with (self.out / LOSSES).open("a", encoding="utf-8") as losses:
                while self.step < end:
                    if self.step == self.recipe.stage1_steps and self.lexicon is None:
                        self._evaluate("stage1 end")
                        self._mine()
                    if self.step % self.recipe.eval_every == 0:
                        self._evaluate("")
                    losses.write(json.dumps(self._do_step()) + "\n")
                    losses.flush()
                    self.step += 1
                    if self.step % self.recipe.checkpoint_every == 0 or self.step == end:
                        self._save()
                    advance()

    def result(self) -> TrainResult:
        """Sums up the logs; evaluates and writes `result.json` if the run is at its end."""
        if self.step == self.recipe.total_steps:
            _cut_back(self.out / METRICS, self.step)
            self._evaluate("end")
        lines = _read_lines(self.out / LOSSES)
        losses = {}
        for phase in ("stage1", "joint"):
            values = [line["loss"] for line in lines if line["phase"] == phase]
            if values:
                tenth = max(len(values) // 10, 1)
                losses[phase] = {"first": float(np.mean(values[:tenth])), "last": float(np.mean(values[-tenth:]))}
        metrics = _read_lines(self.out / METRICS)
        found = TrainResult(self.out, self.step, losses, metrics[0] if metrics else {}, metrics[-1] if metrics else {})
        if self.step == self.recipe.total_steps:
            write_json(self.out / RESULT, {**to_jsonable(found), "run": self.out.name})
        return found

    def _do_step(self) -> dict[str, Any]:
        """One step of the optimiser; returns its line of the log."""
        recipe = self.recipe
        in_phase = self.step if self.phase == "stage1" else self.step - recipe.stage1_steps
        num_steps = recipe.stage1_steps if self.phase == "stage1" else recipe.joint_steps
        lr = learning_rate(in_phase, num_steps, recipe.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        windows = self.sampler.batch(self.step)
        batch, _ = make_batch(windows, self.dataset.clips, self.segmentation, recipe.data.rate_hz)
        self.model.train()
        loss = self.model.loss(batch.to(self.device), _generator(recipe.seed, self.step))
        value = float(loss.total.detach())
        if not math.isfinite(value):
            raise StageError(f"step {self.step}", f"the loss is {value}", "lower the learning rate, or check the data")
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        self.optimizer.step()
        self.model.update_teacher()
        parts = {name: float(part.detach()) for name, part in loss.parts.items()}
        return {"step": self.step, "phase": self.phase, "loss": value, **parts, "lr": lr}

    def _mine(self) -> None:
        """From Atoms to Motifs, between the phases; the optimiser starts anew."""
        recipe = self.recipe
        train_clips = self.dataset.of_split("train")
        self.lexicon = mine(
            self.model, self.dataset, train_clips, self.segmentation, recipe.data, recipe.mining, recipe.seed
        )
        self._segment()
        self.optimizer = make_optimizer(self.model, recipe.optim)
        write_json(self.out / MINING, self._mining_figures())

    def _segment(self) -> None:
        if self.lexicon is not None:
            self.segmentation = apply_lexicon(
                self.lexicon, self.recipe.model, self.dataset, self.dataset.clips, self.segmentation,
                self.recipe.data, self.recipe.mining, self.device,
            )  # fmt: skip

    def _mining_figures(self) -> dict[str, Any]:
        assert self.lexicon is not None
        s, clips = self.segmentation, self.dataset.of_split("train")
        seconds = sum(clip.duration_s for clip in clips)
        num_atoms, num_motifs = (sum(len(part[c.id]) for c in clips) for part in (s.codes, s.types))
        codes = np.concatenate([s.codes[c.id] for c in clips])
        types = np.concatenate([s.types[c.id] for c in clips])
        return {
            "codes": self.lexicon.patterns.num_codes,
            "codes_used": len(np.unique(codes)),
            "code_perplexity": perplexity(codes),
            "patterns_by_length": {n: len(p) for n, p in self.lexicon.patterns.by_length.items()},
            "motif_types_used": len(np.unique(types)),
            "atoms": num_atoms,
            "motifs": num_motifs,
            "atom_s": seconds / num_atoms,
            "motif_s": seconds / num_motifs,
            "motif_frames": seconds / num_motifs * self.recipe.data.rate_hz,
        }

    @torch.no_grad()
    def _evaluate(self, when: str) -> None:
        """The pretext task on held-out windows with fixed masks, and whether the tokens have collapsed."""
        recipe, held_out = self.recipe, bool(self.dataset.of_split("val"))
        split = "val" if held_out else "train"
        refs = whole_windows(self.dataset, split, recipe.data.window_s)
        chosen = [refs[i] for i in np.unique(np.linspace(0, len(refs) - 1, recipe.eval_windows).astype(int))]
        self.model.eval()
        sums: dict[str, list[float]] = {}
        tokens: dict[str, list[np.ndarray]] = {"atom": [], "motif": []}
        batches = iterate_windows(self.dataset, chosen, self.segmentation, recipe.data, recipe.batch_size)
        for number, (part, batch, _) in enumerate(batches):
            batch = batch.to(self.device)
            loss = self.model.loss(batch, _generator(recipe.seed, -1 - number))
            figures = {"loss": loss.total} | loss.parts | {f"{n}_error": e for n, e in loss.errors.items()}
            for name, value in figures.items():
                sums.setdefault(name, []).extend([float(value)] * len(part))
            for name, found in zip(tokens, self.model.encode(batch), strict=True):
                tokens[name] += _existing(found)
        line: dict[str, Any] = {
            "step": self.step,
            "phase": "joint" if self.lexicon else "stage1",
            "when": when,
            "split": split,
        }
        line |= {name: float(np.mean(values)) for name, values in sums.items()}
        for name, rows in tokens.items():
            if rows:
                stacked = np.concatenate(rows)
                line |= {f"{name}_sd": token_spread(stacked), f"{name}_rank": effective_rank(stacked)}
        with (self.out / METRICS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(to_jsonable(line)) + "\n")

    def _save(self) -> None:
        optimizer = self.optimizer.state_dict()
        state = self.model.state_dict()
        save_checkpoint(
            self.out / CHECKPOINT,
            Checkpoint(self.identity, self.step, state, optimizer, torch.get_rng_state(), self.lexicon),
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.step, self.lexicon = checkpoint.step, checkpoint.lexicon
        self.model.load_state_dict(checkpoint.model)
        if checkpoint.optimizer is not None:
            self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        torch.set_rng_state(checkpoint.rng)

    def _write_provenance(self) -> None:
        """Before step 0: what runs here, on what, with which code. A resumed run keeps what it began with."""
        from core.versions import code_version, library_versions

        if (self.out / CONFIG).is_file() and self.step > 0:
            return
        write_json(
            self.out / CONFIG,
            {
                "schema": "action-motifs/run/1",
                "recipe": self.recipe,
                "dataset": self.dataset.path.name,
                "data": self.identity["data"],
                "code_version": code_version(),
                "libraries": library_versions(),
                "device": str(self.device),
            },
        )


def _generator(seed: int, step: int) -> torch.Generator:
    """A generator for the masks of one step; negative steps are evaluations."""
    state = np.random.SeedSequence([seed, 2, int(step >= 0), abs(step)]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))


def _existing(tokens: Tokens | None) -> list[np.ndarray]:
    return [] if tokens is None else [tokens.z[tokens.exists].cpu().numpy()]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a log; the last may have been torn by a kill."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _cut_back(path: Path, step: int) -> None:
    """Drops the lines of steps that will be done again."""
    kept = [line for line in _read_lines(path) if line["step"] < step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
