"""Plain references: a transformer that tells hidden frames, and a JEPA that tells the latents of hidden frames.

They see what A4Mer sees of a pose and its movement (joints in the heading frame, their changes, the turn and the way of
the body), have its blocks and its share of what is hidden, and none of what it is about: no segments, scales, views of
other bodies or divided losses. What is hidden are spans of frames, since a single frame is told by its neighbours.
`masked frames` is BERT on poses (Devlin et al. 2019, arXiv 1810.04805): hidden frames are covered by a learned token,
and their joints are told. `plain JEPA` is I-JEPA on frames (Assran et al. 2023, arXiv 2301.08243): hidden frames are
removed, and a predictor tells a following teacher's tokens of them.

Shape suffixes: B sequence, P person, N person of a sequence (B * P), T frame, J joint, C coordinate of a joint (3 J), F
channel of a frame (6 J + 3: joints, and how joints, heading and pelvis moved since the frame before), D width.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from core.arrays import Bool, Float
from dataset.features import NUM_FEATURE_JOINTS
from model.baselines.skeletons import SkeletonBatch, StepTokens, SystemLoss
from model.blocks import Transformer, among, initialise
from model.masking import mask_segments, spread_to_members

# metres and radians: what varies less says nothing, and what is noise in it would be made as large as the rest
_SD_FLOOR = 0.01


@dataclass(frozen=True)
class FrameConfig:
    """What both references have.

    Attributes:
        num_joints: joints of a skeleton; the first one is the pelvis.
        sides: left and right hip, left and right shoulder, which say where a body is heading; SMPL's.
        width: channels of a token.
        heads: attention heads.
        layers: of the transformer whose tokens are judged.
        ffn_ratio: hidden channels of a feed-forward over `width`.
        mask_ratio: share of the spans that is hidden.
        span: frames that are hidden together.
    """

    num_joints: int = NUM_FEATURE_JOINTS
    sides: tuple[int, int, int, int] = (1, 2, 16, 17)
    width: int = 256
    heads: int = 4
    layers: int = 8
    ffn_ratio: int = 4
    mask_ratio: float = 0.5
    span: int = 3


@dataclass(frozen=True)
class MaskedFramesConfig(FrameConfig):
    """Size of the transformer and its pretext task."""


@dataclass(frozen=True)
class PlainJepaConfig(FrameConfig):
    """Size of the networks and their pretext task.

    Attributes:
        predictor_layers: of the predictor.
        beta: where Smooth-L1 turns from a parabola into a line.
        ema_decay: how much of the teacher stays at each step.
    """

    predictor_layers: int = 3
    beta: float = 1.0
    ema_decay: float = 0.996


class FrameTransformer(nn.Module):
    """Tokens of frames in the context of those that may be seen."""

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(6 * config.num_joints + 3, config.width)
        self.transformer = Transformer(config.width, config.heads, config.layers, config.ffn_ratio)

    def forward(
        self,
        x_NTF: Float[torch.Tensor, "N T F"],
        seen_NT: Bool[torch.Tensor, "N T"],
        cover_D: Float[torch.Tensor, "D"] | None = None,
        covered_NT: Bool[torch.Tensor, "N T"] | None = None,
    ) -> Float[torch.Tensor, "N T D"]:
        """Tokens of all frames; those of frames that are not seen mean nothing.

        Args:
            cover_D: token that stands for covered frames, which are seen as it.
        """
        z_NTD = self.embed(x_NTF)
        if cover_D is not None and covered_NT is not None:
            z_NTD = torch.where(covered_NT[..., None], cover_D, z_NTD)
        return self.transformer(z_NTD, positions(seen_NT), among(seen_NT))


class _PlainFrames(nn.Module, ABC):
    """What both references share: what they see, what is hidden of it, and the tokens that are judged."""

    channel_mean: torch.Tensor
    channel_sd: torch.Tensor

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.register_buffer("channel_mean", torch.zeros(6 * config.num_joints + 3))
        self.register_buffer("channel_sd", torch.ones(6 * config.num_joints + 3))
        self._sides, self._mask_ratio, self._span = config.sides, config.mask_ratio, config.span

    def set_statistics(self, batches: Iterable[SkeletonBatch]) -> None:
        """Sets the normalisation of the input to mean and deviation of every channel over some batches.

        A pose's constant part would otherwise be most of every token, and all tokens alike.
        """
        seen = []
        for batch in batches:
            x_NTF, exists_NT = self.frames(batch)
            seen.append((x_NTF * self.channel_sd + self.channel_mean)[exists_NT].double())
        if len(x := torch.cat(seen)) > 1:
            self.channel_mean.copy_(x.mean(dim=0))
            self.channel_sd.copy_(x.std(dim=0).clamp(min=_SD_FLOOR))

    def encode(self, batch: SkeletonBatch) -> StepTokens:
        """A token for each frame, the mean over the people who are there."""
        x_NTF, exists_NT = self.frames(batch)
        z_BPTD = self._judged()(x_NTF, exists_NT).unflatten(0, batch.exists.shape[:2])
        z_BPTD = torch.where(batch.exists[..., None], z_BPTD, 0.0)
        z_BTD = z_BPTD.sum(dim=1) / batch.exists.sum(dim=1).clamp(min=1)[..., None]
        return StepTokens(z_BTD, batch.exists.any(dim=1), frames=1)

    @abstractmethod
    def _judged(self) -> FrameTransformer:
        """The network whose tokens are judged."""

    def frames(self, batch: SkeletonBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised joints and changes (N, T, F), people as samples of their own, and who is there.

        A change is none where nobody was in the frame before. Turns are in radians; the pelvis's way is forward and
        left, as the body was heading.
        """
        exists_NT = batch.exists.flatten(0, 1)
        joints_NTJ3 = torch.where(exists_NT[..., None, None], batch.joints_m.flatten(0, 1), 0.0)
        yaw_NT = self._heading(joints_NTJ3)
        # the floor below the pelvis is the origin
        ground_NT13 = F.pad(joints_NTJ3[..., :1, :2], (0, 1))
        local_NTC = turned(joints_NTJ3 - ground_NT13, -yaw_NT).flatten(2)
        turn_NT = yaw_NT.diff(dim=1)
        turn_NT = torch.atan2(turn_NT.sin(), turn_NT.cos())
        way_NT3 = turned(ground_NT13.diff(dim=1), -yaw_NT[:, :-1])[..., 0, :]
        change_NTF = torch.cat([local_NTC.diff(dim=1), turn_NT[..., None], way_NT3[..., :2]], dim=-1)
        both_NT = exists_NT[:, 1:] & exists_NT[:, :-1]
        change_NTF = F.pad(torch.where(both_NT[..., None], change_NTF, 0.0), (0, 0, 1, 0))
        x_NTF = (torch.cat([local_NTC, change_NTF], dim=-1) - self.channel_mean) / self.channel_sd
        return torch.where(exists_NT[..., None], x_NTF, 0.0), exists_NT

    def _heading(self, joints_NTJ3: torch.Tensor) -> Float[torch.Tensor, "N T"]:
        """Yaw about z by the lines from right to left, as in `dataset.features.heading`."""
        left_hip, right_hip, left_shoulder, right_shoulder = (joints_NTJ3[..., j, :] for j in self._sides)
        left_NT3 = left_hip - right_hip + left_shoulder - right_shoulder
        return torch.atan2(-left_NT3[..., 0], left_NT3[..., 1])

    def hidden(self, exists_NT: Bool[torch.Tensor, "N T"], generator: torch.Generator) -> Bool[torch.Tensor, "N T"]:
        """Frames of the spans that are hidden; where spans begin is drawn as well."""
        num_N, num_T = exists_NT.shape
        first_N = torch.randint(self._span, (num_N,), generator=generator, device=generator.device)
        draw_NT = torch.rand(num_N, num_T + 1, generator=generator, device=generator.device)
        span_NT = (torch.arange(num_T)[None] + first_N.cpu()[:, None]) // self._span
        span_NT = span_NT.to(exists_NT.device).masked_fill(~exists_NT, -1)
        spans = torch.arange((num_T + self._span - 2) // self._span + 1, device=exists_NT.device)
        there_NK = (span_NT[:, None, :] == spans[:, None]).any(dim=-1)
        return spread_to_members(mask_segments(there_NK, self._mask_ratio, draw_NT), span_NT)


class MaskedFrames(_PlainFrames):
    """One transformer and what tells joints."""

    def __init__(self, config: MaskedFramesConfig) -> None:
        super().__init__(config)
        self.config = config
        self.encoder = FrameTransformer(config)
        self.cover = nn.Parameter(torch.empty(config.width).normal_(std=0.02))
        self.out = nn.Linear(config.width, 3 * config.num_joints)
        self.apply(initialise)

    def loss(self, batch: SkeletonBatch, generator: torch.Generator) -> SystemLoss:
        """Mean squared error of the joints of hidden frames, in the units of the input."""
        x_NTF, exists_NT = self.frames(batch)
        hidden_NT = self.hidden(exists_NT, generator)
        z_NTD = self.encoder(cut(x_NTF, hidden_NT), exists_NT, self.cover, hidden_NT)
        truth_NTC = x_NTF[..., : 3 * self.config.num_joints]
        error = mean_where((self.out(z_NTD) - truth_NTC).square().mean(dim=-1), hidden_NT)
        return SystemLoss(error, {"reconstruction": error})

    def _judged(self) -> FrameTransformer:
        return self.encoder


class PlainJepa(_PlainFrames):
    """Student, teacher and predictor."""

    def __init__(self, config: PlainJepaConfig) -> None:
        super().__init__(config)
        self.config = c = config
        self.student = FrameTransformer(c)
        self.cover = nn.Parameter(torch.empty(c.width).normal_(std=0.02))
        self.predictor = Transformer(c.width, c.heads, c.predictor_layers, c.ffn_ratio)
        self.out = nn.Linear(c.width, c.width)
        self.apply(initialise)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def loss(self, batch: SkeletonBatch, generator: torch.Generator) -> SystemLoss:
        """Smooth-L1 of the told tokens of hidden frames against the teacher's, who sees everything.

        In training the teacher first follows the student as the last step left it.
        """
        if self.training:
            self._follow()
        x_NTF, exists_NT = self.frames(batch)
        hidden_NT = self.hidden(exists_NT, generator)
        with torch.no_grad():
            truth_NTD = self.teacher(x_NTF, exists_NT)
        z_NTD = self.student(cut(x_NTF, hidden_NT), exists_NT & ~hidden_NT)
        z_NTD = torch.where(hidden_NT[..., None], self.cover, z_NTD)
        told_NTD = self.out(self.predictor(z_NTD, positions(exists_NT), among(exists_NT)))
        error_NT = F.smooth_l1_loss(told_NTD, truth_NTD, reduction="none", beta=self.config.beta).mean(dim=-1)
        error = mean_where(error_NT, hidden_NT)
        return SystemLoss(error, {"prediction": error})

    @torch.no_grad()
    def _follow(self) -> None:
        for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            old.lerp_(new, 1 - self.config.ema_decay)

    def _judged(self) -> FrameTransformer:
        return self.teacher


def cut(x_NTF: Float[torch.Tensor, "N T F"], hidden_NT: Bool[torch.Tensor, "N T"]) -> Float[torch.Tensor, "N T F"]:
    """Frames without the hidden ones, and without the change of one after them, which would tell where they ended."""
    num_C = (x_NTF.shape[-1] - 3) // 2
    after_NT = F.pad(hidden_NT[:, :-1], (1, 0))
    joints, changes = x_NTF.split([num_C, num_C + 3], dim=-1)
    joints = torch.where(hidden_NT[..., None], 0.0, joints)
    return torch.cat([joints, torch.where((hidden_NT | after_NT)[..., None], 0.0, changes)], dim=-1)


def turned(x_NTJ3: Float[torch.Tensor, "N T J 3"], yaw_NT: Float[torch.Tensor, "N T"]) -> torch.Tensor:
    """Points turned about z."""
    cos, sin = yaw_NT.cos()[..., None], yaw_NT.sin()[..., None]
    x, y, z = x_NTJ3.unbind(dim=-1)
    return torch.stack([cos * x - sin * y, sin * x + cos * y, z], dim=-1)


def positions(exists_NT: Bool[torch.Tensor, "N T"]) -> Float[torch.Tensor, "N T"]:
    """Numbers of the frames."""
    return torch.arange(exists_NT.shape[1], device=exists_NT.device, dtype=torch.float32).expand(exists_NT.shape)


def mean_where(value_NT: Float[torch.Tensor, "N T"], counts_NT: Bool[torch.Tensor, "N T"]) -> Float[torch.Tensor, ""]:
    """Mean over the frames that count; 0 without any."""
    return torch.where(counts_NT, value_NT, 0.0).sum() / counts_NT.sum().clamp(min=1)
