"""The body model against smplx, and its readers against damaged, foreign and malicious files."""

from __future__ import annotations

import dataclasses
import io
import pickle
import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import smplx
import torch
from scipy.spatial.transform import Rotation
from smplx.utils import Struct

from core.errors import InputError
from fitting.smpl import BodyModel, rodrigues
from fitting.stand_in import save_pkl, stand_in_body


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return stand_in_body()


def _reference(body: BodyModel, betas: np.ndarray, poses: np.ndarray, transl: np.ndarray) -> tuple[np.ndarray, ...]:
    model = smplx.SMPL("", data_struct=Struct(**body.arrays()), dtype=torch.float64)
    given = [torch.tensor(a) for a in (np.broadcast_to(betas, (len(poses), 10)), poses[:, 0], transl)]
    output = model(
        betas=given[0], global_orient=given[1], body_pose=torch.tensor(poses[:, 1:].reshape(len(poses), 69)),
        transl=given[2],
    )  # fmt: skip
    return output.vertices.detach().numpy(), output.joints[:, :24].detach().numpy()


# smplx works in float64 here, but adds 1e-8 to every axis-angle before taking its length
TOLERANCE_M = 1e-6


def test_vertices_and_joints_equal_smplx_on_the_stand_in(body: BodyModel, rng: np.random.Generator) -> None:
    betas, poses, transl = rng.normal(size=10), 0.5 * rng.normal(size=(3, 24, 3)), rng.normal(size=(3, 3))
    posed = body.with_shape(betas).with_pose(poses, transl)
    vertices, joints = _reference(body, betas, poses, transl)
    np.testing.assert_allclose(posed.mesh(), vertices, atol=TOLERANCE_M)
    np.testing.assert_allclose(posed.joints, joints, atol=TOLERANCE_M)


def test_vertices_equal_smplx_on_the_benchmark_body(shared: Path, rng: np.random.Generator) -> None:
    body = BodyModel.load(shared / "bench" / "smpl_body.npz")
    betas, poses, transl = rng.normal(size=10), 0.5 * rng.normal(size=(2, 24, 3)), rng.normal(size=(2, 3))
    vertices, joints = _reference(body, betas, poses, transl)
    posed = body.with_shape(betas).with_pose(poses, transl)
    np.testing.assert_allclose(posed.mesh(), vertices, atol=TOLERANCE_M)
    np.testing.assert_allclose(posed.joints, joints, atol=TOLERANCE_M)


def test_pose_blend_shapes_matter(body: BodyModel) -> None:
    poses = np.zeros((24, 3))
    poses[18, 1] = -1.5  # a bent left elbow
    posed = body.with_shape(np.zeros(10)).with_pose(poses)
    plain = dataclasses.replace(body, posedirs=np.zeros_like(body.posedirs)).with_shape(np.zeros(10)).with_pose(poses)
    lift = np.linalg.norm(posed.mesh() - plain.mesh(), axis=1).max()
    assert 0.001 < lift < 0.015


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_any_batch_shape(body: BodyModel, rng: np.random.Generator, batch: tuple[int, ...]) -> None:
    poses, transl = 0.3 * rng.normal(size=(*batch, 24, 3)), rng.normal(size=(*batch, 3))
    posed = body.with_shape(np.ones(10)).with_pose(poses, transl)
    assert posed.joints.shape == (*batch, 24, 3)
    assert posed.mesh().shape == (*batch, 6890, 3)
    one = body.with_shape(np.ones(10)).with_pose(poses.reshape(-1, 24, 3)[-1], transl.reshape(-1, 3)[-1])
    np.testing.assert_allclose(posed.joints.reshape(-1, 24, 3)[-1], one.joints, atol=1e-12)


def test_betas_may_differ_by_frame(body: BodyModel, rng: np.random.Generator) -> None:
    betas, poses = rng.normal(size=(2, 10)), 0.3 * rng.normal(size=(2, 24, 3))
    together = body.with_shape(betas).with_pose(poses)
    for k in range(2):
        alone = body.with_shape(betas[k]).with_pose(poses[k])
        np.testing.assert_allclose(together.mesh()[k], alone.mesh(), atol=1e-12)


def test_the_root_and_transl_convert_both_ways(body: BodyModel, rng: np.random.Generator) -> None:
    shaped, root = body.with_shape(2 * rng.normal(size=10)), rng.normal(size=(4, 3))
    posed = shaped.with_pose(rng.normal(size=(4, 24, 3)), shaped.transl_from_root(root))
    np.testing.assert_allclose(posed.root.t, root, atol=1e-12)


def test_rodrigues_equals_scipy_down_to_no_rotation(rng: np.random.Generator) -> None:
    w = rng.normal(size=(200, 3)) * np.logspace(-9, 0.4, 200)[:, None]
    np.testing.assert_allclose(rodrigues(w), Rotation.from_rotvec(w).as_matrix(), atol=1e-12)
    np.testing.assert_array_equal(rodrigues(np.zeros((1, 3)))[0], np.eye(3))


def test_npz_and_pkl_give_the_same_body(body: BodyModel, tmp_path: Path) -> None:
    body.save_npz(tmp_path / "BODY.npz")
    save_pkl(body, tmp_path / "BODY.pkl")
    for name in ("BODY.npz", "BODY.pkl"):
        assert BodyModel.load(tmp_path / name).sha256 == body.sha256


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


def _official_pickle(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A pickle as the official files have it: chumpy arrays, a slice of one, a scipy sparse regressor."""
    from scipy.sparse import csc_matrix

    for module in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    ch = type("Ch", (), {"__module__": "chumpy.ch"})
    select = type("Select", (), {"__module__": "chumpy.reordering"})
    sys.modules["chumpy.ch"].Ch, sys.modules["chumpy.reordering"].Select = ch, select

    def leaf(x: np.ndarray) -> object:
        node = ch()
        node.__dict__.update(x=x, dterms=("x",), is_valid=True)
        return node

    content = body.arrays()
    # what slicing 10 of 12 shape directions leaves in a file
    wide = np.concatenate([body.shapedirs, body.shapedirs[..., :2]], axis=2)
    sliced = select()
    index = np.arange(wide.size).reshape(wide.shape)[..., :10]
    sliced.__dict__.update(a=leaf(wide), idxs=index.ravel(), preferred_shape=index.shape)
    content |= {"v_template": leaf(body.v_template), "shapedirs": sliced, "bs_style": "lbs"}
    content["J_regressor"] = csc_matrix(body.J_regressor)
    content["kintree_table"] = content["kintree_table"].astype(np.uint32)
    content["J"] = sliced
    return pickle.dumps(content, protocol=2)


def test_chumpy_and_sparse_pickles_load_without_chumpy(
    body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "official.pkl"
    path.write_bytes(_official_pickle(body, monkeypatch))
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
    ],
)
def test_what_is_no_smpl_body_is_named(body: BodyModel, tmp_path: Path, change: dict, message: str) -> None:
    content = {k: v for k, v in (body.arrays() | change).items() if v is not None}
    np.savez(tmp_path / "OTHER.npz", **content)
    with pytest.raises(InputError, match=message):
        BodyModel.load(tmp_path / "OTHER.npz")


def test_a_missing_file_and_an_unknown_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        BodyModel.load(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"'\.fbx'"):
        BodyModel.load(tmp_path / "body.fbx")
