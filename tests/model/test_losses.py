"""The pretext loss against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from model.certainty import frame_certainty, segment_means
from model.losses import jepa_sum, normalised_error, num_sequences

# one sequence, three positions of which the first two are hidden, one channel
PREDICTED = torch.tensor([[[1.0], [5.0], [100.0]]])
TARGET = torch.tensor([[[0.5], [2.5], [-7.0]]])
MASKED = torch.tensor([[True, True, False]])


def jepa_loss(predicted: torch.Tensor, target: torch.Tensor, masked: torch.Tensor, **options: Any) -> torch.Tensor:
    """The loss of a whole batch, as training divides it."""
    return jepa_sum(predicted, target, masked, **options) / num_sequences(masked).clamp(min=1)


def test_by_hand() -> None:
    # means 3 and 1.5; local parts -2, 2 against -1, 1: Smooth-L1 of 1 is 0.5 each; global: 1.5 -> 1.0
    assert jepa_loss(PREDICTED, TARGET, MASKED).item() == pytest.approx(0.5 * 1.05)
    assert jepa_loss(PREDICTED, TARGET, MASKED, decomposition="local").item() == pytest.approx(0.5)
    assert jepa_loss(PREDICTED, TARGET, MASKED, decomposition="equal").item() == pytest.approx(1.5)
    # plain: differences 0.5 -> 0.125 and 2.5 -> 2.0
    assert jepa_loss(PREDICTED, TARGET, MASKED, decomposition="plain").item() == pytest.approx(1.0625)


def test_gradient_by_hand() -> None:
    predicted = PREDICTED.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(jepa_loss(predicted, TARGET, MASKED), predicted)
    # local: d/dp1 of 0.5 [s(p1-m) + s(p2-m)] with slopes -1, +1 is -0.5, +0.5 (each moves half of the mean as well);
    # global: alpha * lambda * slope / 2 = 0.05 * (0.5 / 1.0) * 1 / 2 for both
    assert gradient[0, :, 0].tolist() == pytest.approx([-0.5 + 0.0125, 0.5 + 0.0125, 0.0])


def test_global_term_is_five_percent_of_the_local() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.randn(2, 4, 9, 16, generator=generator)
    masked = torch.rand(4, 9, generator=generator) < 0.6
    whole = jepa_loss(predicted, target, masked)
    local = jepa_loss(predicted, target, masked, decomposition="local")
    assert whole.item() == pytest.approx(1.05 * local.item(), rel=1e-5)


def test_single_hidden_token_keeps_its_distance_and_none_adds_nothing() -> None:
    one = torch.tensor([[True, False, False]])
    assert jepa_loss(PREDICTED, TARGET, one).item() == pytest.approx(0.125)
    none = torch.zeros(1, 3, dtype=torch.bool)
    assert jepa_loss(PREDICTED, TARGET, none).item() == 0.0
    both = jepa_loss(PREDICTED.repeat(2, 1, 1), TARGET.repeat(2, 1, 1), torch.cat([one, none]))
    assert both.item() == pytest.approx(0.125)


def test_perfect_prediction_has_finite_gradient() -> None:
    predicted = TARGET.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(jepa_loss(predicted, TARGET, MASKED), predicted)
    assert torch.isfinite(gradient).all()


def test_no_gradient_reaches_the_target() -> None:
    target = TARGET.clone().requires_grad_()
    predicted = PREDICTED.clone().requires_grad_()
    jepa_loss(predicted, target, MASKED).backward()
    assert target.grad is None and predicted.grad is not None


def test_normalised_error_of_the_mean_is_one() -> None:
    target = torch.tensor([[0.0], [2.0], [4.0]])
    assert normalised_error(torch.full((3, 1), 2.0), target).item() == pytest.approx(1.0)
    assert normalised_error(target, target).item() == 0.0


def test_uncertain_tokens_count_less() -> None:
    certainty = torch.tensor([[1.0, 0.25, 1.0]])
    plain = jepa_loss(PREDICTED, TARGET, MASKED, decomposition="plain", certainty_BK=certainty)
    # 0.125 whole, 2.0 a quarter, over two hidden tokens
    assert plain.item() == pytest.approx((0.125 + 0.5) / 2)
    # means 1.8 and 0.9; local parts -0.8, 3.2 against -0.4, 1.6: 0.08 and 1.1
    local = jepa_loss(PREDICTED, TARGET, MASKED, decomposition="local", certainty_BK=certainty)
    assert local.item() == pytest.approx((0.08 + 0.25 * 1.1) / 2)
    whole = jepa_loss(PREDICTED, TARGET, MASKED, certainty_BK=certainty)
    assert whole.item() == pytest.approx(1.05 * local.item())


def test_full_certainty_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    predicted, target = torch.randn(2, 4, 9, 16, generator=generator)
    masked = torch.rand(4, 9, generator=generator) < 0.6
    for decomposition in ("local-global", "plain", "local", "equal"):
        bare = jepa_loss(predicted, target, masked, decomposition=decomposition)
        sure = jepa_loss(predicted, target, masked, decomposition=decomposition, certainty_BK=torch.ones(4, 9))
        assert torch.allclose(bare, sure)


def test_certainty_of_frames_and_segments() -> None:
    sigma_m = torch.tensor([[[0.0, 0.0], [0.02, 0.02], [0.06, torch.nan], [torch.nan, torch.nan]]])
    frames = frame_certainty(sigma_m, 0.02)
    assert frames[0].tolist() == pytest.approx([1.0, 0.5, 0.1, 1.0])
    means = segment_means(frames, torch.tensor([[1.0, 3.0, 1.0, 1.0]]), torch.tensor([[0, 0, 1, -1]]), 3)
    assert means[0].tolist() == pytest.approx([0.625, 0.1, 1.0])
