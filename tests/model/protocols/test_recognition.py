"""Recognition: figures by hand, choices that the test group cannot sway, and statistics that tell two actions apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from moving_people import motion, people

from model.metrics import ridge
from model.protocols.encoders import SegmentTokens, part_edges
from model.protocols.features import Statistics, statistics
from model.protocols.motions import PARTS
from model.protocols.pooling import View, pool, vectors, views
from model.protocols.probes import Probe, few_shot, predictions, standardised, told_rightly
from model.protocols.recognition import recognition_rows
from model.protocols.ridge import RidgePath
from model.protocols.selection import best, inner_folds, inner_scores, knn_probes


def test_statistics_of_a_known_swing() -> None:
    one = motion(0.5, 0.3, 61)  # a whole period of 2 s
    found = statistics(one, "full")
    assert found.shape == (336,) and statistics(one, "ms").shape == (132,)
    assert np.array_equal(found[:132], statistics(one, "ms"))
    z = 3 * 20 + 2
    assert found[z] == pytest.approx(one.joints_m[0, 20, 2], abs=0.01)
    assert found[66 + z] == pytest.approx(0.3 / np.sqrt(2), abs=0.01)
    # it goes 4 x 0.3 m in 2 s
    assert found[132 + 2 * 66 + z] == pytest.approx(0.6, abs=0.01)
    assert np.abs(np.delete(found[66:132], z)).max() < 1e-5 and found[-6:] == pytest.approx(np.zeros(6), abs=1e-5)


def test_parts() -> None:
    one = motion(1.0, 0.1, 100)
    lengths = {name: len(part(one)) for name, part in PARTS.items()}
    assert lengths == {
        "whole": 100, "first 50 %": 50, "first 25 %": 25, "first 10 %": 12,
        "middle 1 s": 30, "middle 2 s": 60, "middle 3 s": 90,
    }  # fmt: skip
    assert np.array_equal(PARTS["middle 1 s"](one).joints_m, one.joints_m[35:65])
    assert len(PARTS["first 25 %"](one.part(0, 20))) == 12 and len(PARTS["middle 3 s"](one.part(0, 20))) == 20
    assert part_edges(one, (1.0, 2.0)) == [(0, 30), (30, 60), (60, 100)]


def test_pooling_by_hand() -> None:
    tokens = SegmentTokens(np.array([[1.0, 0.0], [4.0, 2.0]]), np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    assert pool(tokens, "mean").tolist() == pytest.approx([3.0, 4 / 3])
    assert pool(tokens, "mean+sd").tolist() == pytest.approx([3.0, 4 / 3, np.sqrt(2), np.sqrt(8 / 9)])
    assert pool(tokens, "mean+max").tolist() == pytest.approx([3.0, 4 / 3, 4.0, 2.0])
    assert pool(tokens, "thirds").tolist() == pytest.approx([3.0, 4 / 3, 1.0, 0.0, 4.0, 2.0, 4.0, 2.0])
    nothing = SegmentTokens(np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    for view in views(["atoms", "motifs"]):
        both = vectors({"atoms": [tokens, nothing], "motifs": [tokens, nothing]}, view)
        assert both.shape[0] == 2 and not both[1].any()
    assert views(["clip"]) == (View(("clip",), "mean"),)


def test_probes_by_hand() -> None:
    x = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 0.0], [5.0, 1.0]])
    label = np.array([0, 0, 1, 1])
    test = np.array([[0.5, 0.0], [4.0, 1.0]])
    for probe in (Probe("ridge", alpha=0.1), Probe("class mean"), Probe("knn", neighbours=1)):
        assert predictions((probe,), x, label, test, 2)[0].tolist() == [0, 1]
    everything = np.concatenate([x, test])
    halves = np.arange(4), np.arange(4, 6)
    (right,) = told_rightly((Probe("ridge"),), everything, np.array([0, 0, 1, 1, 0, 0]), *halves)
    assert right.tolist() == [True, False]
    mean, sd = few_shot(
        Probe("class mean"), everything, np.array([0, 0, 1, 1, 0, 1]), *halves, 2, 3, np.random.default_rng(0)
    )
    assert (mean, sd) == (1.0, 0.0)
    # a channel that hardly varies is not blown up
    assert np.abs(standardised(x * [1.0, 1e-5], test * [1.0, 1e-5])[0][:, 1]).max() < 1e-2


@pytest.mark.parametrize("width", [4, 40])
def test_one_decomposition_serves_all_alphas(width: int, rng: np.random.Generator) -> None:
    x, label = rng.normal(size=(20, width)), rng.integers(0, 3, 20)
    path = RidgePath(x, np.eye(3)[label])
    for alpha in (0.5, 50.0):
        weights = ridge(x, np.eye(3)[label], alpha)
        assert np.allclose(path.predict(x, alpha), x @ weights[:-1] + weights[-1])


def test_choices_do_not_see_the_test_group(rng: np.random.Generator) -> None:
    group = np.repeat([0, 1, 2], 20)
    label = rng.integers(0, 2, 60)
    good = label[:, None] + 0.1 * rng.normal(size=(60, 3))
    noise = rng.normal(size=(60, 3))
    sets = {"noise": noise, "good": good}

    def scores(vectors: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, dict[Probe, float]]:
        return {name: inner_scores(x, knn_probes(), labels, group, 2) for name, x in vectors.items()}

    chosen = scores(sets, label)
    assert best(chosen, knn_probes())[0] == "good"
    # whatever the test group's vectors and labels are, nothing changes
    other = {name: np.where((group == 2)[:, None], rng.normal(size=x.shape), x) for name, x in sets.items()}
    assert scores(other, np.where(group == 2, 1 - label, label)) == chosen
    for fit, judge in inner_folds(group, 2):
        assert not (fit & judge).any() and not (fit | judge)[group == 2].any() and (fit | judge).sum() == 40


def test_statistics_recognise_two_actions() -> None:
    motions = people()
    rows = recognition_rows(Statistics("full"), motions, 1, ["whole", "middle 1 s"])
    assert rows["whole | ridge"]["accuracy"] == 1.0 and rows["any part | k-NN"]["accuracy"] == 1.0
    joined = recognition_rows(Statistics("full"), motions, 1, ["pyramid"])
    assert joined["pyramid | ridge, alpha = 100"]["accuracy"] == 1.0
    assert 0 <= rows["whole | 1-shot ridge"]["sd_over_draws"] <= 0.5
    shuffled = dataclasses.replace(motions, label=np.random.default_rng(0).permutation(motions.label))
    assert recognition_rows(Statistics("full"), shuffled, 1, ["whole"])["whole | ridge"]["accuracy"] < 1.0
