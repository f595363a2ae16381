"""AdamW and its schedule (A.5)."""

from __future__ import annotations

import math

import torch
from torch import nn

from model.recipes import OptimConfig


def learning_rate(step: int, num_steps: int, config: OptimConfig) -> float:
    """Linear warm-up, then a cosine to `lr_end`; `step` counts from 0 within the phase."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(num_steps - config.warmup_steps, 1)
    return config.lr_end + 0.5 * (config.lr - config.lr_end) * (1 + math.cos(math.pi * share))


def make_optimizer(
    model: nn.Module, config: OptimConfig, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """AdamW on everything that is trained (A4Mer's teacher is not); only matrices decay."""
    weights = [w for w in model.parameters() if w.requires_grad]
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas)
