"""Nothing of a hidden segment reaches its prediction, for any segmentation, with Atoms alone and with Motifs."""

from __future__ import annotations

import dataclasses

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.a4mer import A4Mer
from model.masking import draws, spread_to_members
from model.segments import MotionBatch
from model.stages import A4MerConfig

CONFIG = A4MerConfig(num_features=5, width=16, heads=2, encoder_layers=2, latent_layers=2, predictor_layers=2)


@st.composite
def batches(draw: st.DrawFn) -> MotionBatch:
    """Sequences of random lengths with random segments, frames missing anywhere, with or without Motifs."""
    rng = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    num_B, num_T = draw(st.integers(1, 3)), draw(st.integers(6, 14))
    atom = (torch.rand(num_B, num_T, generator=rng) < 0.4).long().cumsum(dim=1)
    atom = atom - atom[:, :1]
    number = int(atom.max()) + 1
    motif = (torch.rand(num_B, number, generator=rng) < 0.5).long().cumsum(dim=1)
    motif = torch.where(torch.arange(number) <= atom.max(dim=1, keepdim=True).values, motif - motif[:, :1], -1)
    missing = torch.rand(num_B, num_T, generator=rng) < 0.15
    missing[:, 0] = False
    x = torch.randn(num_B, num_T, CONFIG.num_features, generator=rng)
    return MotionBatch(x, atom.masked_fill(missing, -1), motif if draw(st.booleans()) else None)


SETTINGS = (
    CONFIG,
    dataclasses.replace(CONFIG, two_views=4.0, spread=1.0, own_pose=1.0),
    dataclasses.replace(CONFIG, attention="all"),
    dataclasses.replace(CONFIG, target="frames"),
)


@settings(max_examples=24, deadline=None)
@given(batches(), st.integers(0, 10_000), st.sampled_from(SETTINGS))
def test_predictions_depend_on_visible_frames_alone(batch: MotionBatch, seed: int, config: A4MerConfig) -> None:
    torch.manual_seed(0)
    model = A4Mer(config)
    masks = model.masks(batch, draws(*batch.atom.shape, torch.Generator().manual_seed(seed)))
    hidden_BT = spread_to_members(masks["atom"], batch.atom)
    if batch.motif is not None:
        # hierarchical: a hidden Motif has no visible Atom, a visible one no hidden Atom
        assert torch.equal(masks["atom"], spread_to_members(masks["motif"], batch.motif))
    x = batch.x.clone().requires_grad_()
    found = model(MotionBatch(x, batch.atom, batch.motif), masks)
    if not hidden_BT.any():
        return
    predicted = torch.cat([p.predicted[p.masked].flatten() for p in found.values()])
    (gradient,) = torch.autograd.grad(predicted.square().sum(), x)
    assert (gradient[hidden_BT | (batch.atom < 0)] == 0).all()
    assert gradient[~hidden_BT & (batch.atom >= 0)].abs().sum() > 0
    # other numbers in hidden frames change what is to be predicted, and not what is predicted
    other = torch.where(hidden_BT[..., None], batch.x + 3.0, batch.x)
    again = model(MotionBatch(other, batch.atom, batch.motif), masks)
    assert torch.equal(predicted, torch.cat([p.predicted[p.masked].flatten() for p in again.values()]))
    assert any(not torch.equal(found[n].target[found[n].masked], again[n].target[again[n].masked]) for n in found)
    assert all(not p.target.requires_grad for p in found.values())
