"""All systems on the same people by the same protocols: each group of actors is left out in turn.

A *cell* is what one method gives for one group, seed and task. Finished cells are kept (`model.protocols.cells`), runs
go on from their checkpoints, and views of the datasets are made once: the same call again computes what is missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from core.errors import InputError
from core.files import read_json, sha256_of_file, to_jsonable, write_json
from dataset.shards import AmdDataset
from model.a4mer import A4Mer
from model.baselines.pretraining import TrainedSystem, fresh_system, load_system, pretrain
from model.baselines.recipes import system_recipe
from model.baselines.systems import SYSTEMS, build_system
from model.devices import choose_device
from model.distributed import Hardware
from model.loading import TrainedRun, load_run
from model.overrides import override
from model.protocols.a4mer import A4MerEncoder
from model.protocols.cells import Cells
from model.protocols.encoders import Encoder
from model.protocols.features import KINDS, Statistics
from model.protocols.finetuning import FineTuneConfig, finetuning_rows
from model.protocols.forecast import ForecastConfig, pose_rows, simple_rows, token_rows
from model.protocols.groups import leave_out, subjects_of
from model.protocols.motions import PART_NAMES, load_motions, of_shared_classes
from model.protocols.names import A4MER, METHODS, NETWORKS, OF_NETWORKS, PROTOCOLS
from model.protocols.recognition import recognition_rows
from model.protocols.robustness import robustness_rows
from model.protocols.segmentation import load_sessions, segmentation_rows
from model.protocols.systems import SystemEncoder
from model.protocols.windows import Task, check_lengths, pose_windows
from model.recipes import Recipe, recipe_named
from model.run import RESULT
from model.train import train

VERSION = 10  # of the protocols: cells of another one are computed anew
TASKS: Mapping[str, Mapping[str, Task]] = {
    "prediction": {"2 s -> 3 s": Task(10, 15)},
    "interpolation": {"1 s": Task(5, 5, 5), "2 s": Task(5, 10, 5), "4 s": Task(5, 20, 5)},
}
ELSEWHERE = "elsewhere"  # in the name of a run on the further datasets alone
NO_HEADS = "no heads"  # in the name of a cell without the paper's heads
SECONDS = "seconds.json"  # in a run's folder: what its training took, less what starts that were killed did


@dataclass(frozen=True)
class ComparisonConfig:
    """What is compared.

    Attributes:
        dataset: a dataset with action labels.
        groups: subjects of it, or several joined as `a+b`, each left out in turn.
        left_out: leave out these alone; empty for all.
        also: further datasets, for pretraining alone; `transfer` pretrains on nothing else.
        without: subjects of whom nobody learns anything, for they may be those of a group under another name.
        methods: of `model.protocols.names.METHODS`.
        protocols: of `PROTOCOLS` there.
        parts: of clips, for recognition.
        recipe: of A4Mer and of every other system.
        settings: of A4Mer's recipe, or of a system's after its name (`mamp.steps=300`), otherwise than there.
        seeds: of weights, windows and what is drawn.
        finetuning: how networks are trained on.
        heads: whether forecasts are also made by the paper's heads, which take most of the time.
        device: cpu, cuda, or auto for a GPU where there is one.
    """

    dataset: Path
    groups: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    also: tuple[Path, ...] = ()
    without: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("simple", "poses", *A4MER)
    protocols: tuple[str, ...] = PROTOCOLS
    parts: tuple[str, ...] = PART_NAMES
    recipe: str = "cpu_10min"
    settings: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    finetuning: FineTuneConfig = field(default_factory=FineTuneConfig)
    heads: bool = True
    device: str = "auto"


@dataclass(frozen=True)
class Training:
    """How a network was pretrained.

    Attributes:
        method: which network.
        parameters: that are trained, those of decoders and predictors among them.
        steps: of the optimiser.
        batch_size: windows in a step.
        window_s: length of a window.
        spent: seconds that passed, beside whatever else the machine did, and seconds of processors, of each run whose
            starts all came to their end.
    """

    method: str
    parameters: int
    steps: int
    batch_size: int
    window_s: float
    spent: tuple[tuple[float, float], ...]


class Comparison:
    """Everything that the cells share.

    Args:
        config: what is compared.
        folder: of finished cells, runs, and views of the datasets.

    Raises:
        InputError: if a dataset cannot be read, a group has no labelled clip, or there is no such method, protocol,
            part, recipe or setting.
    """

    def __init__(self, config: ComparisonConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        if len(set(config.groups)) < 3:
            problem = "one is judged on, one learned from and one left out to choose settings"
            raise InputError(f"{len(set(config.groups))} groups", problem, "name three subjects or more")
        _check("method", config.methods, METHODS)
        _check("protocol", config.protocols, PROTOCOLS)
        _check("part", config.parts, PART_NAMES)
        if not self.protocols:
            raise InputError("transfer", "there is nothing else to learn from", "name other datasets with --also")
        if dropped := set(config.protocols) - set(self.protocols):
            print(f"{dropped.pop()}: left out, nothing else to learn from; --also names datasets", file=sys.stderr)
        _check("group to leave out", config.left_out, config.groups)
        self.datasets = [AmdDataset(path) for path in (config.dataset, *config.also)]
        own, of_systems = _divided(config.settings)
        self.recipe: Recipe = override(recipe_named(config.recipe), own)
        systems = {_kind_of(method) for method in config.methods if method in NETWORKS and method not in A4MER}
        self._systems = {
            kind: override(system_recipe(kind, config.recipe), of_systems.get(kind, ())) for kind in sorted(systems)
        }
        known = {subject for dataset in self.datasets for subject in dataset.info.subjects}
        for subject in config.without:
            subjects_of(subject, known)
            if any(subject in subjects_of(group, known) for group in config.groups):
                raise InputError(subject, "is in a group, and nobody is to learn from it", "name it in one place")
        self.device = choose_device(config.device)
        self.data = [sha256_of_file(d.path / "meta" / "clips.json") for d in self.datasets]
        self._learned = [*self.data, *(f"without {subject}" for subject in sorted(config.without))]
        self.common = {"version": VERSION, "groups": list(config.groups), "data": self.data[:1]}
        self.motions = load_motions(self.datasets[0], config.groups)
        recognises = set(config.protocols) & {"recognition", "robustness", *OF_NETWORKS}
        self.named = of_shared_classes(self.motions) if recognises else self.motions
        for task in (t for protocol in config.protocols for t in TASKS.get(protocol, {}).values()):
            check_lengths(self.motions, task)
        self.windows = lru_cache(maxsize=1)(lambda task: pose_windows(self.motions, task))
        self.sessions = lru_cache(maxsize=1)(lambda: load_sessions(self.datasets[0], config.groups))
        self.run = lru_cache(maxsize=1)(self._run)

    def cells(self, protocol: str, method: str) -> Cells:
        """Where a method's cells are kept."""
        own: dict[str, Any] = {}
        if protocol in ("recognition", "transfer"):
            own = {"parts": list(self.config.parts)}
        if protocol == "fine-tuning":
            own = {"finetuning": to_jsonable(self.config.finetuning)}
        return Cells(self.folder / "cells", {**self._settings(method), **own})

    def _settings(self, method: str) -> dict[str, Any]:
        if method not in NETWORKS:
            return self.common
        recipe = self.recipe if method in A4MER else self._systems[_kind_of(method)]
        return {**self.common, "data": self._learned, "recipe": to_jsonable(recipe)}

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols that can be followed: without further datasets nothing is transferred."""
        return tuple(p for p in self.config.protocols if p != "transfer" or self.config.also)

    def methods(self, protocol: str) -> tuple[str, ...]:
        """Methods that a protocol judges."""
        if protocol in OF_NETWORKS:
            return tuple(m for m in self.config.methods if m in NETWORKS)
        return tuple(m for m in self.config.methods if m != "poses" or protocol in TASKS)

    def _run(self, method: str, group: str | None, seed: int) -> Any:
        """A network pretrained on all but a group, or on the further datasets alone; its methods share it."""
        recipe = dataclasses.replace(self.recipe if method == "a4mer" else self._systems[method], seed=seed)
        rate_hz = recipe.data.rate_hz if isinstance(recipe, Recipe) else recipe.rate_hz
        view = self.folder / "data" / f"{group or ELSEWHERE}-{rate_hz:g}-{digest(self._learned)}"
        learned = self.datasets if group else self.datasets[1:]
        data = leave_out(learned, group, view, rate_hz=rate_hz, without=self.config.without)
        out = self.run_folder(method, group, seed)
        finished, begin = (out / RESULT).is_file(), (time.perf_counter(), time.process_time())
        if isinstance(recipe, Recipe):
            train(data, recipe, out, hardware=Hardware(device=self.config.device))
        else:
            pretrain(data, recipe, out, device=self.config.device)
        if not finished:
            _add_seconds(out / SECONDS, time.perf_counter() - begin[0], time.process_time() - begin[1])
        return load_run(out, self.device) if isinstance(recipe, Recipe) else (load_system(out, self.device), data)

    def run_folder(self, method: str, group: str | None, seed: int) -> Path:
        """Where the run of a network lies; without a group, that on the further datasets alone."""
        recipe = self._settings(method)["recipe"]
        kind = "" if method in A4MER else f"-{_kind_of(method)}"
        return (
            self.folder
            / "runs"
            / f"{self.config.recipe}{kind}-{digest([self._learned, recipe])}-{group or ELSEWHERE}-{seed}"
        )

    def encoder(self, method: str, group: str | None, seed: int) -> A4MerEncoder | SystemEncoder:
        """A network that has not seen a group, or without one: nothing of the dataset; or its first weights."""
        if method in A4MER:
            run: TrainedRun = self.run("a4mer", group, seed)
            return A4MerEncoder(run, method, untrained=method == "untrained")
        trained, data = self.run(_kind_of(method), group, seed)
        if method.endswith("_untrained"):
            fresh = fresh_system(trained.recipe, AmdDataset(data)).to(self.device).eval()
            trained = TrainedSystem(trained.recipe, fresh)
        return SystemEncoder(trained, method, self.device)

    def work(
        self, protocol: str, method: str, group: str, seed: int, *, heads: bool = True
    ) -> dict[str, Callable[[], Any]]:
        """What is to be computed for one cell of each task of a protocol, by the cell's name."""
        name = f"{protocol}/{method}/{group}/{seed}"
        if protocol == "recognition":
            if method == "simple":
                return {f"{name}/{kind}": partial(self._recognition, Statistics(kind), group, seed) for kind in KINDS}
            return {name: lambda: self._recognition(self.encoder(method, group, seed), group, seed)}
        if protocol == "fine-tuning":
            return {name: lambda: self._finetuning(method, group, seed)}
        if protocol == "transfer":
            return {name: lambda: self._recognition(self.encoder(method, None, seed), group, seed)}
        if protocol == "robustness":
            return {name: lambda: self._robustness(method, group, seed)}
        if protocol == "segmentation":
            return {name: lambda: self._segmentation(method, group, seed)}
        if heads or method not in NETWORKS:
            tasks = {f"{name}/{task}": shape for task, shape in TASKS[protocol].items()}
        else:
            tasks = {f"{name}/{NO_HEADS}/{task}": shape for task, shape in TASKS[protocol].items()}
        return {n: partial(self._forecast, method, group, seed, shape, heads) for n, shape in tasks.items()}

    def _recognition(self, encoder: Encoder, group: str, seed: int) -> Mapping[str, Any]:
        test = self.config.groups.index(group)
        return recognition_rows(encoder, self.named, test, self.config.parts, seed)

    def _finetuning(self, method: str, group: str, seed: int) -> Mapping[str, Any]:
        test = self.config.groups.index(group)
        return finetuning_rows(self.encoder(method, group, seed), self.named, test, seed, self.config.finetuning)

    def _robustness(self, method: str, group: str, seed: int) -> Mapping[str, Any]:
        encoder = Statistics("full") if method == "simple" else self.encoder(method, group, seed)
        return robustness_rows(encoder, self.named, self.config.groups.index(group), seed)

    def _segmentation(self, method: str, group: str, seed: int) -> Mapping[str, Any]:
        encoder = None if method == "simple" else self.encoder(method, group, seed)
        return segmentation_rows(encoder, self.sessions(), self.config.groups.index(group))

    def _forecast(self, method: str, group: str, seed: int, task: Task, heads: bool) -> Mapping[str, Any]:
        test, windows = self.config.groups.index(group), self.windows(task)
        config = ForecastConfig()
        config = dataclasses.replace(
            config,
            heads=dataclasses.replace(config.heads, seed=seed) if heads and config.heads else None,
            regression=dataclasses.replace(config.regression, seed=seed),
        )
        if method == "simple":
            return simple_rows(self.motions, windows, test)
        if method == "poses":
            return pose_rows(windows, test, config, self.device)
        return token_rows(self.encoder(method, group, seed), self.motions, windows, test, config, self.device)

    def trainings(self) -> list[Training]:
        """What was trained, as far as it lies in the folder."""
        found = []
        for method in dict.fromkeys(
            "a4mer" if m in A4MER else _kind_of(m) for m in self.config.methods if m in NETWORKS
        ):
            recipe = self.recipe if method == "a4mer" else self._systems[method]
            groups = [*(self.config.left_out or self.config.groups), *([None] if "transfer" in self.protocols else [])]
            folders = [self.run_folder(method, group, seed) for group in groups for seed in self.config.seeds]
            times = [read_json(folder / SECONDS) for folder in folders if (folder / SECONDS).is_file()]
            if isinstance(recipe, Recipe):
                network: nn.Module = A4Mer(recipe.model)
                steps, window_s = recipe.total_steps, recipe.data.window_s
            else:
                network, steps, window_s = build_system(recipe.system), recipe.steps, recipe.window_s
            size = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
            spent = tuple((float(t["seconds"]), float(t["cpu_seconds"])) for t in times)
            found.append(Training(method, size, steps, recipe.batch_size, window_s, spent))
        return found

    def results(self, protocol: str) -> dict[str, dict[str, dict[int, Any]]]:
        """Figures of every row (row, group, seed) of a protocol; what is not there yet is computed."""
        config = self.config
        groups, methods = config.left_out or config.groups, self.methods(protocol)
        todo = [(m, g, s) for g in groups for m in methods for s in (config.seeds if m != "simple" else (0,))]
        found: dict[str, dict[str, dict[int, Any]]] = {}
        for number, (method, group, seed) in enumerate(todo):
            print(f"{protocol}: {number + 1} of {len(todo)}", file=sys.stderr, flush=True)
            for name, compute in self.work(protocol, method, group, seed, heads=config.heads).items():
                what = " ".join([method, *(part for part in name.split("/")[4:] if part != NO_HEADS)])
                for row, figures in self.cells(protocol, method).get(name, compute).items():
                    found.setdefault(f"{what} | {row}", {}).setdefault(group, {})[seed] = figures
        return found


def digest(what: Any) -> str:
    """A short hash of plain types."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:10]


def _kind_of(method: str) -> str:
    return method.removesuffix("_untrained")


def _divided(settings: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Settings of A4Mer's recipe, and those of each system's, without its name."""
    own: list[str] = []
    of_systems: dict[str, list[str]] = {}
    for setting in settings:
        kind, _, rest = setting.partition(".")
        if kind in SYSTEMS:
            of_systems.setdefault(kind, []).append(rest)
        else:
            own.append(setting)
    return own, of_systems


def _add_seconds(path: Path, seconds: float, cpu_seconds: float) -> None:
    """Adds a start of a run to those before it."""
    before = read_json(path) if path.is_file() else {"seconds": 0.0, "cpu_seconds": 0.0}
    write_json(path, {"seconds": before["seconds"] + seconds, "cpu_seconds": before["cpu_seconds"] + cpu_seconds})


def _check(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    if odd := [name for name in given if name not in known]:
        raise InputError(f"{what} {odd[0]}", "there is none of this name", f"use some of {', '.join(known)}")
