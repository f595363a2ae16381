"""The pretext task on held-out windows with fixed masks, and how much the tokens of these windows vary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dataset.loader import WindowRef
from dataset.shards import AmdDataset
from model.a4mer import A4Mer
from model.masking import generator_of
from model.metrics import effective_rank, token_spread
from model.recipes import Recipe
from model.segments import MotionBatch, Tokens
from model.windows import Segmentation, iterate_windows, whole_windows


def held_out(dataset: AmdDataset, recipe: Recipe) -> tuple[str, list[WindowRef]]:
    """The split that a run is judged on while it trains, and windows spread evenly over it."""
    split = "val" if dataset.of_split("val") else "train"
    refs = whole_windows(dataset, split, recipe.data.window_s)
    return split, [refs[i] for i in np.unique(np.linspace(0, len(refs) - 1, recipe.eval_windows).astype(int))]


@torch.no_grad()
def validate(model: A4Mer, dataset: AmdDataset, segmentation: Segmentation, recipe: Recipe) -> dict[str, Any]:
    """Loss and error of each stage, spread and effective rank of its tokens, means over the held-out windows."""
    split, refs = held_out(dataset, recipe)
    device = model.feature_mean.device
    model.eval()
    sums: dict[str, list[float]] = {}
    tokens: dict[str, list[np.ndarray]] = {"atom": [], "motif": []}
    batches = iterate_windows(dataset, refs, segmentation, recipe.data, recipe.batch_size)
    for number, (part, batch, _) in enumerate(batches):
        batch = batch.to(device)
        for name, value in _losses(model, batch, recipe.seed, number).items():
            sums.setdefault(name, []).extend([float(value)] * len(part))
        for name, found in zip(tokens, model.encode(batch), strict=True):
            tokens[name] += _existing(found)
    model.train()
    figures = {name: float(np.mean(values)) for name, values in sums.items()}
    return {"split": split, **figures, **_variation(tokens)}


def _losses(model: A4Mer, batch: MotionBatch, seed: int, number: int) -> dict[str, torch.Tensor]:
    loss = model.loss(batch, generator_of(seed, -1 - number))
    return {"loss": loss.total, **loss.parts, **{f"{name}_error": error for name, error in loss.errors.items()}}


def _variation(tokens: Mapping[str, list[np.ndarray]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, rows in tokens.items():
        if rows:
            stacked = np.concatenate(rows)
            figures |= {f"{name}_sd": token_spread(stacked), f"{name}_rank": effective_rank(stacked)}
    return figures


def _existing(tokens: Tokens | None) -> list[np.ndarray]:
    return [] if tokens is None else [tokens.z[tokens.exists].float().cpu().numpy()]
