"""What a pass of the pretext task yields, and the loss of a whole batch from it.

Shape suffixes as in `model.a4mer`; K is a stage's segment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from core.arrays import Bool, Float
from model.losses import normalised_error, num_sequences

Kind = Literal["hidden", "view", "own"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is told of the segments of a stage beside the truth.

    Attributes:
        predicted: what the student says, tokens or frame vectors.
        target: the teacher's tokens, or the frame vectors.
        masked: segments that count: the hidden ones of `hidden`, the visible ones otherwise.
        certainty: how much each of them counts; None: all alike.
        kind: `hidden` tokens as the predictor tells them; `view`: visible tokens, by themselves and in their context,
            as the student and the teacher see them; `own`: frames of visible segments, read off these tokens.
    """

    predicted: Float[torch.Tensor, "B K D"]
    target: Float[torch.Tensor, "B K D"]
    masked: Bool[torch.Tensor, "B K"]
    certainty: Float[torch.Tensor, "B K"] | None = None
    kind: Kind = "hidden"


@dataclass(frozen=True, eq=False)
class PretextLoss:
    """What one pass of the pretext task yields.

    Attributes:
        total: the number to descend.
        parts: each term of the loss: of a stage's hidden segments, or of its visible ones (`_view`, `_own`).
        errors: squared error of each over the variance of its targets (1 = no better than their mean).
    """

    total: Float[torch.Tensor, ""]
    parts: dict[str, torch.Tensor]
    errors: dict[str, torch.Tensor]


def whole_loss(
    found: Mapping[str, Prediction], loss_sum: Callable[[Prediction], Float[torch.Tensor, ""]]
) -> PretextLoss:
    """The loss of a batch that is all there: each term's sum over its sequences, over their number."""
    parts = {name: loss_sum(p) / num_sequences(p.masked).clamp(min=1) for name, p in found.items()}
    errors = {n: normalised_error(p.predicted[p.masked], p.target[p.masked]).detach() for n, p in found.items()}
    return PretextLoss(torch.stack(list(parts.values())).sum(), parts, errors)
