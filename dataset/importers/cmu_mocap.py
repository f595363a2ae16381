"""CMU's motion capture database: files named SUBJECT_TRIAL, and a `labels.csv` above them where there is one.

The data used in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF
EIA-0196217. `labels.csv` has the columns file, subject, trial, action and cmu_description; its actions are keywords of
CMU's descriptions, one for a whole take.

In B. Hahne's BVH conversion frame 0 is an added T-pose, and a filter has drawn the next frames towards it: against
the AMC files of the same takes, joints are off by up to 120, 76, 31, 4, 12, 11 and 5 degrees in frames 1 to 7, and by
no more than later from frame 8 on.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from core.errors import InputError
from dataset.importers.takes import Take

_NAME = re.compile(r"(\d{2,3})_(\d{2,3})\.(bvh|amc)")
_COLUMNS = ("file", "action", "cmu_description")
_LEAD_IN = 8
_MAX_BYTES = 1 << 24


def trial_of(path: Path) -> str | None:
    """SUBJECT_TRIAL of a file of this database; None of others."""
    match = _NAME.fullmatch(path.name)
    return path.stem if match and path.resolve().parent.name == match[1] else None


def take_of(path: Path) -> Take | None:
    """The labels of a take; None if its name is not of this database.

    Raises:
        InputError: if the `labels.csv` above it is damaged.
    """
    match = _NAME.fullmatch(path.name)
    if not match or trial_of(path) is None:
        return None
    table = path.resolve().parents[2] / "labels.csv"
    labels = _labels(table) if table.is_file() else {}
    action, description = labels.get(path.resolve().relative_to(table.parent).as_posix(), ("", ""))
    details = {"dataset": "cmu-mocap", **({"description": description} if description else {})}
    return Take(f"cmu-{match[1]}", action, lead_in=_LEAD_IN if match[3] == "bvh" else 0, details=details)


@lru_cache(maxsize=4)
def _labels(table: Path) -> Mapping[str, tuple[str, str]]:
    """(action, description) of every file of a table."""
    if table.stat().st_size > _MAX_BYTES:
        raise InputError(str(table), f"more than {_MAX_BYTES} bytes", "give the table of the database")
    with table.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if not set(_COLUMNS) <= set(reader.fieldnames or ()):
            raise InputError(str(table), f"it lacks one of {', '.join(_COLUMNS)}", "give the table of the database")
        try:
            rows = [[row[name] or "" for name in _COLUMNS] for row in reader]
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(str(table), f"not a table ({error})", "give the table of the database") from error
    return {file: (action, description) for file, action, description in rows}
