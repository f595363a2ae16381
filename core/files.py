"""Files that are complete or absent: atomic writes, content hashes, JSON with errors that name the file.

Every writer goes to a hidden sibling first and is renamed into place, so a reader never meets half a file, and the same
content always gives the same bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import struct
import tokenize
import tomllib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InputError

_CHUNK_BYTES = 1 << 20
# what an archive may unpack to: arrays of one number again and again are a thousandth of their size when packed
_ALWAYS_BYTES, _MAX_RATIO = 1 << 30, 64
_MAX_TOML_BYTES = 2_000_000
_PART = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_DEEP_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{16}}")


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_path(path: Path, *, ignore: frozenset[str] = frozenset({"manifest.json"})) -> str:
    """Hash of a file, or of a folder's relative names and contents.

    Args:
        ignore: file names left out of a folder's hash. Manifests hold times of day, which are not content.

    Raises:
        InputError: if there is nothing at `path`.
    """
    if path.is_file():
        return sha256_of_file(path)
    if not path.is_dir():
        raise InputError(str(path), "there is no such file or folder", "check the path")
    digest = hashlib.sha256()
    for entry in sorted(p for p in path.rglob("*") if p.is_file() and p.name not in ignore):
        digest.update(entry.relative_to(path).as_posix().encode() + b"\0" + sha256_of_file(entry).encode() + b"\n")
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renamed onto it on success, removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; renamed to it on success (replacing what was there), else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish_folder(finished: Path, path: Path) -> None:
    """Moves a finished folder to its final name; an older folder there gives way only once the new one can stand."""
    retired = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        path.rename(retired)
    finished.rename(path)
    shutil.rmtree(retired, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Writes a UTF-8 text file atomically."""
    write_bytes(path, content.encode())


def write_npz(path: Path, arrays: Mapping[str, Any], *, compressed: bool = True) -> None:
    """Writes an `.npz` atomically; the same arrays give the same bytes.

    Compression saves a tenth of noisy numbers and takes most of the time: large arrays of them may go without.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        (np.savez_compressed if compressed else np.savez)(stream, **arrays)


# what numpy and zipfile are known to raise on files that are damaged, encrypted, or written to do harm
DAMAGED_ARRAYS = (
    ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError, AttributeError, TypeError, NotImplementedError,
    RuntimeError, MemoryError, OverflowError, SyntaxError, tokenize.TokenError, zlib.error, struct.error,
)  # fmt: skip


def read_npz(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Reads the arrays of an `.npz`, refusing pickled content.

    Args:
        path: the file.
        names: read these alone, as far as the file has them; what the others hold does not matter then. Every array
            if None.

    Raises:
        InputError: if the file is missing, damaged, holds Python objects where it is read, or unpacks to far more than
            it is.
    """
    if not zipfile.is_zipfile(require_file(path)):  # numpy would suggest to load it as a pickle
        raise InputError(str(path), "not an .npz file (no zip archive, or cut off)", "write it again")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            wanted = set(archive.files if names is None else names)
            members = [m for m in archive.zip.infolist() if m.filename.removesuffix(".npy") in wanted]
            unpacked = sum(member.file_size for member in members)
            if unpacked > max(_ALWAYS_BYTES, _MAX_RATIO * path.stat().st_size):
                raise ValueError(f"its arrays unpack to {unpacked / 2**30:.1f} GiB")
            return {name: archive[name] for name in archive.files if name in wanted}
    except DAMAGED_ARRAYS as error:
        raise InputError(str(path), f"not a readable .npz of plain arrays ({error})", "write it again") from error


def to_jsonable(value: Any) -> Any:
    """Plain JSON types from dataclasses, arrays, paths, fractions and tuples; NaN becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [to_jsonable(item) for item in items]
    if isinstance(value, np.ndarray):
        return to_jsonable(value.tolist())
    if isinstance(value, np.generic):
        return to_jsonable(value.item())
    if isinstance(value, (Path, Fraction)):
        return str(value)
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def dump_json(value: Any) -> str:
    """The one JSON text form of this project: indented, keys in the writer's order, a newline at the end."""
    return json.dumps(to_jsonable(value), indent=2, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, dump_json(value))


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: if the file is missing or is not JSON.
    """
    require_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also of numbers with more digits than Python takes
        raise InputError(str(path), f"not a JSON file ({error})", "repair it or write it again") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file from outside.

    Raises:
        InputError: if it is missing, larger than any such file, not TOML, or deeper than any: time and memory of
            `tomllib` grow with the square of a key's parts.
    """
    size = require_file(path).stat().st_size
    if size > _MAX_TOML_BYTES:
        raise InputError(str(path), f"it has {size} bytes, more than any such file", "give another file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if deep := _DEEP_KEY.search(text):
            raise ValueError(f"{deep[0][:20]}...: a key of too many parts")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), f"not TOML ({error})", "export it again") from error


def require_file(path: Path) -> Path:
    """Returns `path` if a file is there.

    Raises:
        InputError: if not.
    """
    if not path.is_file():
        raise InputError(str(path), "there is no such file", "check the path")
    return path


def is_file_name(name: Any) -> bool:
    """Whether a name that comes from a data file can name a file on any system: letters, digits, `.`, `-` and `_`, not
    hidden, not too long with an ending."""
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", name) is not None


def inside(root: Path, relative: str) -> Path:
    """Joins a path that comes from a data file to its folder, and refuses one that would leave it.

    Raises:
        InputError: if `relative` is absolute or climbs out of `root`.
    """
    joined = (root / relative).resolve()
    if Path(relative).is_absolute() or not joined.is_relative_to(root.resolve()):
        raise InputError(relative, f"the path leaves its folder {root}", "keep the files inside the folder")
    return joined
