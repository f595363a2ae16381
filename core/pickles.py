"""Pickles looked through before anything loads them: some are small and keep a loader busy for ever.

A tuple is hashed anew each time, with all that is in it: tuples of the same tuple twice, thirty levels deep, take a
minute as the key of a dict, inside C code that no signal interrupts. What is checked here is what plain files of arrays
never do, so that neither `pickle` nor torch's restricted reader can be held up.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_MAX_TUPLE = 1000  # parts, those of tuples within counted as often as they are mentioned
_LEGACY_PICKLES = 5  # a torch file from before its zip archives: number, version, machine, content, names of storages
_PLAIN = frozenset(
    kind.name
    for kind in (
        pickletools.pyint, pickletools.pylong, pickletools.pyinteger_or_bool, pickletools.pybool, pickletools.pyfloat,
        pickletools.pystring, pickletools.pybytes, pickletools.pyunicode, pickletools.pybytes_or_str,
        pickletools.pynone,
    )
)  # fmt: skip
# what stands on the simulated stack: the parts of a tuple, or one of these
_VALUE, _OTHER, _MARK = 0, -1, -2


def require_plain_keys(data: bytes | IO[bytes]) -> None:
    """Refuses a pickle with keys or members of sets that are no numbers or texts, with large or deep tuples, or with
    numbers for its parts far beyond how many there are: the memory for all numbers would be taken.

    Args:
        data: the pickle; a stream is read to the pickle's end.

    Raises:
        ValueError: if it does, or is no pickle.
    """
    stack: list[int] = []
    memo: dict[int, int] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        name = opcode.name
        if name in ("PUT", "BINPUT", "LONG_BINPUT"):
            if (argument or 0) > count + 256:
                raise ValueError(f"part {argument} of {count}")
            memo[argument or 0] = _top(stack)
        elif name == "MEMOIZE":
            memo[len(memo)] = _top(stack)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(argument or 0, _OTHER))
        elif name == "DUP":
            stack.append(_top(stack))
        else:
            taken = _taken(stack, opcode)
            _require_plain(name, taken)
            if "TUPLE" in name:
                stack.append(_tuple(taken))
            else:
                stack += [_kind(kind) for kind in opcode.stack_after]


def require_plain_torch_file(path: Path) -> None:
    """`require_plain_keys` of every pickle in a file that torch wrote, and no more content than the file is long.

    Raises:
        ValueError: if a pickle is refused, or an archive unpacks to more than it is: torch does not compress.
        OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError: if the file cannot be read.
    """
    with path.open("rb") as stream:
        archived = stream.read(4) == b"PK\3\4"  # as torch tells them apart
        stream.seek(0)
        if not archived:
            for _ in range(_LEGACY_PICKLES):
                require_plain_keys(stream)
            return
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > path.stat().st_size:
                raise ValueError(f"it unpacks to {unpacked} bytes")
            for member in members:
                if member.filename.lower().endswith(".pkl"):
                    require_plain_keys(archive.read(member))


def _top(stack: Sequence[int]) -> int:
    if not stack:
        raise ValueError("it takes more than it has")
    return stack[-1]


def _kind(kind: pickletools.StackObject) -> int:
    if kind is pickletools.markobject:
        return _MARK
    return _VALUE if kind.name in _PLAIN else _OTHER


def _taken(stack: list[int], opcode: pickletools.OpcodeInfo) -> list[int]:
    """What an instruction takes from the stack."""
    before = opcode.stack_before
    if pickletools.markobject not in before:
        if len(stack) < len(before):
            raise ValueError("it takes more than it has")
        taken = stack[len(stack) - len(before) :]
        del stack[len(stack) - len(before) :]
        return taken
    place = len(stack) - 1
    while place >= 0 and stack[place] != _MARK:
        place -= 1
    first = place - before.index(pickletools.markobject)
    if place < 0 or first < 0:
        raise ValueError("it takes more than it has")
    taken = stack[place + 1 :]
    del stack[first:]
    return taken


def _require_plain(name: str, taken: Sequence[int]) -> None:
    """Whether what is about to be hashed is plain."""
    keys: Sequence[int] = ()
    if name == "SETITEM":
        keys = taken[1:2]
    elif name in ("SETITEMS", "DICT"):
        keys = taken[::2]
    elif name in ("ADDITEMS", "FROZENSET"):
        keys = taken
    if any(key != _VALUE for key in keys):
        raise ValueError("a key is no number or text")


def _tuple(parts: Sequence[int]) -> int:
    size = 1 + sum(max(part, 1) for part in parts)
    if size > _MAX_TUPLE:
        raise ValueError("a tuple is too large or too deep")
    return size
