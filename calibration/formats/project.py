"""This project's own JSON: `rig.json`, and `lenses.json` for lenses alone."""

from __future__ import annotations

from pathlib import Path

from calibration.formats.contents import Calibration, Format, in_file
from core.cameras import Lens, Rig
from core.errors import InputError
from core.files import read_json, write_json


def write_rig(path: Path, rig: Rig) -> None:
    """Writes `rig.json`."""
    write_json(path, rig.to_json())


def _read(path: Path) -> Calibration:
    data = read_json(path)
    if not isinstance(data, dict):
        raise InputError(str(path), f"not a rig of this project but a {type(data).__name__}", "give another file")
    if "cameras" not in data and isinstance(data.get("lenses"), dict):
        lenses = {name: in_file(path, name, Lens.from_json, lens) for name, lens in data["lenses"].items()}
        return Calibration("project", lenses)
    try:
        rig = Rig.from_json(data)
    except InputError as error:
        raise InputError(str(path), f"{error.item}: {error.problem}", error.action) from error
    return Calibration("project", {c.id: c.lens for c in rig}, {c.id: c.cam_from_world for c in rig})


def _write(folder: Path, rig: Rig) -> tuple[str, ...]:
    write_rig(folder / "rig.json", rig)
    return ()


FORMAT = Format(
    "project",
    "`rig.json`, or `lenses.json` for lenses alone",
    lambda path: path.suffix.lower() == ".json",
    _read,
    _write,
)
