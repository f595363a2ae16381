"""MAMP against its published sizes, numbers worked out by hand, and what it must not see."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from core.errors import InputError
from model.baselines.mamp import (
    Mamp,
    MampConfig,
    gumbel,
    motion,
    motion_intensity,
    normalised,
    patch_exists,
    patchify,
    seen_patches,
    unpatchify,
)
from model.baselines.skeletons import SkeletonBatch

TINY = MampConfig(
    frames=8,
    joints=3,
    patch_frames=2,
    width=8,
    heads=2,
    encoder_layers=2,
    decoder_layers=1,
    ffn_ratio=2,
    mask_ratio=0.5,
)


def tiny(**changes: float) -> Mamp:
    """The same small network every time, in double precision."""
    torch.manual_seed(0)
    return Mamp(dataclasses.replace(TINY, **changes)).double()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def people(missing: float = torch.nan) -> SkeletonBatch:
    """Three sequences of two: both whole; one whole and one of 5 frames; nobody and one with a gap in frame 3."""
    joints_m = torch.randn(3, 2, 8, 3, 3, generator=seeded(5), dtype=torch.float64)
    exists = torch.ones(3, 2, 8, dtype=torch.bool)
    exists[1, 1, 5:] = exists[2, 0] = exists[2, 1, 3] = False
    return SkeletonBatch(torch.where(exists[..., None, None], joints_m, missing), exists)


def test_size_and_tokens_are_the_published_ones() -> None:
    mamp = Mamp(MampConfig())
    block = 2 * 2 * 256 + (256 + 1) * 768 + (256 + 1) * 256 + (256 + 1) * 1024 + (1024 + 1) * 256
    embed, positions, norm = (12 + 1) * 256, (30 + 25) * 256, 2 * 256
    encoder = embed + positions + 8 * block + norm
    decoder = (256 + 1) * 256 + 256 + positions + 3 * block + norm + (256 + 1) * 12
    assert sum(w.numel() for w in mamp.parameters()) == encoder + decoder
    assert sum(w.numel() for depth in mamp.encoder_depths() for w in depth) == encoder

    shapes: list[tuple[int, ...]] = []
    mamp.embed.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(inputs[0].shape)))
    mamp.decoder_norm.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    batch = SkeletonBatch(torch.randn(1, 1, 120, 25, 3, generator=seeded()), torch.ones(1, 1, 120, dtype=torch.bool))
    with torch.no_grad():
        mamp.loss(batch, seeded())
    assert shapes == [(1, 74, 12), (1, 750, 256)]
    assert mamp.encode(batch).z.shape == (1, 30, 256)
    assert shapes[2] == (1, 750, 12)


def test_patches_hold_the_frames_of_one_joint() -> None:
    x = torch.arange(4 * 2 * 3.0).reshape(1, 4, 2, 3)
    patches = patchify(x, 2)
    # frames 0 and 1 of joint 1, then frames 2 and 3 of joint 0
    assert patches[0, 0, 1].tolist() == [3, 4, 5, 9, 10, 11] and patches[0, 1, 0].tolist() == [12, 13, 14, 18, 19, 20]
    assert torch.equal(unpatchify(patches, 2), x)


def test_a_patch_exists_if_all_its_frames_do() -> None:
    exists = torch.tensor([[[True, True, False, True, True, True, True]]])
    assert patch_exists(exists, 2).tolist() == [[[True, False, True, False]]]


def test_motion_by_hand() -> None:
    x = torch.tensor([0.0, 1.0, 3.0, 6.0, 10.0])[None, :, None, None].expand(1, 5, 1, 3)
    exists = torch.ones(1, 5, dtype=torch.bool)
    assert motion(x, exists)[0, :, 0, 0].tolist() == [1, 2, 3, 4, 0]
    exists[0, 2] = False
    assert motion(x, exists)[0, :, 0, 2].tolist() == [1, 0, 0, 4, 0]


def test_a_target_says_how_and_not_how_far() -> None:
    patch = torch.tensor([0.0, 2.0, 0.0, 2.0])[None, None, None]
    # the mean is 1, the sum of squares 4, over 4 - 1
    expected = [-1 / np.sqrt(4 / 3), 1 / np.sqrt(4 / 3)] * 2
    assert normalised(patch)[0, 0, 0].tolist() == pytest.approx(expected, rel=1e-5)
    assert torch.allclose(normalised(100 * patch + 7), normalised(patch), atol=1e-5)
    assert normalised(torch.full((1, 1, 1, 4), 0.5)).abs().max() == 0
    # a variance of 4/3 e-6 beside the published 1e-6
    assert normalised(1e-3 * patch)[0, 0, 0, 1].item() == pytest.approx(1 / np.sqrt(4 / 3 + 1), rel=1e-3)


def test_intensity_by_hand() -> None:
    x = torch.zeros(1, 4, 2, 6)
    x[0, :, 1, 0] = torch.tensor([0.0, 6.0, 6.0, -12.0])
    everywhere = torch.ones(1, 4, dtype=torch.bool)
    intensity = motion_intensity(x, everywhere)[0]
    assert intensity[:, 0].tolist() == [0, 0, 0, 0] and intensity[:, 1].tolist() == [1, 1, 0, 3]
    gap = torch.tensor([[True, False, True, True]])
    assert motion_intensity(x, gap)[0, gap[0], 1].tolist() == [0, 3, 3]


def chances(probability: np.ndarray, num_hidden: int) -> np.ndarray:
    """Chance of each token to stay, where tokens are hidden one by one in proportion to their probability."""
    stays = np.zeros(len(probability))
    for order in itertools.permutations(range(len(probability)), num_hidden):
        chance, left = 1.0, 1.0
        for token in order:
            chance, left = chance * probability[token] / left, left - probability[token]
        stays[[i for i in range(len(probability)) if i not in order]] += chance
    return stays


@pytest.mark.parametrize(("ratio", "num_seen"), [(0.25, 3), (0.5, 2), (0.75, 1)])
def test_tokens_stay_as_often_as_drawing_without_replacement_says(ratio: float, num_seen: int) -> None:
    intensity = torch.tensor([0.0, 1.0, 2.0, 4.0])
    weight = np.exp(np.array([0.0, 1.0, 2.0, 4.0]) / (4 * 0.3))
    draws = 10_000
    exists = torch.ones(draws, 4, dtype=torch.bool)
    index, seen = seen_patches(intensity.expand(draws, 4), exists, gumbel(draws, 4, seeded(1)), ratio, 0.3)
    assert index.shape == (draws, num_seen) and seen.all()
    share = torch.zeros(draws, 4).scatter(1, index, 1.0).mean(dim=0).numpy()
    # a share of 10,000 draws has a standard deviation of at most 0.005
    assert np.abs(share - chances(weight / weight.sum(), 4 - num_seen)).max() < 0.02


def test_without_motion_all_tokens_stay_as_often() -> None:
    draws = 10_000
    exists = torch.ones(draws, 5, dtype=torch.bool)
    index, _ = seen_patches(torch.zeros(draws, 5), exists, gumbel(draws, 5, seeded(2)), 0.6, 0.8)
    share = torch.zeros(draws, 5).scatter(1, index, 1.0).mean(dim=0)
    assert (share - 0.4).abs().max() < 0.02


def test_counts_follow_what_exists() -> None:
    exists = torch.arange(10)[None] < torch.tensor([10, 7, 1])[:, None]
    # what does not exist must not set the scale of the intensities either
    intensity = torch.where(exists, torch.rand(3, 10, generator=seeded()), 1e9)
    for seed in range(100):
        index, seen = seen_patches(intensity, exists, gumbel(3, 10, seeded(seed)), 0.5, 0.8)
        assert index.shape == (3, 5) and seen.sum(dim=1).tolist() == [5, 3, 1]
        assert exists.gather(1, index)[seen].all()
        alone, both = (
            seen_patches(intensity[1:2, :k], exists[1:2, :k], gumbel(1, 10, seeded(seed))[:, :k], 0.5, 0.1)
            for k in (7, 10)
        )
        assert torch.equal(alone[0][alone[1]], both[0][both[1]])


def test_noise_is_gumbel() -> None:
    noise = gumbel(100, 1000, seeded())
    # mean: Euler's constant, variance: pi^2 / 6; 100,000 draws tell them to 0.004 and 0.01
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.016)
    assert noise.var().item() == pytest.approx(np.pi**2 / 6, abs=0.05)


def by_numpy(batch: SkeletonBatch, noise: np.ndarray, predicted: np.ndarray, config: MampConfig) -> float:
    """The loss of a network that tells the same of every patch, token by token."""
    size, errors = config.patch_frames, []
    sequences, exists = batch.joints_m.numpy(), batch.exists.numpy()
    for sample, (b, p) in enumerate(np.ndindex(exists.shape[:2])):
        x, here = sequences[b, p], exists[b, p]
        starts = [t for t in range(0, len(x), size) if here[t : t + size].all()]
        score, error = [], []
        for t in starts:
            for j in range(config.joints):
                steps = [
                    x[f + 1, j] - x[f, j] if f + 1 < len(x) and here[f + 1] else np.zeros(3) for f in range(t, t + size)
                ]
                told = np.concatenate(steps)
                told = (told - told.mean()) / np.sqrt(told.var(ddof=1) + 1e-6)
                error.append(np.mean((predicted - told) ** 2))
                pairs = [(t, t - size)] * (t - size in starts) or [(t + size, t)] * (t + size in starts)
                score.append(np.mean([np.abs(x[a : a + size, j] - x[c : c + size, j]) for a, c in pairs] or [0.0]))
        if not starts:
            continue
        scaled = np.exp(np.array(score) / (max(score) * config.temperature + 1e-10))
        drawn = [t // size * config.joints + j for t in starts for j in range(config.joints)]
        order = np.argsort(np.log(scaled / scaled.sum()) + noise[sample, drawn])
        errors += list(np.array(error)[order[max(int(len(order) * (1 - config.mask_ratio)), 1) :]])
    return float(np.mean(errors))


def test_loss_against_numpy() -> None:
    batch, told = people(), torch.linspace(-1, 1, 6, dtype=torch.float64)
    for ratio, temperature in ((0.5, 0.8), (0.5, 0.1), (0.9, 0.1)):
        mamp = tiny(mask_ratio=ratio, temperature=temperature)
        with torch.no_grad():
            mamp.predict.weight.zero_()
            mamp.predict.bias.copy_(told)
        found = mamp.loss(batch, seeded(3))
        expected = by_numpy(batch, gumbel(6, 12, seeded(3)).double().numpy(), told.numpy(), mamp.config)
        assert found.total.item() == pytest.approx(expected, rel=1e-9)
        assert found.parts["motion"].item() == found.total.item()


def test_steady_motion_is_told_by_zero() -> None:
    # all three axes alike; the last frame, whose motion is none, is in patches of their own
    mamp, time = tiny(), torch.arange(8.0, dtype=torch.float64)
    batch = SkeletonBatch(time[:, None, None].expand(1, 1, 8, 3, 3), torch.ones(1, 1, 8, dtype=torch.bool))
    target = normalised(patchify(motion(batch.joints_m[0], batch.exists[0]), 2))
    assert target[:, :3].abs().max() == 0 and target[0, 3, 0].tolist() == pytest.approx([0.91287] * 3 + [-0.91287] * 3)
    with torch.no_grad():
        mamp.predict.weight.zero_()
    totals = [mamp.loss(batch, seeded(seed)).total.item() for seed in range(20)]
    # of 6 hidden patches, those of the last step have an error of 5/6: the rest none
    assert {round(total * 6 / (5 / 6), 4) for total in totals} <= {0.0, 1.0, 2.0, 3.0} and len(set(totals)) > 1


def test_gradient_against_finite_differences() -> None:
    mamp, batch, generator = tiny(), people(), seeded(9)
    gradients = torch.autograd.grad(mamp.loss(batch, seeded()).total, list(mamp.parameters()))
    for (name, weight), gradient in zip(mamp.named_parameters(), gradients, strict=True):
        direction = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        ends = []
        with torch.no_grad():
            for shift in (1e-5, -2e-5):
                weight += shift * direction
                ends.append(mamp.loss(batch, seeded()).total.item())
            weight += 1e-5 * direction
        slope = (gradient * direction).sum().item()
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-8), name
        assert slope != 0, name


def test_the_encoder_sees_nothing_of_what_is_hidden() -> None:
    mamp = tiny()
    x = torch.randn(2, 12, 6, generator=seeded(), dtype=torch.float64)
    index = torch.tensor([[3, 0, 7], [11, 2, 5]])
    seen = torch.tensor([[True, True, True], [True, True, False]])
    hidden = torch.ones(2, 12, dtype=torch.bool).scatter(1, index, ~seen)
    before = mamp.encode_seen(x, index, seen)
    after = mamp.encode_seen(x.masked_fill(hidden[..., None], 1e3), index, seen)
    assert torch.equal(before[seen], after[seen])
    changed = x.clone()
    changed[0, 7] += 1
    assert not torch.allclose(mamp.encode_seen(changed, index, seen)[0, 0], before[0, 0])
    # nor does a place that does not count reach the decoder
    exists = torch.ones(2, 12, dtype=torch.bool)
    assert torch.equal(mamp.decode(before, index, seen, exists), mamp.decode(after, index, seen, exists))


def test_the_encoder_takes_coordinates_with_their_places() -> None:
    mamp, batch = tiny(), people()
    coordinates: list[torch.Tensor] = []
    inputs: list[torch.Tensor] = []
    mamp.embed.register_forward_hook(lambda module, given, output: coordinates.append(given[0]))
    mamp.encoder[0].register_forward_hook(lambda module, given, output: inputs.append(given[0]))
    mamp.loss(SkeletonBatch(batch.joints_m[:1], batch.exists[:1]), seeded())
    assert coordinates[0].shape == (2, 6, 6)
    places = (mamp.positions.step[:, None] + mamp.positions.joint).flatten(0, 1)
    for sample in range(2):
        raw = patchify(batch.joints_m[0, sample][None], 2)[0].flatten(0, 1)
        index = [int((raw == seen).all(dim=1).nonzero()) for seen in coordinates[0][sample]]
        assert len(set(index)) == 6 and index != sorted(index)
        assert torch.allclose(inputs[0][sample], mamp.embed(raw[index]) + places[index])


def test_hidden_patches_are_told_apart_by_their_place_and_seen_ones_by_their_tokens() -> None:
    mamp, index, seen = tiny(), torch.tensor([[4, 1]]), torch.ones(1, 2, dtype=torch.bool)
    exists = torch.ones(1, 12, dtype=torch.bool)
    inputs: list[torch.Tensor] = []
    mamp.decoder[0].register_forward_hook(lambda module, given, output: inputs.append(given[0]))
    z = torch.randn(1, 2, 8, generator=seeded(), dtype=torch.float64)
    mamp.decode(z, index, seen, exists)
    expected = mamp.mask_token + (mamp.decoder_positions.step[:, None] + mamp.decoder_positions.joint).flatten(0, 1)
    expected[[4, 1]] += mamp.decoder_embed(z)[0] - mamp.mask_token
    assert torch.allclose(inputs[0][0], expected)


def test_what_is_not_there_does_not_matter() -> None:
    mamp = tiny()
    for there, elsewhere in ((people(torch.nan), people(1e3)), (people(0.0), people(-7.0))):
        one, other = mamp.loss(there, seeded()).total, mamp.loss(elsewhere, seeded()).total
        assert torch.isfinite(one) and torch.equal(one, other)
        tokens, others = mamp.encode(there), mamp.encode(elsewhere)
        assert torch.equal(tokens.z[tokens.exists], others.z[others.exists])


def test_tokens_are_the_same_alone_and_in_a_padded_batch() -> None:
    mamp, batch = tiny(), people()
    together = mamp.encode(batch)
    assert together.frames == 2
    assert together.exists.tolist() == [[True] * 4, [True] * 4, [True, False, True, True]]
    first = mamp.encode(SkeletonBatch(batch.joints_m[1:2, :1], batch.exists[1:2, :1]))
    second = mamp.encode(SkeletonBatch(batch.joints_m[1:2, 1:, :5], batch.exists[1:2, 1:, :5]))
    assert second.exists.tolist() == [[True, True, False]]
    # both people in the first two steps, the first alone afterwards
    assert torch.allclose(together.z[1, :2], (first.z[0, :2] + second.z[0, :2]) / 2)
    assert torch.allclose(together.z[1, 2:], first.z[0, 2:])
    by_joint = mamp.features(batch)
    assert by_joint.shape == (3, 2, 4, 3, 8) and by_joint.requires_grad
    assert torch.allclose(by_joint[1, 0].mean(dim=1), first.z[0])
    assert by_joint[2, 0].abs().max() == 0 and by_joint[1, 1, 2:].abs().max() == 0


def test_nobody_adds_no_loss_and_has_no_tokens() -> None:
    mamp, batch = tiny(), people()
    nobody = SkeletonBatch(batch.joints_m, torch.zeros_like(batch.exists))
    total = mamp.loss(nobody, seeded()).total
    total.backward()
    assert total.item() == 0 and not mamp.encode(nobody).exists.any()


def test_the_same_generator_hides_the_same() -> None:
    mamp, batch = tiny(), people()
    first = mamp.loss(batch, seeded(4)).total.item()
    torch.manual_seed(99)
    assert mamp.loss(batch, seeded(4)).total.item() == first != mamp.loss(batch, seeded(5)).total.item()


def test_encoding_draws_nothing() -> None:
    mamp = tiny(drop_path=0.5).train()
    batch = people()
    assert torch.equal(mamp.encode(batch).z, mamp.encode(batch).z)
    assert mamp.training and mamp.encoder[1].training
    assert not torch.equal(mamp.features(batch), mamp.features(batch))
    assert [block.dropping.path for block in mamp.encoder] == [0.0, 0.5]


def test_a_network_with_an_origin_does_not_ask_where_people_are() -> None:
    batch = people()
    moved = SkeletonBatch(batch.joints_m + torch.tensor([3.0, -2.0, 0.5]), batch.exists)
    here, there = (tiny(origin_joint=1).encode(b) for b in (batch, moved))
    assert torch.allclose(here.z[here.exists], there.z[there.exists])
    assert not torch.allclose(tiny().encode(batch).z, tiny().encode(moved).z)


def test_too_long_or_of_another_skeleton_is_refused() -> None:
    for frames, joints in ((9, 3), (8, 2)):
        batch = SkeletonBatch(torch.zeros(1, 1, frames, joints, 3), torch.ones(1, 1, frames, dtype=torch.bool))
        with pytest.raises(InputError, match=f"{frames} frames of {joints} joints"):
            tiny().encode(batch)
