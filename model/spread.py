"""Tokens that use all of their channels: after the variance and covariance terms of VICReg (Bardes et al., ICLR 2022).

Where student and teacher see different bodies, tokens that tell nothing would agree best. Each channel is therefore
kept at a standard deviation of one at least, and channels from telling the same. With C their correlation matrix
(VICReg has the covariance),

    sum over channels of max(0, 1 - sd) / D  +  0.04 sum over i != j of C_ij^2 / D.

This is no sum over sequences: it depends on the moments of all tokens of the batch. They are sums, so parts and
processes add theirs up first; each then descends along the slope at the total, which is the gradient of the whole.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from core.arrays import Bool, Float

_CORRELATION = 0.04
# a variance below this is none
_TINY = 1e-4


def moments(
    tokens_BKD: Float[torch.Tensor, "B K D"], counts_BK: Bool[torch.Tensor, "B K"]
) -> Float[torch.Tensor, "E E"]:
    """Sums of products of the channels of tokens that count, a channel of ones being the last (E = D + 1)."""
    z_ND = tokens_BKD[counts_BK].double()  # variances are differences of these sums
    z_ND = torch.cat([z_ND, z_ND.new_ones(len(z_ND), 1)], dim=1)
    return z_ND.T @ z_ND


def spread_penalty(moments_EE: Float[torch.Tensor, "E E"]) -> Float[torch.Tensor, ""]:
    """The two terms, from the moments of all tokens; zero with fewer than two of them."""
    count = moments_EE[-1, -1].detach()
    width = len(moments_EE) - 1
    if count < 2:
        return 0.0 * moments_EE.sum()
    mean_D = moments_EE[-1, :-1] / count
    covariance_DD = moments_EE[:-1, :-1] / count - mean_D[:, None] * mean_D
    sd_D = (covariance_DD.diagonal().clamp(min=0) + _TINY).sqrt()
    correlation_DD = covariance_DD / (sd_D[:, None] * sd_D)
    pairs = correlation_DD.square().sum() - correlation_DD.diagonal().square().sum()
    return F.relu(1 - sd_D).sum() / width + _CORRELATION * pairs / width


def penalty_and_slope(moments_EE: Float[torch.Tensor, "E E"]) -> tuple[torch.Tensor, torch.Tensor]:
    """The penalty at the moments of all tokens, and its derivative by them."""
    with torch.enable_grad():
        at = moments_EE.detach().clone().requires_grad_()
        penalty = spread_penalty(at)
        (slope,) = torch.autograd.grad(penalty, at)
    return penalty.detach().float(), slope
