"""Variance and covariance of tokens: by hand, and as one gradient however the batch is divided."""

from __future__ import annotations

import pytest
import torch

from model.spread import moments, penalty_and_slope, spread_penalty


def tokens(seed: int = 0) -> torch.Tensor:
    return torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(seed))


def everything(z: torch.Tensor) -> torch.Tensor:
    return torch.ones(z.shape[:2], dtype=torch.bool)


def test_by_hand() -> None:
    # two channels that tell the same, of deviation 0.5: hinge 0.5 each; correlation 1 twice
    z = torch.tensor([[[0.5, -0.5], [-0.5, 0.5]]])
    assert spread_penalty(moments(z, everything(z))).item() == pytest.approx(0.5 + 0.04 * 2 / 2, abs=1e-3)
    apart = 2 * torch.tensor([[[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]])
    assert spread_penalty(moments(apart, everything(apart))).item() == pytest.approx(0.0, abs=1e-6)
    one_place = torch.ones(2, 3, 4)
    assert spread_penalty(moments(one_place, everything(one_place))).item() == pytest.approx(0.99, abs=1e-3)


def test_too_few_tokens_have_no_spread() -> None:
    z = tokens().requires_grad_()
    counts = everything(z) & False
    counts[0, 0] = True
    penalty = spread_penalty(moments(z, counts))
    penalty.backward()
    assert penalty.item() == 0.0 and z.grad is not None and torch.isfinite(z.grad).all()


def test_against_numeric_gradients() -> None:
    z = tokens().double().requires_grad_()
    counts = torch.ones(6, 5, dtype=torch.bool)
    counts[2:, 3:] = False

    def penalty(values: torch.Tensor) -> torch.Tensor:
        chosen = torch.cat([values[counts], values.new_ones(int(counts.sum()), 1)], dim=1)
        return spread_penalty(chosen.T @ chosen)

    assert torch.autograd.gradcheck(penalty, (z,))


@pytest.mark.parametrize("parts", [2, 3])
def test_slopes_at_the_total_are_the_gradient_of_the_whole(parts: int) -> None:
    whole = tokens().requires_grad_()
    spread_penalty(moments(whole, everything(whole))).backward()
    divided = tokens().requires_grad_()
    own = [moments(part, everything(part)) for part in divided.chunk(parts)]
    penalty, slope = penalty_and_slope(torch.stack(own).sum(dim=0))
    for part in own:
        (slope * part).sum().backward(retain_graph=True)
    assert penalty.item() == pytest.approx(spread_penalty(moments(whole, everything(whole))).item(), rel=1e-5)
    assert whole.grad is not None and divided.grad is not None
    assert torch.allclose(divided.grad, whole.grad, atol=1e-6)
