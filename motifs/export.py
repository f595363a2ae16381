"""Export: results in the formats of other tools."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from calibration.formats import Writable, write_calibration
from calibration.rig import load_rig
from capture.session import Session
from core.errors import InputError
from dataset.build import load_body
from dataset.exporters.amass import export_amass
from dataset.exporters.bvh import BvhConfig, export_bvh
from dataset.exporters.glb import export_glb
from dataset.exporters.humanml3d import HumanML3DConfig, export_humanml3d
from dataset.exporters.trc import export_trc
from dataset.exporters.webdataset import WebDatasetConfig, export_webdataset
from dataset.shards import AmdDataset

ClipFormat = Literal["amass", "bvh", "glb", "humanml3d", "trc", "webdataset"]
Written = tuple[tuple[Path, ...], tuple[str, ...]]


@dataclass(frozen=True)
class GlbConfig:
    """How GLB files are written.

    Attributes:
        every: only every so many frames; programs interpolate between them.
    """

    every: int = 1


@dataclass(frozen=True)
class ExportConfig:
    """How a dataset's clips are written.

    Attributes:
        split: clips of this split alone.
        body_model: model that the clips were made with, for GLB: a file, or `stand-in`.
        bvh: of BVH files.
        glb: of GLB files.
        humanml3d: of HumanML3D's files.
        webdataset: of WebDataset's tars.
    """

    split: Literal["all", "train", "val", "test"] = "all"
    body_model: str = "stand-in"
    bvh: BvhConfig = field(default_factory=BvhConfig)
    glb: GlbConfig = field(default_factory=GlbConfig)
    humanml3d: HumanML3DConfig = field(default_factory=HumanML3DConfig)
    webdataset: WebDatasetConfig = field(default_factory=WebDatasetConfig)


def export_clips(dataset: Path, out: Path, tool: ClipFormat = "amass", config: ExportConfig | None = None) -> Written:
    """A dataset's clips in the files of another tool, in the folder `out`.

    Returns:
        the files, and what their format does not say of the clips.

    Raises:
        InputError: if it is no dataset, the split is empty, a file is there already, or the format cannot hold a clip.
    """
    config = config or ExportConfig()
    if (dataset / "session.json").is_file():
        action = f"build a dataset first: `motifs build {dataset} --out DATASET`"
        raise InputError(str(dataset), f"it is a session, and {tool} files are made from a dataset", action)
    amd = AmdDataset(dataset)
    clip_ids = [clip.id for clip in amd.of_split(config.split)]
    if not clip_ids:
        raise InputError(str(dataset), f"no clips are in its split {config.split}", "choose another --split")
    if tool == "bvh":
        return export_bvh(amd, out, config.bvh, clip_ids)
    if tool == "glb":
        return export_glb(amd, out, load_body(config.body_model), config.glb.every, clip_ids)
    if tool == "humanml3d":
        return export_humanml3d(amd, out, config.humanml3d, clip_ids)
    if tool == "trc":
        return export_trc(amd, out, clip_ids)
    if tool == "webdataset":
        return export_webdataset(amd, out, config.webdataset, clip_ids), ()
    return export_amass(amd, out, clip_ids), ()


def export_rig(session: Path, out: Path, tool: Writable) -> Written:
    """A session's room cameras in the files of another tool, in the folder `out`.

    Returns:
        the files, and what their format does not say of the rig.

    Raises:
        InputError: if the session has no rig, the folder is not empty, or the format cannot hold a camera.
    """
    Session.load(session)
    rig = load_rig(session)
    if out.exists() and any(out.iterdir()):
        raise InputError(str(out), "it is not empty", "choose another --out")
    notes = write_calibration(out, rig, tool)
    return tuple(sorted(path for path in out.iterdir() if path.is_file())), notes
