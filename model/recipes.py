"""Recipes: functions that return everything a training run depends on; a run is named after its function.

`paper` is the full schedule of the paper (A.5). The others are smaller nets and shorter schedules for less hardware;
they are not expected to reach its figures.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from core.errors import InputError
from model.atoms import AtomConfig
from model.bodies import BodyConfig
from model.mining import MiningConfig
from model.monitors import MonitorConfig
from model.stages import A4MerConfig
from model.windows import DataConfig

C = TypeVar("C")


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its schedule, the same for both phases.

    Attributes:
        lr: learning rate after the warm-up.
        lr_end: learning rate at the end of the cosine.
        weight_decay: on matrices; norms, biases and the mask token are free of it.
        warmup_steps: linear rise from zero.
    """

    lr: float = 1e-3
    lr_end: float = 1e-6
    weight_decay: float = 0.1
    warmup_steps: int = 2000


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        name: of the function that made it.
        model: network and pretext task.
        data: windows.
        atoms: Atom rule.
        mining: codes and patterns.
        optim: optimiser.
        bodies: what of the people is varied while the network learns.
        batch_size: windows in a step.
        stage1_steps: steps on Atoms alone.
        joint_steps: steps on both stages together, after mining.
        seed: of weights, windows, masks and codes.
        checkpoint_every: steps between checkpoints.
        eval_every: steps between evaluations of the pretext task.
        eval_windows: largest number of windows in such an evaluation.
        threads: of each process on the CPU; part of the recipe because sums are ordered by it.
        precision: of the network's products; weights, optimiser and distances are float32 in either.
        monitors: what counts as a collapse.
    """

    name: str
    model: A4MerConfig = field(default_factory=A4MerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    atoms: AtomConfig = field(default_factory=AtomConfig)
    mining: MiningConfig = field(default_factory=MiningConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    bodies: BodyConfig = field(default_factory=BodyConfig)
    batch_size: int = 64
    stage1_steps: int = 100_000
    joint_steps: int = 100_000
    seed: int = 0
    checkpoint_every: int = 1000
    eval_every: int = 1000
    eval_windows: int = 256
    threads: int = 2
    precision: Literal["float32", "bf16"] = "float32"
    monitors: MonitorConfig = field(default_factory=MonitorConfig)

    @property
    def total_steps(self) -> int:
        """Steps of both phases."""
        return self.stage1_steps + self.joint_steps


def paper() -> Recipe:
    """The paper's run: 30-s windows, 256 channels, 100,000 steps a phase, Atoms by its Eq. A as printed."""
    return Recipe("paper", atoms=AtomConfig(rule="line"))


# What the shorter recipes add to the paper, for few people and little time; docs/a4mer.md has what it changes.
_FEW_PEOPLE = BodyConfig(mirror=True, tempo=0.2, limbs=0.1, posture_rad=0.25, reach=0.4)


def gpu_10min() -> Recipe:
    """The paper's net on a schedule that a current GPU ends in some ten minutes, and other bodies for the student."""
    return Recipe(
        "gpu_10min",
        model=A4MerConfig(two_views=4.0, spread=1.0, own_pose=1.0),
        data=DataConfig(inputs="motion"),
        bodies=_FEW_PEOPLE,
        optim=OptimConfig(warmup_steps=300),
        stage1_steps=4000,
        joint_steps=4000,
        checkpoint_every=500,
        eval_every=500,
    )


def cpu_10min() -> Recipe:
    """`gpu_10min` with half the width, two layers and 12-s windows: what a laptop trains in some ten minutes."""
    return Recipe(
        "cpu_10min",
        model=A4MerConfig(
            width=128, encoder_layers=2, latent_layers=2, predictor_layers=2, two_views=4.0, spread=1.0, own_pose=1.0
        ),
        data=DataConfig(window_s=12.0, inputs="motion"),
        bodies=_FEW_PEOPLE,
        optim=OptimConfig(warmup_steps=100),
        batch_size=16,
        stage1_steps=900,
        joint_steps=600,
        checkpoint_every=200,
        eval_every=400,
        eval_windows=64,
    )


def debug_cpu() -> Recipe:
    """A tiny net on 6-s windows, to see every part work in seconds; its representation is worth nothing."""
    return Recipe(
        "debug_cpu",
        model=A4MerConfig(width=64, encoder_layers=2, latent_layers=2, predictor_layers=2, ffn_ratio=2, ema_decay=0.98),
        data=DataConfig(window_s=6.0),
        # a clip of ten seconds has a few dozen Atoms: nothing occurs fifteen times in it
        mining=MiningConfig(atoms_per_code=4, count_short=2.0, count_long=1.0),
        optim=OptimConfig(warmup_steps=20),
        batch_size=8,
        stage1_steps=120,
        joint_steps=80,
        checkpoint_every=40,
        eval_every=60,
        eval_windows=16,
        threads=1,
    )


RECIPES: Mapping[str, Callable[[], Recipe]] = {f.__name__: f for f in (paper, gpu_10min, cpu_10min, debug_cpu)}


def recipe_named(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        InputError: if there is none.
    """
    if name not in RECIPES:
        raise InputError(f"recipe {name}", "there is none of this name", f"use one of {', '.join(RECIPES)}")
    return RECIPES[name]()


def config_from_json(kind: type[C], data: Any, source: str) -> C:
    """A config dataclass from plain types; an unknown or a missing key is an error.

    Raises:
        InputError: naming the key.
    """
    if not isinstance(data, Mapping):
        raise InputError(source, f"{kind.__name__} is not a table of settings", "train again with this version")
    hints = typing.get_type_hints(kind)
    names = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if odd := sorted(names ^ set(data)):
        raise InputError(
            source,
            f"setting {odd[0]!r} of {kind.__name__} is unknown or missing",
            "use the version of the code that made it",
        )
    values = {name: _value(hints[name], value, source) for name, value in data.items()}
    return kind(**values)


def _value(hint: Any, value: Any, source: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return config_from_json(hint, value, source)
    if typing.get_origin(hint) is tuple:
        return tuple(value)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is not None:
        return value
    return hint(value)
