"""Archives of motion files (`.tar.xz` and the like), unpacked for the time of one build.

Only regular files of the wanted kinds are written, under names that stay inside, up to a size; nothing else of an
archive (links, devices, owners, modes) is taken over.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.errors import InputError
from core.files import inside

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_MOTIONS = frozenset({".bvh", ".amc", ".npz", ".npy", ".skeleton"})
_WANTED = _MOTIONS | {".asf", ".csv", ".json"}
_MAX_BYTES, _MAX_MEMBERS = 1 << 36, 1_000_000


@contextmanager
def unpacked(paths: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """The paths, archives among them replaced by folders of their content that last as long as the context.

    A folder that holds archives, and neither motions nor sessions, stands for its archives.

    Raises:
        InputError: if an archive is damaged, too large, or holds a name that leaves it.
    """
    paths = [archive for path in paths for archive in _archives_of(path) or [path]]
    if not any(is_archive(path) for path in paths):
        yield tuple(paths)
        return
    with tempfile.TemporaryDirectory(prefix="motifs-") as folder:
        found = []
        for number, path in enumerate(paths):
            target = Path(folder) / str(number) / path.name.partition(".")[0]
            found.append(_unpack(path, target) if is_archive(path) else path)
        yield tuple(found)


def is_archive(path: Path) -> bool:
    """Whether a path is a file named as an archive."""
    return path.name.lower().endswith(ARCHIVES) and path.is_file()


def _archives_of(path: Path) -> list[Path]:
    """The archives of a folder of nothing else to read, sorted."""
    found = sorted(entry for entry in path.iterdir() if is_archive(entry)) if path.is_dir() else []
    if found and any(f.suffix.lower() in _MOTIONS or f.name == "session.json" for f in path.rglob("*")):
        return []  # they may be what was unpacked
    return found


def _unpack(path: Path, target: Path) -> Path:
    left = _MAX_BYTES
    try:
        with tarfile.open(path, "r:*") as archive:
            for number, member in enumerate(archive):
                if number >= _MAX_MEMBERS or (left := left - max(member.size, 0)) < 0:
                    raise InputError(
                        str(path), f"it unpacks to over {_MAX_BYTES} bytes or {_MAX_MEMBERS} files", "divide it"
                    )
                if member.isreg() and Path(member.name).suffix.lower() in _WANTED:
                    _write(archive, member, inside(target, member.name))
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise InputError(str(path), f"it cannot be unpacked ({error})", "copy or download it again") from error
    target.mkdir(parents=True, exist_ok=True)
    return target


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = archive.extractfile(member)
    if stream is not None:
        with stream, path.open("wb") as out:
            shutil.copyfileobj(stream, out)
