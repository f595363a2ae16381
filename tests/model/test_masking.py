"""What is hidden: counts, bounds, reproducibility, and the hierarchy."""

from __future__ import annotations

import torch

from model.masking import draws, generator_of, mask_segments, spread_to_members


def exists(*counts: int) -> torch.Tensor:
    return torch.arange(max(counts))[None] < torch.tensor(counts)[:, None]


def test_half_are_hidden_and_one_always_stays() -> None:
    there = exists(1, 2, 3, 10, 11)
    draw = draws(5, 20, torch.Generator().manual_seed(0))
    masked = mask_segments(there, 0.5, draw)
    assert masked.sum(dim=1).tolist() == [0, 1, 2, 5, 6]
    assert not (masked & ~there).any()
    greedy = mask_segments(there, 0.99, draw)
    assert greedy.sum(dim=1).tolist() == [0, 1, 2, 9, 10]


def test_every_segment_is_hidden_about_half_of_the_time() -> None:
    there = exists(*[8] * 4000)
    share = mask_segments(there, 0.5, draws(4000, 8, torch.Generator().manual_seed(1))).float().mean(dim=0)
    # a share of 4,000 draws has a standard deviation of 0.008
    assert (share - 0.5).abs().max() < 0.04


def test_a_row_is_hidden_alike_in_every_batch_that_holds_it() -> None:
    there = exists(9, 7, 4)
    draw = draws(3, 30, generator_of(0, 5))
    whole = mask_segments(there, 0.5, draw)
    assert torch.equal(whole, mask_segments(there, 0.5, draws(3, 30, generator_of(0, 5))))
    assert not torch.equal(whole, mask_segments(there, 0.5, draws(3, 30, generator_of(0, 6))))
    assert torch.equal(whole[1:, :7], mask_segments(there[1:, :7], 0.5, draw[1:]))


def test_hidden_motifs_hide_all_their_atoms() -> None:
    motif_of_atom = torch.tensor([[0, 0, 1, 2, 2, 2, -1], [0, 1, 1, -1, -1, -1, -1]])
    masked = spread_to_members(torch.tensor([[True, False, True], [False, True, False]]), motif_of_atom)
    assert masked.tolist() == [
        [True, True, False, True, True, True, False],
        [False, True, True, False, False, False, False],
    ]


def test_uncertain_segments_are_hidden_less_often() -> None:
    there = exists(*[8] * 4000)
    certainty = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1]).expand(4000, 8)
    draw = draws(4000, 8, torch.Generator().manual_seed(2))
    share = mask_segments(there, 0.25, draw, certainty).float().mean(dim=0)
    # of two places the first goes to a sure one with 4 in 4.4, the second with 3 in 3.4 or 4 in 4.3
    sure = (4 / 4.4 + (4 / 4.4) * (3 / 3.4) + (0.4 / 4.4) * (4 / 4.3)) / 4
    assert (share[:4] - sure).abs().max() < 0.03 and (share[4:] - (0.5 - sure)).abs().max() < 0.03
    assert torch.equal(mask_segments(there, 0.25, draw), mask_segments(there, 0.25, draw, torch.ones(4000, 8)))
