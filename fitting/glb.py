"""The fitted body as a binary glTF 2.0 file: one skinned mesh that moves, for Blender and every other 3D program.

Source: Khronos, *glTF 2.0 Specification*, chapters 3.7.3 (skins), 3.11 (animations) and 4 (GLB).

What the file holds: the rest mesh of the fitted shape with normals, the body's joints with the inverse bind matrices of
that shape, all of its skinning weights (as many sets of four as the model needs: official models have four or fewer
to a vertex), and for every instant one rotation for each joint and the pelvis' place. Numbers are 32 bit: vertices are
those of `PosedBody.mesh` without pose blend shapes within 0.01 mm, times within 0.1 ms in a recording of half an hour.

- glTF's y is up, this project's z: the node `world` above the pelvis turns (x, y, z) into (x, z, -y).
- Time 0 is the first instant of the fit; `asset.extras.first_s` says when that was on the session clock.
- Stretches that are not valid are listed under `asset.extras.not_valid`: [first second, last second, reason].
- Pose blend shapes depend on the pose and cannot be carried by skinning. What is left out
  is measured for every file and written to `asset.extras`. On the stand-in body it moves a vertex by 0.3 mm in the mean
  over all activities of four simulated persons, by 5 mm at the 99th percentile, by 16 mm at most (bent knees, elbows).
- 30 minutes at 30 instants a second take 22 MB; `every` makes that smaller.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from core.arrays import Float, Int
from core.errors import InputError
from core.files import write_bytes
from fitting.body_kinds import BodyKind
from fitting.playback import Playback
from fitting.sequence import Reason, spoken
from fitting.smpl import BodyModel, PosedBody

_FLOAT, _BYTE, _SHORT = 5126, 5121, 5123  # component types
_KINDS = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
_VERTICES, _INDICES = 34962, 34963  # what a buffer view is for
_WORLD, _MESH, _PELVIS = 0, 1, 2  # nodes; the joints follow the pelvis in the body's order
_Y_UP_FROM_Z_UP = [-(0.5**0.5), 0.0, 0.0, 0.5**0.5]
_SKIN = {"baseColorFactor": [0.42, 0.62, 0.86, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.75}
_MEASURED_FRAMES = 64  # in which the missing pose blend shapes are measured


def write_glb(path: Path, playback: Playback, every: int = 1) -> None:
    """Writes a sequence.

    Args:
        path: file to make (.glb).
        playback: the body and its motion.
        every: only every so many instants; between them programs interpolate as `Playback.at` does.

    Raises:
        InputError: if `every` is less than 1.
    """
    if every < 1:
        raise InputError(str(path), f"every {every}th instant was asked for", "use 1 or more")
    sequence = playback.sequence
    t_s = sequence.t_s[::every]
    rotations, places = _keys(playback, every)
    content, kind = _Content(), playback.shaped.body.kind
    primitive = _mesh(content, playback)
    rest = playback.shaped.rest_joints
    bind = np.tile(np.eye(4), (kind.num_joints, 1, 1))
    bind[:, 3, :3] = -rest  # column-major: the last row in memory is the translation
    inverse_bind = content.add(bind.astype(np.float32))
    times = content.add((t_s - t_s[0]).astype(np.float32), bounds=True)
    outputs = [("translation", 0, content.add(places))]
    outputs += [("rotation", joint, content.add(rotations[:, joint])) for joint in range(kind.num_joints)]
    document = {
        "asset": {"version": "2.0", "generator": "action-motifs", "extras": _extras(playback, t_s)},
        "scene": 0,
        "scenes": [{"nodes": [_WORLD, _MESH]}],
        "nodes": _nodes(kind, rest, rotations[0], places[0]),
        "meshes": [{"name": "body", "primitives": [primitive]}],
        "materials": [{"name": "skin", "pbrMetallicRoughness": _SKIN}],
        "skins": [
            {
                "name": kind.name,
                "inverseBindMatrices": inverse_bind,
                "skeleton": _WORLD,
                "joints": list(range(_PELVIS, _PELVIS + kind.num_joints)),
            }
        ],
        "animations": [
            {
                "name": "motion",
                "samplers": [{"input": times, "interpolation": "LINEAR", "output": output} for *_, output in outputs],
                "channels": [
                    {"sampler": i, "target": {"node": _PELVIS + joint, "path": kind}}
                    for i, (kind, joint, _) in enumerate(outputs)
                ],
            }
        ],
        **content.described(),
    }
    write_bytes(path, _packed(document, bytes(content.binary)))


def pose_blend_m(posed: PosedBody) -> Float[np.ndarray, "frames vertices"]:
    """How far pose blend shapes move each vertex, which a skinned mesh cannot show, metres."""
    body = posed.shaped.body
    blend = body.posedirs.reshape(3 * body.kind.num_vertices, -1)
    return np.linalg.norm((posed.pose_features @ blend.T).reshape(-1, body.kind.num_vertices, 3), axis=-1)


class _Content:
    """The binary part as it grows, and the accessors that describe it."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []

    def add(self, array: np.ndarray, *, target: int | None = None, bounds: bool = False) -> int:
        """Appends an array, (n,), (n, 3), (n, 4) or (n, 4, 4); returns the index of its accessor."""
        component = {"float32": _FLOAT, "uint8": _BYTE, "uint16": _SHORT}[array.dtype.name]
        content = np.ascontiguousarray(array).tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(content)}
        self._views.append(view if target is None else {**view, "target": target})
        accessor: dict[str, Any] = {"bufferView": len(self._views) - 1, "componentType": component}
        accessor |= {"count": len(array), "type": _KINDS[array.shape[1:]]}
        if bounds:
            accessor["min"], accessor["max"] = (np.atleast_1d(f(array, axis=0)).tolist() for f in (np.min, np.max))
        self._accessors.append(accessor)
        self.binary += content + bytes(-len(content) % 4)
        return len(self._accessors) - 1

    def described(self) -> dict[str, Any]:
        """The parts of the document that say where everything is."""
        return {
            "accessors": self._accessors,
            "bufferViews": self._views,
            "buffers": [{"byteLength": len(self.binary)}],
        }


def _keys(playback: Playback, every: int) -> tuple[np.ndarray, np.ndarray]:
    """Quaternions (keys, joints, 4), x y z w, that never jump to their negative, and the pelvis' places (keys, 3)."""
    sequence = playback.sequence
    poses = sequence.poses[::every]
    quaternions = Rotation.from_rotvec(poses.reshape(-1, 3)).as_quat().reshape(len(poses), -1, 4)
    turned = (quaternions[1:] * quaternions[:-1]).sum(axis=-1) < 0
    quaternions[1:] *= np.cumprod(np.where(turned, -1.0, 1.0), axis=0)[..., None]
    places = sequence.trans[::every] + playback.shaped.rest_joints[0]
    return quaternions.astype(np.float32), places.astype(np.float32)


def _mesh(content: _Content, playback: Playback) -> dict[str, Any]:
    """The rest mesh with its skinning weights."""
    body, vertices = playback.shaped.body, playback.shaped.rest_vertices
    attributes = {
        "POSITION": content.add(vertices.astype(np.float32), target=_VERTICES, bounds=True),
        "NORMAL": content.add(_normals(vertices, body.faces).astype(np.float32), target=_VERTICES),
    }
    for number, (joints, weights) in enumerate(_influences(body)):
        attributes[f"JOINTS_{number}"] = content.add(joints, target=_VERTICES)
        attributes[f"WEIGHTS_{number}"] = content.add(weights, target=_VERTICES)
    indices = content.add(body.faces.astype(np.uint16).ravel(), target=_INDICES)
    return {"attributes": attributes, "indices": indices, "material": 0}


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals at vertices, those of the triangles around by their areas."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = np.zeros_like(vertices)
    np.add.at(normals, faces.ravel(), np.repeat(np.cross(b - a, c - a), 3, axis=0))
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-20)


def _influences(body: BodyModel) -> list[tuple[np.ndarray, np.ndarray]]:
    """Joints and weights in sets of four, the largest first; joints without weight are 0, as the format asks."""
    sets = -(-int((body.weights > 0).sum(axis=1).max()) // 4)
    order = np.argsort(-body.weights, axis=1, kind="stable")[:, : 4 * sets]
    weights = np.take_along_axis(body.weights, order, axis=1)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    joints = np.where(weights > 0, order, 0).astype(np.uint8)
    return [(joints[:, i : i + 4], weights[:, i : i + 4]) for i in range(0, 4 * sets, 4)]


def _nodes(kind: BodyKind, rest: np.ndarray, rotations: np.ndarray, place: np.ndarray) -> list[dict[str, Any]]:
    """The world, the mesh, and the joints, in the first pose for programs that show no motion."""
    nodes: list[dict[str, Any]] = [
        {"name": "world", "rotation": _Y_UP_FROM_Z_UP, "children": [_PELVIS]},
        {"name": "body", "mesh": 0, "skin": 0},  # of a skinned mesh only the joints' places count
    ]
    for joint, (name, parent) in enumerate(zip(kind.skeleton.joints, kind.parents.tolist(), strict=True)):
        at = place if parent < 0 else rest[joint] - rest[parent]
        node = {"name": name, "translation": at.astype(float).tolist(), "rotation": rotations[joint].tolist()}
        children = (_PELVIS + np.flatnonzero(joint == kind.parents)).tolist()
        nodes.append({**node, "children": children} if children else node)
    return nodes


def _extras(playback: Playback, t_s: Float[np.ndarray, "keys"]) -> Mapping[str, Any]:
    """What the format has no place for."""
    sequence = playback.sequence
    sample = t_s[np.unique(np.linspace(0, len(t_s) - 1, _MEASURED_FRAMES).round().astype(int))]
    missing_mm = 1e3 * pose_blend_m(playback.at(sample))
    return {
        "first_s": float(t_s[0]),
        "body_model": sequence.body_model,
        "without_pose_blend_shapes_mm": {
            "mean": float(missing_mm.mean()),
            "p99": float(np.percentile(missing_mm, 99)),
            "largest": float(missing_mm.max()),
        },
        "not_valid": _not_valid(sequence.reasons, sequence.t_s - t_s[0]),
    }


def _not_valid(reasons: Int[np.ndarray, "frames"], t_s: Float[np.ndarray, "frames"]) -> list[list[Any]]:
    """Stretches of one reason: first and last second, and the reason in words."""
    changes = np.flatnonzero(np.diff(reasons)) + 1
    begins, ends = np.append(0, changes), np.append(changes, len(reasons)) - 1
    stretches = [(float(t_s[a]), float(t_s[b]), Reason(int(reasons[a]))) for a, b in zip(begins, ends, strict=True)]
    return [[first, last, spoken(reason)] for first, last, reason in stretches if reason]


def _packed(document: Mapping[str, Any], binary: bytes) -> bytes:
    """Header, JSON and binary chunk, each a multiple of four bytes."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
