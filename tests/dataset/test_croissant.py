"""The Croissant card: what the format requires, checksums that hold, and the format's own validator if installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.files import read_json, sha256_of_file
from dataset.build import BuildConfig, build
from dataset.croissant import CONFORMS_TO, About, required_keys
from dataset.shards import AmdDataset

ABOUT = About(
    license="CC-BY-4.0",
    creators=("A lab",),
    url="https://example.org/amd",
    date_published="2026-01-31",
    cite_as="@misc{amd}",
)


@pytest.fixture
def published(make_session, tmp_path: Path) -> Path:
    build([make_session(f"rec{i}", f"s{i}", 60) for i in range(3)], tmp_path / "amd", BuildConfig(about=ABOUT))
    return tmp_path / "amd"


def test_everything_that_croissant_requires_is_said(published: Path) -> None:
    found = read_json(published / "croissant.json")
    assert set(required_keys()) <= set(found)
    assert found["conformsTo"] == CONFORMS_TO and found["@type"] == "sc:Dataset"
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["version"])
    assert not AmdDataset(published).info.notes or "not said" not in " ".join(AmdDataset(published).info.notes)


def test_every_file_is_there_with_its_checksum(published: Path) -> None:
    files = read_json(published / "croissant.json")["distribution"]
    for entry in files:
        path = published / entry["contentUrl"]
        assert entry["@type"] == "cr:FileObject" and entry["sha256"] == sha256_of_file(path), path
        assert entry["contentSize"] == f"{path.stat().st_size} B"
    listed = {entry["contentUrl"] for entry in files}
    data = {p.relative_to(published).as_posix() for folder in ("meta", "data") for p in (published / folder).iterdir()}
    assert listed == data


def test_records_point_into_the_index(published: Path) -> None:
    found = read_json(published / "croissant.json")
    ids = {entry["@id"] for entry in found["distribution"]}
    clip = read_json(published / "meta" / "clips.json")["clips"][0]
    splits, clips = found["recordSet"]
    assert {row["splits/name"] for row in splits["data"]} == {"train", "val", "test"}
    for field in clips["field"]:
        assert field["source"]["fileObject"]["@id"] in ids
        assert field["source"]["extract"]["jsonPath"].removeprefix("$.clips[*].") in clip
    assert {field["@id"].removeprefix("clips/") for field in clips["field"]} == set(clip)


def test_what_the_lab_did_not_say_is_noted_not_invented(dataset: AmdDataset) -> None:
    found = read_json(dataset.path / "croissant.json")
    assert not {"license", "creator", "url"} & set(found)
    (note,) = [note for note in dataset.info.notes if "before publishing" in note]
    assert "license, creators, url, date-published, cite-as" in note


@pytest.mark.filterwarnings("ignore")
def test_the_formats_own_validator_reads_it(published: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    found = mlcroissant.Dataset(jsonld=str(published / "croissant.json"))
    assert not found.metadata.ctx.issues.errors
    records = list(found.records(record_set="clips"))
    assert [r["clips/id"] for r in records] == [clip.id.encode() for clip in AmdDataset(published).clips]
