"""Classifiers on top of MAMP's encoder, as published: a linear probe, and fine-tuning with rates that fall with depth.

arXiv 2308.07092 and its code. Difference from it: means over people and over time are of those patches that exist; what
is padding, or a second person who never comes, is not told as one who stands still.

Shape suffixes as in `model.baselines.mamp`.
"""

from __future__ import annotations

from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import nn

from core.arrays import Bool, Float
from model.baselines.mamp import Mamp, patch_exists
from model.baselines.skeletons import SkeletonBatch


def time_means(
    z_BPSJD: Float[torch.Tensor, "B P S J D"], exists_BPS: Bool[torch.Tensor, "B P S"]
) -> Float[torch.Tensor, "B P J D"]:
    """Mean over each person's steps; zero for one without any."""
    total_BPJD = torch.where(exists_BPS[..., None, None], z_BPSJD, 0.0).sum(dim=2)
    return total_BPJD / exists_BPS.sum(dim=2).clamp(min=1)[..., None, None]


def people_means(
    z_BPF: Float[torch.Tensor, "B P F"], exists_BPS: Bool[torch.Tensor, "B P S"]
) -> Float[torch.Tensor, "B F"]:
    """Mean over the people who are there at any time, each counting alike; zero where nobody is."""
    there_BP = exists_BPS.any(dim=2)
    return torch.where(there_BP[..., None], z_BPF, 0.0).sum(dim=1) / there_BP.sum(dim=1).clamp(min=1)[:, None]


class LinearProbe(nn.Module):
    """A linear layer on the mean over people, time and joints, brought to one scale without weights of its own."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, eps=1e-6, affine=False)
        self.linear = nn.Linear(width, num_classes)

    def forward(
        self, z_BPSJD: Float[torch.Tensor, "B P S J D"], exists_BPS: Bool[torch.Tensor, "B P S"]
    ) -> Float[torch.Tensor, "B classes"]:
        mean_BD = people_means(time_means(z_BPSJD, exists_BPS).mean(dim=2), exists_BPS)
        return self.linear(self.norm(mean_BD))


class FineTuneHead(nn.Module):
    """Two layers on the means over time of all joints side by side, averaged over people."""

    def __init__(self, joints: int, width: int, num_classes: int, hidden: int = 2048, dropped: float = 0.3) -> None:
        super().__init__()
        self.dropped = dropped
        self.layers = nn.Sequential(
            nn.Linear(joints * width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
        )

    def forward(
        self, z_BPSJD: Float[torch.Tensor, "B P S J D"], exists_BPS: Bool[torch.Tensor, "B P S"]
    ) -> Float[torch.Tensor, "B classes"]:
        z_BPSJD = F.dropout(z_BPSJD, self.dropped, self.training)
        return self.layers(people_means(time_means(z_BPSJD, exists_BPS).flatten(2), exists_BPS))


class Classifier(nn.Module):
    """MAMP's encoder and a head; `frozen`: the encoder is neither trained nor are parts of it dropped."""

    def __init__(self, mamp: Mamp, head: LinearProbe | FineTuneHead, frozen: bool) -> None:
        super().__init__()
        self.mamp, self.head, self.frozen = mamp, head, frozen

    def train(self, mode: bool = True) -> Classifier:
        """As of every module, but that a frozen encoder stays as in evaluation."""
        super().train(mode)
        if self.frozen:
            self.mamp.eval()
        return self

    def forward(self, batch: SkeletonBatch) -> Float[torch.Tensor, "B classes"]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            z_BPSJD = self.mamp.features(batch)
        return self.head(z_BPSJD, patch_exists(batch.exists, self.mamp.config.patch_frames))


class ParameterGroup(TypedDict):
    """What torch's optimisers take."""

    params: list[nn.Parameter]
    lr: float
    weight_decay: float


def layer_decay_groups(model: Classifier, lr: float, decay: float, weight_decay: float) -> list[ParameterGroup]:
    """Parameters for fine-tuning: the nearer to the input, the lower their rate; vectors do not decay.

    The head and the encoder's closing norm learn at `lr`, its last block at `decay` times that, and so on down to what
    makes tokens. A schedule has to scale each group's own rate. The decoder takes no part.
    """
    *lower, norm = model.mamp.encoder_depths()
    depths = [*lower, norm + list(model.head.parameters())]
    groups: list[ParameterGroup] = []
    for height, weights in enumerate(reversed(depths)):
        for kept, of_kind in ((weight_decay, True), (0.0, False)):
            params = [w for w in weights if (w.ndim > 1) == of_kind]
            if params:
                groups.append({"params": params, "lr": lr * decay**height, "weight_decay": kept})
    return groups
