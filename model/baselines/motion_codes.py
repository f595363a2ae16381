"""Frame-wise discrete motion codes: each frame's code from the frames before it, by causal attention of a width.

arXiv 2309.05972: an encoder of causal self-attention, in which a frame attends to itself and to the M - 1 before it;
vector clustering, which gives each frame the nearest code of one codebook shared by all sequences; a decoder. The loss
is alpha * reconstruction + beta * clustering + gamma * temporal variation, the last of which makes a code persist. A
linear layer on the frozen representation judges it. Six layers, M of 10 or 100.

Shape suffixes: B sequence, P person, N person of a sequence (B * P), T frame, J joint, F channel of a frame (3 J), D
width, K code, C class; a code of -1 means that nobody is there.

Choices where what is known of the paper is silent:
- All sizes and weights but M and the number of layers.
- Reconstruction and clustering are squared errors, variation an absolute one: a sum of squares spreads one change over
  many frames, a sum of magnitudes does not, and codes are to stay and then change at once. It is taken of the encoder's
  output, because the choice of a code has no gradient. All are means over channels: weights do not depend on widths.
- Encoder and decoder close with a norm without gain: shrinking would descend variation and commitment otherwise.
- Positions are rotary, the decoder is as causal as the encoder, and dead codes move to outputs of the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from core.arrays import Bool, Float, Int
from dataset.features import NUM_FEATURE_JOINTS
from model.baselines.skeletons import SkeletonBatch, StepTokens, SystemLoss
from model.blocks import Block, initialise, rotary, rotate

# Fewest frames that attend together: with a narrow attention, pieces of its width would leave a GPU idle.
_TILE = 64


@dataclass(frozen=True)
class MotionCodesConfig:
    """Size of the network and weights of its loss; only M and the layers are the paper's.

    Attributes:
        num_joints: joints of a skeleton.
        frames: M, the frames that one attends to, itself among them; the paper has 10 and 100.
        encoder_layers: layers of the encoder.
        decoder_layers: layers of the decoder.
        num_codes: codes of the codebook; few enough that the frames of one batch can place them all.
        width: channels of a token and of a code; A4Mer's, so that no system wins by size.
        heads: attention heads.
        ffn_ratio: hidden channels of a feed-forward over `width`.
        alpha: weight of the reconstruction.
        beta: weight of the clustering.
        gamma: weight of the temporal variation; like the others 1, for want of a known one (a much smaller one hardly
            acts, a much larger one has a constant output as its optimum).
        commitment: weight, within the clustering, of what pulls the output to its code over what pulls the code to the
            output; 0.25 as in VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937).
        revive_after: batches without a frame after which a code is moved.
        representation: what `encode` yields: the encoder's output before it is clustered, or the code's vector.
    """

    num_joints: int = NUM_FEATURE_JOINTS
    frames: int = 10
    encoder_layers: int = 6
    decoder_layers: int = 6
    num_codes: int = 256
    width: int = 256
    heads: int = 4
    ffn_ratio: int = 4
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    commitment: float = 0.25
    revive_after: int = 100
    representation: Literal["continuous", "code"] = "continuous"

    @property
    def receptive_frames(self) -> int:
        """Frames on which the code of one depends, itself among them."""
        return self.encoder_layers * (self.frames - 1) + 1


@dataclass(frozen=True, eq=False)
class Past:
    """What later frames may still attend to: the last M - 1 frames, which is all that a stream has to keep.

    Attributes:
        keys_values: of each layer, side by side and not yet turned by their position.
        exists: whether somebody was there.
    """

    keys_values: tuple[Float[torch.Tensor, "N past two_D"], ...]
    exists: Bool[torch.Tensor, "N past"]


@dataclass(frozen=True, eq=False)
class CodedFrames:
    """Frames as the network reads them.

    Attributes:
        codes: code of each person in each frame.
        tokens: representation of each frame, the mean over the people who are there.
    """

    codes: Int[torch.Tensor, "B P T"]
    tokens: StepTokens


class _Window:
    """Attention of each frame to itself and the M - 1 frames before it, in tiles: linear in time and memory.

    A tile of frames asks itself and the M - 1 frames before it. Positions are counted from its first frame: rotary
    attention sees differences alone, and positions that never grow keep theirs exact, however long a stream runs.

    Args:
        exists_NS: whether somebody is there, in the M - 1 frames of the past and in those that ask.
        frames: M.
        head_width: channels of a head.
    """

    def __init__(self, exists_NS: Bool[torch.Tensor, "N S"], frames: int, head_width: int) -> None:
        device, self.past = exists_NS.device, frames - 1
        self.num_asking = exists_NS.shape[1] - self.past
        self.tile = max(1, min(self.num_asking, max(frames, _TILE)))
        tiles = max(1, -(-self.num_asking // self.tile))
        self.surplus = tiles * self.tile - self.num_asking
        asked = torch.arange(-self.past, self.tile, device=device)
        behind = asked[self.past :, None] - asked
        seen = self._asked(exists_NS[..., None])[..., 0]
        # a frame without anybody asks itself alone, and nobody listens to its answer
        self.allowed = (((behind >= 0) & (behind < frames) & seen[:, None]) | (behind == 0))[:, None]
        self.asked_rotation = rotary(asked[None].float(), head_width)
        self.asking_rotation = rotary(asked[None, self.past :].float(), head_width)

    def attend(
        self, q_NTD: Float[torch.Tensor, "N T D"], kv_NSC: Float[torch.Tensor, "N S two_D"], heads: int
    ) -> Float[torch.Tensor, "N T D"]:
        """What each frame reads off those that it attends to."""
        q = F.pad(q_NTD, (0, 0, 0, self.surplus)).unflatten(1, (-1, self.tile)).flatten(0, 1)
        q, k, v = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, *self._asked(kv_NSC).chunk(2, dim=-1))
        )
        q, k = rotate(q, self.asking_rotation), rotate(k, self.asked_rotation)
        read = F.scaled_dot_product_attention(q, k, v, self.allowed).transpose(1, 2).flatten(2)
        return read.unflatten(0, (len(q_NTD), -1)).flatten(1, 2)[:, : self.num_asking]

    def _asked(self, x_NSC: torch.Tensor) -> torch.Tensor:
        """Overlapping pieces (N * tiles, M - 1 + tile, C): what each tile may ask."""
        padded = F.pad(x_NSC, (0, 0, 0, self.surplus))
        return padded.unfold(1, self.past + self.tile, self.tile).flatten(0, 1).transpose(1, 2)


class CausalTransformer(nn.Module):
    """Layers of causal attention of width M, closed by a norm without gain.

    Args:
        width: channels of a token.
        heads: attention heads.
        layers: number of layers.
        ffn_ratio: hidden channels of a feed-forward over `width`.
        frames: M.
    """

    def __init__(self, width: int, heads: int, layers: int, ffn_ratio: int, frames: int) -> None:
        super().__init__()
        self.frames, self.head_width = frames, width // heads
        self.blocks = nn.ModuleList(Block(width, heads, ffn_ratio) for _ in range(layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(
        self,
        x_NTD: Float[torch.Tensor, "N T D"],
        exists_NT: Bool[torch.Tensor, "N T"],
        past: Past | None = None,
    ) -> tuple[Float[torch.Tensor, "N T D"], Past]:
        """Tokens in their context, and the past of the frames that follow; without a past, they are the first."""
        if past is None:
            before_NP = exists_NT.new_zeros(len(exists_NT), self.frames - 1)
        else:
            before_NP = past.exists
        exists_NS = torch.cat([before_NP, exists_NT], dim=1)
        window = _Window(exists_NS, self.frames, self.head_width)
        kept = []
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x_NTD, kv_NPC = _look_back(block, x_NTD, None if past is None else past.keys_values[i], window)
            kept.append(kv_NPC)
        return self.norm(x_NTD), Past(tuple(kept), exists_NS[:, exists_NT.shape[1] :])


def _look_back(
    block: Block, x_NTD: torch.Tensor, past_NPC: torch.Tensor | None, window: _Window
) -> tuple[torch.Tensor, torch.Tensor]:
    """A block (which drops nothing) whose keys and values begin in the past; also those of the last M - 1 frames."""
    width = x_NTD.shape[-1]
    q_NTD, kv_NTC = block.attention.qkv(block.norm_attention(x_NTD)).split([width, 2 * width], dim=-1)
    if past_NPC is None:
        past_NPC = kv_NTC.new_zeros(len(kv_NTC), window.past, 2 * width)
    kv_NSC = torch.cat([past_NPC, kv_NTC], dim=1)
    x_NTD = x_NTD + block.attention.out(window.attend(q_NTD, kv_NSC, block.attention.heads))
    return x_NTD + block.ffn(block.norm_ffn(x_NTD)), kv_NSC[:, x_NTD.shape[1] :]


class MotionCodes(nn.Module):
    """Encoder, codebook and decoder."""

    channel_mean: torch.Tensor
    scale: torch.Tensor
    unused: torch.Tensor

    def __init__(self, config: MotionCodesConfig) -> None:
        super().__init__()
        self.config = c = config
        self.register_buffer("channel_mean", torch.zeros(3 * c.num_joints))
        self.register_buffer("scale", torch.ones(()))
        # Batches since a code was last used; none has been: the first batches place the whole codebook.
        self.register_buffer("unused", torch.full((c.num_codes,), c.revive_after))
        self.embed = nn.Linear(3 * c.num_joints, c.width)
        self.encoder = CausalTransformer(c.width, c.heads, c.encoder_layers, c.ffn_ratio, c.frames)
        # as large as outputs of the encoder, whose channels have unit variance
        self.codebook = nn.Parameter(torch.randn(c.num_codes, c.width))
        self.decoder = CausalTransformer(c.width, c.heads, c.decoder_layers, c.ffn_ratio, c.frames)
        self.out = nn.Linear(c.width, 3 * c.num_joints)
        self.apply(initialise)

    def set_statistics(self, mean_F: Float[torch.Tensor, "F"], scale: Float[torch.Tensor, ""]) -> None:
        """Sets the normalisation of the input: a mean (m) for each channel and one scale (m) for all of them."""
        self.channel_mean.copy_(mean_F)
        self.scale.copy_(scale)

    def loss(self, batch: SkeletonBatch, generator: torch.Generator) -> SystemLoss:
        """The weighted loss; its parts are `reconstruction`, `clustering`, `variation`, means over frames and channels.

        In training, codes that were long unused are first moved, and the use of all is counted; in evaluation nothing
        is drawn or changed. What is drawn depends on the generator and on the padded shape of the batch.
        """
        c = self.config
        x_NTF, exists_NT = self._frames(batch)
        z_NTD, _ = self.encoder(self.embed(x_NTF), exists_NT)
        if self.training:
            self._revive(z_NTD.detach(), exists_NT, generator)
        code_NT = self._nearest(z_NTD, exists_NT)
        if self.training:
            self._count(code_NT)
        e_NTD = self.codebook[code_NT.clamp(min=0)]
        told_NTF = self.out(self.decoder(straight_through(z_NTD, e_NTD), exists_NT)[0])
        reconstruction = squared_error(told_NTF, x_NTF, exists_NT)
        clustering = clustering_error(z_NTD, e_NTD, exists_NT, c.commitment)
        variation = temporal_variation(z_NTD, exists_NT)
        return SystemLoss(
            c.alpha * reconstruction + c.beta * clustering + c.gamma * variation,
            {"reconstruction": reconstruction, "clustering": clustering, "variation": variation},
        )

    def encode(self, batch: SkeletonBatch) -> StepTokens:
        """A token for each frame: the encoder's output or the code's vector, the mean over the people who are there."""
        return self.read(batch)[0].tokens

    @torch.no_grad()
    def codes(self, batch: SkeletonBatch) -> Int[torch.Tensor, "B P T"]:
        """The code of each person in each frame, -1 where nobody is."""
        return self.read(batch)[0].codes

    def read(self, batch: SkeletonBatch, past: Past | None = None) -> tuple[CodedFrames, Past]:
        """Codes and tokens of the frames that follow a past, and the past of those that follow them."""
        x_NTF, exists_NT = self._frames(batch)
        z_NTD, past = self.encoder(self.embed(x_NTF), exists_NT, past)
        code_NT = self._nearest(z_NTD, exists_NT)
        if self.config.representation == "code":
            z_NTD = self.codebook[code_NT.clamp(min=0)]
        exists_BPT = batch.exists
        z_BPTD = torch.where(exists_BPT[..., None], z_NTD.unflatten(0, exists_BPT.shape[:2]), 0.0)
        z_BTD = z_BPTD.sum(dim=1) / exists_BPT.sum(dim=1).clamp(min=1)[..., None]
        return CodedFrames(code_NT.view(exists_BPT.shape), StepTokens(z_BTD, exists_BPT.any(dim=1), frames=1)), past

    def _frames(self, batch: SkeletonBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised frames (N, T, F) of people as samples of their own, zero where nobody is, and who is there."""
        exists_NT = batch.exists.flatten(0, 1)
        x_NTF = (batch.joints_m.flatten(0, 1).flatten(2) - self.channel_mean) / self.scale
        return torch.where(exists_NT[..., None], x_NTF, 0.0), exists_NT

    @torch.no_grad()
    def _nearest(self, z_NTD: torch.Tensor, exists_NT: torch.Tensor) -> Int[torch.Tensor, "N T"]:
        return nearest_codes(z_NTD.flatten(0, 1), self.codebook).view_as(exists_NT).masked_fill(~exists_NT, -1)

    @torch.no_grad()
    def _revive(self, z_NTD: torch.Tensor, exists_NT: torch.Tensor, generator: torch.Generator) -> None:
        """Moves dead codes to outputs of different frames, drawn at random, as far as there are frames."""
        # Every place draws and nothing is counted on the host: a GPU is not waited for.
        draw = torch.rand(exists_NT.numel(), generator=generator, device=generator.device).to(z_NTD.device)
        frames = draw.masked_fill(~exists_NT.flatten(), -1.0).argsort(descending=True)
        dead_K = self.unused >= self.config.revive_after
        rank_K = dead_K.cumsum(dim=0) - 1
        moved_K = dead_K & (rank_K < exists_NT.sum())
        drawn_KD = z_NTD.flatten(0, 1)[frames[rank_K.clamp(0, len(frames) - 1)]]
        self.codebook.copy_(torch.where(moved_K[:, None], drawn_KD, self.codebook))
        self.unused.masked_fill_(moved_K, 0)

    @torch.no_grad()
    def _count(self, code_NT: torch.Tensor) -> None:
        used = self.unused.new_zeros(len(self.unused) + 1, dtype=torch.bool)
        used[code_NT + 1] = True  # the first place is that of frames without anybody
        self.unused.copy_(torch.where(used[1:], 0, self.unused + 1))


def nearest_codes(z_ND: Float[torch.Tensor, "N D"], codebook_KD: Float[torch.Tensor, "K D"]) -> Int[torch.Tensor, "N"]:
    """The nearest code by Euclidean distance, of equally near ones the lowest.

    Distances are sums of squared differences: expanded into products, they would lose the digits that tell near codes
    apart, and codes would depend on how many frames are asked about at once.
    """
    return torch.cdist(z_ND, codebook_KD, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=-1)


def straight_through(
    z_NTD: Float[torch.Tensor, "N T D"], e_NTD: Float[torch.Tensor, "N T D"]
) -> Float[torch.Tensor, "N T D"]:
    """The codes' vectors, whose gradient goes to the encoder's outputs as if these had been passed on (VQ-VAE)."""
    return z_NTD + (e_NTD - z_NTD).detach()


def squared_error(
    told_NTF: Float[torch.Tensor, "N T F"], true_NTF: Float[torch.Tensor, "N T F"], exists_NT: Bool[torch.Tensor, "N T"]
) -> Float[torch.Tensor, ""]:
    """Mean over channels and over the frames that exist; 0 without any."""
    return _mean((told_NTF - true_NTF).square().mean(dim=-1), exists_NT)


def clustering_error(
    z_NTD: Float[torch.Tensor, "N T D"],
    e_NTD: Float[torch.Tensor, "N T D"],
    exists_NT: Bool[torch.Tensor, "N T"],
    commitment: float,
) -> Float[torch.Tensor, ""]:
    """|sg z - e|^2 + commitment |z - sg e|^2: codes go to the outputs that they serve, outputs stay with their code."""
    codebook = squared_error(z_NTD.detach(), e_NTD, exists_NT)
    return codebook + commitment * squared_error(z_NTD, e_NTD.detach(), exists_NT)


def temporal_variation(
    z_NTD: Float[torch.Tensor, "N T D"], exists_NT: Bool[torch.Tensor, "N T"]
) -> Float[torch.Tensor, ""]:
    """Mean absolute change of a channel from a frame to the next, where somebody is in both; 0 without any."""
    return _mean(z_NTD.diff(dim=1).abs().mean(dim=-1), exists_NT[:, 1:] & exists_NT[:, :-1])


def _mean(value_NT: torch.Tensor, counts_NT: torch.Tensor) -> torch.Tensor:
    return torch.where(counts_NT, value_NT, 0.0).sum() / counts_NT.sum().clamp(min=1)


def keyframes(codes: Int[torch.Tensor, "*people T"]) -> Bool[torch.Tensor, "*people T"]:
    """Frames in which a code begins: the first with somebody in it, also after a gap, and each with another code."""
    before = torch.cat([torch.full_like(codes[..., :1], -1), codes[..., :-1]], dim=-1)
    return (codes != before) & (codes >= 0)


class CodeStream:
    """Codes of frames as they come, the same as those of the whole recording, without a delay.

    It keeps the keys and values of the last M - 1 frames of each layer, however long it runs.

    Args:
        model: the network; it must not be trained between pushes.
    """

    def __init__(self, model: MotionCodes) -> None:
        self._model = model
        self._past: Past | None = None

    @torch.no_grad()
    def push(self, piece: SkeletonBatch) -> CodedFrames:
        """Codes and tokens of the next frames, any number of them, of the same sequences and people at every push."""
        coded, past = self._model.read(piece, self._past)
        # copies: a slice would hold the whole piece in memory
        self._past = Past(tuple(part.clone() for part in past.keys_values), past.exists.clone())
        return coded


class FrameProbe(nn.Module):
    """One linear layer on frozen tokens, for the segmentation of actions and the classification of skill.

    Args:
        width: channels of a token.
        num_classes: classes to tell apart.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, num_classes)
        self.apply(initialise)

    def forward(self, tokens: StepTokens) -> Float[torch.Tensor, "B S C"]:
        """Logits of each step's class: segmentation. Those of steps without anybody mean nothing."""
        return self.linear(tokens.z)

    def sequence(self, tokens: StepTokens) -> Float[torch.Tensor, "B C"]:
        """Logits of a whole sequence's class: the mean over the steps with somebody in them, as for skill."""
        exists_BS1 = tokens.exists[..., None]
        return torch.where(exists_BS1, self(tokens), 0.0).sum(dim=1) / exists_BS1.sum(dim=1).clamp(min=1)
