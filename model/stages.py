"""The parts that A4Mer is made of: Encoder and LatentFormer of a stage, both stages on frames, and the predictor.

Sections 3.1 and A.4 of "Action Motifs" (arXiv 2604.28173). Shape suffixes as in `model.a4mer`; a segment index of -1
means that a token does not exist.

Choices where the paper is silent: pre-norm with a feed-forward on both streams of the Encoder; a closing LayerNorm (the
spread of the tokens grows without bound otherwise); rotary positions are frame times, a latent's the mean of its own
frames'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from core.arrays import Bool, Float, Int
from model.blocks import Block, CrossAttention, FeedForward, Transformer, among, rotary, with_self
from model.losses import Decomposition
from model.segments import max_pool, segment_members


@dataclass(frozen=True)
class A4MerConfig:
    """Size of the network and settings of its pretext task.

    Attributes:
        num_features: channels of a frame.
        width: channels of every token.
        heads: attention heads.
        encoder_layers: layers of each stage's Encoder.
        latent_layers: layers of each stage's LatentFormer.
        predictor_layers: layers of each stage's predictor.
        ffn_ratio: hidden channels of a feed-forward over `width`.
        mask_ratio: share of segments that is hidden.
        alpha: weight of the loss's global part relative to its local part.
        beta: where Smooth-L1 turns from a parabola into a line.
        ema_decay: how much of the teacher stays at each step.
        decomposition: the paper's loss or one of its ablations.
        attention: who attends to whom in the Encoders: tokens and latent of one `segment`, or `all`; an ablation.
        target: what is predicted of hidden segments: the teacher's `tokens`, or the `frames` at their beginning, middle
            and end as BERT would; an ablation.
        two_views: weight of the distance of each visible segment's token, before and after it attends to the others,
            from the teacher's, who sees the movement on another body (`model.bodies`); beyond the paper.
        spread: weight of the terms that keep these tokens from telling nothing (`model.spread`); beyond the paper.
        own_pose: weight of the error of each such token's own first, middle and last frame, which one linear layer
            reads off it; beyond the paper.
        half_trust_m: standard deviation of the fitted joints at which a frame counts half, in the loss and among the
            segments to hide; None: all count alike, as in the paper.
    """

    num_features: int = 271
    width: int = 256
    heads: int = 4
    encoder_layers: int = 4
    latent_layers: int = 4
    predictor_layers: int = 3
    ffn_ratio: int = 4
    mask_ratio: float = 0.5
    alpha: float = 0.05
    beta: float = 1.0
    ema_decay: float = 0.996
    decomposition: Decomposition = "local-global"
    attention: Literal["segment", "all"] = "segment"
    target: Literal["tokens", "frames"] = "tokens"
    two_views: float = 0.0
    spread: float = 0.0
    own_pose: float = 0.0
    half_trust_m: float | None = None


class EncoderLayer(nn.Module):
    """Tokens attend within their segment, then the segment's latent attends to them."""

    def __init__(self, config: A4MerConfig) -> None:
        super().__init__()
        width = config.width
        self.tokens = Block(width, config.heads, config.ffn_ratio)
        self.norm_latents, self.norm_tokens, self.norm_ffn = (nn.LayerNorm(width) for _ in range(3))
        self.cross = CrossAttention(width, config.heads)
        self.ffn = FeedForward(width, config.ffn_ratio)

    def forward(
        self,
        z_BKD: torch.Tensor,
        x_BSD: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        same_BSS: torch.Tensor,
        member_BKS: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x_BSD = self.tokens(x_BSD, rotation, same_BSS)
        z_BKD = z_BKD + self.cross(self.norm_latents(z_BKD), self.norm_tokens(x_BSD), member_BKS)
        return z_BKD + self.ffn(self.norm_ffn(z_BKD)), x_BSD


class Stage(nn.Module):
    """Encoder and LatentFormer: one token for each segment of a sequence of tokens."""

    def __init__(self, config: A4MerConfig) -> None:
        super().__init__()
        self.head_width, self.attend_to_all = config.width // config.heads, config.attention == "all"
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.latent_former = Transformer(config.width, config.heads, config.latent_layers, config.ffn_ratio)

    def forward(
        self,
        x_BSD: Float[torch.Tensor, "B S D"],
        segment_BS: Int[torch.Tensor, "B S"],
        position_BS: Float[torch.Tensor, "B S"],
        time_BK: Float[torch.Tensor, "B K"],
    ) -> tuple[Float[torch.Tensor, "B S D"], Float[torch.Tensor, "B K D"], Float[torch.Tensor, "B K D"]]:
        """Tokens that are pooled, in their segment; the segments' own, and those after they attended to each other."""
        member_BKS = segment_members(segment_BS, time_BK.shape[1])
        exists_BK = member_BKS.any(dim=-1)
        seen_BS = segment_BS >= 0
        if self.attend_to_all:
            same_BSS, member_BKS = among(seen_BS), (exists_BK[..., None] & seen_BS[:, None, :])
        else:
            same_BSS = with_self((segment_BS[:, :, None] == segment_BS[:, None, :]) & seen_BS[:, None, :])
        # a latent without tokens may ask anyone: nobody listens to its answer
        asked_BKS = member_BKS | ~exists_BK[..., None]
        rotation = rotary(position_BS, self.head_width)
        z_BKD = max_pool(x_BSD, segment_BS, time_BK.shape[1])
        for layer in self.encoder:
            z_BKD, x_BSD = layer(z_BKD, x_BSD, rotation, same_BSS, asked_BKS)
        return x_BSD, z_BKD, self.latent_former(z_BKD, time_BK, among(exists_BK))


class Extractor(nn.Module):
    """f_theta: both stages on top of the frame embedding."""

    def __init__(self, config: A4MerConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(config.num_features, config.width)
        self.stage1, self.stage2 = Stage(config), Stage(config)

    def atoms(
        self, x_BTF: torch.Tensor, atom_BT: torch.Tensor, time_BK: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens of the frames that exist, of their Atoms by themselves, and of the Atoms in their context."""
        x_BTF = torch.where((atom_BT >= 0)[..., None], x_BTF, 0.0)
        position_BT = torch.arange(atom_BT.shape[1], device=atom_BT.device).expand_as(atom_BT).float()
        return self.stage1(self.embed(x_BTF), atom_BT, position_BT, time_BK)

    def motifs(
        self, z_BKD: torch.Tensor, motif_BK: torch.Tensor, atom_time_BK: torch.Tensor, time_BM: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens of the Atoms that exist, of their Motifs by themselves, and of the Motifs in their context."""
        z_BKD = torch.where((motif_BK >= 0)[..., None], z_BKD, 0.0)
        return self.stage2(z_BKD, motif_BK, atom_time_BK, time_BM)


class Predictor(nn.Module):
    """g_phi: tokens at the hidden positions from those at the visible ones."""

    def __init__(self, config: A4MerConfig) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.empty(config.width).normal_(std=0.02))
        self.transformer = Transformer(config.width, config.heads, config.predictor_layers, config.ffn_ratio)
        self.out = nn.Linear(config.width, config.width if config.target == "tokens" else 3 * config.num_features)

    def forward(
        self,
        z_BKD: Float[torch.Tensor, "B K D"],
        masked_BK: Bool[torch.Tensor, "B K"],
        exists_BK: Bool[torch.Tensor, "B K"],
        time_BK: Float[torch.Tensor, "B K"],
    ) -> Float[torch.Tensor, "B K out"]:
        z_BKD = torch.where(masked_BK[..., None], self.mask_token, z_BKD)
        return self.out(self.transformer(z_BKD, time_BK, among(exists_BK)))
