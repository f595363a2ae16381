"""A4Mer: frames -> Action Atoms -> Action Motifs, learned by predicting hidden segments in latent space.

"Action Motifs: Self-Supervised Hierarchical Representation of Human Body Movements", arXiv 2604.28173, sections 3.1-3.3
and A.4. Two stages of one architecture: an Encoder that pools the tokens of each segment into a latent, and a
LatentFormer over the latents. Stage 1 pools frames into Atoms, stage 2 Atoms into Motifs.

Shape suffixes: B sequence, T frame, F feature, D width, K Atom, M Motif, S token pooled by a stage (frame or Atom).

A segment index of -1 means that a token does not exist: padding, a missing frame, or one that is hidden. Hidden tokens
are therefore removed rather than covered: their values are zeroed before the first layer and no attention reaches them.

Choices where the paper is silent: pre-norm with a feed-forward on both streams of the Encoder; a closing LayerNorm (the
spread of the tokens grows without bound otherwise); rotary positions are frame times, a latent's the mean of its own
frames'; inputs are z-scored; both stages' losses weigh the same.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from core.arrays import Bool, Float, Int
from dataset.features import SILENT
from model.blocks import Block, CrossAttention, FeedForward, Transformer, among, initialise, rotary, with_self
from model.certainty import frame_certainty, segment_means
from model.losses import Decomposition, jepa_sum
from model.masking import draws, group_of_members, mask_segments, spread_to_members
from model.pretext import Kind, Prediction, PretextLoss, whole_loss
from model.segments import MotionBatch, Tokens, edge_frames, max_pool, num_segments, place, segment_members
from model.spread import moments, penalty_and_slope


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
        self.head_width = config.width // config.heads
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.latent_former = Transformer(config.width, config.heads, config.latent_layers, config.ffn_ratio)

    def forward(
        self,
        x_BSD: Float[torch.Tensor, "B S D"],
        segment_BS: Int[torch.Tensor, "B S"],
        position_BS: Float[torch.Tensor, "B S"],
        time_BK: Float[torch.Tensor, "B K"],
    ) -> tuple[Float[torch.Tensor, "B K D"], Float[torch.Tensor, "B K D"]]:
        """Tokens of the segments by themselves, and after they have attended to each other."""
        member_BKS = segment_members(segment_BS, time_BK.shape[1])
        exists_BK = member_BKS.any(dim=-1)
        same_BSS = with_self((segment_BS[:, :, None] == segment_BS[:, None, :]) & (segment_BS >= 0)[:, None, :])
        # a latent without tokens may ask anyone: nobody listens to its answer
        asked_BKS = member_BKS | ~exists_BK[..., None]
        rotation = rotary(position_BS, self.head_width)
        z_BKD = max_pool(x_BSD, segment_BS, time_BK.shape[1])
        for layer in self.encoder:
            z_BKD, x_BSD = layer(z_BKD, x_BSD, rotation, same_BSS, asked_BKS)
        return z_BKD, self.latent_former(z_BKD, time_BK, among(exists_BK))


class Extractor(nn.Module):
    """f_theta: both stages on top of the frame embedding."""

    def __init__(self, config: A4MerConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(config.num_features, config.width)
        self.stage1, self.stage2 = Stage(config), Stage(config)

    def atoms(
        self, x_BTF: torch.Tensor, atom_BT: torch.Tensor, time_BK: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Atom tokens from the frames that exist, by themselves and in their context."""
        x_BTF = torch.where((atom_BT >= 0)[..., None], x_BTF, 0.0)
        position_BT = torch.arange(atom_BT.shape[1], device=atom_BT.device).expand_as(atom_BT).float()
        return self.stage1(self.embed(x_BTF), atom_BT, position_BT, time_BK)

    def motifs(
        self, z_BKD: torch.Tensor, motif_BK: torch.Tensor, atom_time_BK: torch.Tensor, time_BM: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Motif tokens from the Atom tokens that exist, by themselves and in their context."""
        z_BKD = torch.where((motif_BK >= 0)[..., None], z_BKD, 0.0)
        return self.stage2(z_BKD, motif_BK, atom_time_BK, time_BM)


class Predictor(nn.Module):
    """g_phi: tokens at the hidden positions from those at the visible ones."""

    def __init__(self, config: A4MerConfig) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.empty(config.width).normal_(std=0.02))
        self.transformer = Transformer(config.width, config.heads, config.predictor_layers, config.ffn_ratio)
        self.out = nn.Linear(config.width, config.width)

    def forward(
        self,
        z_BKD: Float[torch.Tensor, "B K D"],
        masked_BK: Bool[torch.Tensor, "B K"],
        exists_BK: Bool[torch.Tensor, "B K"],
        time_BK: Float[torch.Tensor, "B K"],
    ) -> Float[torch.Tensor, "B K D"]:
        z_BKD = torch.where(masked_BK[..., None], self.mask_token, z_BKD)
        return self.out(self.transformer(z_BKD, time_BK, among(exists_BK)))


def _both(tokens: Tokens) -> Float[torch.Tensor, "B K 2 D"]:
    """Tokens by themselves and in their context."""
    assert tokens.local is not None
    return torch.stack([tokens.local, tokens.z], dim=2).float()


class A4Mer(nn.Module):
    """The student that is trained, the teacher that follows it, and one predictor for each stage."""

    feature_mean: torch.Tensor
    feature_scale: torch.Tensor

    def __init__(self, config: A4MerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("feature_mean", torch.zeros(config.num_features))
        self.register_buffer("feature_scale", torch.ones(config.num_features))
        self.student = Extractor(config)
        self.atom_predictor, self.motif_predictor = Predictor(config), Predictor(config)
        self.own_frames = nn.ModuleDict()
        if config.own_pose > 0:
            read = {name: nn.Linear(config.width, 3 * config.num_features) for name in ("atom", "motif")}
            self.own_frames = nn.ModuleDict(read)
        self.apply(initialise)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def set_statistics(self, mean_F: Float[torch.Tensor, "F"], scale_F: Float[torch.Tensor, "F"]) -> None:
        """Sets the normalisation of the input; the weights' file carries it along."""
        self.feature_mean.copy_(mean_F)
        self.feature_scale.copy_(scale_F)

    def compile_parts(self) -> None:
        """Has torch compile what the time goes into; lengths differ from batch to batch, so shapes stay free."""
        for extractor in (self.student, self.teacher):
            extractor.stage1.compile(dynamic=True)
            extractor.stage2.compile(dynamic=True)
        self.atom_predictor.compile(dynamic=True)
        self.motif_predictor.compile(dynamic=True)

    @torch.no_grad()
    def update_teacher(self) -> None:
        """theta_bar <- decay theta_bar + (1 - decay) theta."""
        for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            old.lerp_(new, 1 - self.config.ema_decay)

    @torch.no_grad()
    def encode(
        self, batch: MotionBatch, hidden_BT: Bool[torch.Tensor, "B T"] | None = None
    ) -> tuple[Tokens, Tokens | None]:
        """Atom tokens, and Motif tokens if the batch has Motifs, by the teacher.

        Args:
            hidden_BT: frames that it may not see; segments that are hidden whole keep their time and length, and are
                marked as not existing.
        """
        atoms, motifs = self._layout(batch)
        seen_BT = batch.atom if hidden_BT is None else batch.atom.masked_fill(hidden_BT, -1)
        return self._extract(self.teacher, batch, atoms, motifs, seen_BT, batch.motif)

    def loss(self, batch: MotionBatch, generator: torch.Generator) -> PretextLoss:
        """Hides segments, predicts the teacher's tokens of them.

        Before mining, Atoms are hidden and stage 1 alone is trained; afterwards whole Motifs are, with every Atom and
        frame in them, and both stages are trained together.
        """
        num_B, num_T = batch.atom.shape
        return whole_loss(self(batch, self.masks(batch, draws(num_B, num_T, generator))), self.loss_sum)

    def masks(self, batch: MotionBatch, draw_BT: Float[torch.Tensor, "B T"]) -> dict[str, torch.Tensor]:
        """What each term of the loss is over: what is hidden of each stage (hidden Motifs hide all their Atoms), and
        what is visible of it (`_view`, `_own`) where the recipe asks for terms over it."""
        atoms, motifs = self._layout(batch)
        certainty, ratio = self._certainty(batch, atoms, motifs), self.config.mask_ratio
        if motifs is None or batch.motif is None:
            hidden = {"atom": mask_segments(atoms.exists, ratio, draw_BT, certainty.get("atom"))}
            exists = {"atom": atoms.exists}
        else:
            masked_BM = mask_segments(motifs.exists, ratio, draw_BT, certainty.get("motif"))
            hidden = {"atom": spread_to_members(masked_BM, batch.motif), "motif": masked_BM}
            exists = {"atom": atoms.exists, "motif": motifs.exists}
        visible = {name: exists[name] & ~hidden[name] for name in hidden}
        return hidden | {f"{name}_{kind}": visible[name] for kind in self._kinds for name in hidden}

    @property
    def _kinds(self) -> tuple[Kind, ...]:
        """Terms over visible segments."""
        c = self.config
        weights: dict[Kind, float] = {"view": max(c.two_views, c.spread), "own": c.own_pose}
        return tuple(kind for kind, weight in weights.items() if weight > 0)

    def forward(self, batch: MotionBatch, masks: dict[str, torch.Tensor]) -> dict[str, Prediction]:
        """The hidden tokens of each stage as the predictor says and as the teacher sees them, for any part of a batch.

        Args:
            masks: of `masks`, on the batch's device.
        """
        atoms, motifs = self._layout(batch, *(masks[name].shape[1] for name in ("atom", "motif") if name in masks))
        visible_BT = batch.atom.masked_fill(spread_to_members(masks["atom"], batch.atom), -1)
        visible_BK = None if batch.motif is None else batch.motif.masked_fill(masks["atom"], -1)
        seen = self._extract(self.student, batch, atoms, motifs, visible_BT, visible_BK)
        told_to_teacher = batch if batch.teacher_x is None else dataclasses.replace(batch, x=batch.teacher_x)
        with torch.no_grad():
            targets = self._extract(self.teacher, told_to_teacher, atoms, motifs, batch.atom, batch.motif)
        found: dict[str, Prediction] = {}
        found_more: dict[str, Prediction] = {}
        certainty = self._certainty(batch, atoms, motifs)
        for name, predictor, source, target in zip(
            ("atom", "motif"), (self.atom_predictor, self.motif_predictor), seen, targets, strict=True
        ):
            if source is not None and target is not None:
                predicted = predictor(source.z, masks[name], target.exists, target.time)
                # distances are taken in full precision, whatever the network computes in
                found[name] = Prediction(predicted.float(), target.z.float(), masks[name], certainty.get(name))
        frame_motif = None if batch.motif is None else group_of_members(batch.motif, batch.atom)
        for kind in self._kinds:
            for name, source, target, segment_BT in zip(found, seen, targets, (batch.atom, frame_motif), strict=False):
                if source is not None and target is not None and segment_BT is not None:
                    told = self._told(kind, name, batch, source, target, segment_BT)
                    found_more[f"{name}_{kind}"] = Prediction(*told, masks[f"{name}_{kind}"], certainty.get(name), kind)
        return found | found_more

    def _told(
        self, kind: Kind, name: str, batch: MotionBatch, source: Tokens, target: Tokens, segment_BT: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What is compared of visible segments: both tokens with the teacher's, or the frames told by them."""
        both = _both(source)
        if kind == "view":
            return both.flatten(2), _both(target).flatten(2)
        x_BTF = torch.where((segment_BT >= 0)[..., None], self._normalised(batch.x), 0.0)
        frames_BK1F = edge_frames(x_BTF, segment_BT, source.z.shape[1])[:, :, None]
        return self.own_frames[name](both).float().flatten(2), frames_BK1F.expand(-1, -1, 2, -1).flatten(2)

    def moments(self, found: Mapping[str, Prediction]) -> dict[str, torch.Tensor]:
        """Moments of the student's visible tokens, which `model.spread` judges: (2, E, E) for each stage, E = D + 1."""
        if self.config.spread == 0:
            return {}
        views = {name: p for name, p in found.items() if p.kind == "view"}
        return {
            name: torch.stack([moments(half, p.masked) for half in p.predicted.chunk(2, dim=-1)])
            for name, p in views.items()
        }

    def spread_slope(self, total_2EE: Float[torch.Tensor, "2 E E"]) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted penalty on tokens of these moments, and its derivative by them."""
        penalties, slopes = zip(*(penalty_and_slope(part) for part in total_2EE), strict=True)
        return self.config.spread * torch.stack(penalties).sum(), self.config.spread * torch.stack(slopes)

    def _normalised(self, x_BTF: torch.Tensor) -> torch.Tensor:
        return (x_BTF - self.feature_mean) / self.feature_scale

    def loss_sum(self, found: Prediction) -> Float[torch.Tensor, ""]:
        """A term of the loss, summed over the sequences of a part of a batch."""
        c = self.config
        if found.kind != "hidden":
            # channels that the network does not see are zero on both sides: the mean is over the others
            share = (self.feature_scale < SILENT).float().mean() if found.kind == "own" else 1.0
            weight = c.own_pose if found.kind == "own" else c.two_views
            return (
                weight
                / share
                * jepa_sum(
                    found.predicted, found.target, found.masked, decomposition="plain", certainty_BK=found.certainty
                )
            )
        return jepa_sum(
            found.predicted,
            found.target,
            found.masked,
            alpha=c.alpha,
            beta=c.beta,
            decomposition=c.decomposition,
            certainty_BK=found.certainty,
        )

    def _certainty(self, batch: MotionBatch, atoms: Tokens, motifs: Tokens | None) -> dict[str, torch.Tensor]:
        """How much each segment of each stage counts; nothing where all count alike."""
        if self.config.half_trust_m is None or batch.joint_sigma_m is None:
            return {}
        frame_BT = frame_certainty(batch.joint_sigma_m, self.config.half_trust_m)
        atom_BK = segment_means(frame_BT, torch.ones_like(frame_BT), batch.atom, atoms.exists.shape[1])
        if motifs is None or batch.motif is None:
            return {"atom": atom_BK}
        motif_BM = segment_means(atom_BK, atoms.length, batch.motif, motifs.exists.shape[1])
        return {"atom": atom_BK, "motif": motif_BM}

    def _layout(
        self, batch: MotionBatch, num_K: int | None = None, num_M: int | None = None
    ) -> tuple[Tokens, Tokens | None]:
        """Where the segments of both stages lie; the tokens themselves are still empty.

        Args:
            num_K: Atoms of the longest sequence, num_M: Motifs; where they are known, a GPU need not be asked.
        """
        position_BT = torch.arange(batch.atom.shape[1], device=batch.atom.device).expand_as(batch.atom)
        ones_BT = torch.ones_like(position_BT, dtype=torch.float32)
        if num_K is None:
            num_K = num_segments(batch.atom) if batch.motif is None else batch.motif.shape[1]
        atoms = place(batch.atom, position_BT.float(), ones_BT, num_K)
        if batch.motif is None:
            return atoms, None
        # an Atom whose frames are all missing takes no part in its Motif
        motif_BK = batch.motif.masked_fill(~atoms.exists, -1)
        return atoms, place(motif_BK, atoms.time, atoms.length, num_M or num_segments(batch.motif))

    def _extract(
        self,
        extractor: Extractor,
        batch: MotionBatch,
        atoms: Tokens,
        motifs: Tokens | None,
        atom_BT: torch.Tensor,
        motif_BK: torch.Tensor | None,
    ) -> tuple[Tokens, Tokens | None]:
        """Tokens of both stages from the frames and Atoms whose segment is not -1."""
        local_BKD, z_BKD = extractor.atoms(self._normalised(batch.x), atom_BT, atoms.time)
        exists_BK = segment_members(atom_BT, z_BKD.shape[1]).any(dim=-1)
        atom_tokens = Tokens(z_BKD, exists_BK, atoms.time, atoms.length, local_BKD)
        if motifs is None or motif_BK is None:
            return atom_tokens, None
        motif_BK = motif_BK.masked_fill(~exists_BK, -1)
        local_BMD, z_BMD = extractor.motifs(z_BKD, motif_BK, atoms.time, motifs.time)
        exists_BM = segment_members(motif_BK, z_BMD.shape[1]).any(dim=-1)
        return atom_tokens, Tokens(z_BMD, exists_BM, motifs.time, motifs.length, local_BMD)
