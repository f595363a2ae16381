"""`croissant.json`: the dataset described for search engines and loaders, in Croissant 1.0 (JSON-LD).

Format: https://docs.mlcommons.org/croissant/docs/croissant-spec.html. The clip index is a record set that Croissant
loaders can read; it has no way of reaching into HDF5, so shards are listed as files with their checksums, and their
layout is told in words. What the lab must say itself (licence, people, place) comes from `About`; what it left out is
left out here and named by `unsaid`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from core.files import sha256_of_file
from dataset.schema import SCHEMA, SPLITS, ClipInfo, DatasetInfo

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in (
        "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
        "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references",
        "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
    )},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}  # fmt: skip
_TYPES = {"str": "sc:Text", "int": "sc:Integer", "float": "sc:Float", "Split": "sc:Text"}


@dataclass(frozen=True)
class About:
    """What nobody but the lab can say of its dataset; needed before it is published.

    Attributes:
        name: of the dataset.
        description: one paragraph.
        version: of the data, as major.minor.patch.
        license: an SPDX id or a URL.
        creators: names of people or labs.
        url: page of the dataset.
        date_published: YYYY-MM-DD.
        cite_as: how to cite it, BibTeX or words.
    """

    name: str = "Action Motif Dataset"
    description: str = "Human motion as SMPL parameters and joints, with per-joint covariance, validity and contacts."
    version: str = "1.0.0"
    license: str = ""
    creators: tuple[str, ...] = ()
    url: str = ""
    date_published: str = ""
    cite_as: str = ""

    @property
    def unsaid(self) -> tuple[str, ...]:
        """What is still missing, by the names of the settings."""
        return tuple(field.name.replace("_", "-") for field in fields(self) if not getattr(self, field.name))


def croissant(about: About, info: DatasetInfo, folder: Path, texts: Mapping[str, str]) -> dict[str, Any]:
    """The JSON-LD of a dataset.

    Args:
        about: what the lab says.
        info: the description, with the shards.
        folder: where the files are.
        texts: content of files that are not written yet, by their path in the dataset.
    """
    said = {
        "license": about.license,
        "creator": [{"@type": "sc:Organization", "name": name} for name in about.creators],
        "url": about.url,
        "datePublished": about.date_published,
        "citeAs": about.cite_as,
    }
    return {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": about.name,
        "description": f"{about.description} {_layout(info)}",
        "version": about.version,
        **{key: value for key, value in said.items() if value},
        "keywords": ["human motion", "SMPL", *info.action_names],
        "distribution": [*_small_files(folder, texts), *_shards(info)],
        "recordSet": [_split_records(), _clip_records()],
    }


def _layout(info: DatasetInfo) -> str:
    return (
        f"{info.num_clips} clips, {info.duration_s / 3600:.2f} h of {len(info.subjects)} people. "
        f"Schema {SCHEMA}: a clip is the group /clips/<id> of the HDF5 file that meta/clips.json names; README.md "
        "lists its arrays with shapes, units and conventions."
    )


def _file(path: str, sha256: str, size: int, encoding: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject", "@id": path, "name": path, "contentUrl": path, "contentSize": f"{size} B",
        "encodingFormat": encoding, "sha256": sha256,
    }  # fmt: skip


def _small_files(folder: Path, texts: Mapping[str, str]) -> list[dict[str, Any]]:
    written = sorted(folder.glob("meta/*.json"))
    listed = [
        _file(p.relative_to(folder).as_posix(), sha256_of_file(p), p.stat().st_size, "application/json")
        for p in written
        if p.relative_to(folder).as_posix() not in texts
    ]
    for path, text in texts.items():
        content = text.encode()
        listed.append(_file(path, hashlib.sha256(content).hexdigest(), len(content), "application/json"))
    return listed


def _shards(info: DatasetInfo) -> list[dict[str, Any]]:
    return [_file(f"data/{s.name}", s.sha256, s.num_bytes, "application/x-hdf5") for s in info.shards]


def _split_records() -> dict[str, Any]:
    """The splits as Croissant knows them."""
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [{"@type": "cr:Field", "@id": "splits/name", "name": "splits/name", "dataType": "sc:Text"}],
        "data": [{"splits/name": split} for split in SPLITS],
    }


def _clip_records() -> dict[str, Any]:
    """The clip index, a record a clip."""
    return {
        "@type": "cr:RecordSet",
        "@id": "clips",
        "name": "clips",
        "description": "One contiguous stretch of one person's motion each.",
        "key": {"@id": "clips/id"},
        "field": [_clip_field(field.name, _TYPES[str(field.type)]) for field in fields(ClipInfo)],
    }


def _clip_field(name: str, kind: str) -> dict[str, Any]:
    source = {"fileObject": {"@id": "meta/clips.json"}, "extract": {"jsonPath": f"$.clips[*].{name}"}}
    field = {"@type": "cr:Field", "@id": f"clips/{name}", "name": f"clips/{name}", "dataType": kind, "source": source}
    return field | {"references": {"field": {"@id": "splits/name"}}} if name == "split" else field


def required_keys() -> Sequence[str]:
    """What Croissant 1.0 wants of a dataset, whoever says it."""
    return ("@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished")
