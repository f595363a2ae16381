from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from core.files import (
    atomic_folder,
    atomic_path,
    inside,
    publish_folder,
    read_json,
    read_npz,
    read_toml,
    sha256_of_path,
    to_jsonable,
    write_json,
    write_npz,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"old": 1})
    with pytest.raises(RuntimeError, match="power cut"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("power cut")
    assert read_json(target) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]  # noqa: PTH208


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out") as folder:
        (folder / "x").write_text("1")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    for content in ("1", "2"):
        with atomic_folder(tmp_path / "out") as folder:
            (folder / "x").write_text(content)
    assert (tmp_path / "out" / "x").read_text() == "2"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_publishing_replaces_the_older_folder(tmp_path: Path) -> None:
    for name in ("new", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    publish_folder(tmp_path / "new", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_npz_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    arrays = {"a": np.arange(5.0), "name": np.array("SMPL")}
    write_npz(tmp_path / "one.npz", arrays)
    write_npz(tmp_path / "two.npz", arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    again = read_npz(tmp_path / "one.npz")
    np.testing.assert_array_equal(again["a"], arrays["a"])
    assert str(again["name"]) == "SMPL"


def test_npz_with_python_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", a=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"bad\.npz: not a readable \.npz"):
        read_npz(tmp_path / "bad.npz")


def test_npz_entries_that_nobody_asked_for_are_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "mixed.npz", a=np.array([{"a": 1}], dtype=object), b=np.arange(3))
    found = read_npz(tmp_path / "mixed.npz", ("b", "c"))
    assert list(found) == ["b"] and found["b"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04half", b"\x93NUMPY"])
def test_damaged_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(InputError):
        read_npz(tmp_path / "bad.npz")


def test_damaged_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"a": ')
    with pytest.raises(InputError, match=r"bad\.json: not a JSON file"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "absent.json")


def test_a_number_of_endless_digits_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("9" * 5000)
    with pytest.raises(InputError, match=r"bad\.json: not a JSON file"):
        read_json(tmp_path / "bad.json")


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 5000) + " = 1",
        "[" + " . ".join(["a"] * 5000) + "]", '"a\\"".' + ".".join(["'a'"] * 99) + "=1",
        "b = {" + ".".join(["a"] * 99) + " = 1}", "a = " + "9" * 5000, "a = " + "[" * 5000, "a = 1\n" * 400_000,
        "a = \"\udcff\"",
    ],
)  # fmt: skip
def test_toml_that_takes_for_ever_is_refused_at_once(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"a\.toml: (not TOML|it has)"):
        read_toml(tmp_path / "a.toml")


def test_toml_of_no_keys_is_looked_through_in_one_go(tmp_path: Path) -> None:
    for text in ("a" * 1_900_000, "a " * 950_000, '"' * 1_900_000, "a." * 950_000):
        (tmp_path / "a.toml").write_text(text)
        with pytest.raises(InputError, match="not TOML"):
            read_toml(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text('[a.b."c.d"] # 1.2.3\nx.y = [1.5, 2.5]\n')
    assert read_toml(tmp_path / "a.toml") == {"a": {"b": {"c.d": {"x": {"y": [1.5, 2.5]}}}}}


def test_an_archive_of_arrays_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(1000), b=np.zeros(3))
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02") + 24  # size of the first member, in the directory
    data[place : place + 4] = (3 << 29).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"unpack to 1\.5 GiB"):
        read_npz(path)
    assert read_npz(path, ("b",))["b"].tolist() == [0, 0, 0]


def test_json_types() -> None:
    value = {"f": Fraction(30000, 1001), "a": np.array([1.0, np.nan]), "p": Path("x/y"), "n": np.int64(3), "t": (1, 2)}
    assert to_jsonable(value) == {"f": "30000/1001", "a": [1.0, None], "p": "x/y", "n": 3, "t": [1, 2]}


@given(st.text(st.sampled_from("ab./"), min_size=1, max_size=12))
def test_paths_from_files_never_leave_their_folder(tmp_path_factory: pytest.TempPathFactory, relative: str) -> None:
    root = tmp_path_factory.getbasetemp()
    try:
        found = inside(root, relative)
    except InputError:
        return
    assert found.is_relative_to(root.resolve())


@pytest.mark.parametrize("relative", ["../x", "/etc/passwd", "a/../../x"])
def test_climbing_paths_are_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(InputError, match="leaves its folder"):
        inside(tmp_path, relative)


def test_folder_hash_sees_names_and_content_but_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = sha256_of_path(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    assert sha256_of_path(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert sha256_of_path(tmp_path) != first
    with pytest.raises(InputError, match="no such file or folder"):
        sha256_of_path(tmp_path / "absent")
