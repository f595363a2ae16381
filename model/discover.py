"""Atoms and Motifs of any recording or dataset: tables and pictures.

Writes `atoms.csv`, `motifs.csv`, `types.csv` (who does which type of Motif, how often and while doing what),
`motifs.json` (all of that), `timeline.png` and one `motif-<rank>.png` for each of the most used Motifs into a folder
that is complete or absent. Times are seconds on the recording's own clock. A Motif's type is named
after its codes: `3` is a run of Atoms of code 3, `3-5-1` a pattern.
"""

from __future__ import annotations

import csv
import fnmatch
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InputError
from core.files import atomic_folder, write_json, write_text
from dataset.schema import ClipInfo
from dataset.shards import AmdDataset
from model.devices import choose_device, reproducible
from model.loading import TrainedRun, load_run
from model.windows import Segmentation

SCHEMA = "action-motifs/discovered/1"


@dataclass(frozen=True)
class Segment:
    """One Atom or Motif of a recording.

    Attributes:
        clip: id of the clip it lies in.
        subject: who moves.
        session: the recording.
        index: place in the clip, from 0.
        start_s: beginning, seconds on the recording's clock.
        end_s: end.
        type: code of an Atom, type number of a Motif.
        codes: codes of its Atoms.
        motif: of an Atom: index of the Motif that it belongs to; of a Motif, its own.
    """

    clip: str
    subject: str
    session: str
    index: int
    start_s: float
    end_s: float
    type: int
    codes: tuple[int, ...]
    motif: int


@dataclass(frozen=True)
class MotifUse:
    """How often a type of Motif occurs.

    Attributes:
        type: type number.
        name: its codes.
        occurrences: how often it occurs.
        total_s: how long in all.
        subjects: by how many people.
        people: how often by each of them, the most frequent first.
        actions: share of its time that each label covers; empty without labels.
    """

    type: int
    name: str
    occurrences: int
    total_s: float
    subjects: int
    people: dict[str, int]
    actions: dict[str, float]


@dataclass(frozen=True)
class Discovery:
    """What was found in a recording.

    Attributes:
        out: folder with tables and pictures.
        atoms: every Atom.
        motifs: every Motif.
        uses: types of Motif, the most used first.
        pictures: files in `out`.
    """

    out: Path
    atoms: tuple[Segment, ...]
    motifs: tuple[Segment, ...]
    uses: tuple[MotifUse, ...]
    pictures: tuple[Path, ...]


def _matching(clips: Sequence[ClipInfo], patterns: Sequence[str]) -> tuple[ClipInfo, ...]:
    """The clips that any of the patterns names, in their order."""
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(clip.id, pattern) for clip in clips):
            raise InputError(pattern, "no clip is called so", "name clips of meta/clips.json")
    return tuple(clip for clip in clips if any(fnmatch.fnmatchcase(clip.id, pattern) for pattern in patterns))


def discover(
    run: Path,
    source: Path,
    out: Path,
    *,
    clips: Sequence[str] | None = None,
    num_pictured: int = 5,
    device: str = "auto",
) -> Discovery:
    """Finds the Atoms and Motifs of a recording.

    Args:
        run: folder of a training run that has come past its mining.
        source: dataset that holds the recording.
        out: folder to make; one that is there is replaced.
        clips: ids of the clips to look at, or patterns of them (`fnmatch`); None for all.
        num_pictured: how many of the most used Motifs get a picture.
        device: see `model.train.train`.

    Raises:
        InputError: if the run, the dataset or a clip is missing.
        StageError: if the run has no Motifs yet.
    """
    trained, dataset = load_run(run, choose_device(device)), AmdDataset(source)
    chosen = dataset.clips if clips is None else _matching(dataset.clips, clips)
    if not chosen:
        raise InputError(str(source), "there is no clip to look at", "name clips of meta/clips.json")
    with reproducible(trained.recipe.threads):
        segmentation = trained.segment(dataset, chosen)
    atoms = tuple(s for clip in chosen for s in clip_atoms(clip, segmentation))
    motifs = tuple(s for clip in chosen for s in clip_motifs(clip, segmentation, trained))
    uses = count_uses(motifs, action_shares(dataset, motifs))
    with atomic_folder(out) as folder:
        _write_tables(folder, trained, source, atoms, motifs, uses)
        _draw(folder, dataset, chosen, atoms, motifs, uses[:num_pictured])
    return Discovery(out, atoms, motifs, uses, tuple(sorted(out.glob("*.png"))))


def clip_atoms(clip: ClipInfo, segmentation: Segmentation) -> list[Segment]:
    """Atoms of a clip with their codes."""
    edges = clip.start_s + np.append(segmentation.cuts_s[clip.id], clip.duration_s)
    codes, motif = segmentation.codes[clip.id].tolist(), segmentation.motif[clip.id].tolist()
    return [
        Segment(clip.id, clip.subject, clip.session, i, float(edges[i]), float(edges[i + 1]), code, (code,), motif[i])
        for i, code in enumerate(codes)
    ]


def clip_motifs(clip: ClipInfo, segmentation: Segmentation, trained: TrainedRun) -> list[Segment]:
    """Motifs of a clip with their types; `codes` are those of its own Atoms, which may differ from the type's."""
    motif, codes = segmentation.motif[clip.id], segmentation.codes[clip.id]
    edges = clip.start_s + np.append(segmentation.cuts_s[clip.id], clip.duration_s)
    found = []
    for i, motif_type in enumerate(segmentation.types[clip.id].tolist()):
        inside = np.flatnonzero(motif == i)
        start_s, end_s = float(edges[inside[0]]), float(edges[inside[-1] + 1])
        own = tuple(codes[inside].tolist())
        found.append(Segment(clip.id, clip.subject, clip.session, i, start_s, end_s, motif_type, own, i))
    return found


def type_name(codes: Sequence[int]) -> str:
    """Codes joined by dashes; one code for a run."""
    return "-".join(str(c) for c in (codes[:1] if len(set(codes)) == 1 else codes))


def count_uses(motifs: Sequence[Segment], actions: Mapping[int, dict[str, float]]) -> tuple[MotifUse, ...]:
    """Types by number of occurrences, then by time; named after the codes most of their occurrences have."""
    uses = []
    for motif_type in sorted({m.type for m in motifs}):
        own = [m for m in motifs if m.type == motif_type]
        names = Counter(type_name(m.codes) for m in own)
        name = min(names, key=lambda n: (-names[n], n))
        total_s = sum(m.end_s - m.start_s for m in own)
        people = dict(sorted(Counter(m.subject for m in own).items(), key=lambda p: (-p[1], p[0])))
        uses.append(MotifUse(motif_type, name, len(own), total_s, len(people), people, actions.get(motif_type, {})))
    return tuple(sorted(uses, key=lambda u: (-u.occurrences, -u.total_s, u.type)))


def action_shares(dataset: AmdDataset, motifs: Sequence[Segment]) -> dict[int, dict[str, float]]:
    """For each type of Motif, the share of its frames that each label covers; empty where there are no labels."""
    names = dataset.info.action_names
    sums: dict[int, np.ndarray] = {}
    frames: Counter[int] = Counter()
    for clip_id in dict.fromkeys(m.clip for m in motifs) if names else ():
        info = dataset[clip_id]
        actions = dataset.read(clip_id).actions
        if actions is None:
            continue
        for m in (m for m in motifs if m.clip == clip_id):
            first, last = (round((t - info.start_s) * float(info.frame_rate)) for t in (m.start_s, m.end_s))
            sums[m.type] = sums.get(m.type, np.zeros(len(names))) + actions[first:last].sum(axis=0)
            frames[m.type] += last - first
    return {
        t: {names[i]: float(s[i] / frames[t]) for i in np.argsort(-s, kind="stable") if s[i] > 0}
        for t, s in sums.items()
    }


def _write_tables(
    folder: Path,
    trained: TrainedRun,
    source: Path,
    atoms: Sequence[Segment],
    motifs: Sequence[Segment],
    uses: Sequence[MotifUse],
) -> None:
    write_text(folder / "atoms.csv", _csv(atoms, "code", ("motif",)))
    write_text(folder / "motifs.csv", _csv(motifs, "type", ("codes",)))
    write_text(folder / "types.csv", _types_csv(uses))
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "run": {"recipe": trained.recipe.name, "step": trained.step},
        "dataset": source.name,
        "types": uses,
        "motifs": motifs,
        "atoms": atoms,
    }
    write_json(folder / "motifs.json", data)


def _csv(segments: Sequence[Segment], type_column: str, more: tuple[str, ...]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["clip", "subject", "session", "index", "start_s", "end_s", type_column, *more])
    for s in segments:
        extra = ["-".join(map(str, s.codes)) if name == "codes" else s.motif for name in more]
        writer.writerow([s.clip, s.subject, s.session, s.index, f"{s.start_s:.4f}", f"{s.end_s:.4f}", s.type, *extra])
    return stream.getvalue()


def _types_csv(uses: Sequence[MotifUse]) -> str:
    """One row for each type of Motif, the most used first; people and actions as `name=number` with semicolons."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["rank", "type", "name", "occurrences", "total_s", "mean_s", "people", "actions"])
    for rank, use in enumerate(uses, start=1):
        people = "; ".join(f"{name}={number}" for name, number in use.people.items())
        actions = "; ".join(f"{name}={share:.3f}" for name, share in use.actions.items())
        mean_s = use.total_s / use.occurrences
        row = [rank, use.type, use.name, use.occurrences, f"{use.total_s:.3f}", f"{mean_s:.3f}", people, actions]
        writer.writerow(row)
    return stream.getvalue()


def _draw(
    folder: Path,
    dataset: AmdDataset,
    clips: Sequence[ClipInfo],
    atoms: Sequence[Segment],
    motifs: Sequence[Segment],
    uses: Sequence[MotifUse],
) -> None:
    """Pictures; matplotlib is needed for them alone."""
    from model.pictures import draw_strip, draw_timeline

    draw_timeline(folder / "timeline.png", clips, atoms, motifs, uses)
    for rank, use in enumerate(uses, start=1):
        draw_strip(folder / f"motif-{rank}.png", dataset, [m for m in motifs if m.type == use.type], use)
