"""The pretext loss: a Smooth-L1 distance between latent tokens, split into what they share and what they do not.

Eqs. 2-6 of the paper. The mean over the hidden tokens of a sequence is its global part (the context), the rest is
local. The global term is scaled so that its value is always alpha = 5 % of the local one; its gradient is that of the
global distance itself. Without that, tokens carry their context rather than their own movement.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

from core.arrays import Bool, Float, Int

Decomposition = Literal["local-global", "plain", "local", "equal"]

# A global distance below this is zero for float32 tokens; it only keeps the ratio finite.
_TINY = 1e-12


def smooth_l1(
    predicted: Float[torch.Tensor, "*n D"], target: Float[torch.Tensor, "*n D"], beta: float
) -> Float[torch.Tensor, "*n"]:
    """Smooth-L1 distance of tokens, averaged over their channels."""
    return F.smooth_l1_loss(predicted, target, reduction="none", beta=beta).mean(dim=-1)


def jepa_sum(
    predicted_BKD: Float[torch.Tensor, "B K D"],
    target_BKD: Float[torch.Tensor, "B K D"],
    masked_BK: Bool[torch.Tensor, "B K"],
    *,
    alpha: float = 0.05,
    beta: float = 1.0,
    decomposition: Decomposition = "local-global",
    certainty_BK: Float[torch.Tensor, "B K"] | None = None,
) -> Float[torch.Tensor, ""]:
    """L = (1/|K|) sum_k [ L_k^l + alpha lambda_k L^g ], lambda_k = sg(L_k^l / L^g), summed over sequences.

    The parts of a batch add up to its sum, in whichever processes they are; divided by `num_sequences` of the whole
    batch it is the loss. A mean of the parts' means would be another number wherever these differ in size.

    A sequence with a single hidden token has no local part (the token is its own mean): it adds its plain distance.
    One without any adds nothing.

    Args:
        predicted_BKD: what the predictor says at every position.
        target_BKD: the teacher's tokens; no gradient goes there.
        masked_BK: the hidden tokens, the set K of the sum.
        alpha: weight of the global term relative to the local one.
        beta: where Smooth-L1 turns from a parabola into a line.
        decomposition: the paper's loss, or one of its ablations (Table 3).
        certainty_BK: how much each token counts, 0 to 1, in the means and in the sum over k; None: all of them 1.
    """
    target_BKD = target_BKD.detach()
    plain_BK = smooth_l1(predicted_BKD, target_BKD, beta)
    count_B = masked_BK.sum(dim=1)
    if decomposition == "plain":
        return _sum_over_sequences(plain_BK, masked_BK, certainty_BK)
    share_BK = masked_BK.float() if certainty_BK is None else masked_BK * certainty_BK
    weight_BK1 = (share_BK / share_BK.sum(dim=1, keepdim=True).clamp(min=_TINY))[..., None]
    predicted_mean_BD = (predicted_BKD * weight_BK1).sum(dim=1)
    target_mean_BD = (target_BKD * weight_BK1).sum(dim=1)
    local_BK = smooth_l1(predicted_BKD - predicted_mean_BD[:, None], target_BKD - target_mean_BD[:, None], beta)
    global_B1 = smooth_l1(predicted_mean_BD, target_mean_BD, beta)[:, None]
    if decomposition == "local":
        term_BK = local_BK
    elif decomposition == "equal":
        term_BK = local_BK + global_B1
    else:
        ratio_BK = (local_BK / global_B1.clamp(min=_TINY)).detach()
        term_BK = local_BK + alpha * ratio_BK * global_B1
    return _sum_over_sequences(torch.where(count_B[:, None] > 1, term_BK, plain_BK), masked_BK, certainty_BK)


def num_sequences(masked_BK: Bool[torch.Tensor, "B K"]) -> Int[torch.Tensor, ""]:
    """Sequences that have anything hidden: what the sum of the loss is divided by."""
    return masked_BK.any(dim=1).sum()


def _sum_over_sequences(
    term_BK: torch.Tensor, masked_BK: torch.Tensor, certainty_BK: torch.Tensor | None
) -> torch.Tensor:
    """Mean over each sequence's hidden tokens, summed over the sequences; what is uncertain lowers its sequence's."""
    share_BK = masked_BK if certainty_BK is None else masked_BK * certainty_BK
    return ((term_BK * share_BK).sum(dim=1) / masked_BK.sum(dim=1).clamp(min=1)).sum()


def normalised_error(
    predicted_ND: Float[torch.Tensor, "N D"], target_ND: Float[torch.Tensor, "N D"]
) -> Float[torch.Tensor, ""]:
    """Squared error over the variance of the targets: 1 is what the targets' mean would score, 0 is perfect.

    A loss alone says little, because the scale of the targets is learned too.
    """
    spread = (target_ND - target_ND.mean(dim=0)).square().mean()
    return (predicted_ND - target_ND).square().mean() / spread.clamp(min=_TINY)
