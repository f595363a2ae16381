"""Published protocols: what can be told is told, what cannot is not, and the published settings are those in use."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from kinect_clips import BENCHMARK, TINY, made_clips, recipe_of

from core.errors import InputError
from dataset.kinect.benchmarks import BENCHMARKS
from dataset.kinect.clips import ClipFile
from model.baselines.pretraining import TrainedSystem, load_system, pretrain
from model.baselines.sources import SystemClips
from model.baselines.systems import SYSTEMS
from model.protocols import published_heads
from model.protocols.published import FIGURES, PROTOCOLS, TRANSFER_FIGURES, balanced_draw, head_training, judge
from model.protocols.published_heads import (
    HeadTraining,
    Judged,
    Labelled,
    mean_tokens,
    train_fine_tuned,
    train_on_means,
    train_probe,
)

CPU = torch.device("cpu")
ACTIONS = (1, 5, 11, 17)
PROBE = HeadTraining(epochs=40, batch_size=24, lr=0.1)
TUNE = HeadTraining(20, 12, 3e-3, 1e-5, 2, weight_decay=0.05, layer_decay=0.8, drop_path=0.1, smoothing=0.1)
MEANS = HeadTraining(200, 48, 3e-2, 3e-2)
RUNS = {
    "mamp, linear": ("mamp", train_probe, PROBE),
    "mamp, fine-tuned": ("mamp", train_fine_tuned, TUNE),
    "gl_transformer": ("gl_transformer", train_on_means, MEANS),
    "motion_codes": ("motion_codes", train_on_means, MEANS),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipFile:
    """Forty-eight clips to train on and as many to test on, of four actions that differ in what moves."""
    return made_clips(tmp_path_factory.mktemp("clips"), ACTIONS, replications=3)


def network(kind: str) -> Any:
    torch.manual_seed(0)
    return SYSTEMS[kind].network(TINY[kind]).eval()


def labelled(clips: ClipFile, kind: str) -> Labelled:
    parts = clips.parts(BENCHMARK)
    both = [SystemClips(clips, idx, TINY[kind]) for idx in (parts.train, parts.test)]
    for part in both:
        part.labels = np.searchsorted(np.array(ACTIONS) - 1, part.labels)
    return Labelled(*both, classes=len(ACTIONS))


@pytest.mark.parametrize("name", list(RUNS))
def test_what_can_be_told_is_told_and_shuffled_labels_are_not(clips: ClipFile, name: str) -> None:
    kind, train, how = RUNS[name]
    told = train(network(kind), labelled(clips, kind), how, CPU)
    assert told.accuracy > (0.7 if name == "mamp, linear" else 0.9) and told.top5 == 1.0
    assert (told.clips, told.train_clips, told.classes, told.epochs) == (48, 48, 4, how.epochs)
    shuffled = labelled(clips, kind)
    shuffled.train.labels = np.random.default_rng(1).permutation(shuffled.train.labels)
    assert train(network(kind), shuffled, how, CPU).accuracy < 0.55


@pytest.mark.parametrize("name", list(RUNS))
def test_the_same_seed_gives_the_same_figures_whatever_the_test_labels_are(clips: ClipFile, name: str) -> None:
    kind, train, how = RUNS[name]
    how = dataclasses.replace(how, epochs=2)
    own = network(kind)
    before = {key: value.clone() for key, value in own.state_dict().items()}
    first, again = (train(own, labelled(clips, kind), how, CPU) for _ in range(2))
    assert dataclasses.replace(first, seconds=again.seconds) == again
    assert all(torch.equal(value, before[key]) for key, value in own.state_dict().items())  # the network stays
    other = labelled(clips, kind)
    other.test.labels = np.roll(other.test.labels, 7)
    assert train(own, other, how, CPU).loss == first.loss


def test_rates_fall_with_depth_and_follow_the_schedule(clips: ClipFile, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def look(classifier: Any, optimizer: torch.optim.Optimizer, *rest: Any) -> Judged:
        seen.update(classifier=classifier, groups=[dict(group) for group in optimizer.param_groups])
        told = train(classifier, optimizer, *rest)
        seen["last"] = [group["lr"] for group in optimizer.param_groups]
        return told

    train = published_heads._train
    monkeypatch.setattr(published_heads, "_train", look)
    own = network("mamp")
    train_fine_tuned(own, labelled(clips, "mamp"), dataclasses.replace(TUNE, epochs=4), CPU)
    rate = {id(w): group["lr"] for group in seen["groups"] for w in group["params"]}
    tuned = seen["classifier"].mamp
    # the head, the second block, the first one, what makes tokens
    of = (seen["classifier"].head.layers[0], tuned.encoder[1].ffn[0], tuned.encoder[0].ffn[0], tuned.embed)
    np.testing.assert_allclose([rate[id(m.weight)] for m in of], 3e-3 * 0.8 ** np.arange(4))
    shares = np.array(seen["last"]) / [group["lr"] for group in seen["groups"]]
    assert np.ptp(shares) < 1e-9 and 0 < shares[0] < 0.2  # near the end of the cosine, all alike
    decays = {id(w): group["weight_decay"] for group in seen["groups"] for w in group["params"]}
    assert decays[id(tuned.embed.weight)] == 0.05 and decays[id(tuned.embed.bias)] == 0
    assert tuned.encoder[1].dropping.path == 0.1 and own.encoder[1].dropping.path == 0
    assert not torch.equal(tuned.embed.weight, own.embed.weight)


def test_means_of_tokens_do_not_depend_on_who_is_encoded_together(clips: ClipFile) -> None:
    own, seen = network("motion_codes"), labelled(clips, "motion_codes").test
    some = SystemClips(clips, seen.idx[5:8], seen.config)
    torch.testing.assert_close(mean_tokens(own, seen, CPU)[5:8], mean_tokens(own, some, CPU))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_draws_are_balanced_and_as_large_as_they_say(share: float) -> None:
    labels = np.repeat(np.arange(7), 40)
    labels = np.random.default_rng(0).permutation(labels)
    rows = balanced_draw(labels, 7, share, np.random.default_rng(1))
    counts = np.bincount(labels[rows], minlength=7)
    assert len(np.unique(rows)) == len(rows) == max(round(share * 280), 7) and np.ptp(counts) <= 1
    assert np.array_equal(rows, balanced_draw(labels, 7, share, np.random.default_rng(1)))
    assert not np.array_equal(rows, balanced_draw(labels, 7, share, np.random.default_rng(2)))


def test_a_class_with_too_few_clips_gives_those_it_has() -> None:
    labels = np.array([0] * 30 + [1] * 2)
    counts = np.bincount(labels[balanced_draw(labels, 2, 0.5, np.random.default_rng(0))])
    assert counts.tolist() == [8, 2]


def test_few_labels_are_the_mean_of_their_draws(clips: ClipFile) -> None:
    how = dataclasses.replace(TUNE, epochs=1)
    trained = TrainedSystem(recipe_of("mamp"), network("mamp"))
    told = judge(trained, "semi-10", BENCHMARK, clips, clips.parts(BENCHMARK), how, CPU, draws=3)
    assert len(told["draws"]) == 3 and all(draw["train_clips"] == len(ACTIONS) for draw in told["draws"])
    assert told["accuracy"] == pytest.approx(np.mean([draw["accuracy"] for draw in told["draws"]]))
    assert len({draw["loss"] for draw in told["draws"]}) == 3 and told["classes"] == 60
    assert judge(trained, "linear", BENCHMARK, clips, clips.parts(BENCHMARK), how, CPU)["clips"] == 48


@pytest.mark.parametrize("kind", list(SYSTEMS))
def test_a_network_that_learned_from_smpl_is_judged_by_the_same_protocols(
    clips: ClipFile, people: Path, tmp_path: Path, kind: str
) -> None:
    sizes: dict[str, Any] = {"joints": 22} if kind in ("mamp", "gl_transformer") else {"num_joints": 22}
    if kind == "gl_transformer":
        sizes |= {"persons": 1, "centre": 9, "shoulders": (16, 17)}
    if kind == "mamp":
        sizes |= {"frames": 30, "origin_joint": 6}
    recipe = recipe_of(kind)
    recipe = dataclasses.replace(recipe, system=dataclasses.replace(recipe.system, **sizes), steps=2)
    pretrain(people, recipe, tmp_path / "run")
    trained = load_system(tmp_path / "run", CPU)
    how = PROBE if kind == "mamp" else MEANS
    told = judge(trained, "linear", BENCHMARK, clips, clips.parts(BENCHMARK), how, CPU)
    assert told["accuracy"] > 0.6  # of four classes that there are


def test_the_published_settings() -> None:
    linear, tune = (head_training("mamp", protocol, BENCHMARKS["ntu60-xsub"]) for protocol in ("linear", "fine-tune"))
    assert (linear.epochs, linear.batch_size, linear.lr, linear.lr_end, linear.momentum) == (100, 256, 0.1, 0.0, 0.9)
    assert (tune.epochs, tune.warmup_epochs, tune.layer_decay, tune.drop_path, tune.smoothing) == (
        100,
        5,
        0.8,
        0.3,
        0.1,
    )
    assert head_training("mamp", "linear", BENCHMARKS["pku2-xsub"]).lr == 0.01
    means = head_training("gl_transformer", "linear", BENCHMARKS["ntu60-xsub"])
    assert (means.epochs, means.batch_size, means.lr, means.lr_end) == (120, 1024, 3e-3, 3e-3)
    with pytest.raises(InputError, match="published for MAMP alone"):
        head_training("gl_transformer", "fine-tune", BENCHMARKS["ntu60-xsub"])
    with pytest.raises(InputError, match="no such protocol"):
        head_training("mamp", "k-nn", BENCHMARKS["ntu60-xsub"])
    assert {benchmark for row in FIGURES.values() for benchmark in row} | TRANSFER_FIGURES.keys() <= BENCHMARKS.keys()
    assert {protocol for _, protocol in FIGURES} <= set(PROTOCOLS)
