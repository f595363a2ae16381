"""What discovery writes: every instant in one Atom and one Motif, times on the recording's clock, real pictures."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from dataset.shards import AmdDataset
from model.discover import Discovery, Segment, count_uses, discover, type_name


@pytest.fixture(scope="module")
def found(people: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Discovery:
    return discover(tiny_run, people, tmp_path_factory.mktemp("found") / "out", num_pictured=2)


def test_segments_tile_every_clip(found: Discovery, people: Path) -> None:
    for clip in AmdDataset(people).clips:
        for segments in (found.atoms, found.motifs):
            own = [s for s in segments if s.clip == clip.id]
            assert own[0].start_s == clip.start_s == 2.5
            assert own[-1].end_s == pytest.approx(clip.start_s + clip.duration_s)
            assert all(a.end_s == b.start_s and a.end_s > a.start_s for a, b in pairwise(own))
        atoms = [a for a in found.atoms if a.clip == clip.id]
        motifs = [m for m in found.motifs if m.clip == clip.id]
        for m in motifs:
            inside = [a for a in atoms if a.motif == m.index]
            assert m.codes == tuple(a.type for a in inside)
            assert (m.start_s, m.end_s) == (inside[0].start_s, inside[-1].end_s)


def test_tables_say_the_same(found: Discovery) -> None:
    rows = list(csv.DictReader((found.out / "motifs.csv").read_text().splitlines()))
    assert [(r["clip"], int(r["type"])) for r in rows] == [(m.clip, m.type) for m in found.motifs]
    assert [float(r["start_s"]) for r in rows] == pytest.approx([m.start_s for m in found.motifs], abs=1e-4)
    data = json.loads((found.out / "motifs.json").read_text())
    assert len(data["atoms"]) == len(found.atoms) and data["types"][0]["occurrences"] == found.uses[0].occurrences
    assert sum(u.occurrences for u in found.uses) == len(found.motifs)
    for use in found.uses:
        # every frame of the stick person has exactly one label
        assert sum(use.actions.values()) == pytest.approx(1.0)


def test_types_say_who_does_what(found: Discovery) -> None:
    rows = list(csv.DictReader((found.out / "types.csv").read_text().splitlines()))
    assert [int(r["type"]) for r in rows] == [u.type for u in found.uses]
    for row, use in zip(rows, found.uses, strict=True):
        people = {name: int(n) for name, n in (part.split("=") for part in row["people"].split("; "))}
        own = [m.subject for m in found.motifs if m.type == use.type]
        assert people == use.people == {name: own.count(name) for name in set(own)}
        assert sum(people.values()) == int(row["occurrences"]) and len(people) == use.subjects
        shares = [float(part.split("=")[1]) for part in row["actions"].split("; ")]
        assert sum(shares) == pytest.approx(1.0, abs=0.003) and shares == sorted(shares, reverse=True)


def test_pictures_show_something(found: Discovery) -> None:
    from matplotlib.image import imread

    assert [p.name for p in found.pictures] == ["motif-1.png", "motif-2.png", "timeline.png"]
    for picture in found.pictures:
        pixels = imread(picture)[..., :3]
        assert pixels.shape[0] > 100 and 0.005 < (pixels.min(axis=-1) < 0.9).mean() < 0.9


def test_one_clip_of_many(people: Path, tiny_run: Path, tmp_path: Path) -> None:
    one = discover(tiny_run, people, tmp_path / "one", clips=["p3-001"], num_pictured=0)
    both = discover(tiny_run, people, tmp_path / "both", clips=["p3-*", "p3-001"], num_pictured=0)
    assert {m.clip for m in both.motifs} == {"p3-000", "p3-001"}
    assert {m.clip for m in one.motifs} == {"p3-001"} and [p.name for p in one.pictures] == ["timeline.png"]
    with pytest.raises(InputError, match="p9"):
        discover(tiny_run, people, tmp_path / "two", clips=["p9"])
    assert not (tmp_path / "two").exists()


def test_same_input_same_files(people: Path, tiny_run: Path, tmp_path: Path) -> None:
    first, second = (
        discover(tiny_run, people, tmp_path / n, clips=["p0-000"], num_pictured=1).out for n in ("first", "second")
    )
    for path in sorted(first.iterdir()):
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_names_and_order() -> None:
    assert type_name((3, 3, 3)) == "3" and type_name((3, 5, 1)) == "3-5-1"
    motifs = [
        Segment("c", s, "r", i, float(i), i + length, t, codes, i)
        for i, (s, length, t, codes) in enumerate(
            [
                ("a", 1.0, 7, (1, 2)),
                ("b", 0.5, 7, (1, 2)),
                ("a", 4.0, 3, (3,)),
                ("a", 0.5, 9, (1, 4)),
                ("a", 1.0, 9, (1, 4)),
            ]
        )
    ]
    uses = count_uses(motifs, {3: {"walk": 1.0}})
    assert [(u.type, u.name, u.occurrences, u.subjects) for u in uses] == [
        (7, "1-2", 2, 2),
        (9, "1-4", 2, 1),
        (3, "3", 1, 1),
    ]
    assert uses[2].actions == {"walk": 1.0} and np.isclose(uses[0].total_s, 1.5)
