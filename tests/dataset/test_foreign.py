"""Files of others: sizes are believed no further than the file reaches, and nothing in them runs."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import InputError
from core.files import write_npz
from dataset.importers import foreign
from dataset.importers.foreign import npz_names, read_bounded_npz, read_npy, read_text
from dataset.sources import find_sources


def test_a_header_that_promises_more_than_the_file_has_is_refused(tmp_path: Path) -> None:
    header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 263)}
    with (tmp_path / "x.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
    with pytest.raises(InputError, match="not a readable"):
        read_npy(tmp_path / "x.npy")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_do_anything_but_a_refusal(tmp_path: Path, content: bytes, magic: bool) -> None:
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" * magic + content)
    with pytest.raises(InputError):
        read_npy(tmp_path / "x.npy")


def test_arrays_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_npz(tmp_path / "x.npz", {"poses": np.zeros((1000, 156)), "other": np.zeros(1 << 20)})
    monkeypatch.setattr(foreign, "MAX_BYTES", 1 << 21)
    assert read_bounded_npz(tmp_path / "x.npz", ["poses"])["poses"].shape == (1000, 156)
    with pytest.raises(InputError, match="unpack to"):
        read_bounded_npz(tmp_path / "x.npz", ["poses", "other"])


def test_text_is_text(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12 \xff")
    with pytest.raises(InputError, match="byte 3"):
        read_text(tmp_path / "x")


def test_files_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    write_npz(tmp_path / "A_1_0.npz", dict.fromkeys(("transforms", "smpl", "poses3d", "act", "frames"), np.zeros(1)))
    write_npz(tmp_path / "walk_stageii.npz", {"poses": np.zeros(1)})
    for name in ("walk_stagei.npz", "neutral_shape.npz", "x.skeleton", "000001.npy", "Std.npy", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    kinds = {source.path.name: source.kind for source in find_sources([tmp_path]).values()}
    assert kinds == {
        "A_1_0.npz": "hik",
        "walk_stageii.npz": "amass",
        "x.skeleton": "ntu",
        "000001.npy": "humanml3d",
    }
    assert npz_names(tmp_path / "x.skeleton") == frozenset()
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("poses.npy", b"")
    assert npz_names(tmp_path / "y.npz") == {"poses"}
