"""The table of a comparison: every row with its command and its difference to A4Mer, as CSV, HTML and LaTeX."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import pytest

from model.protocols.comparison import ComparisonConfig, Training
from motifs import comparison as module
from motifs.comparison import Line, as_latex, command_of, lines_of, shown, write_comparison

CONFIG = ComparisonConfig(
    Path("data/a b"), ("p1", "p2"), also=(Path("more"),), methods=("simple", "a4mer"),
    protocols=("recognition", "prediction"), settings=("mamp.steps=3",), seeds=(0, 1),
)  # fmt: skip


def right(text: str) -> dict[str, object]:
    return {"accuracy": text.count("1") / len(text), "right": text}


def wrong(mm: float) -> dict[str, object]:
    return {
        "mm": mm, "moving_mm": 2 * mm, "at": {"1 s": mm}, "windows": 20, "moving": 10,
        "by_clip": {"0": [mm, 12], "1": [mm, 8]},
    }  # fmt: skip


RESULTS = {
    "recognition": {
        "simple full | middle 3 s | ridge": {"p1": {0: right("1100")}, "p2": {0: right("1110")}},
        "a4mer | middle 3 s | ridge": {
            "p1": {0: right("1111"), 1: right("1110")},
            "p2": {0: right("1111"), 1: right("1111")},
        },
        "a4mer | middle 3 s | 1-shot ridge": {"p1": {0: {"accuracy": 0.5, "sd_over_draws": 0.1}}},
    },
    "prediction": {
        "simple 2 s -> 3 s | ridge on poses": {"p1": {0: wrong(40.0)}, "p2": {0: wrong(30.0)}},
        "a4mer 2 s -> 3 s | network on tokens and poses": {"p1": {0: wrong(30.0)}, "p2": {0: wrong(30.0)}},
        "a4mer 2 s -> 3 s | paper's heads": {"p1": {0: wrong(60.0)}, "p2": {0: wrong(70.0)}},
    },
}


class Known:
    """A comparison whose cells are all there."""

    def __init__(self, config: ComparisonConfig, folder: Path) -> None:
        self.config, self.protocols = config, config.protocols

    def results(self, protocol: str) -> object:
        return RESULTS[protocol]

    def trainings(self) -> list[Training]:
        return [Training("a4mer", 1_234_567, 1500, 16, 12.0, ((240.0, 230.0), (360.0, 240.0)))]


@pytest.fixture
def lines(tmp_path: Path) -> list[Line]:
    found = [lines_of(protocol, CONFIG, RESULTS[protocol], tmp_path) for protocol in CONFIG.protocols]
    return [line for of in found for line in of]


def test_figures_and_differences(lines: list[Line]) -> None:
    simple = lines[0]
    assert (simple.method, simple.task, simple.row) == ("simple full", "middle 3 s", "ridge")
    assert simple.groups == {"p1": 0.5, "p2": 0.75} and simple.mean == pytest.approx(0.625) and simple.sd is None
    # 0.875 and 1 are A4Mer's
    assert simple.difference == pytest.approx(0.625 - 0.9375) and simple.p is not None and 0 < simple.p <= 1
    assert lines[1].difference is None and lines[1].seeds == 2 and lines[1].sd == pytest.approx(0.0884, abs=1e-4)
    guess = next(line for line in lines if line.row == "ridge on poses")
    assert (guess.method, guess.task) == ("simple", "2 s -> 3 s")
    assert guess.mean == pytest.approx(35.0) and guess.moving_mm == pytest.approx(70.0)
    assert guess.difference == pytest.approx(5.0)
    assert not any("heads" in line.row for line in shown(lines, "prediction"))


def test_a_command_can_be_typed(tmp_path: Path) -> None:
    words = shlex.split(command_of(CONFIG, "prediction", "a4mer", tmp_path))
    assert words[:4] == ["motifs", "evaluate", "--all", "data/a b"]
    at = words.index("--groups")
    assert words[at + 1 : at + 3] == ["p1", "p2"] and words[words.index("--methods") + 1] == "a4mer"
    assert "--left-out" not in words and words[words.index("--seeds") + 1 :][:2] == ["0", "1"]


def test_latex_marks_the_best(lines: list[Line]) -> None:
    text = as_latex(lines)
    assert r"a4mer & middle 3 s & ridge & 0.875 & 1.000 & \textbf{0.938 $\pm$ 0.088}" in text
    assert r"2 s $\to$ 3 s" in text and text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert r"\textbf{30.0}" in text and r"\textbf{35.0}" not in text


def test_all_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Comparison", Known)
    found = write_comparison(CONFIG, tmp_path)
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert len(rows) == len(found) == 6 and float(rows[0]["p1"]) == 0.5 and rows[0]["command"].startswith("motifs")
    html = (tmp_path / "table.html").read_text()
    assert "data:image/png" in html and "0.938" in html and "http://" not in html
    assert (tmp_path / "recognition.png").read_bytes().startswith(b"\x89PNG")
