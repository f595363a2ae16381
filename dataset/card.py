"""The dataset's own page: what is in it, in what units, who is in which split, and what to beware of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dataset.schema import CONVENTIONS, FIELDS, OPTIONAL_FIELDS, SCHEMA, SPLITS, ClipInfo, DatasetInfo

_READ = """```python
from pathlib import Path
from dataset.shards import AmdDataset

dataset = AmdDataset(Path("."))
clip = dataset.read(dataset.clips[0].id, start=0, stop=300)
print(clip.joints_m.shape, clip.rate, clip.labels.subject)
```"""


def card(info: DatasetInfo, clips: Sequence[ClipInfo]) -> str:
    """The text of a dataset's `README.md`."""
    hours = info.duration_s / 3600
    measured = sum(c.valid_fraction * c.num_frames for c in clips) / max(info.num_frames, 1)
    parts = [
        "# Action Motif Dataset",
        f"{info.num_clips} clips, {info.num_frames} frames, {hours:.2f} h of {len(info.subjects)} people; schema "
        f"`{SCHEMA}`. {measured:.1%} of the joints were measured; the rest is the fit's guess and marked in `valid`.",
        "## Splits",
        f"Divided by {info.split_by}; `meta/splits.json` names who is where.",
        _table(("split", "clips", "frames", "people"), _split_rows(clips)),
        "\n".join(f"- {note}" for note in info.notes),
        "## Fields",
        "Each clip is the group `/clips/<id>` of one file under `data/`; `meta/clips.json` says which. "
        "T: the clip's frames, B: shape coefficients, A: actions.",
        _table(("field", "shape", "type", "unit"), _field_rows()),
        "## Actions",
        f"Labels of every frame, several at once; the columns of `actions`: {', '.join(info.action_names)}."
        if info.action_names
        else "No clip is labelled.",
        "## Conventions",
        _table(("what", "how"), ((f"`{name}`", value) for name, value in CONVENTIONS.items())),
        "## Reading",
        _READ,
        "Check a copy with `motifs verify`. `croissant.json` describes the files for search engines and loaders.",
    ]
    if info.skipped:
        seconds = sum(entry.duration_s for entry in info.skipped)
        parts += ["## Left out", f"{len(info.skipped)} stretches, {seconds:.1f} s; `meta/info.json` lists them."]
    return "\n\n".join(part for part in parts if part) + "\n"


def _split_rows(clips: Sequence[ClipInfo]) -> Iterable[tuple[str, str, str, str]]:
    for split in SPLITS:
        members = [clip for clip in clips if clip.split == split]
        frames, people = sum(clip.num_frames for clip in members), len({clip.subject for clip in members})
        yield split, str(len(members)), str(frames), str(people)


def _field_rows() -> Iterable[tuple[str, str, str, str]]:
    for name, (shape, dtype, unit) in FIELDS.items():
        optional = " (optional)" if name in OPTIONAL_FIELDS else ""
        yield f"`{name}`{optional}", " x ".join(map(str, shape)), dtype, unit


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
