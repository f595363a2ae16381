"""Plain references: what is hidden, what may be read of it, losses and gradients by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from stick_person import stick_clip

from dataset.features import LAYOUT
from dataset.rotations import yaw_matrix
from dataset.shards import motion_from_clip
from model.baselines.plain_frames import (
    MaskedFrames,
    MaskedFramesConfig,
    PlainJepa,
    PlainJepaConfig,
    cut,
    mean_where,
)
from model.baselines.skeletons import SkeletonBatch, System, skeleton_of
from model.baselines.systems import build_system

MASKED = MaskedFramesConfig(num_joints=2, sides=(1, 0, 1, 0), width=8, heads=2, layers=1)
JEPA = PlainJepaConfig(num_joints=2, sides=(1, 0, 1, 0), width=8, heads=2, layers=1, predictor_layers=1)


def skeletons(num_B: int = 3, num_P: int = 1, num_T: int = 20, seed: int = 0) -> SkeletonBatch:
    """Joints at random, all there."""
    generator = torch.Generator().manual_seed(seed)
    joints_m = torch.randn(num_B, num_P, num_T, 2, 3, generator=generator)
    return SkeletonBatch(joints_m, torch.ones(num_B, num_P, num_T, dtype=torch.bool))


def system(config: MaskedFramesConfig | PlainJepaConfig) -> MaskedFrames | PlainJepa:
    torch.manual_seed(0)
    made = build_system(config)
    assert isinstance(made, MaskedFrames | PlainJepa) and isinstance(made, System)
    return made


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_frames_are_those_of_the_features() -> None:
    motion = motion_from_clip(stick_clip("a", "anna", ["raise", "squat", "wave"], 0), 0.9)
    turning = np.linspace(0.0, 1.0, len(motion))
    path = np.stack([2.0 * turning, -(turning**2), np.zeros(len(motion))], axis=1)[:, None]
    walking = dataclasses.replace(motion, joints_m=motion.joints_m @ np.swapaxes(yaw_matrix(turning), 1, 2) + path)
    features = walking.features().astype(np.float64)
    model = build_system(MaskedFramesConfig())
    assert isinstance(model, MaskedFrames)
    joints_m = torch.from_numpy(skeleton_of(walking, "start")).double()[None, None]
    x, _ = model.frames(SkeletonBatch(joints_m, torch.ones(joints_m.shape[:3], dtype=torch.bool)))
    found = x[0].numpy()
    assert found[:, :66] == pytest.approx(features[:, LAYOUT.positions], abs=1e-5)
    assert found[1:, 66:132] == pytest.approx(np.diff(features[:, LAYOUT.positions], axis=0), abs=1e-5)
    rates = features[:-1, LAYOUT.yaw_rate.start : LAYOUT.root_velocity.stop] / walking.rate_hz
    assert found[1:, 132:] == pytest.approx(rates, abs=1e-5)
    assert np.abs(rates[:, 1]).max() > 0.005 and not found[0, 66:].any()


def test_nothing_changes_over_a_gap() -> None:
    batch = skeletons(1, 1, 4)
    exists = torch.tensor([[[True, True, False, True]]])
    x, there = system(MASKED).frames(SkeletonBatch(batch.joints_m, exists))
    assert x.shape == (1, 4, 15) and x[0, 1, 6:].any() and not x[0, 2].any() and not x[0, 3, 6:].any()
    assert there.tolist() == exists[0].tolist()


def test_input_is_normalised_by_what_was_seen() -> None:
    model, batches = system(MASKED), [skeletons(3, 2, 20, seed) for seed in range(2)]
    gone = batches[1].exists.clone()
    gone[:, 1] = False
    batches[1] = SkeletonBatch(batches[1].joints_m, gone)
    raw = torch.cat([model.frames(batch)[0][model.frames(batch)[1]] for batch in batches])
    model.set_statistics(iter(batches))
    x = torch.cat([model.frames(batch)[0][model.frames(batch)[1]] for batch in batches])
    assert x.mean(dim=0).abs().max() < 1e-5
    sd = raw.std(dim=0)
    assert torch.allclose(x.std(dim=0), torch.where(sd > 0.01, 1.0, sd / 0.01), atol=1e-4)
    assert not model.frames(batches[1])[0][1::2].any()  # what is not there stays zero


def test_spans_are_hidden_as_often_as_asked() -> None:
    model, exists = system(MASKED), torch.ones(10_000, 21, dtype=torch.bool)
    exists[:, 18:] = False
    hidden = model.hidden(exists, generator())
    assert not hidden[:, 18:].any()
    # three of six spans are hidden where the first begins with the frames, else four of seven; 10,000 draws: sd .005
    share = hidden[:, :18].double().mean(dim=0)
    assert share.tolist() == pytest.approx([(3 / 6 + 2 * 4 / 7) / 3] * 18, abs=0.02)
    # inside, a run of hidden frames is a multiple of the span long
    one = np.flatnonzero(np.diff(np.concatenate([[0], hidden[0, :18].int().numpy(), [0]])))
    runs = [b - a for a, b in one.reshape(-1, 2).tolist() if a > 0 and b < 18]
    assert all(run % 3 == 0 for run in runs)
    assert torch.equal(hidden, model.hidden(exists, generator())) and not hidden.all(dim=1).any()


@pytest.mark.parametrize("config", [MASKED, JEPA])
def test_nothing_of_hidden_frames_reaches_what_is_told(config: MaskedFramesConfig | PlainJepaConfig) -> None:
    model, batch = system(config), skeletons()
    x, exists = model.frames(batch)
    hidden = model.hidden(exists, generator())
    shaken_m = torch.where(hidden[:, None, :, None, None], batch.joints_m + 5.0, batch.joints_m)
    shaken = model.frames(SkeletonBatch(shaken_m, batch.exists))[0]
    assert not torch.equal(x, shaken) and torch.equal(cut(x, hidden), cut(shaken, hidden))


def test_loss_of_masked_frames_by_hand() -> None:
    model, batch = system(MASKED), skeletons()
    with torch.no_grad():
        model.out.weight.zero_()
        model.out.bias.fill_(0.5)
    assert isinstance(model, MaskedFrames)
    x, exists = model.frames(batch)
    hidden = model.hidden(exists, generator())
    expected = (x[..., :6] - 0.5).square().mean(dim=-1)[hidden].mean()
    found = model.loss(batch, generator())
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found.parts["reconstruction"] is found.total


def test_loss_of_the_jepa_by_hand_and_its_teacher() -> None:
    model, batch = system(JEPA).eval(), skeletons()
    assert isinstance(model, PlainJepa)
    with torch.no_grad():
        model.out.weight.zero_()
        model.out.bias.fill_(0.25)
    x, exists = model.frames(batch)
    hidden = model.hidden(exists, generator())
    away = (model.teacher(x, exists) - 0.25).abs()
    smooth = torch.where(away < 1, 0.5 * away.square(), away - 0.5).mean(dim=-1)
    assert model.loss(batch, generator()).total.item() == pytest.approx(smooth[hidden].mean().item(), rel=1e-5)
    with torch.no_grad():
        model.student.embed.weight.add_(1.0)
    before = model.teacher.embed.weight.clone()
    model.loss(batch, generator())
    assert torch.equal(model.teacher.embed.weight, before)  # an evaluation changes nothing
    model.train().loss(batch, generator()).total.backward()
    assert torch.allclose(model.teacher.embed.weight, before + 0.004)
    assert all(w.grad is None for w in model.teacher.parameters()) and model.student.embed.weight.grad is not None


@pytest.mark.parametrize("config", [MASKED, JEPA])
def test_gradients_against_finite_differences(config: MaskedFramesConfig | PlainJepaConfig) -> None:
    model, batch = system(config).double().eval(), skeletons(2, 1, 8)
    double = SkeletonBatch(batch.joints_m.double(), batch.exists)
    model.loss(double, generator()).total.backward()
    rng = np.random.default_rng(0)
    for weight in (w for w in model.parameters() if w.requires_grad):
        assert weight.grad is not None
        at, step = tuple(int(rng.integers(n)) for n in weight.shape), 1e-6
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[at] += sign * step
                values.append(model.loss(double, generator()).total.item())
                weight[at] -= sign * step
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(weight.grad[at].item(), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("config", [MASKED, JEPA])
def test_people_are_averaged_and_padding_is_not_seen(config: MaskedFramesConfig | PlainJepaConfig) -> None:
    model, two = system(config).eval(), skeletons(1, 2, 10)
    alone = [model.encode(SkeletonBatch(two.joints_m[:, p : p + 1], two.exists[:, p : p + 1])).z for p in (0, 1)]
    assert torch.allclose(model.encode(two).z, (alone[0] + alone[1]) / 2, atol=1e-6)
    exists = two.exists.clone()
    exists[:, 1], exists[:, :, 7:] = False, False
    padded = model.encode(SkeletonBatch(torch.where(exists[..., None, None], two.joints_m, torch.nan), exists))
    short = model.encode(SkeletonBatch(two.joints_m[:, :1, :7], two.exists[:, :1, :7]))
    assert torch.allclose(padded.z[:, :7], short.z, atol=1e-5)
    assert padded.exists.tolist() == [[True] * 7 + [False] * 3] and padded.frames == 1


def test_parameters_of_the_full_size() -> None:
    count = sum(w.numel() for w in build_system(MaskedFramesConfig()).parameters())
    layer = 3 * 256 * 256 + 3 * 256 + 256 * 256 + 256 + 2 * 4 * 256 * 256 + 5 * 256 + 4 * 256
    assert count == 135 * 256 + 256 + 8 * layer + 512 + 256 + 256 * 66 + 66


def test_mean_of_nothing() -> None:
    assert mean_where(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)).item() == 0.0
