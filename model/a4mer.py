"""A4Mer: frames -> Action Atoms -> Action Motifs, learned by predicting hidden segments in latent space.

"Action Motifs: Self-Supervised Hierarchical Representation of Human Body Movements", arXiv 2604.28173, sections 3.1-3.3
and A.4. Two stages of one architecture: an Encoder that pools the tokens of each segment into a latent, and a
LatentFormer over the latents. Stage 1 pools frames into Atoms, stage 2 Atoms into Motifs.

Shape suffixes: B sequence, T frame, F feature, D width, K Atom, M Motif, S token pooled by a stage (frame or Atom).

A segment index of -1 means that a token does not exist: padding, a missing frame, or one that is hidden. Hidden tokens
are therefore removed rather than covered: their values are zeroed before the first layer and no attention reaches them.

The networks are in `model.stages`. Choices where the paper is silent: inputs are z-scored; both stages' losses weigh
the same.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping

import torch
from torch import nn

from core.arrays import Bool, Float
from dataset.features import SILENT
from model.blocks import initialise
from model.certainty import frame_certainty, segment_means
from model.losses import jepa_sum
from model.masking import draws, group_of_members, mask_segments, spread_to_members
from model.pretext import Kind, Prediction, PretextLoss, whole_loss
from model.segments import MotionBatch, Tokens, edge_frames, num_segments, place, segment_members
from model.spread import moments, penalty_and_slope
from model.stages import A4MerConfig, Extractor, Predictor


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
        """Atom tokens, and Motif tokens if the batch has Motifs, by the teacher; no gradient is kept.

        Args:
            hidden_BT: frames that it may not see; segments that are hidden whole keep their time and length, and are
                marked as not existing.
        """
        return self.tokens(batch, hidden_BT)

    def tokens(
        self, batch: MotionBatch, hidden_BT: Bool[torch.Tensor, "B T"] | None = None
    ) -> tuple[Tokens, Tokens | None]:
        """As `encode`, with gradients for whoever trains the teacher on."""
        atoms, motifs = self._layout(batch)
        seen_BT = batch.atom if hidden_BT is None else batch.atom.masked_fill(hidden_BT, -1)
        return self._extract(self.teacher, batch, atoms, motifs, seen_BT, batch.motif)

    def loss(self, batch: MotionBatch, generator: torch.Generator) -> PretextLoss:
        """Hides segments, predicts the teacher's tokens of them; every term but the spread, which no part has alone.

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
        """What the student tells and what is true, by the name of the term (see `Prediction`), for any part of a batch.

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
        certainty = self._certainty(batch, atoms, motifs)
        stages = [("atom", self.atom_predictor, seen[0], targets[0], batch.atom)]
        if seen[1] is not None and targets[1] is not None and batch.motif is not None:
            stages.append(
                ("motif", self.motif_predictor, seen[1], targets[1], group_of_members(batch.motif, batch.atom))
            )
        found: dict[str, Prediction] = {}
        for kind in ("hidden", *self._kinds):
            for name, predictor, source, target, segment_BT in stages:
                term = name if kind == "hidden" else f"{name}_{kind}"
                if kind == "hidden":
                    told, truth = predictor(source.z, masks[term], target.exists, target.time), target.z
                    if self.config.target == "frames":
                        told, truth = told * self._channels_of_frames(), self._frames(batch, segment_BT, source)
                elif kind == "view":
                    told, truth = _both(source).flatten(2), _both(target).flatten(2)
                else:
                    told = (self.own_frames[name](_both(source)) * self._channels_of_frames()).flatten(2)
                    truth = self._frames(batch, segment_BT, source).repeat(1, 1, 2)
                # distances are taken in full precision, whatever the network computes in
                found[term] = Prediction(told.float(), truth.float(), masks[term], certainty.get(name), kind)
        return found

    def _frames(self, batch: MotionBatch, segment_BT: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Normalised frame vectors at the beginning, middle and end of each segment."""
        x_BTF = torch.where((segment_BT >= 0)[..., None], self._normalised(batch.x), 0.0)
        return edge_frames(x_BTF, segment_BT, tokens.z.shape[1]).detach()

    def _channels_of_frames(self) -> torch.Tensor:
        """1 for what the network sees of three frames, 0 for the rest: nothing is asked about that."""
        return (self.feature_scale < SILENT).float().repeat(3)

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
        # channels that the network does not see are zero on both sides: means are over the others
        frames = found.kind == "own" or (found.kind == "hidden" and c.target == "frames")
        share = (self.feature_scale < SILENT).float().mean() if frames else 1.0
        weight = {"hidden": 1.0, "view": c.two_views, "own": c.own_pose}[found.kind]
        total = jepa_sum(
            found.predicted,
            found.target,
            found.masked,
            alpha=c.alpha,
            beta=c.beta,
            decomposition=c.decomposition if found.kind == "hidden" else "plain",
            certainty_BK=found.certainty,
        )
        return weight / share * total

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
        frame_BTD, local_BKD, z_BKD = extractor.atoms(self._normalised(batch.x), atom_BT, atoms.time)
        exists_BK = segment_members(atom_BT, z_BKD.shape[1]).any(dim=-1)
        atom_tokens = Tokens(z_BKD, exists_BK, atoms.time, atoms.length, local_BKD, frame_BTD)
        if motifs is None or motif_BK is None:
            return atom_tokens, None
        motif_BK = motif_BK.masked_fill(~exists_BK, -1)
        atom_BKD, local_BMD, z_BMD = extractor.motifs(z_BKD, motif_BK, atoms.time, motifs.time)
        exists_BM = segment_members(motif_BK, z_BMD.shape[1]).any(dim=-1)
        return atom_tokens, Tokens(z_BMD, exists_BM, motifs.time, motifs.length, local_BMD, atom_BKD)
