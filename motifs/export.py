"""Export: results in the formats of other tools."""

from __future__ import annotations

from pathlib import Path

from calibration.formats import Writable, write_calibration
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


def export_rig(session: Path, out: Path, tool: Writable) -> tuple[tuple[Path, ...], tuple[str, ...]]:
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
