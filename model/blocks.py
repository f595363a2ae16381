"""Transformer parts shared by every model: pre-norm blocks, rotary positions, attention under a boolean mask.

Shape suffixes: B batch, T tokens that ask, S tokens that are asked, D width, H heads, E width of one head.

A mask is True where attention is allowed. Every asking token must be allowed at least one; `with_self` sees to that for
self-attention, so padding attends to itself and to nothing else. None allows everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from core.arrays import Bool, Float

# The base of Su et al. 2021 (arXiv 2104.09864); positions here are frames, at most a few hundred.
_ROPE_BASE = 10_000.0

Rotation = tuple[torch.Tensor, torch.Tensor]


def rotary(position_BT: Float[torch.Tensor, "B T"], head_width: int) -> Rotation:
    """Cosines and sines (B, 1, T, E/2) that turn queries and keys by their position; positions need not be whole."""
    exponent = torch.arange(0, head_width, 2, device=position_BT.device, dtype=torch.float32) / head_width
    angle_B1TE = position_BT.float()[:, None, :, None] * _ROPE_BASE**-exponent
    return angle_B1TE.cos(), angle_B1TE.sin()


def rotate(x_BHTE: Float[torch.Tensor, "B H T E"], rotation: Rotation) -> Float[torch.Tensor, "B H T E"]:
    """Turns channel pairs (i, i + E/2) by the rotary angles."""
    cos, sin = rotation
    a, b = x_BHTE.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x_BHTE.dtype)


def with_self(allowed_BTT: Bool[torch.Tensor, "B T T"]) -> Bool[torch.Tensor, "B T T"]:
    """The same mask with every token allowed to attend to itself."""
    return allowed_BTT | torch.eye(allowed_BTT.shape[-1], dtype=torch.bool, device=allowed_BTT.device)


def among(exists_BT: Bool[torch.Tensor, "B T"]) -> Bool[torch.Tensor, "B T T"]:
    """Self-attention mask in which every token sees the tokens that exist."""
    return with_self(exists_BT[:, None, :].expand(-1, exists_BT.shape[1], -1))


@dataclass(frozen=True)
class Dropping:
    """What is dropped at random in training; nothing by default.

    Attributes:
        values: share of the values that leave attention and feed-forward.
        attention: share of the attention weights.
        path: share of the sequences that skip a branch of a block.
    """

    values: float = 0.0
    attention: float = 0.0
    path: float = 0.0


class SelfAttention(nn.Module):
    """Multi-head attention of tokens among themselves, with rotary positions or none."""

    def __init__(self, width: int, heads: int, dropping: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropping = heads, dropping
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x_BTD: Float[torch.Tensor, "B T D"],
        rotation: Rotation | None,
        allowed_BTT: Bool[torch.Tensor, "B T T"] | None,
    ) -> Float[torch.Tensor, "B T D"]:
        q, k, v = (_split(part, self.heads) for part in self.qkv(x_BTD).chunk(3, dim=-1))
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        allowed = None if allowed_BTT is None else allowed_BTT[:, None]
        dropping = self.dropping if self.training else 0.0
        return self.out(_join(F.scaled_dot_product_attention(q, k, v, allowed, dropping)))


class CrossAttention(nn.Module):
    """Multi-head attention of latents to tokens, without positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        z_BTD: Float[torch.Tensor, "B T D"],
        x_BSD: Float[torch.Tensor, "B S D"],
        allowed_BTS: Bool[torch.Tensor, "B T S"],
    ) -> Float[torch.Tensor, "B T D"]:
        k, v = (_split(part, self.heads) for part in self.kv(x_BSD).chunk(2, dim=-1))
        return self.out(
            _join(F.scaled_dot_product_attention(_split(self.q(z_BTD), self.heads), k, v, allowed_BTS[:, None]))
        )


class FeedForward(nn.Sequential):
    """Two linear layers around a GELU."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))


class Block(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, ffn_ratio: int, dropping: Dropping = Dropping()) -> None:
        super().__init__()
        self.dropping = dropping
        self.norm_attention, self.norm_ffn = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, dropping.attention)
        self.ffn = FeedForward(width, ffn_ratio)

    def forward(
        self,
        x_BTD: Float[torch.Tensor, "B T D"],
        rotation: Rotation | None = None,
        allowed_BTT: Bool[torch.Tensor, "B T T"] | None = None,
    ) -> Float[torch.Tensor, "B T D"]:
        x_BTD = x_BTD + self._dropped(self.attention(self.norm_attention(x_BTD), rotation, allowed_BTT))
        return x_BTD + self._dropped(self.ffn(self.norm_ffn(x_BTD)))

    def _dropped(self, branch_BTD: torch.Tensor) -> torch.Tensor:
        if self.training and self.dropping.values > 0:
            branch_BTD = F.dropout(branch_BTD, self.dropping.values)
        if self.training and self.dropping.path > 0:
            kept = torch.rand(len(branch_BTD), 1, 1, device=branch_BTD.device) >= self.dropping.path
            branch_BTD = branch_BTD * kept / (1 - self.dropping.path)
        return branch_BTD


class Transformer(nn.Module):
    """Layers over one sequence of tokens, closed by a norm."""

    def __init__(self, width: int, heads: int, layers: int, ffn_ratio: int) -> None:
        super().__init__()
        self.head_width = width // heads
        self.blocks = nn.ModuleList(Block(width, heads, ffn_ratio) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        x_BTD: Float[torch.Tensor, "B T D"],
        position_BT: Float[torch.Tensor, "B T"],
        allowed_BTT: Bool[torch.Tensor, "B T T"],
    ) -> Float[torch.Tensor, "B T D"]:
        rotation = rotary(position_BT, self.head_width)
        for block in self.blocks:
            x_BTD = block(x_BTD, rotation, allowed_BTT)
        return self.norm(x_BTD)


def initialise(module: nn.Module) -> None:
    """Xavier weights and zero biases for a linear layer; apply to every submodule."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _split(x_BTD: torch.Tensor, heads: int) -> torch.Tensor:
    return x_BTD.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join(x_BHTE: torch.Tensor) -> torch.Tensor:
    return x_BHTE.transpose(1, 2).flatten(2)
