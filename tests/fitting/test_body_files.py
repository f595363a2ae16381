"""Readers and writers of body models against official, damaged, foreign and malicious files."""

from __future__ import annotations

import dataclasses
import io
import pickle
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import smplx
from official_models import chumpy_content, official_arrays, python2_pickle

from core.errors import InputError
from fitting.body_kinds import SMPL_H, SMPL_X, BodyKind
from fitting.smpl import BodyModel
from fitting.stand_in import save_pkl, stand_in_body


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return stand_in_body()


@pytest.fixture(scope="module")
def content() -> dict[str, object]:
    """An SMPL-H file's arrays."""
    return official_arrays(SMPL_H, np.random.default_rng(5), directions=16)


def _assert_same_numbers(found: BodyModel, content: dict) -> None:
    for name in ("v_template", "posedirs", "weights", "J_regressor"):
        np.testing.assert_array_equal(getattr(found, name), content[name], err_msg=name)
    np.testing.assert_array_equal(found.faces, content["f"])
    np.testing.assert_array_equal(found.shapedirs, content["shapedirs"][..., : found.num_betas])
    np.testing.assert_array_equal(found.hands_mean[:15].ravel(), content["hands_meanl"])
    np.testing.assert_array_equal(found.hands_mean[15:].ravel(), content["hands_meanr"])


def test_npz_pkl_and_safetensors_give_the_same_body(body: BodyModel, tmp_path: Path) -> None:
    body.save_npz(tmp_path / "BODY.npz")
    body.save_safetensors(tmp_path / "BODY.safetensors")
    save_pkl(body, tmp_path / "BODY.pkl")
    for name in ("BODY.npz", "BODY.pkl", "BODY.safetensors"):
        assert BodyModel.load(tmp_path / name).sha256 == body.sha256


@pytest.mark.parametrize(("kind", "directions", "kept"), [(SMPL_H, 16, (16, 0)), (SMPL_X, 20, (10, 10))])
def test_models_with_hands_come_back_as_they_were(
    tmp_path: Path, rng: np.random.Generator, kind: BodyKind, directions: int, kept: tuple[int, int]
) -> None:
    np.savez(tmp_path / "BODY.npz", **official_arrays(kind, rng, directions))
    body = BodyModel.load(tmp_path / "BODY.npz", *kept)
    body.save_safetensors(tmp_path / "AGAIN.safetensors")
    again = BodyModel.load(tmp_path / "AGAIN.safetensors", *kept)
    assert (again.kind, again.num_betas, again.num_expressions) == (kind, *kept)
    assert again.sha256 == body.sha256
    relaxed = dataclasses.replace(again, hands_mean=np.zeros((30, 3)))
    assert relaxed.sha256 != body.sha256


@pytest.mark.parametrize(("kept", "directions"), [((4, 2), 20), ((12, 0), 400), ((10, 11), 400)])
def test_smplx_files_keep_expressions_where_readers_look_for_them(
    tmp_path: Path, rng: np.random.Generator, kept: tuple[int, int], directions: int
) -> None:
    np.savez(tmp_path / "SMPLX.npz", **official_arrays(SMPL_X, rng, 400))
    body = BodyModel.load(tmp_path / "SMPLX.npz", *kept)
    assert body.arrays()["shapedirs"].shape[-1] == directions
    body.save_safetensors(tmp_path / "KEPT.safetensors")
    again = BodyModel.load(tmp_path / "KEPT.safetensors", *kept)
    np.testing.assert_array_equal(again.shapedirs, body.shapedirs)


def test_a_body_with_fingers_may_state_no_mean_pose(tmp_path: Path, content: dict) -> None:
    np.savez(tmp_path / "SLIM.npz", **{k: v for k, v in content.items() if not k.startswith("hands")})
    body = BodyModel.load(tmp_path / "SLIM.npz")
    with pytest.raises(InputError, match="SLIM: its file states no mean pose of the hands"):
        _ = body.mean_pose
    assert "hands_meanl" not in body.arrays()


def test_smplx_loads_the_pickle_unchanged(body: BodyModel, tmp_path: Path) -> None:
    save_pkl(body, tmp_path / "SMPL_NEUTRAL.pkl")
    output = smplx.create(tmp_path / "SMPL_NEUTRAL.pkl", model_type="smpl")()
    nose = output.joints[0, 24].detach().numpy()
    np.testing.assert_allclose(nose, body.v_template[332], atol=1e-5)


def test_only_the_wanted_betas_are_kept(body: BodyModel, tmp_path: Path) -> None:
    many = body.arrays() | {"shapedirs": np.concatenate([body.shapedirs] * 3, axis=2)}
    np.savez(tmp_path / "MANY.npz", **many)
    assert BodyModel.load(tmp_path / "MANY.npz").num_betas == 10
    assert BodyModel.load(tmp_path / "MANY.npz", num_betas=16).num_betas == 16


# -- official-looking pickles


def test_chumpy_and_sparse_pickles_load_without_chumpy(
    body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "official.pkl"
    path.write_bytes(pickle.dumps(chumpy_content(body.arrays(), monkeypatch), protocol=2))
    monkeypatch.undo()
    loaded = BodyModel.load(path)
    assert loaded.sha256 == body.sha256
    assert "chumpy" not in sys.modules


@pytest.mark.parametrize("kind", ["csr_matrix", "coo_matrix", "csc_array"])
def test_every_sparse_layout_is_read(body: BodyModel, tmp_path: Path, kind: str) -> None:
    import scipy.sparse

    content = body.arrays() | {"J_regressor": getattr(scipy.sparse, kind)(body.J_regressor)}
    (tmp_path / "SPARSE.pkl").write_bytes(pickle.dumps(content, protocol=4))
    np.testing.assert_array_equal(BodyModel.load(tmp_path / "SPARSE.pkl").J_regressor, body.J_regressor)


def test_a_python_2_pickle_is_read(tmp_path: Path) -> None:
    """Python 2 writes array content as str, which Python 3 must take as latin-1."""
    values = np.array([[1.5, -2.25, 200.0]])
    stream = io.BytesIO()
    stream.write(b"\x80\x02}U\x01xcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01")
    stream.write(
        b"K\x01K\x03\x86cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
    )
    stream.write(b"K\x00tb\x89T" + struct.pack("<i", values.nbytes) + values.tobytes() + b"tbs.")
    (tmp_path / "py2.pkl").write_bytes(stream.getvalue())
    from fitting.unpickle import read_pickle_arrays

    np.testing.assert_array_equal(read_pickle_arrays(tmp_path / "py2.pkl")["x"], values)


def test_a_python_2_file_with_chumpy_and_sparse_arrays_is_read(
    content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All oddities of the oldest official files at once, the pelvis' parent 2^32 - 1 among them."""
    written = python2_pickle(chumpy_content(content, monkeypatch))
    monkeypatch.undo()
    assert b"cscipy.sparse.csc\n" in written and b"cchumpy.ch\n" in written and b"_codecs" not in written
    (tmp_path / "SMPLH_MALE.pkl").write_bytes(written)
    found = BodyModel.load(tmp_path / "SMPLH_MALE.pkl", num_betas=16)
    assert found.kind is SMPL_H
    _assert_same_numbers(found, content)


class _Touch:
    """What an attacker would put into a body model."""

    def __init__(self, path: Path, how: str) -> None:
        self.path, self.how = path, how

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        import builtins
        import os

        if self.how == "system":
            return os.system, (f"touch {self.path}",)
        if self.how == "eval":
            return builtins.eval, (f"open({str(self.path)!r}, 'w').close()",)
        return subprocess.call, (["touch", str(self.path)],)


@pytest.mark.parametrize(("how", "name"), [("system", "posix.system"), ("eval", "eval"), ("call", "subprocess.call")])
def test_a_malicious_pickle_runs_nothing(body: BodyModel, tmp_path: Path, how: str, name: str) -> None:
    marker, path = tmp_path / "pwned", tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"v_template": body.v_template, "f": _Touch(marker, how)}, protocol=4))
    with pytest.raises(InputError, match=name):
        BodyModel.load(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # the trap itself works
    assert marker.exists()


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        (b"cbuiltins\nexec\n.", "builtins.exec"),
        (b"(S'touch pwned'\nios\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x04load\x93.", "numpy.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.", "numpy.ndarray.__init__"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "numpy.core.multiarray.fromfile"),
        (b"ccopy_reg\n__import__\n.", "copy_reg.__import__"),
    ],
)
def test_every_way_of_naming_a_function_is_refused(tmp_path: Path, stream: bytes, name: str) -> None:
    (tmp_path / "EVIL.pkl").write_bytes(stream)
    with pytest.raises(InputError, match=re.escape(name)):
        BodyModel.load(tmp_path / "EVIL.pkl")


@pytest.mark.parametrize(
    "stream",
    [
        b"}(S'f'\ncchumpy.os\nsystem\n(S'touch pwned'\ntRu.",  # allowed by its name, and yet nothing but a record
        b"}(S'f'\ncchumpy.ch\nCh\nS'pwned'\nbu.",  # state given to a class
        b"}(S'f'\nccollections\nOrderedDict\n(tR(S'a'\nS'b'\nduu.",
        b"}(S'f'\ncchumpy.ch\nCh\n)\x81q\x01}(S'x'\nh\x01ubu.",  # a value that holds itself
        b"}(S'f'\nccopy_reg\n_reconstructor\n(cbuiltins\nobject\ncbuiltins\nobject\nNtRu.",
    ],
)
def test_what_a_pickle_calls_is_only_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ODD.pkl").write_bytes(stream)
    with pytest.raises(InputError, match=r"ODD\.pkl"):
        BodyModel.load(tmp_path / "ODD.pkl")
    assert [path.name for path in tmp_path.iterdir()] == ["ODD.pkl"]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x02}", b"\x80\x04\x95\xff", b"\x80\x02]."])
def test_a_damaged_pickle_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "BROKEN.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"BROKEN\.pkl"):
        BodyModel.load(tmp_path / "BROKEN.pkl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": None}, "no entry 'weights'"),
        ({"weights": np.zeros((6890, 52))}, "'weights' has shape 6890 x 52, wanted 6890 x 24"),
        ({"v_template": np.zeros((10475, 3))}, "'v_template' has shape 10475 x 3"),
        ({"shapedirs": np.zeros((6890, 3, 4))}, "'shapedirs' has 4 directions"),
        ({"posedirs": np.full((6890, 3, 207), np.nan)}, "'posedirs' holds values that are not finite"),
        ({"f": np.full((13776, 3), 6890)}, "'f' names vertex 6890"),
        ({"kintree_table": np.zeros((2, 24))}, "'kintree_table'"),
        ({"v_template": np.array(["a"])}, "'v_template' is no array of numbers"),
        ({"kintree_table": np.zeros((2, 16))}, "16 joints \\(SMPL 24, SMPL-H 52, SMPL-X 55\\)"),
        ({"f": np.zeros((0, 3))}, "'f' names vertex -1"),
    ],
)
def test_what_is_no_smpl_body_is_named(body: BodyModel, tmp_path: Path, change: dict, message: str) -> None:
    content = {k: v for k, v in (body.arrays() | change).items() if v is not None}
    np.savez(tmp_path / "OTHER.npz", **content)
    with pytest.raises(InputError, match=message):
        BodyModel.load(tmp_path / "OTHER.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"posedirs": np.zeros((6890, 3, 207))}, "'posedirs' has shape 6890 x 3 x 207, wanted 6890 x 3 x 459"),
        ({"kintree_table": np.stack([np.arange(52) - 1, np.arange(52)])}, "not SMPL-H's tree"),
        ({"hands_meanr": np.zeros(12)}, "'hands_meanr' has shape 12, wanted 45"),
        ({"hands_meanr": None}, "no entry 'hands_meanr'"),
        ({"J_regressor": np.array({"a": 1})}, "Object arrays cannot be loaded"),
    ],
)
def test_what_is_no_smplh_body_is_named(content: dict, tmp_path: Path, change: dict, message: str) -> None:
    np.savez(tmp_path / "OTHER.npz", **{k: v for k, v in (content | change).items() if v is not None})
    with pytest.raises(InputError, match=message):
        BodyModel.load(tmp_path / "OTHER.npz")


def test_an_smplx_file_whose_expressions_cannot_be_told_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    np.savez(tmp_path / "SMPLX.npz", **official_arrays(SMPL_X, rng, 16))
    with pytest.raises(
        InputError, match="'shapedirs' has 16 directions, of which an SMPL-X file has one of 10, 20, 400"
    ):
        BodyModel.load(tmp_path / "SMPLX.npz")


def test_a_missing_file_and_an_unknown_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        BodyModel.load(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"'\.fbx'"):
        BodyModel.load(tmp_path / "body.fbx")
