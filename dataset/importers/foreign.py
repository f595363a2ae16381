"""Files of other projects, read with their sizes checked first and no code of theirs run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from core.errors import InputError
from core.files import DAMAGED_ARRAYS, read_npz, require_file

# an hour at 120 Hz of everything that these formats hold is below 1 GiB
MAX_BYTES = 1 << 32
_MAX_TEXT_BYTES = 1 << 28


def read_text(path: Path) -> str:
    """A text file of plain characters.

    Raises:
        InputError: if it is missing, too large, or no text.
    """
    size = require_file(path).stat().st_size
    if size > _MAX_TEXT_BYTES:
        raise InputError(str(path), f"{size / 2**20:.0f} MiB are too much for such a file", "check the file")
    try:
        return path.read_bytes().decode("ascii")
    except UnicodeDecodeError as error:
        raise InputError(str(path), f"no text file ({error.reason} at byte {error.start})", "check the file") from error


def read_npy(path: Path) -> np.ndarray:
    """The array of numbers in an `.npy`.

    Raises:
        InputError: if the file is missing, damaged, not as long as it says, or holds anything but numbers.
    """
    try:
        # mapped, so that no memory is taken on the word of the header
        array = np.load(require_file(path), mmap_mode="r", allow_pickle=False)
    except DAMAGED_ARRAYS as error:
        raise InputError(str(path), f"not a readable .npy of numbers ({error})", "check the file") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.nbytes > MAX_BYTES:
        raise InputError(str(path), "not an array of numbers, or far too large", "check the file")
    return np.array(array)


def npz_names(path: Path) -> frozenset[str]:
    """Names of the arrays in an `.npz`, without reading them; none if it is no zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return frozenset(name.removesuffix(".npy") for name in archive.namelist())
    except DAMAGED_ARRAYS:
        return frozenset()


def read_bounded_npz(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """`core.files.read_npz` of some arrays, refused where they unpack to more than memory should be asked for.

    Raises:
        InputError: as `read_npz`, or if the arrays are too large.
    """
    wanted = frozenset(names)
    require_bounded(path, wanted)
    return read_npz(path, wanted)


def require_bounded(path: Path, names: Iterable[str]) -> None:
    """Refuses an `.npz` in which the arrays of these names unpack to more than `MAX_BYTES`.

    Raises:
        InputError: with the size.
    """
    wanted = {f"{name}.npy" for name in names}
    try:
        with zipfile.ZipFile(require_file(path)) as archive:
            size = sum(entry.file_size for entry in archive.infolist() if entry.filename in wanted)
    except DAMAGED_ARRAYS:
        return  # the reader says better what is wrong
    if size > MAX_BYTES:
        raise InputError(str(path), f"its arrays unpack to {size / 2**30:.1f} GiB", "give a sequence of one person")
