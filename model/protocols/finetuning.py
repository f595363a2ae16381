"""Recognition by fine-tuning with all labels of the other groups, a tenth and a hundredth of them.

Every network gets the same treatment: a linear layer on mean and deviation of the tokens of all levels begins as ridge
regression on the frozen vectors, then it and the whole network are trained on (Kumar et al. 2022, arXiv 2202.10054: a
network whose head begins at random forgets what it knew while the head learns). The rows `linear` are judged before,
`fine-tuned` after. Few labels are drawn of each class alike, once a seed. Judged is the middle of each clip.

Shape suffixes: B motion, S token, D width, W width of a vector, C class.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from core.arrays import Bool, Float, Int
from dataset.resample import Motion
from model.a4mer import A4Mer, MotionBatch
from model.baselines.skeletons import SkeletonBatch, System
from model.optimiser import learning_rate, make_optimizer
from model.protocols.a4mer import A4MerEncoder
from model.protocols.motions import LabelledMotions, middle
from model.protocols.paired import written
from model.protocols.probes import SD_FLOOR
from model.protocols.ridge import RidgePath
from model.protocols.systems import SystemEncoder
from model.recipes import OptimConfig

PART = middle(3.0)
ALPHA = 100.0
SHARES = {"1 % of the labels": 0.01, "10 % of the labels": 0.1, "all labels": 1.0}
# ridge tells about 0 or 1 of each class; as logits these would be all alike
_SHARPNESS = 10.0
_SMALLEST_VARIANCE = 1e-8
Row = Mapping[str, Any]


@dataclass(frozen=True)
class FineTuneConfig:
    """How a network is trained on.

    Attributes:
        steps: of the optimiser.
        batch_size: clips in a step.
        optim: AdamW and its schedule; the rate is that of the pretraining in `cpu_10min`.
        smoothing: of the labels.
    """

    steps: int = 100
    batch_size: int = 16
    optim: OptimConfig = dataclasses.field(
        default_factory=lambda: OptimConfig(lr=1e-3, lr_end=1e-6, weight_decay=0.05, warmup_steps=10)
    )
    smoothing: float = 0.1


class TokensOfMotions(nn.Module):
    """A network of its own, and the motions that it tells vectors of.

    Args:
        encoder: whose network is copied; it stays as it is.
        motions: at their own rates.
    """

    def __init__(self, encoder: A4MerEncoder | SystemEncoder, motions: Sequence[Motion]) -> None:
        super().__init__()
        self.batch = encoder.batch_of(motions).to(encoder.device)
        if isinstance(encoder, A4MerEncoder):
            self.network: nn.Module = copy.deepcopy(encoder.model)
            # what is judged is the teacher; the rest of the network takes no part
            for name, weight in self.network.named_parameters():
                weight.requires_grad_(name.startswith("teacher"))
        else:
            assert isinstance(encoder.system, nn.Module)
            self.network = copy.deepcopy(encoder.system).requires_grad_(True)

    def forward(self, index: Int[torch.Tensor, "B"]) -> Float[torch.Tensor, "B W"]:
        """Mean and deviation of the tokens of all levels, of some of the motions."""
        if isinstance(self.batch, MotionBatch):
            assert isinstance(self.network, A4Mer) and self.batch.motif is not None
            rows = MotionBatch(self.batch.x[index], self.batch.atom[index], self.batch.motif[index])
            atoms, motifs = self.network.tokens(rows)
            assert atoms.members is not None and atoms.local is not None and motifs is not None
            levels = [
                (atoms.members, (rows.atom >= 0).float()),
                *((z, atoms.length * atoms.exists) for z in (atoms.local, atoms.z)),
                (motifs.z, motifs.length * motifs.exists),
            ]
        else:
            assert isinstance(self.network, System)
            steps = self.network.encode(SkeletonBatch(self.batch.joints_m[index], self.batch.exists[index]))
            levels = [(steps.z, steps.exists.float())]
        return torch.cat([mean_sd(z, weight) for z, weight in levels], dim=1)


def mean_sd(
    z_BSD: Float[torch.Tensor, "B S D"], weight_BS: Float[torch.Tensor, "B S"]
) -> Float[torch.Tensor, "B two_D"]:
    """Weighted mean and deviation; zeros where nothing weighs. As `pooling.pool`, with gradients."""
    share_BS1 = (weight_BS / weight_BS.sum(dim=1, keepdim=True).clamp(min=1e-6))[..., None]
    z_BSD = torch.where(share_BS1 > 0, z_BSD, 0.0)
    mean_BD = (share_BS1 * z_BSD).sum(dim=1)
    variance_BD = (share_BS1 * (z_BSD - mean_BD[:, None]).square()).sum(dim=1)
    # the slope of a root at zero is infinite
    return torch.cat([mean_BD, variance_BD.clamp(min=_SMALLEST_VARIANCE).sqrt()], dim=1)


class Classifier(nn.Module):
    """A linear layer on scaled vectors.

    Args:
        source: of the vectors.
        mean: (W,) of them.
        sd: (W,) of them.
        weights: (W, C) of the layer at first.
        offset: (C,) likewise.
    """

    def __init__(
        self, source: TokensOfMotions, mean: np.ndarray, sd: np.ndarray, weights: np.ndarray, offset: np.ndarray
    ) -> None:
        super().__init__()
        self.source = source
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer("sd", torch.from_numpy(sd).float())
        self.head = nn.Linear(*weights.shape)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(_SHARPNESS * weights.T))
            self.head.bias.copy_(torch.from_numpy(_SHARPNESS * offset))

    def forward(self, index: Int[torch.Tensor, "B"]) -> Float[torch.Tensor, "B C"]:
        """Logits of some of the motions."""
        return self.head((self.source(index) - self.mean) / self.sd)


def draw_labels(
    label: Int[np.ndarray, "clips"], train: Bool[np.ndarray, "clips"], share: float, rng: np.random.Generator
) -> Int[np.ndarray, "labelled"]:
    """Training clips whose labels are known: the share of each class, one at least."""
    found = []
    for name in np.unique(label[train]):
        of_class = np.flatnonzero(train & (label == name))
        count = max(1, round(share * len(of_class)))
        found.append(rng.choice(of_class, count, replace=False))
    return np.sort(np.concatenate(found))


def finetuning_rows(
    encoder: A4MerEncoder | SystemEncoder,
    motions: LabelledMotions,
    test: int,
    seed: int = 0,
    config: FineTuneConfig | None = None,
) -> dict[str, Row]:
    """Accuracies on the clips of a group, by share of the labels.

    Args:
        encoder: which has learned nothing from the test group; it stays as it is.
        motions: labelled clips of all groups.
        test: position of the group that is judged.
        seed: of what is drawn.
        config: of the training.
    """
    config = FineTuneConfig() if config is None else config
    train, judged = motions.group != test, np.flatnonzero(motions.group == test)
    source = TokensOfMotions(encoder, [PART(motion) for motion in motions.motions])
    x = _told(source, np.arange(len(motions)))
    mean, sd = x[train].mean(axis=0), np.maximum(x[train].std(axis=0), SD_FLOOR)
    num_classes = len(motions.classes)
    rows: dict[str, Row] = {}
    for name, share in SHARES.items():
        rng = np.random.default_rng([seed, test, round(1000 * share)])
        known = draw_labels(motions.label, train, share, rng)
        ridge = RidgePath((x[known] - mean) / sd, np.eye(num_classes)[motions.label[known]])
        model = Classifier(copy.deepcopy(source), mean, sd, *ridge.weights(ALPHA))
        for row in ("linear", "fine-tuned"):
            if row == "fine-tuned":
                train_on(model, known, motions.label, config, rng)
            right = _told(model, judged).argmax(axis=1) == motions.label[judged]
            rows[f"{name} | {row}"] = {"accuracy": float(right.mean()), "right": written(right), "labels": len(known)}
    return rows


def train_on(
    model: Classifier,
    known: Int[np.ndarray, "labelled"],
    label: Int[np.ndarray, "clips"],
    config: FineTuneConfig,
    rng: np.random.Generator,
) -> None:
    """Trains head and network on the clips whose labels are known, each as often as the others."""
    need = config.steps * config.batch_size
    order = np.concatenate([rng.permutation(known) for _ in range(-(-need // len(known)))])[:need]
    optimizer = make_optimizer(model, config.optim)
    device = model.head.weight.device
    for step, rows in enumerate(order.reshape(config.steps, config.batch_size)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config.steps, config.optim)
        told = model(torch.from_numpy(rows).to(device))
        target = torch.from_numpy(label[rows]).to(device)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(told, target, label_smoothing=config.smoothing).backward()
        optimizer.step()


@torch.no_grad()
def _told(model: nn.Module, index: Int[np.ndarray, "some"]) -> Float[np.ndarray, "some outputs"]:
    """What a network tells of some motions."""
    device = next(model.parameters()).device
    parts = [model(torch.from_numpy(index[i : i + 64]).to(device)) for i in range(0, len(index), 64)]
    return torch.cat(parts).double().cpu().numpy()
