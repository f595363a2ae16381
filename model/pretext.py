"""What a pass of the pretext task yields, and the loss of a whole batch from it.

Shape suffixes as in `model.a4mer`; K is a stage's segment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from core.arrays import Bool, Float
from model.losses import normalised_error, num_sequences


@dataclass(frozen=True, eq=False)
class Prediction:
    """The predictor's tokens of a stage beside the teacher's; `masked` marks the hidden ones, which count.

    `certainty` is how much each of them counts; None: all alike.
    """

    predicted: Float[torch.Tensor, "B K D"]
    target: Float[torch.Tensor, "B K D"]
    masked: Bool[torch.Tensor, "B K"]
    certainty: Float[torch.Tensor, "B K"] | None = None


@dataclass(frozen=True, eq=False)
class PretextLoss:
    """What one pass of the pretext task yields.

    Attributes:
        total: the number to descend.
        parts: each stage's loss.
        errors: each stage's squared error over the variance of its targets (1 = no better than their mean).
    """

    total: Float[torch.Tensor, ""]
    parts: dict[str, torch.Tensor]
    errors: dict[str, torch.Tensor]


def whole_loss(
    found: Mapping[str, Prediction], loss_sum: Callable[[Prediction], Float[torch.Tensor, ""]]
) -> PretextLoss:
    """The loss of a batch that is all there: each stage's sum over its sequences, over their number."""
    parts = {name: loss_sum(p) / num_sequences(p.masked).clamp(min=1) for name, p in found.items()}
    errors = {n: normalised_error(p.predicted[p.masked], p.target[p.masked]).detach() for n, p in found.items()}
    return PretextLoss(torch.stack(list(parts.values())).sum(), parts, errors)
