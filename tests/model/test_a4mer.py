"""The network: nothing crosses from hidden or missing frames, gradients are finite, the teacher follows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dataset.features import SILENT
from model.a4mer import A4Mer
from model.blocks import Transformer, among, rotary, rotate
from model.masking import draws, spread_to_members
from model.pretext import Prediction
from model.segments import MotionBatch, edge_frames, max_pool
from model.stages import A4MerConfig

CONFIG = A4MerConfig(num_features=7, width=16, heads=2, encoder_layers=2, latent_layers=2, predictor_layers=1)


def make_batch(seed: int = 0) -> MotionBatch:
    """Two sequences of 12 and 9 frames; the second has a missing frame."""
    rng = np.random.default_rng(seed)
    atom = torch.tensor([[0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4], [0, 0, 0, 1, -1, 1, 2, 2, 2, -1, -1, -1]])
    motif = torch.tensor([[0, 0, 1, 2, 2], [0, 1, 1, -1, -1]])
    return MotionBatch(torch.tensor(rng.normal(size=(2, 12, 7)), dtype=torch.float32), atom, motif)


@pytest.fixture
def model() -> A4Mer:
    torch.manual_seed(0)
    return A4Mer(CONFIG)


def seed(value: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(value)


def masks(model: A4Mer, batch: MotionBatch) -> dict[str, torch.Tensor]:
    return model.masks(batch, draws(*batch.atom.shape, seed()))


def hidden_frames(model: A4Mer, batch: MotionBatch) -> torch.Tensor:
    """The frames that `loss` hides with the generator of `seed()`."""
    return spread_to_members(masks(model, batch)["atom"], batch.atom)


@pytest.mark.parametrize("both_stages", [False, True])
def test_no_value_and_no_gradient_crosses_from_a_hidden_segment(model: A4Mer, both_stages: bool) -> None:
    batch = make_batch()
    batch = batch if both_stages else dataclasses.replace(batch, motif=None)
    hidden = hidden_frames(model, batch)
    assert hidden.any() and not hidden.all()
    seen_BT = batch.atom.masked_fill(hidden, -1)

    def student_tokens(x: torch.Tensor) -> torch.Tensor:
        atoms, motifs = model._layout(batch)
        motif_BK = None
        if batch.motif is not None:
            motif_BK = batch.motif.masked_fill(masks(model, batch)["atom"], -1)
        found = model._extract(model.student, dataclasses.replace(batch, x=x), atoms, motifs, seen_BT, motif_BK)
        return torch.cat([t.z[t.exists].flatten() for t in found if t is not None])

    x = batch.x.clone().requires_grad_()
    tokens = student_tokens(x)
    (gradient,) = torch.autograd.grad(tokens.square().sum(), x)
    assert (gradient[hidden] == 0).all()
    assert (gradient[seen_BT >= 0].abs().sum(dim=-1) > 0).all()
    # not a number times zero would still spoil the sums: nothing may even be touched
    poisoned = torch.where((seen_BT < 0)[..., None], torch.nan, batch.x)
    assert torch.equal(student_tokens(poisoned), tokens.detach())


def test_prediction_of_hidden_tokens_ignores_their_frames(model: A4Mer) -> None:
    batch = make_batch()
    hidden = hidden_frames(model, batch)
    changed = dataclasses.replace(batch, x=torch.where(hidden[..., None], batch.x + 5, batch.x))
    captured: list[torch.Tensor] = []
    model.atom_predictor.register_forward_hook(lambda module, inputs, output: captured.append(output))
    model.motif_predictor.register_forward_hook(lambda module, inputs, output: captured.append(output))
    first, second = model.loss(batch, seed()), model.loss(changed, seed())
    atoms, motifs = model._layout(batch)
    assert motifs is not None
    assert torch.equal(captured[0][atoms.exists], captured[2][atoms.exists])
    assert torch.equal(captured[1][motifs.exists], captured[3][motifs.exists])
    # the teacher does see them
    assert first.total != second.total


def test_padding_changes_nothing(model: A4Mer) -> None:
    batch = make_batch()
    atoms, motifs = model.encode(batch)
    assert motifs is not None and batch.motif is not None
    short = MotionBatch(batch.x[1:, :9], batch.atom[1:, :9], batch.motif[1:, :3])
    atoms_alone, motifs_alone = model.encode(short)
    assert motifs_alone is not None
    # other matrix sizes add up in another order
    assert torch.allclose(atoms.z[1, :3], atoms_alone.z[0], atol=1e-5)
    assert torch.allclose(motifs.z[1, :2], motifs_alone.z[0], atol=1e-5)
    assert atoms.length[1].tolist() == [3, 2, 3, 0, 0] and atoms.time[1, 1].item() == 4.0
    assert motifs.length[1].tolist() == [3, 5, 0]


def test_gradients_are_finite_and_reach_every_weight(model: A4Mer) -> None:
    model.loss(make_batch(), seed()).total.backward()
    for name, weight in model.named_parameters():
        if name.startswith("teacher"):
            assert weight.grad is None
        else:
            assert weight.grad is not None and torch.isfinite(weight.grad).all(), name
            assert weight.grad.abs().sum() > 0 or "qkv.bias" in name or ".kv.bias" in name, name


def test_stage_one_alone_leaves_stage_two_untouched(model: A4Mer) -> None:
    model.loss(dataclasses.replace(make_batch(), motif=None), seed()).total.backward()
    assert all(w.grad is None for w in model.student.stage2.parameters())
    assert all(w.grad is not None for w in model.student.stage1.parameters())


def test_teacher_follows_at_its_own_pace(model: A4Mer) -> None:
    before = model.teacher.embed.weight.clone()
    with torch.no_grad():
        model.student.embed.weight.add_(1.0)
    model.update_teacher()
    assert torch.allclose(model.teacher.embed.weight, before + 0.004, atol=1e-6)


def test_attention_stays_within_the_segment(model: A4Mer) -> None:
    batch = make_batch()
    without_latent_former = dataclasses.replace(CONFIG, latent_layers=0)
    torch.manual_seed(0)
    local = A4Mer(without_latent_former)
    changed = batch.x.clone()
    changed[0, 5:7] += 1.0  # Atom 2 of the first sequence
    first = local.encode(dataclasses.replace(batch, motif=None))[0].z
    second = local.encode(MotionBatch(changed, batch.atom))[0].z
    same = (first == second).all(dim=-1)
    assert same[0].tolist() == [True, True, False, True, True] and same[1].all()


def test_max_pool() -> None:
    x = torch.tensor([[[1.0], [-3.0], [-2.0], [9.0]]])
    pooled = max_pool(x, torch.tensor([[0, 1, 1, -1]]), 3)
    assert pooled[0, :, 0].tolist() == [1.0, -2.0, 0.0]


def test_rotary_scores_depend_on_the_difference_of_positions() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=generator)

    def score(a: float, b: float) -> float:
        turned = [rotate(x, rotary(torch.tensor([[p]]), 8)) for x, p in ((q, a), (k, b))]
        return float((turned[0] * turned[1]).sum())

    assert score(3.0, 1.5) == pytest.approx(score(103.0, 101.5), abs=1e-4)
    assert score(3.0, 1.5) != pytest.approx(score(3.0, 2.5), abs=1e-4)


def test_padding_tokens_do_not_make_nan() -> None:
    net = Transformer(8, 2, 2, 2)
    exists = torch.zeros(1, 4, dtype=torch.bool)
    assert torch.isfinite(net(torch.randn(1, 4, 8), torch.zeros(1, 4), among(exists))).all()


def test_frames_that_the_fit_was_not_sure_of_count_less() -> None:
    torch.manual_seed(0)
    model = A4Mer(dataclasses.replace(CONFIG, half_trust_m=0.02))
    batch = make_batch()
    sure = dataclasses.replace(batch, joint_sigma_m=torch.zeros(2, 12, 3))
    bare, same = model.loss(batch, seed()), model.loss(sure, seed())
    assert torch.allclose(bare.total, same.total)
    unsure = dataclasses.replace(batch, joint_sigma_m=torch.full((2, 12, 3), 0.06))
    # everything counts a tenth, whatever is hidden
    assert torch.allclose(model.loss(unsure, seed()).total, 0.1 * bare.total)
    # without the setting nothing is looked at
    torch.manual_seed(0)
    assert torch.allclose(A4Mer(CONFIG).loss(unsure, seed()).total, bare.total)


BEYOND = dataclasses.replace(CONFIG, two_views=4.0, spread=1.0, own_pose=1.0)


def test_terms_over_visible_segments(model: A4Mer) -> None:
    torch.manual_seed(0)
    more, batch = A4Mer(BEYOND), make_batch()
    hidden, chosen = masks(model, batch), masks(more, batch)
    assert list(chosen) == ["atom", "motif", "atom_view", "motif_view", "atom_own", "motif_own"]
    for stage in ("atom", "motif"):
        assert torch.equal(chosen[stage], hidden[stage])
        assert torch.equal(chosen[f"{stage}_own"], chosen[f"{stage}_view"])
        assert not (chosen[f"{stage}_view"] & chosen[stage]).any()
    found = more(batch, chosen)
    assert (
        list(found) == list(chosen) and [p.kind for p in found.values()] == ["hidden"] * 2 + ["view"] * 2 + ["own"] * 2
    )
    assert list(more.moments(found)) == ["atom_view", "motif_view"] and model.moments(found) == {}
    # what a token tells of itself is its own frames: the second sequence's first Atom is frames 0 to 2
    truth = found["atom_own"].target[1, 0].reshape(2, 3, 7)
    assert torch.allclose(truth[0], batch.x[1, :3]) and torch.equal(truth[0], truth[1])


def test_the_teacher_sees_another_body(model: A4Mer) -> None:
    torch.manual_seed(0)
    more, batch = A4Mer(BEYOND), make_batch()
    other = dataclasses.replace(batch, teacher_x=batch.x + 0.5)
    same, apart = (more(b, masks(more, batch)) for b in (batch, other))
    assert torch.equal(same["atom"].predicted, apart["atom"].predicted)
    assert not torch.allclose(same["atom"].target, apart["atom"].target, atol=1e-3)
    assert torch.equal(same["atom_own"].target, apart["atom_own"].target)
    assert not apart["atom_view"].target.requires_grad and apart["atom_view"].predicted.requires_grad


@pytest.mark.parametrize("silent", [False, True])
def test_error_of_own_frames_is_a_mean_over_channels_that_are_seen(silent: bool) -> None:
    """One channel in seven off by 0.2: Smooth-L1 of 0.02, whatever the share of channels that are not seen."""
    more = A4Mer(BEYOND)
    scale = torch.ones(7)
    scale[3:] = SILENT if silent else 1.0
    more.set_statistics(torch.zeros(7), scale)
    wrong = torch.zeros(1, 2, 7)
    wrong[..., 0] = 0.2
    told = Prediction(wrong, torch.zeros(1, 2, 7), torch.ones(1, 2, dtype=torch.bool), kind="own")
    assert more.loss_sum(told).item() == pytest.approx(0.02 / (3 if silent else 7), rel=1e-5)
    batch = make_batch()
    found = more(batch, masks(more, batch))["atom_own"]
    unseen = torch.tensor([channel >= 3 for channel in range(7)]).repeat(6) & silent
    assert not found.predicted[..., unseen].any() and found.predicted[..., ~unseen].all()


def test_edge_frames_by_hand() -> None:
    x = torch.arange(6.0)[None, :, None]
    segment = torch.tensor([[0, 0, 1, 1, 1, -1]])
    # the middle of two frames is their mean; a segment without frames gets frame 0
    expected = torch.tensor([[[0.0, 0.5, 1.0], [2.0, 3.0, 4.0], [0.0, 0.0, 0.0]]])
    assert torch.equal(edge_frames(x, segment, 3), expected)
    # a missing frame is passed over
    holed = torch.tensor([[0, -1, -1, 0, 0, -1]])
    assert torch.equal(edge_frames(x, holed, 1), torch.tensor([[[0.0, 3.0, 4.0]]]))


def test_attention_of_all_reads_other_segments_and_never_hidden_ones() -> None:
    batch = dataclasses.replace(make_batch(), motif=None)
    changed = dataclasses.replace(batch, x=torch.where((batch.atom == 3)[..., None], batch.x + 5, batch.x))
    for attention in ("segment", "all"):
        torch.manual_seed(0)
        model = A4Mer(dataclasses.replace(CONFIG, attention=attention))
        hidden_BT = batch.atom == 3
        locals_ = [model.encode(b)[0].local for b in (batch, changed)]
        unseen = [model.encode(b, hidden_BT)[0] for b in (batch, changed)]
        assert all(x is not None for x in locals_)
        first = [x[0, 0] for x in locals_ if x is not None]
        assert torch.allclose(*first) == (attention == "segment")
        assert torch.equal(unseen[0].z[unseen[0].exists], unseen[1].z[unseen[1].exists])


def test_frames_as_targets_are_those_of_hidden_segments() -> None:
    torch.manual_seed(0)
    model, batch = A4Mer(dataclasses.replace(CONFIG, target="frames")), make_batch()
    chosen = masks(model, batch)
    found = model(batch, chosen)["atom"]
    assert found.predicted.shape == found.target.shape == (2, 5, 21)
    assert torch.allclose(found.target[0, 1], batch.x[0, 2:5].flatten())
    hidden = hidden_frames(model, batch)
    changed = dataclasses.replace(batch, x=torch.where(hidden[..., None], batch.x + 5, batch.x))
    other = model(changed, chosen)["atom"]
    assert torch.equal(other.predicted, found.predicted) and not torch.equal(other.target, found.target)
