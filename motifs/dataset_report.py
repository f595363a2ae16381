"""One self-contained HTML page about a dataset: what is in it, whom and what it covers, what may be trusted, motifs."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibration.pictures.canvas import literal
from core.arrays import Float
from core.errors import InputError
from core.files import write_text
from core.progress import progress
from dataset.schema import REASONS, ClipInfo
from dataset.shards import AmdDataset
from motifs.charts import COLOURS, png_bytes
from motifs.page import Picture, Section, Table, pictures_in, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNLABELLED = "not labelled"
_WORST, _MOST = 20, 20  # clips of which little was measured, and recordings, that are listed


@dataclass(frozen=True, eq=False)
class Contents:
    """What the clips of a dataset hold, in sums.

    Attributes:
        seconds: of every subject and action; time with several actions counts for each of them.
        reasons: seconds of invalid frames, by reason.
        speeds_m_s: mean speed of the joints of every clip.
    """

    seconds: Mapping[tuple[str, str], float]
    reasons: Mapping[str, float]
    speeds_m_s: Float[np.ndarray, "clips"]


def contents_of(dataset: AmdDataset) -> Contents:
    """Reads every clip once."""
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    reasons = dict.fromkeys(REASONS, 0.0)
    speeds = np.full(len(dataset), np.nan)
    names = dataset.info.action_names
    with progress("reading clips", len(dataset)) as advance:
        for k, info in enumerate(dataset.clips):
            clip, frame_s = dataset.read(info.id), float(1 / info.frame_rate)
            if clip.actions is None:
                seconds[info.subject, UNLABELLED] += info.duration_s
            else:
                for name, frames in zip(names, clip.actions.sum(axis=0).tolist(), strict=True):
                    if frames:
                        seconds[info.subject, name] += frames * frame_s
                if nothing := int((clip.actions.sum(axis=1) == 0).sum()):
                    seconds[info.subject, UNLABELLED] += nothing * frame_s
            for name, bit in REASONS.items():
                reasons[name] += float(((clip.reasons & bit) != 0).sum()) * frame_s
            if len(clip) > 1:
                moved = np.linalg.norm(np.diff(clip.joints_m, axis=0), axis=-1)
                speeds[k] = float(np.nanmean(moved)) / frame_s if np.isfinite(moved).any() else np.nan
            advance()
    return Contents(dict(seconds), {name: s for name, s in reasons.items() if s > 0}, speeds)


def write_dataset_report(folder: Path, motifs: Path | None, out: Path | None = None) -> Path:
    """Writes `report.html` about a dataset.

    Args:
        folder: the dataset.
        motifs: folder that `motifs discover` wrote about it.
        out: the file; `report.html` in the dataset unless it is named.

    Returns:
        The page.

    Raises:
        InputError: if it is no dataset, or `motifs` is no discovery.
    """
    dataset = AmdDataset(folder)
    contents = contents_of(dataset)
    sections = [_overview(dataset), _coverage(dataset, contents), _trust(dataset, contents)]
    sections += motif_sections(motifs)
    info = dataset.info
    page = render(
        f"Dataset {folder.resolve().name}",
        f"{info.num_clips} clips · {info.duration_s / 3600:.2f} hours · {len(info.subjects)} people · "
        f"{len(info.action_names)} actions",
        sections,
        f"motifs train {folder.resolve().name} --recipe cpu_10min --out RUN",
        refused=False,
    )
    path = out or folder / "report.html"
    write_text(path, page)
    return path


def motif_sections(folder: Path | None) -> list[Section]:
    """What `motifs discover` wrote: timeline, types of Motif by use with people and actions, strips of the most used.

    Raises:
        InputError: if the folder holds no discovery.
    """
    if folder is None:
        return []
    pictures = sorted(pictures_in(folder), key=lambda p: (p.caption != "timeline", _natural(p.caption)))
    if not pictures:
        raise InputError(str(folder), "it holds no pictures of motifs", "make them with `motifs discover`")
    text = "Atoms and motifs that the trained model finds, without labels. Each strip shows occurrences of one motif."
    table = folder / "types.csv"
    return [
        Section(
            "Action motifs",
            text,
            tables=(_types(table),) if table.is_file() else (),
            pictures=tuple(pictures),
            wide=True,
        )
    ]


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """Numbers in a text in their order: motif-2 before motif-10."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", text)]


def _types(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    heads = ("rank", "motif", "occurrences", "total, s", "mean, s", "people", "actions")
    keys = ("rank", "name", "occurrences", "total_s", "mean_s", "people", "actions")
    return Table(heads, tuple(tuple(row.get(key, "") for key in keys) for row in rows), (0, 2, 3, 4))


def _overview(dataset: AmdDataset) -> Section:
    info = dataset.info
    splits = tuple(
        (split, str(number), f"{sum(c.duration_s for c in dataset.of_split(split)) / 60:.1f}",
         ", ".join(sorted({c.subject for c in dataset.of_split(split)})))
        for split, number in info.split_clips.items()
    )  # fmt: skip
    sources = Counter(clip.session for clip in dataset.clips)
    recordings = [(name, str(number)) for name, number in sources.most_common(_MOST) if number > 1]
    lengths = Picture.of(png_bytes(_lengths(dataset.clips)), "How long clips are, and how much of them was measured.")
    return Section(
        "Overview",
        " ".join(f"{note}." for note in info.notes),
        tables=(
            Table(("split", "clips", "minutes", "people"), splits, (1, 2)),
            *((Table((f"recording, of {len(sources)}", "clips"), tuple(recordings), (1,)),) if recordings else ()),
        ),
        pictures=(lengths,),
        wide=True,
    )


def _coverage(dataset: AmdDataset, contents: Contents) -> Section:
    subjects = sorted({subject for subject, _ in contents.seconds})
    actions = sorted({action for _, action in contents.seconds}, key=lambda a: -_of_action(contents, a))
    rows = []
    for action in actions:
        who = [subject for subject in subjects if (subject, action) in contents.seconds]
        rows.append((action, f"{_of_action(contents, action) / 60:.1f}", str(len(who)), ", ".join(who)))
    table = Table(("action", "minutes", "people", "who"), tuple(rows), (1, 2))
    grid = np.array([[contents.seconds.get((s, a), 0.0) / 60 for a in actions] for s in subjects])
    return Section(
        "Coverage",
        "Who does what, and for how long; an empty place is something that the dataset cannot teach of that person.",
        tables=(table,),
        pictures=(Picture.of(png_bytes(_heat(grid, subjects, actions)), "Minutes of each action by each person."),),
        wide=True,
    )


def _of_action(contents: Contents, action: str) -> float:
    return sum(seconds for (_, name), seconds in contents.seconds.items() if name == action)


def _trust(dataset: AmdDataset, contents: Contents) -> Section:
    usual = float(np.median([clip.valid_fraction for clip in dataset.clips]))
    worst = sorted(dataset.clips, key=lambda clip: clip.valid_fraction)[:_WORST]
    invalid = [(name.replace("_", " "), f"{seconds:.1f}") for name, seconds in contents.reasons.items()]
    skipped = [(s.source, f"{s.start_s:.1f}", f"{s.duration_s:.1f}", s.reason) for s in dataset.info.skipped]
    gaps = [
        (clip.id, clip.subject, f"{100 * clip.valid_fraction:.1f}", f"{clip.duration_s:.1f}")
        for clip in worst
        if clip.valid_fraction < usual - 0.005
    ]
    tables = [
        Table(("reason of invalid frames", "seconds"), tuple(invalid), (1,)),
        Table(("did not come in", "from, s", "seconds", "why"), tuple(skipped), (1, 2)),
        Table(("clip of which least was measured", "person", "measured, %", "seconds"), tuple(gaps), (2, 3)),
    ]
    shown = tuple(table for table in tables if table.rows)
    text = f"Of a clip {100 * usual:.1f} % of joints and frames are measured in the median. "
    text += "" if shown else "No clip falls behind, no frame is invalid, and nothing of the sources was left out."
    speeds = contents.speeds_m_s[np.isfinite(contents.speeds_m_s)]
    picture = Picture.of(png_bytes(_speeds(speeds)), "How fast people move: a clip far to the right is one to look at.")
    return Section("What may be trusted", text, tables=shown, pictures=(picture,), wide=True)


def _figure(height_in: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(10.0, height_in), layout="constrained")


def _lengths(clips: Sequence[ClipInfo]) -> Figure:
    figure = _figure(2.6)
    left, right = figure.subplots(1, 2)
    left.hist([clip.duration_s for clip in clips], bins=40, color=COLOURS[0])
    left.set(xlabel="length of a clip (s)", ylabel="clips")
    right.hist([100 * clip.valid_fraction for clip in clips], bins=np.linspace(0, 100, 41), color=COLOURS[2])
    right.set(xlabel="joints and frames measured (%)", ylabel="clips", yscale="log")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _speeds(speeds_m_s: Float[np.ndarray, "clips"]) -> Figure:
    figure = _figure(2.4)
    axes = figure.subplots()
    axes.hist(speeds_m_s, bins=50, color=COLOURS[0])
    axes.set(xlabel="mean speed of the joints of a clip (m/s)", ylabel="clips")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _heat(minutes: Float[np.ndarray, "subjects actions"], subjects: Sequence[str], actions: Sequence[str]) -> Figure:
    figure = _figure(min(1.6 + 0.28 * len(subjects), 14.0))
    axes = figure.subplots()
    shown = axes.imshow(np.where(minutes > 0, minutes, np.nan), aspect="auto", cmap="cividis", vmin=0.0)
    axes.set_facecolor("#eeeeee")
    axes.set_xticks(range(len(actions)), [literal(name) for name in actions], rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(subjects)), [literal(name) for name in subjects], fontsize=8)
    figure.colorbar(shown, ax=axes, label="minutes")
    return figure
