"""GL-Transformer: attention within a frame and over frames, taught to tell displacements over several intervals.

"Global-local Motion Transformer for Unsupervised Skeleton-based Action Learning", ECCV 2022, arXiv 2207.06101, and the
code published with it. A token is a joint of a person in a frame: its place relative to the person's centre joint. The
centre joint's own token carries the person's path instead ("global token"). The pretext task, multi-interval pose
displacement prediction, tells from the tokens of a frame in which direction and how far each of them lies from where
it was some frames before. Nothing is masked: the task asks the network for motion, not for what it cannot see.

Published training: AdamW, rate 5e-5 times 0.99 an epoch, weight decay 0.1, batches of 128, 120 epochs. Published
linear evaluation: Adam, rate 3e-3, batches of 1024, 120 epochs, features frozen, no shear.

Choices of this file:
- The world is z up; published data are y up. The yaw of a frame is the signed angle of its shoulders.
- Whoever is not in a frame stands at the origin there; everybody's attention reaches these tokens, as published.
- People may come and go: "absent" is said of a person and a frame. Displacements from a frame in which the person was
  absent have no true class and are left out of the loss.
- Resampled motions keep their first and last frames.
- The feed-forward drops values at its end, not after its GELU as well, for it is shared with the other models.

Shape suffixes: B sequence, P person, T frame, J joint, I interval, C class, N token of a frame (all joints of all
people, person by person), E width of a token, D width of a frame (all its tokens beside each other), R frame of any
sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from core.arrays import Bool, Float, Int
from core.errors import InputError
from model.baselines.skeletons import SkeletonBatch, StepTokens, SystemLoss
from model.blocks import Block, Dropping, SelfAttention, among

# each axis goes back, stays, or goes forth
DIRECTIONS = 27


@dataclass(frozen=True)
class GlTransformerConfig:
    """Size of the network and settings of its pretext task; the defaults are those published for NTU RGB+D.

    Attributes:
        frames: longest sequence; the positional tables have a row for each frame.
        persons: people of a batch, present or not.
        joints: joints of a person.
        centre: joint that the others are relative to, and whose token carries the path.
        shoulders: left and right shoulder; every frame is turned until the way from left to right is along +x. NTU
            counts them 4 and 8, SMPL 16 and 17.
        joint_width: channels of a token.
        blocks: layers.
        heads: heads of the spatial and of the temporal attention; divides `joint_width`.
        ffn_ratio: hidden channels of a feed-forward over the width of a frame.
        dropout: share of the values dropped from the embeddings and from each branch of a block.
        attention_dropout: share of the attention weights that is dropped.
        drop_path: share of the rows that skip a branch of the last block; from 0 at the first it rises linearly.
        intervals: how many frames displacements reach back (the published recordings have 30 frames a second).
        magnitude_step_m: length of a class of magnitudes.
        magnitudes: classes of magnitudes; the first is for no displacement, the last for nobody there, and the one
            before it for everything longer than the others reach.
        global_weight: weight of the global tokens' terms of the loss relative to the joints'.
        magnitude_weight: weight of the terms on magnitudes relative to those on directions.
        shear: largest off-diagonal value of the random shear in training; 0: none.
        resample: largest share of its duration by which a motion is stretched or shrunk in training; 0: none.
    """

    frames: int = 300
    persons: int = 2
    joints: int = 25
    centre: int = 20
    shoulders: tuple[int, int] = (4, 8)
    joint_width: int = 48
    blocks: int = 4
    heads: int = 8
    ffn_ratio: int = 2
    dropout: float = 0.1
    attention_dropout: float = 0.1
    drop_path: float = 0.1
    intervals: tuple[int, ...] = (1, 5, 10)
    magnitude_step_m: float = 0.01
    magnitudes: int = 16
    global_weight: float = 0.05
    magnitude_weight: float = 1.0
    shear: float = 0.3
    resample: float = 0.1

    @property
    def tokens(self) -> int:
        """Tokens of a frame."""
        return self.persons * self.joints

    @property
    def width(self) -> int:
        """Channels of a frame: those of its tokens beside each other."""
        return self.tokens * self.joint_width


def relative_coordinates(
    joints_m: Float[torch.Tensor, "B P T J 3"],
    exists_BPT: Bool[torch.Tensor, "B P T"],
    centre: int,
    shoulders: tuple[int, int],
) -> Float[torch.Tensor, "B P T J 3"]:
    """What the network sees of the joints, metres; zero where nobody is.

    Joints are relative to the centre joint of the same person and frame. The centre joint itself holds the way from
    where the person's centre was in their first frame. Both are then turned about the vertical, every frame by its
    own yaw, until the left-to-right way of the shoulders has no y and a positive x. A turn and a shift of the world
    are thereby lost, and where two people stand relative to each other as well.
    """
    centre_BPT3 = joints_m[..., centre, :]
    first_BP1 = exists_BPT.int().argmax(dim=-1, keepdim=True)
    start_BP13 = centre_BPT3.take_along_dim(first_BP1[..., None], dim=2)
    is_centre_J1 = (torch.arange(joints_m.shape[3], device=joints_m.device) == centre)[:, None]
    x_BPTJ3 = joints_m - centre_BPT3[..., None, :]
    x_BPTJ3 = torch.where(is_centre_J1, (centre_BPT3 - start_BP13)[..., None, :], x_BPTJ3)
    left, right = shoulders
    across_BPT3 = joints_m[..., right, :] - joints_m[..., left, :]
    length_BPT = torch.linalg.vector_norm(across_BPT3[..., :2], dim=-1)
    # shoulders above each other have no yaw: such a frame is not turned
    cos = torch.where(length_BPT > 0, across_BPT3[..., 0] / length_BPT, 1.0)[..., None]
    sin = torch.where(length_BPT > 0, across_BPT3[..., 1] / length_BPT, 0.0)[..., None]
    x, y, z = x_BPTJ3.unbind(dim=-1)
    turned_BPTJ3 = torch.stack([cos * x + sin * y, cos * y - sin * x, z], dim=-1)
    return torch.where(exists_BPT[..., None, None], turned_BPTJ3, 0.0)


def sheared(
    x_BPTJ3: Float[torch.Tensor, "B P T J 3"], amplitude: float, centre: int, generator: torch.Generator
) -> Float[torch.Tensor, "B P T J 3"]:
    """Relative coordinates under a random linear map, one for each sequence; the global tokens stay as they are.

    The map has ones on its diagonal and six values beside it, uniform in [-amplitude, amplitude].
    """
    draw_B33 = torch.rand(len(x_BPTJ3), 3, 3, generator=generator, device=generator.device).to(x_BPTJ3)
    eye_33 = torch.eye(3, dtype=x_BPTJ3.dtype, device=x_BPTJ3.device)
    map_B33 = eye_33 + (1 - eye_33) * amplitude * (2 * draw_B33 - 1)
    is_centre_J1 = (torch.arange(x_BPTJ3.shape[3], device=x_BPTJ3.device) == centre)[:, None]
    # not a matrix product: that would lose millimetres where training computes in bfloat16
    mapped_BPTJ3 = (map_B33[:, None, None, None] * x_BPTJ3[..., None, :]).sum(dim=-1)
    return torch.where(is_centre_J1, x_BPTJ3, mapped_BPTJ3)


def resampled(
    x_BPTJ3: Float[torch.Tensor, "B P T J 3"],
    exists_BPT: Bool[torch.Tensor, "B P T"],
    ratio: float,
    longest: int,
    generator: torch.Generator,
) -> tuple[Float[torch.Tensor, "B P S J 3"], Bool[torch.Tensor, "B P S"]]:
    """Motions stretched or shrunk by a random share of their duration, straight between their frames.

    A motion of n frames, padding left out, gets the whole part of n (1 + u) frames, u uniform in [-ratio, ratio], and
    is cut at the `longest`. A person is there in a new frame if they are in all the frames that it is made of.

    Args:
        x_BPTJ3: finite everywhere, where nobody is as well.

    Returns:
        the coordinates, and where people are; S is the same whatever is drawn.
    """
    num_S = min(math.floor(x_BPTJ3.shape[2] * (1 + ratio)), longest)
    draw_B = torch.rand(len(x_BPTJ3), generator=generator, device=generator.device).to(x_BPTJ3)
    frame_T = torch.arange(1, x_BPTJ3.shape[2] + 1, device=x_BPTJ3.device)
    old_B = (frame_T * exists_BPT.any(dim=1)).amax(dim=-1).clamp(min=1)
    new_B = (old_B * (1 + ratio * (2 * draw_B - 1))).long().clamp(min=1)
    new_S = torch.arange(num_S, device=x_BPTJ3.device)
    # multiplied before it is divided, for whole numbers to stay whole
    place_BS = (new_S * (old_B - 1)[:, None]).to(x_BPTJ3) / (new_B - 1).clamp(min=1)[:, None]
    before_BS = place_BS.long().minimum(old_B[:, None] - 1)
    after_BS = (before_BS + 1).minimum(old_B[:, None] - 1)
    share_BS = place_BS - before_BS
    before_B1S, after_B1S = before_BS[:, None], after_BS[:, None]
    whole_BPS = exists_BPT.take_along_dim(before_B1S, dim=2) & (
        exists_BPT.take_along_dim(after_B1S, dim=2) | (share_BS == 0)[:, None]
    )
    exists_BPS = whole_BPS & (new_S < new_B[:, None])[:, None]
    new_BPSJ3 = torch.lerp(
        x_BPTJ3.take_along_dim(before_B1S[..., None, None], dim=2),
        x_BPTJ3.take_along_dim(after_B1S[..., None, None], dim=2),
        share_BS[:, None, :, None, None],
    )
    return torch.where(exists_BPS[..., None, None], new_BPSJ3, 0.0), exists_BPS


def direction_class(displacement_m: Float[torch.Tensor, "*n 3"]) -> Int[torch.Tensor, "*n"]:
    """x + 3 y + 9 z of the signs: 0 for a negative component, 1 for zero, 2 for a positive one."""
    x, y, z = (displacement_m.sign().long() + 1).unbind(dim=-1)
    return x + 3 * y + 9 * z


def magnitude_class(
    displacement_m: Float[torch.Tensor, "*n 3"], step_m: float, classes: int
) -> Int[torch.Tensor, "*n"]:
    """0 for no displacement at all, then one class a step, of which the last but one (`classes` - 2) has no end."""
    length_m = torch.linalg.vector_norm(displacement_m, dim=-1)
    steps = (length_m / step_m).floor().clamp(max=classes - 3).long() + 1
    return torch.where(length_m == 0, 0, steps)


@dataclass(frozen=True, eq=False)
class Displacements:
    """What is true of the displacements over one interval.

    Attributes:
        direction: class of the direction (`direction_class`), that of no displacement where the person is absent.
        magnitude: class of the length (`magnitude_class`), the last one where the person is absent.
        counted: what the loss is over: nothing in frames without anybody, and nobody who was absent where the interval
            begins and is there where it ends.
    """

    direction: Int[torch.Tensor, "B P T J"]
    magnitude: Int[torch.Tensor, "B P T J"]
    counted: Bool[torch.Tensor, "B P T J"]


def displacements(
    x_BPTJ3: Float[torch.Tensor, "B P T J 3"],
    exists_BPT: Bool[torch.Tensor, "B P T"],
    interval: int,
    step_m: float,
    magnitudes: int,
) -> Displacements:
    """Classes of where each token was `interval` frames before, or in frame 0, seen from where it is."""
    earlier_T = (torch.arange(x_BPTJ3.shape[2], device=x_BPTJ3.device) - interval).clamp(min=0)
    existed_BPT = exists_BPT[:, :, earlier_T]
    known_BPT = exists_BPT & existed_BPT
    way_BPTJ3 = torch.where(known_BPT[..., None, None], x_BPTJ3[:, :, earlier_T] - x_BPTJ3, 0.0)
    magnitude_BPTJ = magnitude_class(way_BPTJ3, step_m, magnitudes)
    anybody_BPT = exists_BPT.any(dim=1, keepdim=True).expand_as(exists_BPT)
    return Displacements(
        direction_class(way_BPTJ3),
        torch.where(exists_BPT[..., None], magnitude_BPTJ, magnitudes - 1),
        (anybody_BPT & (existed_BPT | ~exists_BPT))[..., None].expand_as(magnitude_BPTJ),
    )


class SpatioTemporalBlock(nn.Module):
    """Tokens attend within their frame, then whole frames to each other, then each frame passes a feed-forward.

    A learned positional table, the block's own, is added to the tokens before both attentions. A frame is a row of the
    spatial branch, a sequence one of the temporal branch and of the feed-forward: rows skip a branch at random.
    """

    def __init__(self, config: GlTransformerConfig, drop_path: float) -> None:
        super().__init__()
        self.dropping = Dropping(config.dropout, config.attention_dropout, drop_path)
        self.position = nn.Parameter(torch.zeros(config.frames, config.tokens, config.joint_width))
        self.norm_spatial = nn.LayerNorm(config.joint_width)
        self.spatial = SelfAttention(config.joint_width, config.heads, config.attention_dropout)
        self.temporal = Block(config.width, config.heads, config.ffn_ratio, self.dropping)

    def forward(
        self, x_BTNE: Float[torch.Tensor, "B T N E"], allowed_BTT: Bool[torch.Tensor, "B T T"]
    ) -> Float[torch.Tensor, "B T N E"]:
        position_TNE = self.position[: x_BTNE.shape[1]]
        x_RNE = (x_BTNE + position_TNE).flatten(0, 1)
        branch_RNE = self.spatial(self.norm_spatial(x_RNE), None, None)
        branch_RNE = F.dropout(branch_RNE, self.dropping.values, self.training)
        # ones that are dropped, or scaled up for those that are, are what a skipped branch is multiplied by
        kept_R11 = F.dropout(x_RNE.new_ones(len(x_RNE), 1, 1), self.dropping.path, self.training)
        x_BTNE = (x_RNE + branch_RNE * kept_R11).view_as(x_BTNE) + position_TNE
        return self.temporal(x_BTNE.flatten(2), None, allowed_BTT).view_as(x_BTNE)


class GlTransformer(nn.Module):
    """The network with the heads of its pretext task; weights begin as torch's layers do, positional tables at zero.

    In training mode shear and resampling are drawn from the generator that `loss` is given, and what the layers drop
    from torch's global one. In evaluation mode nothing is drawn.
    """

    is_global: torch.Tensor

    def __init__(self, config: GlTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("is_global", torch.arange(config.joints) == config.centre, persistent=False)
        self.embed, self.embed_global = nn.Linear(3, config.joint_width), nn.Linear(3, config.joint_width)
        rising = [config.drop_path * i / max(config.blocks - 1, 1) for i in range(config.blocks)]
        self.blocks = nn.ModuleList(SpatioTemporalBlock(config, drop_path) for drop_path in rising)
        width = config.width
        self.norm = nn.LayerNorm(width)
        layers = [(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)) for _ in range(2)]
        self.mlp = nn.Sequential(*layers[0], *layers[1])
        self.direction_heads, self.magnitude_heads = (
            nn.ModuleList(nn.Linear(width, config.tokens * classes) for _ in config.intervals)
            for classes in (DIRECTIONS, config.magnitudes)
        )

    def forward(
        self, x_BPTJ3: Float[torch.Tensor, "B P T J 3"], exists_BPT: Bool[torch.Tensor, "B P T"]
    ) -> Float[torch.Tensor, "B T D"]:
        """Tokens of the frames from relative coordinates, after the closing MLP.

        Args:
            x_BPTJ3: of `relative_coordinates`, augmented or not; zero where nobody is.
        """
        tokens = torch.where(self.is_global[:, None], self.embed_global(x_BPTJ3), self.embed(x_BPTJ3))
        x_BTNE = F.dropout(tokens.transpose(1, 2).flatten(2, 3), self.config.dropout, self.training)
        allowed_BTT = among(exists_BPT.any(dim=1))
        for block in self.blocks:
            x_BTNE = block(x_BTNE, allowed_BTT)
        return self.mlp(self.norm(x_BTNE.flatten(2)))

    def loss(self, batch: SkeletonBatch, generator: torch.Generator) -> SystemLoss:
        """Mean cross-entropies of the displacements' directions and magnitudes, of joints and of global tokens.

        Means are over the intervals and all that is counted (see `Displacements`). The parts are `direction`,
        `direction_global`, `magnitude` and `magnitude_global`; global ones are weighted by `global_weight`.

        Args:
            generator: draws the augmentation in training mode; the layers drop by torch's global generator.

        Raises:
            InputError: the batch is not of the people, joints and frames that the network is made for.
        """
        c = self.config
        x_BPTJ3, exists_BPT = self._coordinates(batch), batch.exists
        if self.training and c.resample > 0:
            x_BPTJ3, exists_BPT = resampled(x_BPTJ3, exists_BPT, c.resample, c.frames, generator)
        if self.training and c.shear > 0:
            x_BPTJ3 = sheared(x_BPTJ3, c.shear, c.centre, generator)
        z_BTD = self(x_BPTJ3, exists_BPT)
        truths = [displacements(x_BPTJ3, exists_BPT, k, c.magnitude_step_m, c.magnitudes) for k in c.intervals]
        counted_IBPTJ = torch.stack([truth.counted for truth in truths])
        parts = {}
        for name, heads in (("direction", self.direction_heads), ("magnitude", self.magnitude_heads)):
            told = (head(z_BTD) for head in heads)
            entropy_IBPTJ = torch.stack(
                [self._entropy(logits, getattr(truth, name)) for logits, truth in zip(told, truths, strict=True)]
            )
            parts[name] = _mean(entropy_IBPTJ, counted_IBPTJ & ~self.is_global)
            parts[f"{name}_global"] = _mean(entropy_IBPTJ, counted_IBPTJ & self.is_global)
        direction = parts["direction"] + c.global_weight * parts["direction_global"]
        magnitude = parts["magnitude"] + c.global_weight * parts["magnitude_global"]
        return SystemLoss(direction + c.magnitude_weight * magnitude, parts)

    def encode(self, batch: SkeletonBatch) -> StepTokens:
        """One token a frame for all people together, in evaluation mode whatever mode the network is in.

        Raises:
            InputError: the batch is not of the people, joints and frames that the network is made for.
        """
        x_BPTJ3, was_training = self._coordinates(batch), self.training
        self.eval()
        try:
            z_BTD = self(x_BPTJ3, batch.exists)
        finally:
            self.train(was_training)
        return StepTokens(z_BTD, batch.exists.any(dim=1), 1)

    def _coordinates(self, batch: SkeletonBatch) -> Float[torch.Tensor, "B P T J 3"]:
        c = self.config
        _, persons, frames, joints, _ = batch.joints_m.shape
        if (persons, joints) != (c.persons, c.joints) or frames > c.frames:
            problem = f"made for {c.persons} people of {c.joints} joints in at most {c.frames} frames"
            given = f"given {persons} of {joints} in {frames}"
            raise InputError("GL-Transformer", f"{problem}, {given}", "cut the motions, or make another network")
        return relative_coordinates(batch.joints_m, batch.exists, c.centre, c.shoulders)

    def _entropy(self, logits_BTX: torch.Tensor, class_BPTJ: torch.Tensor) -> Float[torch.Tensor, "B P T J"]:
        """Cross-entropy of every token's class."""
        logits_BTPJC = logits_BTX.unflatten(-1, (self.config.persons, self.config.joints, -1))
        class_BTPJ = class_BPTJ.transpose(1, 2)
        entropy = F.cross_entropy(logits_BTPJC.flatten(0, 3), class_BTPJ.flatten(), reduction="none")
        return entropy.view_as(class_BTPJ).transpose(1, 2)


class LinearHead(nn.Module):
    """The head of linear evaluation: the mean over the frames that exist, then one linear layer."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes)

    def forward(self, tokens: StepTokens) -> Float[torch.Tensor, "B C"]:
        """Logits of each sequence; those of zeros where nobody ever exists."""
        summed_BD = torch.where(tokens.exists[..., None], tokens.z, 0.0).sum(dim=1)
        return self.linear(summed_BD / tokens.exists.sum(dim=1).clamp(min=1)[:, None])


def _mean(values: torch.Tensor, counted: torch.Tensor) -> Float[torch.Tensor, ""]:
    """The mean of what is counted; 0 of nothing."""
    return (values * counted).sum() / counted.sum().clamp(min=1)
