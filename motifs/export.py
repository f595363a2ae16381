"""Export: results in the formats of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from calibration.formats import write_colmap, write_opencv_yaml, write_toml
from calibration.rig import load_rig
from capture.session import Session
from core.errors import InputError
from dataset.exporters.amass import export_amass
from dataset.shards import AmdDataset


def export_clips(dataset: Path, out: Path) -> tuple[Path, ...]:
    """A dataset's clips as AMASS `.npz` files."""
    if (dataset / "session.json").is_file():
        action = f"build a dataset first: `motifs build {dataset} --out DATASET`"
        raise InputError(str(dataset), "it is a session, and AMASS files are made from a dataset", action)
    return export_amass(AmdDataset(dataset), out)


def export_rig(session: Path, out: Path, tool: Literal["pose2sim", "opencv", "colmap"]) -> tuple[Path, ...]:
    """A session's room cameras as Pose2Sim TOML, OpenCV YAML or a COLMAP text model in the folder `out`."""
    Session.load(session)
    rig = load_rig(session)
    if out.exists() and any(out.iterdir()):
        raise InputError(str(out), "it is not empty", "choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    if tool == "colmap":
        write_colmap(out, rig)
    elif tool == "opencv":
        write_opencv_yaml(out / "cameras.yml", rig)
    else:
        write_toml(out / "Calib.toml", rig)
    return tuple(sorted(path for path in out.iterdir() if path.is_file()))
