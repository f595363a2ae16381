"""Light networks on frozen tokens: recognition, decoding, prediction, interpolation (methods 1.8).

Shape suffixes: B sequence, T frame, M Motif, D width of the tokens, C class, J joint. `motif_BT` is the Motif of each
frame, -1 where there is none; a token stands for each of its frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from core.arrays import Bool, Float, Int
from model.blocks import Transformer, among, initialise, with_self
from model.losses import smooth_l1

# Weights of the decoding loss's two parts (methods 1.8).
POSITION_WEIGHT, VELOCITY_WEIGHT = 1.5, 1.0


def repeat_by_length(
    z_BMD: Float[torch.Tensor, "B M D"], motif_BT: Int[torch.Tensor, "B T"]
) -> Float[torch.Tensor, "B T D"]:
    """The token of each frame's segment; zero in frames without one."""
    z_BTD = torch.gather(z_BMD, 1, motif_BT.clamp(min=0)[..., None].expand(-1, -1, z_BMD.shape[-1]))
    return torch.where((motif_BT >= 0)[..., None], z_BTD, 0.0)


class FrameHead(nn.Module):
    """Tokens repeated by their lengths, a transformer over frames, and one linear layer.

    With one layer and classes it is the paper's recognition head, with four layers and joints its decoding head.
    """

    def __init__(self, width: int, heads: int, layers: int, num_out: int) -> None:
        super().__init__()
        self.transformer = Transformer(width, heads, layers, 4)
        self.out = nn.Linear(width, num_out)
        self.apply(initialise)

    def forward(
        self, z_BMD: Float[torch.Tensor, "B M D"], motif_BT: Int[torch.Tensor, "B T"]
    ) -> Float[torch.Tensor, "B T out"]:
        position_BT = torch.arange(motif_BT.shape[1], device=z_BMD.device).expand_as(motif_BT).float()
        x_BTD = repeat_by_length(z_BMD, motif_BT)
        return self.out(self.transformer(x_BTD, position_BT, among(motif_BT >= 0)))


class PredictionHead(nn.Module):
    """The next token and the length of its segment from those before it; 64 channels wide in the paper."""

    def __init__(self, token_width: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.inward = nn.Linear(token_width, width)
        self.transformer = Transformer(width, heads, layers, 4)
        self.token, self.length = nn.Linear(width, token_width), nn.Linear(width, 1)
        self.apply(initialise)

    def forward(
        self,
        z_BMD: Float[torch.Tensor, "B M D"],
        exists_BM: Bool[torch.Tensor, "B M"],
        time_BM: Float[torch.Tensor, "B M"],
    ) -> tuple[Float[torch.Tensor, "B M D"], Float[torch.Tensor, "B M"]]:
        """At each place, what follows: the token, and softplus of the log-length (methods 1.8)."""
        past_MM = torch.ones(z_BMD.shape[1], z_BMD.shape[1], dtype=torch.bool, device=z_BMD.device).tril()
        h = self.transformer(self.inward(z_BMD), time_BM, with_self(exists_BM[:, None, :] & past_MM))
        return self.token(h), F.softplus(self.length(h)[..., 0])


class InterpolationHead(nn.Module):
    """All tokens of a sequence from those around a gap, a learnable token standing in for the missing ones."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.missing = nn.Parameter(torch.empty(width).normal_(std=0.02))
        self.transformer = Transformer(width, heads, layers, 4)
        self.out = nn.Linear(width, width)
        self.apply(initialise)

    def forward(
        self,
        z_BMD: Float[torch.Tensor, "B M D"],
        missing_BM: Bool[torch.Tensor, "B M"],
        exists_BM: Bool[torch.Tensor, "B M"],
        time_BM: Float[torch.Tensor, "B M"],
    ) -> Float[torch.Tensor, "B M D"]:
        z_BMD = torch.where(missing_BM[..., None], self.missing, z_BMD)
        return self.out(self.transformer(z_BMD, time_BM, among(exists_BM)))


def decoding_loss(
    predicted_BTJ3: Float[torch.Tensor, "B T J 3"],
    truth_BTJ3: Float[torch.Tensor, "B T J 3"],
    valid_BT: Bool[torch.Tensor, "B T"],
) -> Float[torch.Tensor, ""]:
    """1.5 x mean joint distance + 1.0 x the same of first differences, over valid frames; metres."""
    pair_BT = valid_BT[:, 1:] & valid_BT[:, :-1]
    position = _mean_distance(predicted_BTJ3, truth_BTJ3, valid_BT)
    velocity = _mean_distance(predicted_BTJ3.diff(dim=1), truth_BTJ3.diff(dim=1), pair_BT)
    return POSITION_WEIGHT * position + VELOCITY_WEIGHT * velocity


def _mean_distance(a: torch.Tensor, b: torch.Tensor, valid_BT: torch.Tensor) -> torch.Tensor:
    # the root's gradient at zero is infinite
    distance_BT = ((a - b).square().sum(dim=-1) + 1e-12).sqrt().mean(dim=-1)
    return (distance_BT * valid_BT).sum() / valid_BT.sum().clamp(min=1)


def token_loss(
    predicted_BMD: Float[torch.Tensor, "B M D"],
    truth_BMD: Float[torch.Tensor, "B M D"],
    at_BM: Bool[torch.Tensor, "B M"],
) -> Float[torch.Tensor, ""]:
    """Smooth-L1 between tokens at some places, averaged."""
    return (smooth_l1(predicted_BMD, truth_BMD, 1.0) * at_BM).sum() / at_BM.sum().clamp(min=1)


def class_balanced_weights(labels: Int[torch.Tensor, "n"], num_classes: int) -> Float[torch.Tensor, "classes"]:
    """1 / frequency of each class (Eq. F), scaled to a mean of one over the samples; 0 for absent classes."""
    count = torch.bincount(labels, minlength=num_classes).float()
    present = count > 0
    return torch.where(present, len(labels) / (present.sum() * count.clamp(min=1)), 0.0)
