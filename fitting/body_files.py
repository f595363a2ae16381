"""Body model files: `.npz`, `.safetensors` and official `.pkl`, checked entry by entry, none of them able to run code.

The kind of a body is read off its joint tree. Shape directions are split as the `smplx` package splits them: SMPL-X
files hold 300 betas and then 100 expressions, older ones 10 and 10, files without a face 10 alone. Official SMPL-X
`.npz` files also hold Python dicts; those entries are never touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InputError
from core.files import read_npz
from fitting.body_kinds import KINDS, SMPL_X, BodyKind
from fitting.safetensors import read_safetensors
from fitting.unpickle import read_pickle_arrays

_NAMES = (
    "v_template", "shapedirs", "posedirs", "weights", "J_regressor", "f", "kintree_table", "hands_meanl", "hands_meanr",
)  # fmt: skip
# directions in a file of SMPL-X: betas and expressions
_SMPLX_SPLITS = {10: (10, 0), 20: (10, 10), 400: (300, 100)}


def read_body_file(path: Path, num_betas: int, num_expressions: int) -> dict[str, Any]:
    """The fields of a `BodyModel` from a file.

    Args:
        path: the file.
        num_betas: shape directions to keep.
        num_expressions: expressions to keep at most; SMPL and SMPL-H have none.

    Raises:
        InputError: if the file is missing, damaged or no body model; it names the entry and its shape.
    """
    if path.suffix == ".npz":
        data: Mapping[str, Any] = read_npz(path, _NAMES)
    elif path.suffix == ".safetensors":
        data = read_safetensors(path, _NAMES)
    elif path.suffix == ".pkl":
        data = read_pickle_arrays(path)
    else:
        problem = f"a body model is .npz, .pkl or .safetensors, not {path.suffix!r}"
        raise InputError(str(path), problem, "give an SMPL, SMPL-H or SMPL-X model file")
    kind = _kind(data, path)
    v, j = kind.num_vertices, kind.num_joints
    v_template = _entry(data, path, "v_template", (v, 3))
    betas, expressions = _split(_entry(data, path, "shapedirs", (v, 3, None)), kind, path)
    if betas.shape[-1] < num_betas:
        raise _refused(path, f"'shapedirs' has {betas.shape[-1]} directions of betas, {num_betas} are needed")
    expressions = expressions[..., :num_expressions]
    posedirs = _entry(data, path, "posedirs", (v, 3, kind.num_pose_features))
    weights = _entry(data, path, "weights", (v, j))
    regressor = _entry(data, path, "J_regressor", (j, v))
    faces = _entry(data, path, "f", (None, 3)).astype(np.int64)
    if not len(faces) or faces.min() < 0 or faces.max() >= v:
        raise _refused(path, f"'f' names vertex {faces.max(initial=-1)} of {v}")
    return {
        "kind": kind,
        "v_template": v_template,
        "shapedirs": np.concatenate([betas[..., :num_betas], expressions], axis=-1),
        "num_expressions": expressions.shape[-1],
        "posedirs": posedirs,
        "weights": weights,
        "J_regressor": regressor,
        "faces": faces,
        "hands_mean": _hands_mean(data, path, kind),
        "name": path.stem,
    }


def joined_shapedirs(kind: BodyKind, betas: np.ndarray, expressions: np.ndarray) -> np.ndarray:
    """Shape directions as files of a kind hold them; directions of zeros fill what SMPL-X's places leave empty."""
    if kind is not SMPL_X:
        return betas
    given = (betas.shape[-1], expressions.shape[-1])
    places = next((s for s in _SMPLX_SPLITS.values() if all(n <= m for n, m in zip(given, s, strict=True))), None)
    if places is None:
        raise InputError("SMPL-X", f"{given[0]} betas and {given[1]} expressions", "keep at most 300 and 100")
    padded = [
        np.pad(dirs, ((0, 0), (0, 0), (0, num - dirs.shape[-1])))
        for dirs, num in zip((betas, expressions), places, strict=True)
    ]
    return np.concatenate(padded, axis=-1)


def _kind(data: Mapping[str, Any], path: Path) -> BodyKind:
    """The kind whose tree the file has."""
    tree = _entry(data, path, "kintree_table", (2, None))
    for kind in KINDS:
        if tree.shape[1] == kind.num_joints:
            # the pelvis has no parent; files write -1 or 2^32 - 1 there
            if not np.array_equal(tree[0, 1:], kind.parents[1:]):
                raise _refused(path, f"'kintree_table' has parents {tree[0, 1:].tolist()}, not {kind.name}'s tree")
            return kind
    known = ", ".join(f"{kind.name} {kind.num_joints}" for kind in KINDS)
    raise _refused(path, f"'kintree_table' has {tree.shape[1]} joints ({known})")


def _split(shapedirs: np.ndarray, kind: BodyKind, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Directions of the betas and of the expressions."""
    num = shapedirs.shape[-1]
    if kind is not SMPL_X:
        return shapedirs, shapedirs[..., :0]
    if num not in _SMPLX_SPLITS:
        known = ", ".join(map(str, _SMPLX_SPLITS))
        raise _refused(path, f"'shapedirs' has {num} directions, of which an SMPL-X file has one of {known}")
    first, second = _SMPLX_SPLITS[num]
    return shapedirs[..., :first], shapedirs[..., first : first + second]


def _hands_mean(data: Mapping[str, Any], path: Path, kind: BodyKind) -> np.ndarray:
    """Mean pose of the finger joints, left hand first; no rows where the file states none."""
    if not kind.num_hand_joints or "hands_meanl" not in data:
        return np.zeros((0, 3))
    width = 3 * kind.num_hand_joints // 2
    return np.concatenate([_entry(data, path, f"hands_mean{side}", (width,)) for side in "lr"]).reshape(-1, 3)


def _entry(data: Mapping[str, Any], path: Path, key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """One entry as float64, its shape checked; None stands for any length."""
    if key not in data:
        others = f"only {', '.join(sorted(data))} of a body's" if data else "and none of the others that a body has"
        raise _refused(path, f"it has no entry {key!r}, {others}")
    value = data[key]
    wanted = " x ".join("n" if n is None else str(n) for n in shape)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise _refused(path, f"{key!r} is no array of numbers (wanted {wanted})")
    if len(value.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, value.shape, strict=True)):
        raise _refused(path, f"{key!r} has shape {' x '.join(map(str, value.shape))}, wanted {wanted}")
    if not np.isfinite(value).all():
        raise _refused(path, f"{key!r} holds values that are not finite")
    return value.astype(np.float64)


def _refused(path: Path, problem: str) -> InputError:
    action = "give an SMPL, SMPL-H or SMPL-X model file, or use `stand-in`"
    return InputError(str(path), f"not a body model: {problem}", action)
