"""What HDF5 files from elsewhere may hold: their own bytes, and no more of them than they are long.

HDF5 follows links into other files, maps datasets onto them (external storage, virtual datasets) and states sizes that
nothing stands behind. All of that is refused here with a `ValueError`; who opened the file names it.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import h5py

# what h5py and the decoding of attributes raise on damaged bytes
DAMAGE = (
    OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError, OverflowError, struct.error,
)  # fmt: skip
# deflate packs 1032 bytes into one at best, and nothing here is packed twice
_MAX_RATIO = 1100
_HEAP = b"GCOL\1\0\0\0"  # a global heap of version 1
_ALWAYS_BYTES = 1 << 20
_MAX_BYTES = 1 << 36


def own_group(parent: h5py.Group, name: str) -> h5py.Group:
    """A group that lies in the file itself.

    Raises:
        KeyError: if there is nothing of this name.
        ValueError: if it is a link elsewhere, or no group.
    """
    return _own(parent, name, h5py.Group)


def own_dataset(parent: h5py.Group, name: str) -> h5py.Dataset:
    """A dataset whose bytes lie in the file itself and can be as many as it says.

    Raises:
        KeyError: if there is nothing of this name.
        ValueError: if it is a link elsewhere, no dataset, or its content is elsewhere or nowhere.
    """
    dataset = _own(parent, name, h5py.Dataset)
    layout = dataset.id.get_create_plist()
    if layout.get_external_count() or layout.get_layout() == h5py.h5d.VIRTUAL:
        raise ValueError(f"the content of {dataset.name} is in other files")
    num_bytes = math.prod(dataset.shape or ()) * dataset.id.get_type().get_size()
    chunk_bytes = math.prod(dataset.chunks or (0,)) * dataset.id.get_type().get_size()
    stored = min(dataset.id.get_storage_size(), dataset.file.id.get_filesize())
    if max(num_bytes, chunk_bytes) > min(_ALWAYS_BYTES + _MAX_RATIO * stored, _MAX_BYTES):
        raise ValueError(f"{dataset.name} says that it is {num_bytes} bytes, and {stored} are there")
    return dataset


def require_own(group: h5py.Group) -> h5py.Group:
    """Returns a group all of whose members pass `own_dataset`.

    Raises:
        ValueError: if one does not.
    """
    for name in group:
        own_dataset(group, name)
    return group


def require_sound_heaps(path: Path) -> None:
    """Refuses a file whose texts HDF5 would look for without end: free space of no length in a heap of texts.

    All of the file is read, so this is for those who read it anyway.

    Raises:
        ValueError: if there is such a heap, or no HDF5 file of 8-byte lengths as this project writes them.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = (13, 14) if data[8:9] in (b"\0", b"\1") else (9, 10)  # by the version of the superblock
        if data[:8] != b"\x89HDF\r\n\x1a\n" or any(data[k : k + 1] != b"\x08" for k in place):
            raise ValueError("it is no HDF5 file of 8-byte lengths")
        start = data.find(_HEAP)
        while start >= 0:
            (length,) = struct.unpack_from("<Q", data, start + len(_HEAP))
            at, end = start + 16, min(start + length, len(data))
            while at + 16 <= end:
                number, size = struct.unpack_from("<H6xQ", data, at)
                if number == 0 and size < 16:
                    raise ValueError(f"its heap at byte {start} has no end")
                at += 16 + size + -size % 8 if number else size
            start = data.find(_HEAP, start + 1)


def _own(parent: h5py.Group, name: str, kind: Any) -> Any:
    if "/" in name or name in ("", "."):  # HDF5 would walk along it
        raise ValueError(f"{name!r} is no name of a member")
    if parent.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"{name!r} is a link elsewhere")
    member = parent[name]
    if not isinstance(member, kind):
        raise ValueError(f"{name!r} is no {kind.__name__.lower()}")
    return member
