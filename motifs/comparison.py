"""The table of a comparison: CSV with every row and the command that made it, HTML with pictures, LaTeX for a paper."""

from __future__ import annotations

import csv
import dataclasses
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibration.pictures.canvas import new_figure, plain, png_bytes
from core.files import write_bytes, write_text
from model.protocols.comparison import Comparison, ComparisonConfig, Training
from model.protocols.finetuning import SHARES as SHARES_OF_LABELS
from model.protocols.names import PROTOCOLS, SHARES
from model.protocols.paired import Cells, compare
from model.protocols.report import Results, accuracy_summary, error_summary
from model.protocols.robustness import SPOILT
from motifs.charts import COLOURS
from motifs.page import Picture, Section, Table, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CSV, HTML, LATEX = "table.csv", "table.html", "table.tex"
RIVAL = "a4mer"  # whom every method is compared with
_SESSIONS = "stitched sessions"
# what a reader looks at first: task or part, then row
SHOWN: Mapping[str, tuple[tuple[str, str], ...]] = {
    "recognition": tuple(
        (part, row)
        for part in ("middle 3 s", "pyramid")
        for row in ("k-NN, k = 20", "ridge, alpha = 100", "ridge", "1-shot ridge", "5-shot ridge")
    )
    + tuple((f"first {share} %", "k-NN, k = 20") for share in (50, 25, 10)),
    "fine-tuning": tuple((share, row) for share in SHARES_OF_LABELS for row in ("linear", "fine-tuned")),
    "transfer": tuple(("middle 3 s", row) for row in ("k-NN, k = 20", "ridge, alpha = 100", "5-shot ridge")),
    "robustness": tuple((spoilt, "ridge, alpha = 100") for spoilt in SPOILT),
    "segmentation": tuple((_SESSIONS, row) for row in ("frames", "edit", "F1@25", "F1@50")),
    "prediction": (("2 s -> 3 s", ""),),
    "interpolation": (("1 s", ""), ("2 s", ""), ("4 s", "")),
}


@dataclass(frozen=True)
class Line:
    """A row of the table.

    Attributes:
        protocol: of `model.protocols.names.PROTOCOLS`.
        method: which system.
        task: part of the clips, or lengths of what is known and asked.
        row: probe, or guess.
        groups: figure of each group, mean over seeds.
        mean: over groups (accuracy), or over all windows (mm); None while a group is missing.
        sd: of it over seeds; None for one seed.
        moving_mm: of errors, over moving windows.
        seeds: how many.
        difference: of the mean over groups and clips to A4Mer's; None where a row does not tell of single clips.
        p: how often chance gives as large a one (`model.protocols.paired`).
        command: what made it.
    """

    protocol: str
    method: str
    task: str
    row: str
    groups: Mapping[str, float]
    mean: float | None
    sd: float | None
    moving_mm: float | None
    seeds: int
    difference: float | None
    p: float | None
    command: str


def write_comparison(config: ComparisonConfig, out: Path) -> list[Line]:
    """Computes what is missing in `out`, and writes the table anew.

    Args:
        config: what is compared.
        out: folder of table, pictures, finished cells and runs.

    Raises:
        InputError: see `Comparison`.
    """
    comparison = Comparison(config, out)
    found: list[Line] = []
    pictures: dict[str, bytes] = {}
    for protocol in comparison.protocols:  # what is finished can be read while the rest is computed
        found += lines_of(protocol, config, comparison.results(protocol), out)
        pictures[protocol] = png_bytes(picture(found, protocol))
        write_bytes(out / f"{protocol}.png", pictures[protocol])
        write_text(out / CSV, as_csv(found, config.groups))
        write_text(out / LATEX, as_latex(found))
        write_text(out / HTML, as_html(found, config, pictures, comparison.trainings()))
    return found


def lines_of(protocol: str, config: ComparisonConfig, results: Results, out: Path) -> list[Line]:
    """All rows of a protocol."""
    found = []
    for name, cells in results.items():
        method, task, row = divided(protocol, name)
        rival = _rival(results, protocol, method, task, row)
        paired = compare(cells, rival) if rival is not None else None
        of_errors = None if protocol in SHARES else error_summary(cells)
        of_rights = accuracy_summary(cells, config.left_out or config.groups) if of_errors is None else {}
        summary = of_errors or {**of_rights, "mm": of_rights["mean"], "moving_mm": None}
        found.append(
            Line(
                protocol,
                method,
                task,
                row,
                summary["groups"],
                summary["mm"],
                summary["sd"],
                summary["moving_mm"],
                summary["seeds"],
                paired.difference if paired else None,
                paired.p if paired else None,
                command_of(config, protocol, method.partition(" ")[0], out),
            )
        )
    return found


def divided(protocol: str, name: str) -> tuple[str, str, str]:
    """Method, task and row of a result's name."""
    if protocol in SHARES:
        method, *part, row = name.split(" | ")
        return method, part[0] if part else _SESSIONS, row
    head, _, row = name.partition(" | ")
    method, _, task = head.partition(" ")
    return method, task, row


def _rival(results: Results, protocol: str, method: str, task: str, row: str) -> Cells | None:
    """A4Mer's row of the same kind; guesses without tokens are held against its best kind, tokens beside poses."""
    if method == RIVAL:
        return None
    if protocol in SHARES:
        return results.get(" | ".join([RIVAL, *([] if task == _SESSIONS else [task]), row]))
    return results.get(f"{RIVAL} {task} | {row}") or results.get(f"{RIVAL} {task} | network on tokens and poses")


def command_of(config: ComparisonConfig, protocol: str, method: str, out: Path) -> str:
    """The command line that computes a method's rows of a protocol."""
    words = ["motifs", "evaluate", "--all", str(config.dataset), "--groups", *config.groups]
    options: list[tuple[str, Sequence[object]]] = [
        ("--left-out", config.left_out), ("--also", config.also), ("--without", config.without),
        ("--methods", (method,)),
        ("--protocols", (protocol,)), ("--recipe", (config.recipe,)), ("--settings", config.settings),
        ("--seeds", config.seeds), ("--out", (out,)),
    ]  # fmt: skip
    for name, values in options:
        words += [name, *map(str, values)] if values else []
    return shlex.join(words if config.heads else [*words, "--no-heads"])


def as_csv(lines: Sequence[Line], groups: Sequence[str]) -> str:
    """Every row."""
    text = io.StringIO()
    names = [f.name for f in dataclasses.fields(Line) if f.name != "groups"]
    writer = csv.writer(text, lineterminator="\n")
    at = names.index("mean")
    writer.writerow([*names[:at], *groups, *names[at:]])
    for line in lines:
        values = [_plain(getattr(line, name)) for name in names]
        writer.writerow([*values[:at], *(_plain(line.groups.get(g)) for g in groups), *values[at:]])
    return text.getvalue()


def shown(lines: Sequence[Line], protocol: str) -> list[Line]:
    """The rows that a reader looks at first; of forecasts, all but the paper's heads."""
    wanted = SHOWN[protocol]
    return [
        line
        for task, row in wanted
        for line in lines
        if line.protocol == protocol
        and line.task == task
        and (line.row == row or (not row and "heads" not in line.row))
    ]


def as_latex(lines: Sequence[Line]) -> str:
    """A table a protocol in booktabs' style, the best of each task in bold."""
    parts = []
    for protocol in PROTOCOLS:
        rows = shown(lines, protocol)
        if not rows:
            continue
        groups = list(rows[0].groups)
        head = " & ".join(["method", "task", "row", *groups, "mean", "$p$"])
        body = [r"\begin{tabular}{lll" + "r" * (len(groups) + 2) + "}", r"\toprule", rf"{_tex(head, cells=True)} \\"]
        for task, row in SHOWN[protocol]:
            of_task = [line for line in rows if line.task == task and (not row or line.row == row)]
            body += [r"\midrule"] if of_task else []
            body += [_tex_line(line, line is _best(of_task), groups) for line in of_task]
        parts.append("\n".join([f"% {protocol}", *body, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(parts) + "\n"


def _best(lines: Sequence[Line]) -> Line | None:
    known = [(line.mean if line.protocol in SHARES else -line.mean, line) for line in lines if line.mean]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def _tex_line(line: Line, best: bool, groups: Sequence[str]) -> str:
    mean = _figure(line, line.mean) + ("" if line.sd is None else rf" $\pm$ {_figure(line, line.sd)}")
    figures = [_figure(line, line.groups.get(g)) for g in groups]
    words = [_tex(word) for word in (line.method, line.task, line.row)]
    return " & ".join([*words, *figures, rf"\textbf{{{mean}}}" if best else mean, _p(line)]) + r" \\"


def _tex(text: str, *, cells: bool = False) -> str:
    for sign in ("_", "%", "#") if cells else ("&", "_", "%", "#"):
        text = text.replace(sign, rf"\{sign}")
    return text.replace("->", r"$\to$")


def as_html(
    lines: Sequence[Line], config: ComparisonConfig, pictures: Mapping[str, bytes], trainings: Sequence[Training] = ()
) -> str:
    """A page with the first rows, the pictures, the commands, and what was trained."""
    sections = []
    for protocol, picture_bytes in pictures.items():
        rows = shown(lines, protocol)
        groups = list(config.left_out or config.groups)
        heads = ("method", "task", "row", *groups, "mean", "sd", "seeds", "difference to A4Mer", "p")
        body = tuple(
            (
                line.method,
                line.task,
                line.row,
                *(_figure(line, line.groups.get(g)) for g in groups),
                _figure(line, line.mean),
                _figure(line, line.sd),
                str(line.seeds),
                _figure(line, line.difference),
                _p(line),
            )
            for line in rows
        )
        unit = "share told rightly" if protocol in SHARES else "mean error of 22 joints, mm"
        commands = sorted({(line.command,) for line in lines if line.protocol == protocol})
        sections.append(
            Section(
                protocol.capitalize(),
                f"{unit.capitalize()}; each group of people is left out in turn. All rows are in {CSV}.",
                (
                    Table(heads, body, tuple(range(3, len(heads)))),
                    Table(("commands that made these figures",), tuple(commands)),
                ),
                (Picture.of(picture_bytes, f"{unit}: bars are means over groups, A4Mer's in red, dots the groups"),),
                wide=True,
            )
        )
    if trainings:
        sections.append(_trainings(trainings))
    lead = f"{', '.join(config.methods)} on {config.dataset.name}; groups {', '.join(config.groups)}"
    return render("Comparison of representations", lead, sections, f"all rows are in {CSV}", refused=False)


def _trainings(trainings: Sequence[Training]) -> Section:
    """What the networks cost."""
    heads = (
        "network",
        "trained parameters",
        "steps",
        "windows a step",
        "window, s",
        "runs",
        "minutes a run",
        "of processors",
    )
    rows = tuple(
        (
            t.method,
            f"{t.parameters:,}",
            f"{t.steps:,}",
            str(t.batch_size),
            f"{t.window_s:g}",
            str(len(t.spent)),
            *(f"{np.mean(minutes) / 60:.1f}" for minutes in zip(*t.spent, strict=True)),
            *(() if t.spent else ("", "")),
        )
        for t in trainings
    )
    text = (
        "Minutes are means over runs: those that passed, beside whatever else the machine did, and those of processors."
    )
    return Section("Pretraining", text, (Table(heads, rows, tuple(range(1, len(heads)))),), ())


def picture(lines: Sequence[Line], protocol: str) -> Figure:
    """Bars for each method's first rows, with a dot for each group."""
    wanted, of_rights = SHOWN[protocol], protocol in SHARES
    rows = [[x for x in shown(lines, protocol) if x.task == task and row in ("", x.row)] for task, row in wanted]
    columns = 2 if of_rights else 1
    height = 0.6 + 0.22 * max(len(bars) for bars in rows)
    figure = new_figure(11.0, height * -(-len(wanted) // columns))
    panels = figure.subplots(-(-len(wanted) // columns), columns, squeeze=False).ravel()
    for axes in panels[len(wanted) :]:
        axes.set_axis_off()
    for axes, (task, row), bars in zip(panels, wanted, rows, strict=False):
        place = np.arange(len(bars))[::-1]
        colours = [COLOURS[1] if x.method == RIVAL else COLOURS[5] for x in bars]
        axes.barh(place, [np.nan if x.mean is None else x.mean for x in bars], color=colours, height=0.7)
        for x, y in zip(bars, place, strict=True):
            axes.plot(list(x.groups.values()), [y] * len(x.groups), ".", color=COLOURS[0], markersize=5)
        plain(axes, f"{task}: {row}" if row else task, "accuracy" if of_rights else "mm")
        axes.set_yticks(place, [x.method if row else f"{x.method}: {x.row}" for x in bars])
        if of_rights:
            axes.set_xlim(0.0, 1.0)
        elif bars:
            # constant velocity is many times worse than all others and would flatten them
            axes.set_xlim(0.0, 2.0 * float(np.nanmedian([np.nan if x.mean is None else x.mean for x in bars])))
    return figure


def _figure(line: Line, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if line.protocol in SHARES else f"{value:.1f}"


def _p(line: Line) -> str:
    return "" if line.p is None else f"{line.p:.4f}" if line.p >= 1e-3 else "< 0.001"


def _plain(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
