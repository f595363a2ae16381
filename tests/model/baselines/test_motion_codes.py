"""Motion codes: who sees whom, terms and gradients by hand, and the life of codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_codes import TINY, network, skeletons

from model.baselines.motion_codes import (
    CausalTransformer,
    FrameProbe,
    MotionCodes,
    MotionCodesConfig,
    clustering_error,
    keyframes,
    nearest_codes,
    squared_error,
    straight_through,
    temporal_variation,
)
from model.baselines.skeletons import SkeletonBatch, StepTokens, SystemLoss
from model.blocks import Block, rotary, with_self


def loss(model: MotionCodes, batch: SkeletonBatch, seed: int = 0) -> SystemLoss:
    """The loss with a fresh generator."""
    return model.loss(batch, torch.Generator().manual_seed(seed))


# --- who sees whom


@pytest.mark.parametrize(("frames", "receptive"), [(10, 55), (100, 595)])
def test_receptive_field_of_the_papers_widths(frames: int, receptive: int) -> None:
    assert MotionCodesConfig(frames=frames).receptive_frames == receptive
    torch.manual_seed(0)
    encoder = CausalTransformer(8, 1, 6, 1, frames).double()
    x = torch.randn(1, receptive + 70, 8, dtype=torch.float64, requires_grad=True)
    z, _ = encoder(x, torch.ones(x.shape[:2], dtype=torch.bool))
    last = receptive + 40  # within a tile, with frames on both sides of its field
    (gradient,) = torch.autograd.grad((z[0, last] * torch.randn(8, dtype=torch.float64)).sum(), x)
    # the far end is reached over a single path of six attention weights: tiny, but not zero
    seen = gradient[0].abs().amax(dim=-1) > 0
    assert seen.nonzero()[:, 0].tolist() == list(range(last - receptive + 1, last + 1))


def test_a_changed_frame_changes_no_output_before_it_and_none_past_the_field() -> None:
    model, batch = network(encoder_layers=3).double(), skeletons(1, 1, 1, 120)
    changed_m = batch.joints_m.double()
    changed_m[0, 0, 70] += 1.0
    before = model.encode(SkeletonBatch(batch.joints_m.double(), batch.exists)).z
    after = model.encode(SkeletonBatch(changed_m, batch.exists)).z
    differs = (before != after).any(dim=-1)[0].nonzero()[:, 0].tolist()
    assert differs == list(range(70, 70 + 3 * (4 - 1) + 1))


@pytest.mark.parametrize("frames", [1, 4, 70])
def test_attention_in_tiles_is_that_of_the_shared_blocks_under_a_band(frames: int) -> None:
    torch.manual_seed(0)
    layers = CausalTransformer(16, 2, 2, 2, frames)
    x, exists = torch.randn(2, 150, 16), torch.rand(2, 150) < 0.8
    time = torch.arange(150)
    behind = time[:, None] - time
    allowed = with_self(((behind >= 0) & (behind < frames)) & exists[:, None, :])
    expected = x
    for block in layers.blocks:
        assert isinstance(block, Block)
        expected = block(expected, rotary(time[None].float(), 8), allowed)
    assert torch.allclose(layers(x, exists)[0], layers.norm(expected), atol=2e-5)


def test_positions_do_not_lose_precision_late_in_a_recording() -> None:
    model, batch = network(), skeletons(2, 1, 1, 40)
    empty = SkeletonBatch(torch.zeros(1, 1, 30_011, 2, 3), torch.zeros(1, 1, 30_011, dtype=torch.bool))
    late = SkeletonBatch(
        torch.cat([empty.joints_m, batch.joints_m], dim=2), torch.cat([empty.exists, batch.exists], dim=2)
    )
    assert torch.allclose(model.encode(late).z[:, 30_011:], model.encode(batch).z, atol=1e-5)


def test_padding_and_absent_people_do_not_matter() -> None:
    model, batch = network(), skeletons(3, 2, 2, 30, gaps=0.2)
    padded_m = torch.full((2, 3, 100, 2, 3), torch.nan)
    padded_m[:, :2, :30] = torch.where(batch.exists[..., None, None], batch.joints_m, torch.nan)
    exists = torch.zeros(2, 3, 100, dtype=torch.bool)
    exists[:, :2, :30] = batch.exists
    padded = SkeletonBatch(padded_m, exists)
    old, new = loss(model, batch), loss(model, padded)
    for name, value in old.parts.items():
        assert torch.allclose(new.parts[name], value, rtol=1e-5)
    codes = model.codes(padded)
    assert torch.equal(codes[:, :2, :30], model.codes(batch))
    assert (codes[~exists] == -1).all() and (codes[exists] >= 0).all()
    tokens, expected = model.encode(padded), model.encode(batch)
    assert torch.equal(tokens.exists[:, :30], expected.exists) and not tokens.exists[:, 30:].any()
    assert torch.allclose(tokens.z[:, :30], expected.z, atol=1e-5) and torch.isfinite(tokens.z).all()
    new.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_people_are_read_alone_and_averaged_where_they_are() -> None:
    model, batch = network(), skeletons(4, 1, 2, 25, gaps=0.3)
    alone = [model.encode(SkeletonBatch(batch.joints_m[:, p : p + 1], batch.exists[:, p : p + 1])).z for p in (0, 1)]
    tokens = model.encode(batch)
    assert tokens.frames == 1 and torch.equal(tokens.exists, batch.exists.any(dim=1))
    for t in range(25):
        there = [alone[p][0, t] for p in (0, 1) if batch.exists[0, p, t]]
        if there:
            assert torch.allclose(tokens.z[0, t], torch.stack(there).mean(dim=0), atol=1e-5)


# --- the loss and its gradient


def test_terms_by_hand() -> None:
    # two channels, three frames, the last of which does not count
    z = torch.tensor([[[0.0, 1.0], [2.0, -1.0], [50.0, 50.0]]])
    e = torch.tensor([[[1.0, 1.0], [2.0, 2.0], [0.0, 0.0]]])
    exists = torch.tensor([[True, True, False]])
    # frames: (1 + 0) / 2 and (0 + 9) / 2
    assert squared_error(z, e, exists).item() == pytest.approx(2.5)
    assert clustering_error(z, e, exists, 0.5).item() == pytest.approx(1.5 * 2.5)
    # one step within what exists: (2 + 2) / 2
    assert temporal_variation(z, exists).item() == pytest.approx(2.0)
    # a step over a gap is none
    assert temporal_variation(z, torch.tensor([[True, False, True]])).item() == 0.0
    assert squared_error(z, e, torch.zeros(1, 3, dtype=torch.bool)).item() == 0.0


def test_clustering_pulls_codes_and_outputs_by_hand() -> None:
    z = torch.tensor([[[0.0], [4.0]]], requires_grad=True)
    e = torch.tensor([[[1.0], [1.0]]], requires_grad=True)
    clustering_error(z, e, torch.ones(1, 2, dtype=torch.bool), 0.25).backward()
    assert z.grad is not None and e.grad is not None
    # d/de of ((1 - 0)^2 + (1 - 4)^2) / 2, and a quarter of the opposite for z
    assert e.grad[0, :, 0].tolist() == pytest.approx([1.0, -3.0])
    assert z.grad[0, :, 0].tolist() == pytest.approx([-0.25, 0.75])


def test_straight_through_passes_codes_on_and_gradients_back() -> None:
    z, e = torch.randn(2, 1, 3, 4).unbind(0)
    z.requires_grad_(), e.requires_grad_()
    passed = straight_through(z, e)
    assert torch.allclose(passed, e, atol=1e-6)
    weight = torch.randn(1, 3, 4)
    (passed * weight).sum().backward()
    assert z.grad is not None and torch.equal(z.grad, weight)
    assert e.grad is None


def test_loss_against_numpy() -> None:
    model, batch = network(alpha=0.7, beta=0.6, gamma=0.5, commitment=0.3), skeletons(5, 2, 2, 9, gaps=0.25)
    model.set_statistics(torch.linspace(-0.2, 0.3, 6), torch.tensor(0.4))
    x = (batch.joints_m.reshape(4, 9, 6).numpy() - np.linspace(-0.2, 0.3, 6)) / 0.4
    exists = batch.exists.reshape(4, 9)
    x = np.where(exists[..., None], x, 0.0)
    with torch.no_grad():
        z = model.encoder(model.embed(torch.from_numpy(x).float()), exists)[0]
        book = model.codebook.numpy()
        squares = ((z.numpy()[:, :, None] - book) ** 2).sum(axis=-1)
        e = book[squares.argmin(axis=-1)]
        told = model.out(model.decoder(torch.from_numpy(e), exists)[0]).numpy()
    rows = list(zip(*exists.numpy().nonzero(), strict=True))
    steps = [(n, t) for n, t in rows if t > 0 and exists[n, t - 1]]
    reconstruction = np.mean([np.mean((told[i] - x[i]) ** 2) for i in rows])
    clustering = 1.3 * np.mean([np.mean((z.numpy()[i] - e[i]) ** 2) for i in rows])
    variation = np.mean([np.mean(np.abs(z.numpy()[n, t] - z.numpy()[n, t - 1])) for n, t in steps])
    found = loss(model, batch)
    assert set(found.parts) == {"reconstruction", "clustering", "variation"}
    assert found.parts["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-4)
    assert found.parts["clustering"].item() == pytest.approx(clustering, rel=1e-4)
    assert found.parts["variation"].item() == pytest.approx(variation, rel=1e-4)
    assert found.total.item() == pytest.approx(0.7 * reconstruction + 0.6 * clustering + 0.5 * variation, rel=1e-4)


def test_gradient_of_the_whole_loss_against_finite_differences() -> None:
    """What is held still by the straight-through pass and the clustering is held still by hand here."""
    config = {"width": 4, "heads": 1, "num_codes": 3, "encoder_layers": 1, "decoder_layers": 1, "num_joints": 1}
    model = network(alpha=0.7, beta=0.6, gamma=0.5, commitment=0.3, **config).double()
    single = skeletons(6, 2, 1, 6, gaps=0.2, num_joints=1)
    batch = SkeletonBatch(single.joints_m.double(), single.exists)
    x, exists = batch.joints_m.reshape(2, 6, 3), batch.exists.reshape(2, 6)
    x = torch.where(exists[..., None], x, 0.0)
    both = exists[:, 1:] & exists[:, :-1]
    with torch.no_grad():
        z_still = model.encoder(model.embed(x), exists)[0]
        code = (z_still[:, :, None] - model.codebook).square().sum(dim=-1).argmin(dim=-1)
        e_still = model.codebook[code].clone()
    assert len(set(code[exists].tolist())) > 1

    @torch.no_grad()
    def still() -> float:
        z, e = model.encoder(model.embed(x), exists)[0], model.codebook[code]
        told = model.out(model.decoder(z + (e_still - z_still), exists)[0])
        assert torch.equal((z[:, :, None] - model.codebook).square().sum(dim=-1).argmin(dim=-1)[exists], code[exists])
        reconstruction = (told - x)[exists].square().mean()
        clustering = (z_still - e)[exists].square().mean() + 0.3 * (z - e_still)[exists].square().mean()
        variation = (z[:, 1:] - z[:, :-1])[both].abs().mean()
        return float(0.7 * reconstruction + 0.6 * clustering + 0.5 * variation)

    whole = loss(model, batch)
    whole.total.backward()
    assert still() == pytest.approx(whole.total.item(), rel=1e-12)
    generator, step = torch.Generator().manual_seed(0), 1e-5
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        sides = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * step)
                sides.append(still())
                parameter.sub_(direction, alpha=sign * step)
        slope = float((parameter.grad * direction).sum())
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-8), name


def test_the_same_seed_gives_the_same_loss() -> None:
    batch, found = skeletons(7, 2, 1, 20), []
    for _ in range(2):
        torch.manual_seed(3)
        model = MotionCodes(TINY)
        found.append([loss(model, batch, seed=5).total.item() for _ in range(3)])
    assert found[0] == found[1]


def test_parameters_by_hand() -> None:
    # a layer: two norms 2 * 32; queries, keys, values 3 * 16 * 16 + 48; out 16 * 16 + 16; feed-forward 2 * 16 * 32 + 48
    layer = 64 + 816 + 272 + 1072
    # embedding 6 * 16 + 16; four layers; codebook 12 * 16; last 16 * 6 + 6
    expected = 112 + 4 * layer + 192 + 102
    assert sum(p.numel() for p in network().parameters()) == expected == 9302


# --- codes


def test_nearest_code_and_the_lowest_of_equally_near_ones() -> None:
    codebook = torch.tensor([[9.0, 9.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    points = torch.tensor([[0.9, 0.1], [-3.0, 0.0], [0.0, 5.0], [8.0, 8.0]])
    assert nearest_codes(points, codebook).tolist() == [1, 2, 1, 0]
    # many points far from the origin, whose squares would swallow the difference of 0.01
    near = torch.tensor([[1000.0, 0.01], [1000.0, 0.0]])
    assert nearest_codes(near[1:].repeat(40, 1), near).tolist() == [1] * 40


def test_one_codebook_serves_all_sequences() -> None:
    model, batch = network(), skeletons(8, 3, 2, 30)
    codes = model.codes(batch)
    order = torch.tensor([2, 0, 1])
    assert torch.equal(model.codes(SkeletonBatch(batch.joints_m[order], batch.exists[order])), codes[order])
    # the same movement has the same codes, whoever makes it beside whatever else
    copied_m = batch.joints_m.clone()
    copied_m[2, 1] = copied_m[0, 0]
    assert torch.equal(model.codes(SkeletonBatch(copied_m, batch.exists))[2, 1], codes[0, 0])
    assert model.codebook.shape == (12, 16) and len(codes.unique()) > 1


def test_the_codes_vector_can_be_the_representation() -> None:
    batch = skeletons(9, 2, 1, 20)
    model = network(representation="code")
    assert torch.equal(model.encode(batch).z, model.codebook[model.codes(batch)[:, 0]])
    assert not torch.equal(network().encode(batch).z, model.encode(batch).z)
    # the encoder's output has no mean and unit variance over channels: it cannot shrink
    z = network().encode(batch).z
    assert torch.allclose(z.mean(dim=-1), torch.zeros(2, 20), atol=1e-5)
    assert torch.allclose(z.var(dim=-1, unbiased=False), torch.ones(2, 20), atol=1e-3)


def test_dead_codes_move_to_outputs_and_others_stay() -> None:
    batch = skeletons(10, 2, 2, 20, gaps=0.3)
    model = network(revive_after=5).train()
    model.unused[[1, 4, 7]] = 5
    model.unused[2] = 4
    before = model.codebook.detach().clone()
    encoder_out = model.encoder(model.embed(model._frames(batch)[0]), batch.exists.flatten(0, 1))[0]
    outputs = encoder_out[batch.exists.flatten(0, 1)]
    loss(model, batch)
    moved = (model.codebook != before).any(dim=-1).nonzero()[:, 0].tolist()
    assert moved == [1, 4, 7]
    origin = [(outputs == model.codebook[k]).all(dim=-1).nonzero()[:, 0].tolist() for k in moved]
    assert all(len(frames) == 1 for frames in origin)
    assert len({frames[0] for frames in origin}) == 3  # different frames

    again, other = (network(revive_after=5).train() for _ in range(2))
    for model_, seed in ((again, 0), (other, 1)):
        model_.unused[[1, 4, 7]] = 5
        loss(model_, batch, seed)
    assert torch.equal(again.codebook, model.codebook)
    assert not torch.equal(other.codebook, model.codebook)


def test_use_is_counted_in_training_alone_and_kept_with_the_weights() -> None:
    model, batch = network().train(), skeletons(11, 1, 1, 10)
    used = model.codes(batch).unique().tolist()
    expected = torch.full((12,), 2)
    expected[used] = 0
    loss(model, batch), loss(model, batch)
    assert torch.equal(model.unused, expected)
    copy = network(seed=1)
    copy.load_state_dict(model.state_dict())
    assert torch.equal(copy.unused, expected)

    model.eval().unused.fill_(1000)
    before, generator = model.codebook.detach().clone(), torch.Generator().manual_seed(0)
    state = generator.get_state()
    model.loss(batch, generator)
    assert torch.equal(model.codebook, before) and bool((model.unused == 1000).all())
    assert torch.equal(generator.get_state(), state)


def test_a_new_codebook_is_placed_as_far_as_there_are_frames() -> None:
    torch.manual_seed(0)
    model = MotionCodes(TINY)
    before = model.codebook.detach().clone()
    batch = skeletons(12, 1, 2, 4)
    batch.exists[0, 1, 1:] = False  # five frames for twelve codes
    loss(model, batch)
    changed = (model.codebook != before).any(dim=-1)
    assert changed.tolist() == [True] * 5 + [False] * 7
    # each frame has the code that was placed on it; the others still wait
    assert sorted(model.codes(batch)[batch.exists].tolist()) == [0, 1, 2, 3, 4]
    assert model.unused.tolist() == [0] * 5 + [101] * 7


def test_keyframes_by_hand() -> None:
    codes = torch.tensor([[[3, 3, 5, 5, -1, 5, 5, 3, -1, -1]], [[-1, 0, 0, 1, 0, 0, 0, 2, 2, 2]]])
    found = keyframes(codes)
    assert found[0, 0].nonzero()[:, 0].tolist() == [0, 2, 5, 7]
    assert found[1, 0].nonzero()[:, 0].tolist() == [1, 3, 4, 7]
    assert keyframes(torch.zeros(0, dtype=torch.int64)).shape == (0,)


# --- the probe


def test_probe_is_one_linear_layer_on_steps_or_on_their_mean() -> None:
    torch.manual_seed(0)
    probe = FrameProbe(3, 5)
    assert sum(p.numel() for p in probe.parameters()) == 3 * 5 + 5
    z, exists = torch.randn(2, 4, 3), torch.tensor([[True, True, False, True], [True, False, False, False]])
    z[~exists] = torch.nan
    tokens = StepTokens(z, exists, frames=1)
    weight, bias = (p.detach() for p in probe.parameters())
    assert torch.allclose(probe(tokens)[exists], z[exists] @ weight.T + bias, atol=1e-6)
    means = torch.stack([z[b, exists[b]].mean(dim=0) for b in (0, 1)])
    assert torch.allclose(probe.sequence(tokens), means @ weight.T + bias, atol=1e-6)
