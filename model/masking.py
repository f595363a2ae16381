"""Which segments the extractor may not see: half of them at random, whole Motifs once there are two stages.

Masks are drawn from an explicit generator, so a resumed run hides the same segments.
"""

from __future__ import annotations

import torch

from core.arrays import Bool, Int


def mask_segments(
    exists_BK: Bool[torch.Tensor, "B K"], ratio: float, generator: torch.Generator
) -> Bool[torch.Tensor, "B K"]:
    """Hides round(ratio * n) of the n segments of each sequence, at least one, and leaves at least one visible.

    A sequence of a single segment has nothing to predict it from: none of it is hidden, and it adds no loss.
    """
    num_B = exists_BK.sum(dim=1)
    hide_B = torch.minimum(torch.clamp((num_B * ratio + 0.5).long(), min=1), torch.clamp(num_B - 1, min=0))
    draw_BK = torch.rand(exists_BK.shape, generator=generator).to(exists_BK.device)
    # padding sorts behind every real segment
    rank_BK = draw_BK.masked_fill(~exists_BK, 2.0).argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return (rank_BK < hide_B[:, None]) & exists_BK


def spread_to_members(
    masked_BM: Bool[torch.Tensor, "B M"], group_BK: Int[torch.Tensor, "B K"]
) -> Bool[torch.Tensor, "B K"]:
    """Carries a mask from groups to their members (Motifs to Atoms, Atoms to frames); -1 belongs to no group.

    Hiding every Atom of a hidden Motif is the hierarchical masking of the paper: the Motif could otherwise be read off
    its own Atoms.
    """
    member_BK = torch.gather(masked_BM, 1, group_BK.clamp(min=0))
    return member_BK & (group_BK >= 0)
