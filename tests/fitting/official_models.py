"""Random bodies under the keys, types and oddities of official model files, and what `smplx` makes of them."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import smplx
import torch
from scipy.sparse import csc_matrix

from fitting.body_kinds import SMPL_X, BodyKind


def official_arrays(kind: BodyKind, rng: np.random.Generator, directions: int) -> dict[str, Any]:
    """Everything that smplx asks of a file: 4 bones a vertex, a sparse regressor, 2^32 - 1 for the pelvis' parent."""
    V, J = kind.num_vertices, kind.num_joints

    def normal(scale: float, *shape: int) -> np.ndarray:
        return scale * rng.standard_normal(shape, dtype=np.float32)

    weights, regressor = np.zeros((V, J)), np.zeros((J, V))
    weights[np.arange(V)[:, None], rng.integers(0, J, (V, 4))] = rng.random((V, 4))
    regressor[np.arange(J)[:, None], rng.integers(0, V, (J, 30))] = rng.random((J, 30))
    arrays: dict[str, Any] = {
        "v_template": normal(0.3, V, 3).astype(float),
        "shapedirs": normal(0.01, V, 3, directions),
        "posedirs": normal(0.002, V, 3, kind.num_pose_features),
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "J_regressor": regressor / regressor.sum(axis=1, keepdims=True),
        "f": rng.integers(0, V, (20908 if kind is SMPL_X else 13776, 3)).astype(np.uint32),
        "kintree_table": np.stack([kind.parents, np.arange(J)]).astype(np.uint32),
        "bs_style": "lbs",
    }
    if kind.num_hand_joints:
        for side in "lr":
            arrays[f"hands_mean{side}"] = normal(0.3, 45).astype(float)
            arrays[f"hands_components{side}"] = normal(1.0, 45, 45).astype(float)
    if kind is SMPL_X:
        arrays |= {"lmk_faces_idx": np.arange(51), "lmk_bary_coords": np.full((51, 3), 1 / 3)}
        # Python dicts, for which smplx unpickles the whole file
        arrays |= {"joint2num": np.array({"Pelvis": 0}), "part2num": np.array({"Global": 0})}
    assert arrays["kintree_table"][0, 0] == 2**32 - 1
    return arrays


def write_model(path: Path, arrays: dict[str, Any]) -> Path:
    """An official-looking file that smplx reads: `.npz`, or a pickle with a sparse regressor."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        path.write_bytes(pickle.dumps(arrays | {"J_regressor": csc_matrix(arrays["J_regressor"])}, protocol=2))
    return path


def smplx_output(
    path: Path,
    poses: np.ndarray,
    transl: np.ndarray,
    betas: np.ndarray,
    expression: np.ndarray | None = None,
    flat_hand_mean: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and joints (with the package's extra points behind them) of poses (frames, joints, 3), in float64."""
    frames = len(poses)
    more = {} if expression is None else {"num_expression_coeffs": len(expression)}
    model = smplx.create(
        str(path), ext=path.suffix[1:], use_pca=False, flat_hand_mean=flat_hand_mean, num_betas=len(betas),
        dtype=torch.float64, batch_size=frames, **more,
    )  # fmt: skip
    given = {"global_orient": poses[:, 0], "transl": transl, "betas": np.tile(betas, (frames, 1))}
    num_body = 24 if poses.shape[1] == 24 else 22
    given["body_pose"] = poses[:, 1:num_body]
    if poses.shape[1] > 24:
        given |= {"left_hand_pose": poses[:, -30:-15], "right_hand_pose": poses[:, -15:]}
    if poses.shape[1] == 55:
        given |= {"jaw_pose": poses[:, 22], "leye_pose": poses[:, 23], "reye_pose": poses[:, 24]}
        given["expression"] = np.zeros((frames, 10)) if expression is None else np.tile(expression, (frames, 1))
    output = model(**{name: torch.tensor(value.reshape(frames, -1)) for name, value in given.items()})
    return output.vertices.detach().numpy(), output.joints.detach().numpy()


def chumpy_content(arrays: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The content of the oldest files: chumpy arrays, a slice of one, a scipy sparse regressor."""
    for module in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    ch = type("Ch", (), {"__module__": "chumpy.ch"})
    select = type("Select", (), {"__module__": "chumpy.reordering"})
    sys.modules["chumpy.ch"].Ch, sys.modules["chumpy.reordering"].Select = ch, select  # type: ignore[attr-defined]

    def leaf(x: np.ndarray) -> object:
        node = ch()
        node.__dict__.update(x=x, dterms=("x",), is_valid=True)
        return node

    # what slicing all but two of the shape directions leaves in a file
    dirs = arrays["shapedirs"]
    wide = np.concatenate([dirs, dirs[..., :2]], axis=2)
    sliced = select()
    index = np.arange(wide.size).reshape(wide.shape)[..., : dirs.shape[-1]]
    sliced.__dict__.update(a=leaf(wide), idxs=index.ravel(), preferred_shape=index.shape)
    return arrays | {
        "v_template": leaf(arrays["v_template"]),
        "shapedirs": sliced,
        "J": sliced,
        "bs_style": "lbs",
        "J_regressor": csc_matrix(arrays["J_regressor"]),
        "kintree_table": arrays["kintree_table"].astype(np.uint32),
    }


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes text and bytes as Python 2 did: both as `str`, which has no encoding."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_str2(self, value: str | bytes) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_str2


def python2_pickle(content: dict[str, Any]) -> bytes:
    """A pickle with Python 2's strings and the module names of its time."""
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(content)
    written = stream.getvalue()
    for new, old in ((b"cnumpy._core.", b"cnumpy.core."), (b"cscipy.sparse._csc\n", b"cscipy.sparse.csc\n")):
        assert new in written
        written = written.replace(new, old)
    return written
