"""Prediction and interpolation with one group of people left out: simple guesses, and heads on frozen tokens.

Every guess is judged on every window of the group. Errors are of root-local joints of the body scaled to one leg
length, millimetres: over all windows, over those in which the person moves, and at some times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from model.protocols.baselines import (
    anchor,
    constant_velocity,
    inputs,
    nearest_end,
    neighbour_guess,
    rest_line,
    ridge_guess,
    slerped,
)
from model.protocols.encoders import Encoder
from model.protocols.motions import LabelledMotions
from model.protocols.regression import RegressionConfig, regression_guess
from model.protocols.token_heads import HeadConfig, TokenHeads
from model.protocols.told import flat_tokens, gridded, level_of, make_scenes, token_scale
from model.protocols.windows import PoseWindows, Task, errors_mm, stretches
from model.scenes import Scenes

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ForecastConfig:
    """How heads on tokens are trained.

    Attributes:
        level: of the tokens; `last` for the highest, Motifs.
        train_windows: windows of the training groups that the heads of the paper are trained on.
        heads: size and training of the paper's heads; None to do without them.
        regression: size and training of the network that takes tokens or poses in one row.
        batch: windows decoded together.
    """

    level: str = "last"
    train_windows: int = 2000
    heads: HeadConfig | None = field(default_factory=lambda: HeadConfig(steps=600, batch_size=64))
    regression: RegressionConfig = field(default_factory=RegressionConfig)
    batch: int = 512


def simple_rows(motions: LabelledMotions, w: PoseWindows, test: int) -> dict[str, Row]:
    """Guesses without a representation."""
    judged = w.rows(w.group == test)
    guesses: dict[str, Callable[[], np.ndarray]] = {}
    if w.task.after == 0:
        guesses |= {"zero velocity": lambda: rest_line(judged), "constant velocity": lambda: constant_velocity(judged)}
    else:
        guesses |= {"linear": lambda: rest_line(judged), "slerp": lambda: slerped(judged, motions)}
        guesses |= {"nearest end": lambda: nearest_end(judged)}
    guesses |= {
        "ridge on poses": lambda: ridge_guess(w, inputs(w), test),
        "10 nearest windows": lambda: neighbour_guess(w, test, 10),
        "nearest window": lambda: neighbour_guess(w, test, 1),
    }
    return {name: judge(guess(), judged) for name, guess in guesses.items()}


def pose_rows(w: PoseWindows, test: int, config: ForecastConfig, device: torch.device) -> dict[str, Row]:
    """The network of `token_rows` on poses alone: what a representation has to add to."""
    guess = regression_guess(w, inputs(w), test, config.regression, device)
    return {"network on poses": judge(guess, w.rows(w.group == test))}


def judge(guess: np.ndarray, w: PoseWindows) -> Row:
    """Errors of a guess; `at` by the time since the last known frame, `by_clip` the mean over each clip's windows
    and their number."""
    error, moving = errors_mm(guess, w), w.moving
    times_s = [t for t in (0.4, 1.0, 2.0, 3.0) if round(t * w.task.rate_hz) <= w.task.asked]
    at = {f"{t:g} s": float(error[:, round(t * w.task.rate_hz) - 1].mean()) for t in times_s}
    still = float(error[moving].mean()) if moving.any() else float("nan")
    clips, place = np.unique(w.clip, return_inverse=True)
    number = np.bincount(place)
    means = np.bincount(place, error.mean(axis=1)) / number
    by_clip = {str(c): [round(float(mean), 3), int(n)] for c, mean, n in zip(clips, means, number, strict=True)}
    whole = {"mm": float(error.mean()), "moving_mm": still, "at": at}
    return {**whole, "windows": len(w), "moving": int(moving.sum()), "by_clip": by_clip}


def token_rows(
    encoder: Encoder,
    motions: LabelledMotions,
    w: PoseWindows,
    test: int,
    config: ForecastConfig,
    device: torch.device,
) -> dict[str, Row]:
    """Guesses from frozen tokens: ridge and a network on them, alone and with the poses, and the heads of the paper.

    `displacements` are the same heads, trained on how far poses are from the rest line: poses themselves differ from
    person to person, and few people are seen in training.
    """
    borders_s = w.task.borders_s
    seen_all = encoder.encode(stretches(motions, w), borders_s, 1)
    flat = np.concatenate([flat_tokens(tokens, w) for tokens in seen_all.values()], axis=1)
    judged = w.rows(w.group == test)
    rows = {}
    for name, x in (("tokens", flat), ("tokens and poses", np.concatenate([flat, inputs(w)], axis=1))):
        rows[f"ridge on {name}"] = judge(ridge_guess(w, x, test), judged)
        rows[f"network on {name}"] = judge(regression_guess(w, x, test, config.regression, device), judged)
    if config.heads is None:
        return rows
    seen = [gridded(tokens, w.task.rate_hz) for tokens in seen_all[level_of(config.level, seen_all)]]
    rng = np.random.default_rng([config.heads.seed, test, w.task.asked])
    outer = np.flatnonzero(w.group != test)
    train = np.sort(rng.choice(outer, min(config.train_windows, len(outer)), replace=False))
    told = _by_heads(encoder, motions, w, seen, train, np.flatnonzero(w.group == test), config, device)
    return rows | {name: judge(guess, judged) for name, guess in told.items()}


def _by_heads(
    encoder: Encoder,
    motions: LabelledMotions,
    w: PoseWindows,
    seen: list[Any],
    train: np.ndarray,
    test: np.ndarray,
    config: ForecastConfig,
    device: torch.device,
) -> dict[str, np.ndarray]:
    parts = {"train": w.rows(train), "test": w.rows(test)}
    found = {name: encoder.encode(stretches(motions, part), w.task.borders_s) for name, part in parts.items()}
    level = level_of(config.level, found["train"])
    whole = {name: [gridded(tokens, w.task.rate_hz) for tokens in of[level]] for name, of in found.items()}
    scale = token_scale(whole["train"])
    scenes = {
        name: make_scenes(parts[name], [seen[i] for i in index], whole[name], scale).to(device)
        for name, index in (("train", train), ("test", test))
    }
    away = {name: torch.from_numpy(part.joints - anchor(part)).to(device) for name, part in parts.items()}
    moved = {name: replace(scene, joints=away[name]) for name, scene in scenes.items()}
    return {
        "paper's heads": _heads(scenes, w.task, scale.width, config, device),
        "paper's heads, displacements": _heads(moved, w.task, scale.width, config, device) + rest_line(parts["test"]),
    }


def _heads(
    scenes: Mapping[str, Scenes], task: Task, width: int, config: ForecastConfig, device: torch.device
) -> np.ndarray:
    """Poses of the asked frames of the test scenes, by heads trained on the others."""
    assert config.heads is not None
    heads = TokenHeads(width, config.heads, device)
    heads.fit_decoder(scenes["train"])
    if task.after == 0:
        prediction = heads.fit_prediction(scenes["train"])
        told = _in_batches(scenes["test"], config.batch, lambda s: heads.predict(prediction, s))
    else:
        interpolation = heads.fit_interpolation(scenes["train"])
        told = _in_batches(scenes["test"], config.batch, lambda s: heads.interpolate(interpolation, s))
    return told[:, task.asked_frames]


def _in_batches(scenes: Scenes, size: int, tell: Callable[[Scenes], torch.Tensor]) -> np.ndarray:
    index = torch.arange(len(scenes), device=scenes.joints.device)
    return np.concatenate([tell(scenes.rows(part)).cpu().numpy() for part in index.split(size)])
