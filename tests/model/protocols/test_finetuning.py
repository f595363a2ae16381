"""Fine-tuning: vectors with gradients are those that probes read, labels are drawn alike, and training helps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset.shards import AmdDataset
from model.baselines.mamp import MampConfig
from model.baselines.motion_codes import MotionCodesConfig
from model.baselines.plain_frames import PlainJepaConfig
from model.baselines.pretraining import SystemRecipe, TrainedSystem, fresh_system
from model.baselines.systems import SystemConfig
from model.loading import TrainedRun
from model.protocols.a4mer import A4MerEncoder
from model.protocols.finetuning import (
    SHARES,
    Classifier,
    FineTuneConfig,
    TokensOfMotions,
    draw_labels,
    finetuning_rows,
    mean_sd,
    train_on,
)
from model.protocols.motions import LabelledMotions, middle
from model.protocols.pooling import standard_view, vectors
from model.protocols.ridge import RidgePath
from model.protocols.systems import SystemEncoder
from model.recipes import OptimConfig

NETWORKS: dict[str, SystemConfig] = {
    "mamp": MampConfig(frames=100, joints=22, width=8, heads=2, encoder_layers=1, decoder_layers=1, origin_joint=6),
    "motion_codes": MotionCodesConfig(width=8, heads=2, encoder_layers=1, decoder_layers=1, frames=4),
    "plain_jepa": PlainJepaConfig(width=8, heads=2, layers=1, predictor_layers=1),
}


def encoder_of(name: str, people: Path, run: TrainedRun) -> A4MerEncoder | SystemEncoder:
    if name == "a4mer":
        return A4MerEncoder(run)
    recipe = SystemRecipe("tiny", NETWORKS[name], rate_hz=30.0)
    system = fresh_system(recipe, AmdDataset(people)).eval()
    return SystemEncoder(TrainedSystem(recipe, system), name, torch.device("cpu"))


@pytest.mark.parametrize("name", ["a4mer", *NETWORKS])
def test_vectors_are_those_of_the_probes_and_have_gradients(
    name: str, people: Path, run: TrainedRun, motions: LabelledMotions
) -> None:
    encoder, parts = encoder_of(name, people, run), [middle(3.0)(motion) for motion in motions.motions]
    tokens = encoder.encode(parts)
    expected = vectors(tokens, standard_view(list(tokens)))
    source = TokensOfMotions(encoder, parts)
    found = source(torch.arange(len(parts)))
    assert found.detach().numpy() == pytest.approx(expected, abs=2e-4)
    found[1:3].sum().backward()
    moved = [n for n, w in source.network.named_parameters() if w.grad is not None and w.grad.abs().sum() > 0]
    assert any("embed" in n for n in moved) and not any(w.grad is not None for w in _own(encoder).parameters())
    assert torch.allclose(source(torch.tensor([2])), found[2:3], atol=1e-5)


def _own(encoder: A4MerEncoder | SystemEncoder) -> torch.nn.Module:
    network = encoder.model if isinstance(encoder, A4MerEncoder) else encoder.system
    assert isinstance(network, torch.nn.Module)
    return network


def test_mean_and_deviation_by_hand() -> None:
    z = torch.tensor([[[1.0], [4.0], [torch.nan]], [[9.0], [9.0], [9.0]]])
    weight = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    assert mean_sd(z, weight)[0].tolist() == pytest.approx([3.0, 2**0.5])
    assert mean_sd(z, weight)[1].tolist() == pytest.approx([0.0, 1e-4])


def test_labels_are_drawn_of_each_class_alike() -> None:
    label = np.repeat([0, 1, 2], [100, 30, 7])
    train = np.arange(137) % 10 != 0
    for share in SHARES.values():
        known = draw_labels(label, train, share, np.random.default_rng(0))
        counts = np.bincount(label[known])
        assert counts.tolist() == [max(1, round(share * np.sum(train & (label == c)))) for c in range(3)]
        assert train[known].all() and len(np.unique(known)) == len(known)


def test_weights_of_ridge_are_those_that_it_predicts_with() -> None:
    rng = np.random.default_rng(0)
    for shape in ((30, 4), (4, 30)):
        x, y = rng.normal(size=shape), rng.normal(size=(shape[0], 2))
        path = RidgePath(x, y)
        weights, offset = path.weights(3.0)
        centred, target = x - x.mean(axis=0), y - y.mean(axis=0)
        assert weights == pytest.approx(np.linalg.solve(centred.T @ centred + 3 * np.eye(shape[1]), centred.T @ target))
        assert path.predict(x, 3.0) == pytest.approx(x @ weights + offset)


def test_a_head_that_tells_nothing_is_trained_with_its_network(
    people: Path, run: TrainedRun, motions: LabelledMotions
) -> None:
    source = TokensOfMotions(encoder_of("plain_jepa", people, run), [middle(1.0)(motion) for motion in motions.motions])
    width, every = source(torch.tensor([0])).shape[1], np.arange(len(motions))
    model = Classifier(source, np.zeros(width), np.ones(width), np.zeros((width, 2)), np.array([1.0, 0.0]))
    first = {name: weight.clone() for name, weight in model.named_parameters()}
    label = np.random.default_rng(0).permutation(every % 2)  # names at random, to be learned by heart
    config = FineTuneConfig(100, 6, OptimConfig(lr=1e-2, lr_end=1e-4, weight_decay=0.0, warmup_steps=2), 0.0)
    train_on(model, every, label, config, np.random.default_rng(0))
    assert (model(torch.from_numpy(every)).argmax(dim=1).numpy() == label).all()
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, first[name])}
    assert "head.weight" in moved and any("teacher" in name for name in moved)


def test_rows_and_labels(people: Path, run: TrainedRun, motions: LabelledMotions) -> None:
    encoder = encoder_of("plain_jepa", people, run)
    config = FineTuneConfig(60, 4, OptimConfig(lr=1e-2, lr_end=1e-4, weight_decay=0.0, warmup_steps=2), 0.0)
    rng = np.random.default_rng(0)
    named = dataclasses.replace(motions, label=rng.permutation(np.arange(len(motions)) % 2), classes=("a", "b"))
    # the group that is judged is a copy of one that is learned from
    again = dataclasses.replace(
        named, ids=named.ids * 2, motions=named.motions * 2, label=np.tile(named.label, 2),
        group=np.concatenate([named.group, np.full(len(named), 9)]), groups=("",) * 10,
    )  # fmt: skip
    before = [w.clone() for w in _own(encoder).parameters()]
    rows = finetuning_rows(encoder, again, 9, 0, config)
    assert list(rows) == [f"{share} | {row}" for share in SHARES for row in ("linear", "fine-tuned")]
    assert rows["all labels | fine-tuned"]["accuracy"] == 1.0 and rows["1 % of the labels | linear"]["labels"] == 2
    assert all(torch.equal(a, b) for a, b in zip(before, _own(encoder).parameters(), strict=True))
    assert finetuning_rows(encoder, again, 9, 0, config) == rows
