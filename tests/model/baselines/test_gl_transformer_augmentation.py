"""GL-Transformer's augmentation: a shear that spares the path, and motions that take longer or shorter."""

from __future__ import annotations

import torch

from model.baselines.gl_transformer import resampled, sheared


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shear_is_one_linear_map_a_sequence_and_spares_the_global_token() -> None:
    x = torch.randn(500, 2, 3, 4, 3, generator=seeded())
    x[..., 3, :] = torch.eye(3)
    told = sheared(x, 0.3, 1, seeded(5))
    assert torch.equal(told[..., 1, :], x[..., 1, :])
    map_B33 = told[:, 0, :, 3].transpose(1, 2)
    assert torch.allclose(
        told[..., [0, 2, 3], :], torch.einsum("bij,bptvj->bptvi", map_B33, x[..., [0, 2, 3], :]), atol=1e-5
    )
    assert torch.allclose(map_B33.diagonal(dim1=1, dim2=2), torch.ones(()))
    beside = map_B33[:, ~torch.eye(3, dtype=torch.bool)]
    # of 3,000 uniform draws the mean has a standard deviation of 0.003, and none is within 0.003 of an end with 3e-7
    assert 0.297 < beside.max() <= 0.3 and -0.3 <= beside.min() < -0.297 and beside.mean().abs() < 0.015
    assert all(len(column.unique()) == 500 for column in beside.T)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(told, sheared(x, 0.3, 1, seeded(5)))
    assert not torch.equal(told, sheared(x, 0.3, 1, seeded(6)))


def test_resampled_straight_lines_are_straight() -> None:
    frame_T = torch.arange(60.0, dtype=torch.float64)
    x = (frame_T[:, None, None] * torch.tensor([1.0, -2.0, 0.5])).expand(400, 1, 60, 2, 3)
    exists = (frame_T < 50).expand(400, 1, 60)
    told, there = resampled(torch.where(exists[..., None, None], x, 0.0), exists, 0.1, 300, seeded())
    assert there.shape == (400, 1, 66)
    counts = there[:, 0].sum(dim=1)
    # whole parts of 45 to 55, each about 40 times; 55 itself would need a draw of one
    assert counts.unique().tolist() == list(range(45, 55))
    for sequence, count in zip(told[:, 0], counts.tolist(), strict=True):
        line = torch.linspace(0, 49, count, dtype=torch.float64)[:, None, None] * torch.tensor([1.0, -2.0, 0.5])
        assert torch.allclose(sequence[:count], line.expand(-1, 2, 3)) and (sequence[count:] == 0).all()


def test_resampling_is_cut_at_the_longest_and_can_leave_all_as_it_is() -> None:
    x, exists = torch.randn(3, 2, 8, 4, 3, generator=seeded()), torch.ones(3, 2, 8, dtype=torch.bool)
    exists[1, :, 6:] = exists[0, 0, 7] = exists[1:, 1, 3:] = False
    x = torch.where(exists[..., None, None], x, 0.0)
    same, there = resampled(x, exists, 0.0, 12, seeded())
    assert torch.equal(same, x) and torch.equal(there, exists)
    cut, there = resampled(x, exists, 1.0, 9, seeded(3))
    assert cut.shape == (3, 2, 9, 4, 3) and there.shape == (3, 2, 9)
    short, there = resampled(x[:, :, :1], exists[:, :, :1], 0.1, 12, seeded())
    assert torch.equal(short, x[:, :, :1]) and torch.equal(there, exists[:, :, :1])


def test_a_resampled_frame_needs_both_its_neighbours() -> None:
    x = torch.ones(200, 2, 9, 1, 3)
    exists = torch.ones(200, 2, 9, dtype=torch.bool)
    exists[:, 1, 4] = False
    told, there = resampled(x * exists[..., None, None], exists, 0.5, 300, seeded())
    assert torch.equal(told[..., 0, 0], there.float())
    for sequence in there:
        count = int(sequence[0].sum())
        place = torch.arange(count) * 8 / max(count - 1, 1)
        # whole places are hit exactly or missed by a seventeenth at least
        assert torch.equal(sequence[1, :count], (place <= 3 + 1e-6) | (place >= 5 - 1e-6))
