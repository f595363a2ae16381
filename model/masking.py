"""Which segments the extractor may not see: half of them at random, whole Motifs once there are two stages.

Which ones is decided by numbers that are drawn for the whole batch of a step, one for each place that a segment can
have. A resumed run therefore hides the same segments, and so do several processes that take their rows of the numbers.
"""

from __future__ import annotations

import numpy as np
import torch

from core.arrays import Bool, Float, Int


def generator_of(seed: int, step: int) -> torch.Generator:
    """The generator of the draws of a step; negative steps are evaluations."""
    state = np.random.SeedSequence([seed, 2, int(step >= 0), abs(step)]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))


def draws(num_sequences: int, num_frames: int, generator: torch.Generator) -> Float[torch.Tensor, "B T"]:
    """Numbers in [0, 1) for the segments of a batch; a sequence has at most as many segments as frames."""
    return torch.rand(num_sequences, num_frames, generator=generator)


def mask_segments(
    exists_BK: Bool[torch.Tensor, "B K"],
    ratio: float,
    draw_BT: Float[torch.Tensor, "B T"],
    certainty_BK: Float[torch.Tensor, "B K"] | None = None,
) -> Bool[torch.Tensor, "B K"]:
    """Hides round(ratio * n) of the n segments of each sequence, at least one, and leaves at least one visible.

    A sequence of a single segment has nothing to predict it from: none of it is hidden, and it adds no loss.

    Args:
        draw_BT: random numbers, of which the first K of a row rank its segments; see `draws`.
        certainty_BK: how much each segment counts, above zero: one that counts half is drawn half as readily
            (Efraimidis and Spirakis 2006), so that what is to be predicted is what the fit knows. None: all alike.
    """
    num_B = exists_BK.sum(dim=1)
    hide_B = torch.minimum(torch.clamp((num_B * ratio + 0.5).long(), min=1), torch.clamp(num_B - 1, min=0))
    draw_BK = draw_BT[:, : exists_BK.shape[1]].to(exists_BK.device)
    if certainty_BK is not None:
        draw_BK = -torch.log1p(-draw_BK) / certainty_BK
    # padding sorts behind every real segment
    rank_BK = draw_BK.masked_fill(~exists_BK, torch.inf).argsort(dim=1, stable=True).argsort(dim=1, stable=True)
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


def group_of_members(
    group_BK: Int[torch.Tensor, "B K"], member_BT: Int[torch.Tensor, "B T"]
) -> Int[torch.Tensor, "B T"]:
    """The group of each member's member (the Motif of each frame, by its Atom); -1 belongs to none."""
    return torch.where(member_BT >= 0, torch.gather(group_BK, 1, member_BT.clamp(min=0)), -1)
