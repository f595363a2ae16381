"""The published classifiers on MAMP's tokens, and the rates that they are trained with."""

from __future__ import annotations

import pytest
import torch

from model.baselines.mamp import Mamp, MampConfig
from model.baselines.mamp_heads import (
    Classifier,
    FineTuneHead,
    LinearProbe,
    layer_decay_groups,
    people_means,
    time_means,
)
from model.baselines.skeletons import SkeletonBatch

CONFIG = MampConfig(
    frames=6, joints=2, patch_frames=2, width=8, heads=2, encoder_layers=3, decoder_layers=1, ffn_ratio=2
)
# two whole people; one whole and one of two steps; one alone
STEPS = torch.tensor([[[True] * 3] * 2, [[True] * 3, [True, True, False]], [[True] * 3, [False] * 3]])


def tokens() -> torch.Tensor:
    z = torch.randn(3, 2, 3, 2, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return torch.where(STEPS[..., None, None], z, torch.nan)


def batch() -> SkeletonBatch:
    joints_m = torch.randn(3, 2, 6, 2, 3, generator=torch.Generator().manual_seed(3))
    return SkeletonBatch(joints_m, STEPS.repeat_interleave(2, dim=2))


def classifier(head: LinearProbe | FineTuneHead, frozen: bool) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Mamp(CONFIG), head, frozen)


def test_means_are_over_who_is_there() -> None:
    z = tokens()
    by_joint = people_means(time_means(z, STEPS).flatten(2), STEPS)
    assert torch.allclose(by_joint[0], z[0].mean(dim=(0, 1)).flatten())
    assert torch.allclose(by_joint[1], (z[1, 0].mean(dim=0) + z[1, 1, :2].mean(dim=0)).flatten() / 2)
    assert torch.allclose(by_joint[2], z[2, 0].mean(dim=0).flatten())
    assert people_means(time_means(z, STEPS & False).flatten(2), STEPS & False).abs().max() == 0


def test_the_probe_is_a_linear_layer_on_normalised_means() -> None:
    probe, z = LinearProbe(8, 5).double(), tokens()
    assert {name for name, _ in probe.named_parameters()} == {"linear.weight", "linear.bias"}
    means = people_means(time_means(z, STEPS).flatten(2), STEPS).unflatten(1, (2, 8)).mean(dim=1)
    scaled = (means - means.mean(dim=0)) / (means.var(dim=0, correction=0) + 1e-6).sqrt()
    assert torch.allclose(probe(z, STEPS), scaled @ probe.linear.weight.T + probe.linear.bias)


def test_the_fine_tuned_head_has_the_published_size() -> None:
    head = FineTuneHead(joints=25, width=256, num_classes=60)
    published = (6400 + 1) * 2048 + 2 * 2048 + (2048 + 1) * 60
    assert sum(w.numel() for w in head.parameters()) == published


def test_the_fine_tuned_head_sees_each_joint() -> None:
    head, z = FineTuneHead(2, 8, 5, hidden=6).double().eval(), tokens()
    first, norm, relu, last = head.layers
    means = people_means(time_means(z, STEPS).flatten(2), STEPS)
    assert torch.allclose(head(z, STEPS), last(relu(norm(first(means)))))
    swapped = z.flip(3)
    assert not torch.allclose(head(z, STEPS), head(swapped, STEPS))


def test_tokens_are_dropped_in_training_only() -> None:
    head, z = FineTuneHead(2, 8, 5, hidden=6).double(), tokens()
    dropped = []
    head.layers.register_forward_hook(lambda module, given, output: dropped.append(given[0]))
    torch.manual_seed(0)
    draws = 3000
    wide, steps = torch.ones(draws, 1, 1, 2, 8, dtype=torch.float64), torch.ones(draws, 1, 1, dtype=torch.bool)
    head(wide, steps)
    # 48,000 values: the standard deviation of the share is 0.002
    assert (dropped[0] == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    head.eval()
    assert torch.equal(head(z, STEPS), head(z, STEPS))


def test_a_frozen_encoder_does_not_learn() -> None:
    probe = classifier(LinearProbe(8, 5), frozen=True).train()
    assert not probe.mamp.training and probe.head.training
    probe(batch()).sum().backward()
    assert all(w.grad is None for w in probe.mamp.parameters())
    assert all(w.grad is not None for w in probe.head.parameters())


def test_fine_tuning_reaches_the_whole_encoder_and_no_decoder() -> None:
    tuned = classifier(FineTuneHead(2, 8, 5, hidden=6), frozen=False).train()
    assert tuned.mamp.training
    tuned(batch()).square().sum().backward()
    trained = {id(w) for group in layer_decay_groups(tuned, 1.0, 0.8, 0.05) for w in group["params"]}
    reached = {id(w) for w in tuned.parameters() if w.grad is not None}
    assert trained == reached
    names = {name for name, w in tuned.named_parameters() if id(w) not in trained}
    assert names and all(name.startswith(("mamp.decoder", "mamp.mask_token", "mamp.predict")) for name in names)


def test_rates_fall_from_the_head_to_the_input() -> None:
    tuned = classifier(FineTuneHead(2, 8, 5, hidden=6), frozen=False)
    groups = layer_decay_groups(tuned, 0.1, 0.8, 0.05)
    of = {id(w): (group["lr"], group["weight_decay"]) for group in groups for w in group["params"]}
    assert len(of) == sum(len(group["params"]) for group in groups)
    found = {name: of[id(w)] for name, w in tuned.named_parameters() if id(w) in of}
    expected = {
        "head.layers.0.weight": (0.1, 0.05),
        "head.layers.0.bias": (0.1, 0.0),
        "mamp.encoder_norm.weight": (0.1, 0.0),
        "mamp.encoder.2.ffn.0.weight": (0.1 * 0.8, 0.05),
        "mamp.encoder.0.ffn.0.weight": (0.1 * 0.8**3, 0.05),
        "mamp.embed.weight": (0.1 * 0.8**4, 0.05),
        "mamp.positions.step": (0.1 * 0.8**4, 0.05),
        "mamp.embed.bias": (0.1 * 0.8**4, 0.0),
    }
    for name, (rate, decay) in expected.items():
        assert found[name] == (pytest.approx(rate), decay), name
    torch.optim.AdamW(groups)
