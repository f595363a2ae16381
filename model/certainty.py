"""How much a segment counts in the pretext task: less where the fit was not sure of the body."""

from __future__ import annotations

import torch

from core.arrays import Float, Int


def frame_certainty(joint_sigma_m_BTJ: Float[torch.Tensor, "B T J"], half_trust_m: float) -> Float[torch.Tensor, "B T"]:
    """1 for a frame without error, 1/2 where the joints' standard deviation is `half_trust_m`; 1 where it is unknown.

    The weight of least squares, 1 / variance, with a floor under the variance: what a movement varies by itself. A
    frame's variance is the mean over the joints that have one.
    """
    known = torch.isfinite(joint_sigma_m_BTJ)
    variance = torch.where(known, joint_sigma_m_BTJ, 0.0).square().sum(dim=-1) / known.sum(dim=-1).clamp(min=1)
    return 1 / (1 + variance / half_trust_m**2)


def segment_means(
    value_BS: Float[torch.Tensor, "B S"],
    weight_BS: Float[torch.Tensor, "B S"],
    segment_BS: Int[torch.Tensor, "B S"],
    num_K: int,
) -> Float[torch.Tensor, "B K"]:
    """Weighted mean over the tokens of each segment; 1 for a segment without any. Segment -1 takes no part."""
    slot_BS = torch.where(segment_BS < 0, num_K, segment_BS)
    empty = value_BS.new_zeros(len(value_BS), num_K + 1)
    total_BK = empty.scatter_add(1, slot_BS, weight_BS)[:, :num_K]
    sum_BK = empty.scatter_add(1, slot_BS, weight_BS * value_BS)[:, :num_K]
    return torch.where(total_BK > 0, sum_BK / total_BK.clamp(min=1e-12), 1.0)
