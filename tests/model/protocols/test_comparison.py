"""The comparison trains each network once for all its cells, and computes nothing twice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from core.errors import InputError
from dataset.shards import AmdDataset
from model.baselines.pretraining import SystemRecipe
from model.baselines.systems import SYSTEMS, build_system
from model.protocols import comparison as module
from model.protocols.comparison import Comparison, ComparisonConfig
from model.protocols.finetuning import FineTuneConfig
from model.protocols.names import NETWORKS, SYSTEM_NAMES

SMALL = (
    "model.width=16", "model.heads=2", "model.encoder_layers=1", "model.latent_layers=1", "model.predictor_layers=1",
    "stage1_steps=2", "joint_steps=2", "batch_size=4", "data.window_s=4", "optim.warmup_steps=1", "eval_windows=4",
)  # fmt: skip
SYSTEM = ("steps=2", "batch_size=2", "window_s=1", "optim.warmup_steps=1")


@pytest.fixture
def config(people: Path) -> ComparisonConfig:
    """Three people, recognised in the middle second of their clips."""
    settings = (*SMALL, *(f"{kind}.{setting}" for kind in SYSTEMS for setting in SYSTEM))
    return ComparisonConfig(
        people, ("p0+p1", "p2", "p3"), ("p2",), methods=("simple", *NETWORKS),
        protocols=("recognition", "segmentation"), parts=("middle 1 s",), settings=settings,
        finetuning=FineTuneConfig(steps=2), heads=False, device="cpu",
    )  # fmt: skip


def test_command_lines_know_all_systems() -> None:
    assert tuple(SYSTEMS) == SYSTEM_NAMES


def test_each_network_is_trained_once(
    config: ComparisonConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Comparison(config, tmp_path).results("recognition")
    rows = {name.partition(" | ")[0] for name in first}
    assert rows == {"simple ms", "simple full", *NETWORKS}
    assert all(set(cells) == {"p2"} and 0 <= cells["p2"][0]["accuracy"] <= 1 for cells in first.values())
    assert len(list((tmp_path / "runs").iterdir())) == 1 + len(SYSTEMS)
    assert all((run / "seconds.json").is_file() for run in (tmp_path / "runs").iterdir())
    segmented = Comparison(config, tmp_path).results("segmentation")
    assert {f"{m} | edit" for m in ("simple", *NETWORKS)} <= segmented.keys()
    for name in ("train", "pretrain", "recognition_rows", "segmentation_rows"):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("computed twice"))
    again = Comparison(config, tmp_path)
    assert again.results("recognition") == first and again.results("segmentation") == segmented


def test_networks_are_trained_on_and_transferred(config: ComparisonConfig, one_clip: Path, tmp_path: Path) -> None:
    methods, protocols = ("simple", "a4mer", "plain_jepa"), ("fine-tuning", "transfer")
    alone = Comparison(dataclasses.replace(config, methods=methods, protocols=protocols), tmp_path)
    assert alone.protocols == ("fine-tuning",)  # nothing else to learn from
    both = dataclasses.replace(config, methods=methods, protocols=protocols, also=(one_clip,))
    comparison = Comparison(both, tmp_path)
    tuned, transferred = (comparison.results(protocol) for protocol in comparison.protocols)
    assert "a4mer | all labels | fine-tuned" in tuned and "plain_jepa | 1 % of the labels | linear" in tuned
    assert "a4mer | middle 1 s | k-NN, k = 20" in transferred and not any("simple" in row for row in transferred)
    seen = {
        run.name.split("-")[-2]: {clip.subject for clip in AmdDataset(tmp_path / "data" / _view(tmp_path, run)).clips}
        for run in (tmp_path / "runs").iterdir()
    }
    assert seen["elsewhere"] == {"anna"} and "p2" in seen["p2"]
    a4mer, jepa = comparison.trainings()
    assert (a4mer.method, a4mer.steps, jepa.steps) == ("a4mer", 4, 2) and len(a4mer.spent) == 2
    network = build_system(both_recipe(comparison).system)
    assert jepa.parameters == sum(w.numel() for w in network.parameters() if w.requires_grad)


def _view(folder: Path, run: Path) -> str:
    return next(view.name for view in (folder / "data").iterdir() if view.name.startswith(run.name.split("-")[-2]))


def both_recipe(comparison: Comparison) -> SystemRecipe:
    return comparison._systems["plain_jepa"]


def test_settings_of_another_system_leave_a_cell_as_it_is(config: ComparisonConfig, tmp_path: Path) -> None:
    before = Comparison(config, tmp_path)
    after = Comparison(dataclasses.replace(config, settings=(*config.settings, "mamp.steps=3")), tmp_path)
    for method in ("simple", "a4mer", "motion_codes"):
        assert before.cells("recognition", method).settings == after.cells("recognition", method).settings
    assert before.cells("recognition", "mamp").settings != after.cells("recognition", "mamp").settings
    assert before.run_folder("mamp", "p2", 0) != after.run_folder("mamp", "p2", 0)
    # an untrained network and the trained one have one run; parts of clips matter to recognition alone
    assert before.run_folder("mamp", "p2", 0) == before.run_folder("mamp_untrained", "p2", 0)
    assert "parts" not in before.cells("prediction", "mamp").settings


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"settings": ("mamp.stepps=3",)}, "'stepps'"),
        ({"groups": ("p0", "p2", "p9")}, "p9"),
        ({"groups": ("p0+p2", "p3", "p2")}, "p2: this subject is in two groups"),
        ({"groups": ("p0", "p2")}, "2 groups"),
        ({"left_out": ("p9",)}, "group to leave out p9"),
        ({"without": ("p9",)}, "p9: no clip is of this subject"),
        ({"without": ("p3",)}, "p3: is in a group, and nobody is to learn from it"),
        ({"parts": ("midle",)}, "part midle"),
        ({"methods": ("mampp",)}, "method mampp"),
        ({"protocols": ("transfer",)}, "transfer: there is nothing else to learn from"),
        ({"recipe": "debug_cpu"}, "debug_cpu of"),
        ({"settings": ("mamp.system.heads=3",), "methods": ("mamp",)}, "3 heads do not divide"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(
    config: ComparisonConfig, tmp_path: Path, wrong: dict[str, tuple[str, ...]], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        Comparison(dataclasses.replace(config, **wrong), tmp_path).results("recognition")
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").rglob("*.jsonl"))
