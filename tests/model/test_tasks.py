"""Tasks on frozen tokens: nothing asked for is seen, references are right, what cannot be judged is said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import InputError, StageError
from dataset.features import LAYOUT
from dataset.shards import AmdDataset
from model.heads import FrameHead, PredictionHead, class_balanced_weights, decoding_loss, repeat_by_length
from model.loading import load_run
from model.recipes import Recipe
from model.references import linear, ridge_prediction
from model.scenes import Scenes, hide_future, hide_gap, make_scenes
from model.segments import MotionBatch, Tokens
from model.tasks import EvalConfig, evaluate
from model.train import train
from model.windows import iterate_windows, whole_windows

QUICK = EvalConfig(steps=2, batch_size=4, train_windows=8, test_windows=6, horizon_s=1.6, gap_s=1.0)


def test_all_tasks_with_references(people: Path, tiny_run: Path, tmp_path: Path) -> None:
    found = evaluate(tiny_run, people, tmp_path / "figures.json", QUICK)
    assert found == json.loads((tmp_path / "figures.json").read_text())
    assert found["split"] == "test" and found["note"] == "held out"
    assert found["recognition"]["classes"] == 4 and "reference_statistics_top1" in found["recognition"]["motifs"]
    assert found["decoding"]["mpjpe_mm"] > found["decoding"]["reference_true_motif_mean_mm"] > 0
    assert {"mpjpe_mm", "reference_zero_velocity_mm", "reference_ridge_mm"} <= set(found["prediction"])
    assert {"mpjpe_mm", "reference_linear_mm", "moving_only"} <= set(found["interpolation"])
    again = evaluate(tiny_run, people, tmp_path / "again.json", QUICK)
    assert again == found


def test_without_held_out_clips_it_says_so(one_clip: Path, tiny: Recipe, tmp_path: Path) -> None:
    run = train(one_clip, tiny, tmp_path / "run").run
    found = evaluate(run, one_clip, tmp_path / "figures.json", dataclasses.replace(QUICK, gap_s=6.0))
    assert found["split"] == "train" and "no evidence" in found["note"]
    assert "held-out" in found["recognition"]["left_out"] and "6 s" in found["interpolation"]["left_out"]


def test_a_run_without_motifs_is_refused(people: Path, tiny: Recipe, tmp_path: Path) -> None:
    train(people, tiny, tmp_path / "run", stop_at=2)
    with pytest.raises(StageError, match="2 of 8 steps"):
        evaluate(tmp_path / "run", people, tmp_path / "figures.json")
    with pytest.raises(InputError, match="no training run"):
        evaluate(tmp_path, people, tmp_path / "figures.json")


@pytest.mark.parametrize("hide", [hide_future(8), hide_gap(5)])
def test_hidden_frames_change_no_visible_token(people: Path, tiny_run: Path, hide: object) -> None:
    dataset = AmdDataset(people)
    run = load_run(tiny_run, torch.device("cpu"))
    segmentation = run.segment(dataset, dataset.clips)
    refs = whole_windows(dataset, "test", run.recipe.data.window_s)
    _, batch, _ = next(iterate_windows(dataset, refs, segmentation, run.recipe.data, 8))
    whole = make_scenes(run.model, batch, lambda motif, valid: np.zeros(len(motif), dtype=bool))
    first = make_scenes(run.model, batch, hide)
    assert whole is not None and first is not None and first.hidden.any(dim=1).all()
    rows = [
        i
        for i, (m, v) in enumerate(zip(whole.motif.numpy(), whole.valid.numpy(), strict=True))
        if hide(m, v) is not None
    ]
    x = batch.x.clone()
    x[rows] = torch.where(first.hidden[..., None], x[rows] + 3.0, x[rows])
    second = make_scenes(run.model, MotionBatch(x, batch.atom, batch.motif), hide)
    assert second is not None
    assert torch.equal(first.seen.z[first.seen.exists], second.seen.z[second.seen.exists])
    assert not torch.equal(first.full.z, second.full.z)
    # whole Motifs are hidden: no frame of a visible one is asked for
    visible = torch.gather(first.seen.exists, 1, first.motif.clamp(min=0)) & (first.motif >= 0)
    assert not (visible & first.hidden).any() and torch.equal(first.full.time, first.seen.time)
    assert torch.allclose(first.joints, batch.x[rows][..., LAYOUT.positions].unflatten(-1, (22, 3)))


def test_where_gaps_may_lie() -> None:
    motif = np.repeat([0, 1, 2, 3], [6, 6, 4, 14])
    valid = np.ones(30, dtype=bool)
    assert np.flatnonzero(hide_future(12)(motif, valid))[0] == 16
    assert np.flatnonzero(hide_future(15)(motif, valid))[0] == 12
    assert hide_future(19)(motif, valid) is None  # only two seconds of past will do
    gap = hide_gap(5)(motif, valid)
    assert gap is not None and np.flatnonzero(gap)[[0, -1]].tolist() == [6, 15]
    assert hide_gap(11)(motif, valid) is None
    valid[3] = False
    assert hide_gap(5)(motif, valid) is None


def scenes_of(joints: torch.Tensor, hidden: torch.Tensor) -> Scenes:
    """Scenes whose tokens do not matter."""
    count = len(joints)
    tokens = Tokens(torch.zeros(count, 1, 2), torch.ones(count, 1, dtype=torch.bool), *torch.zeros(2, count, 1))
    return Scenes(joints, torch.ones(joints.shape[:2], dtype=torch.bool), hidden, hidden.long(), tokens, tokens)


def test_references_are_exact_where_they_must_be() -> None:
    t = torch.arange(30.0)
    slopes = torch.linspace(-1, 1, 8).view(8, 1, 1, 1)
    joints = (slopes * t[None, :, None, None]).expand(8, 30, 2, 3).contiguous() / 30
    hidden = ((t >= 12) & (t < 20)).expand(8, 30)
    assert torch.allclose(linear(scenes_of(joints, hidden)), joints, atol=1e-6)
    future = (t >= 12).expand(8, 30)
    scenes = scenes_of(joints, future)
    told = ridge_prediction(scenes, scenes, torch.full((8,), 12), 10)
    # straight lines are linear in their past; the penalty shrinks the answer a little
    assert told is not None and (told[:, 12:22] - joints[:, 12:22]).abs().max() < 0.05


def test_heads() -> None:
    z = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert repeat_by_length(z, torch.tensor([[0, 0, 1, -1]])).tolist() == [[[1, 2], [1, 2], [3, 4], [0, 0]]]
    assert FrameHead(8, 2, 1, 5)(torch.zeros(2, 3, 8), torch.zeros(2, 7, dtype=torch.long)).shape == (2, 7, 5)
    weights = class_balanced_weights(torch.tensor([0, 0, 0, 2]), 3)
    assert weights.tolist() == pytest.approx([4 / 6, 0.0, 2.0])


def test_prediction_does_not_look_ahead() -> None:
    torch.manual_seed(0)
    head = PredictionHead(8, 4, 2, 2)
    z, exists, time = torch.randn(1, 5, 8), torch.ones(1, 5, dtype=torch.bool), torch.arange(5.0)[None]
    changed = z.clone()
    changed[:, 3:] += 1
    first, second = head(z, exists, time), head(changed, exists, time)
    assert torch.equal(first[0][:, :3], second[0][:, :3]) and torch.equal(first[1][:, :3], second[1][:, :3])
    assert not torch.equal(first[0][:, 3:], second[0][:, 3:])


def test_decoding_loss_by_hand() -> None:
    truth = torch.zeros(1, 3, 1, 3)
    guess = truth.clone()
    guess[0, 1, 0, 0] = 0.3
    # positions: 0.3 / 3 frames; first differences: 0.3 twice of two; the last frame counts as missing below
    assert decoding_loss(guess, truth, torch.tensor([[True, True, True]])).item() == pytest.approx(0.45, abs=1e-4)
    assert decoding_loss(guess, truth, torch.tensor([[True, True, False]])).item() == pytest.approx(0.525, abs=1e-4)
