"""TRC out of a dataset, for OpenSim and everything that reads its marker files: SMPL's joints as markers, metres, y up.

Source: the tables that OpenSim reads (`DataRate`, `Units`, a row for each frame); an empty field is a marker that is
missing. Joints that were not measured are left empty rather than told as if they were. z up becomes OpenSim's y up by
(x, y, z) -> (x, z, -y).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.files import write_text
from core.skeletons import SMPL_24
from dataset.exporters.clips import chosen, new_path
from dataset.schema import Clip
from dataset.shards import AmdDataset


def trc_text(clip: Clip, name: str) -> str:
    """The file of a clip; times begin at 0.

    Args:
        clip: the clip.
        name: of the file, which its first line repeats.
    """
    joints, rate = SMPL_24.joints, float(clip.rate)
    xyz_m = clip.joints_m.astype(float)[..., [0, 2, 1]] * [1.0, 1.0, -1.0]
    shown = np.isfinite(xyz_m).all(axis=-1) & clip.valid
    fields = np.where(shown[..., None], np.char.mod("%.6f", np.nan_to_num(xyz_m)), "")
    rows = [
        "\t".join([str(frame + 1), f"{frame / rate:.6f}", *values]) for frame, values in enumerate(_rows(fields))
    ]  # fmt: skip
    head = [
        f"PathFileType\t4\t(X/Y/Z)\t{name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{rate:g}\t{rate:g}\t{len(clip)}\t{len(joints)}\tm\t{rate:g}\t1\t{len(clip)}",
        "Frame#\tTime\t" + "\t\t\t".join(joints) + "\t\t",
        "\t\t" + "\t".join(f"{axis}{k + 1}" for k in range(len(joints)) for axis in "XYZ"),
        "",
    ]
    return "\n".join([*head, *rows]) + "\n"


def _rows(fields: np.ndarray) -> list[list[str]]:
    rows: list[list[str]] = fields.reshape(len(fields), -1).tolist()
    return rows


def export_trc(
    dataset: AmdDataset, out: Path, clip_ids: Sequence[str] | None = None
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Writes clips as `<out>/<subject>/<clip_id>.trc`.

    Args:
        clip_ids: which; all of them if None.

    Returns:
        the files, and how much of them is empty.

    Raises:
        InputError: if there is no such clip, or a file is there already.
    """
    paths, missing, total = [], 0, 0
    for clip_id in chosen(dataset, clip_ids):
        path = new_path(dataset, out, clip_id, ".trc")
        clip = dataset.read(clip_id)
        write_text(path, trc_text(clip, path.name))
        paths.append(path)
        missing, total = missing + int((~clip.valid).sum()), total + clip.valid.size
    notes = (f"{100 * missing / total:.1f} % of the joints were not measured and are left empty",) if missing else ()
    return tuple(paths), notes
