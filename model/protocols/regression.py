"""A network from one row of numbers for each window to the displacements of the asked frames, and how it is trained.

What a ridge regression is for squared errors, this is for the error that is judged, the mean distance of the joints,
and it need not be linear. Settings are stated in advance; dropout and a short training stand in for a choice among
them. It starts from the rest line: its last layer is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from core.arrays import Float
from model.protocols.baselines import rest_line
from model.protocols.windows import PoseWindows

# inputs further than this from the training windows' mean, in their deviations, are brought back
_FURTHEST = 5.0
_SD_FLOOR = 0.01


@dataclass(frozen=True)
class RegressionConfig:
    """Size and training of the network.

    Attributes:
        width: of its two hidden layers.
        dropout: of inputs and hidden channels.
        epochs: passes over the training windows.
        batch_size: windows in a step.
        lr: learning rate, falling along a cosine.
        weight_decay: of AdamW.
        seed: of weights, order and dropout.
    """

    width: int = 256
    dropout: float = 0.3
    epochs: int = 40
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.1
    seed: int = 0


class Regression(nn.Sequential):
    """Two hidden layers, each normed, with dropout before every linear one."""

    def __init__(self, num_in: int, num_out: int, config: RegressionConfig) -> None:
        layers: list[nn.Module] = []
        for width in (num_in, config.width):
            layers += [nn.Dropout(config.dropout), nn.Linear(width, config.width), nn.GELU()]
            layers += [nn.LayerNorm(config.width)]
        last = nn.Linear(config.width, num_out)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(*layers, nn.Dropout(config.dropout), last)


def regression_guess(
    w: PoseWindows, x: Float[np.ndarray, "windows features"], test: int, config: RegressionConfig, device: torch.device
) -> Float[np.ndarray, "test asked 22 3"]:
    """Guesses for the windows of a group by the network on inputs `x`, trained on those of the other groups."""
    fit, judge = np.flatnonzero(w.group != test), np.flatnonzero(w.group == test)
    mean, sd = x[fit].mean(axis=0), np.maximum(x[fit].std(axis=0), _SD_FLOOR)
    z = torch.from_numpy(((x - mean) / sd).clip(-_FURTHEST, _FURTHEST).astype(np.float32)).to(device)
    away = torch.from_numpy((w.asked - rest_line(w)).astype(np.float32).reshape(len(w), -1)).to(device)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = Regression(z.shape[1], away.shape[1], config).to(device)
        _train(network, z, away, fit, config)
    with torch.no_grad():
        told = network.eval()(z[torch.from_numpy(judge).to(device)]).cpu().numpy()
    return rest_line(w.rows(judge)) + told.reshape(-1, *w.asked.shape[1:])


def _train(network: nn.Module, z: torch.Tensor, away: torch.Tensor, fit: np.ndarray, config: RegressionConfig) -> None:
    size = min(config.batch_size, len(fit))
    steps = config.epochs * (len(fit) // size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = np.random.default_rng([config.seed, 4])
    for _ in range(config.epochs):
        order = rng.permutation(fit)
        for i in range(0, len(order) - size + 1, size):
            index = torch.from_numpy(order[i : i + size]).to(z.device)
            off = (network(z[index]) - away[index]).unflatten(1, (-1, 3))
            loss = off.norm(dim=-1).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
