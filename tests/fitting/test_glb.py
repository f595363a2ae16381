"""The body as GLB: read back by a reader that knows nothing of the writer, and moved by the rules of the format."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from fitted import playback_of, sequence_of
from scipy.spatial.transform import Rotation, Slerp
from test_fit import walk

from core.errors import InputError
from core.skeletons import SMPL_24
from fitting.glb import pose_blend_m, write_glb
from fitting.playback import Playback
from fitting.sequence import Reason
from fitting.stand_in import stand_in_body

T_S = 7.25 + np.arange(40) / 30
COMPONENTS = {5121: "u1", 5123: "<u2", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}
Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # world z up to glTF's y up


class Glb:
    """A file taken apart."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size, kind = struct.unpack_from("<I4s", data, 12)
        assert kind == b"JSON" and size % 4 == 0
        self.document: dict[str, Any] = json.loads(data[20 : 20 + size])
        size_bin, kind = struct.unpack_from("<I4s", data, 20 + size)
        assert kind == b"BIN\0" and size_bin % 4 == 0 and 28 + size + size_bin == len(data)
        self.binary = data[28 + size :]

    def array(self, accessor: int) -> np.ndarray:
        """The numbers of an accessor."""
        described = self.document["accessors"][accessor]
        view = self.document["bufferViews"][described["bufferView"]]
        dtype, width = np.dtype(COMPONENTS[described["componentType"]]), WIDTHS[described["type"]]
        start = view["byteOffset"] + described.get("byteOffset", 0)
        assert described["count"] * width * dtype.itemsize <= view["byteLength"]
        flat = np.frombuffer(self.binary, dtype, described["count"] * width, start)
        return flat.reshape(described["count"], width) if width > 1 else flat

    def skinned(self, t: float) -> np.ndarray:
        """Vertices at a time of the animation."""
        nodes = [dict(node) for node in self.document["nodes"]]
        animation = self.document["animations"][0]
        for channel in animation["channels"]:
            sampler, target = animation["samplers"][channel["sampler"]], channel["target"]
            assert sampler["interpolation"] == "LINEAR"
            times, values = self.array(sampler["input"]).astype(float), self.array(sampler["output"]).astype(float)
            if target["path"] == "rotation":
                value = Slerp(times, Rotation.from_quat(values))(np.clip(t, 0, times[-1])).as_quat()
            else:
                value = np.array([np.interp(t, times, column) for column in values.T])
            nodes[target["node"]][target["path"]] = value
        places: dict[int, np.ndarray] = {}

        def walk_down(node: int, above: np.ndarray) -> None:
            own = np.eye(4)
            own[:3, :3] = Rotation.from_quat(nodes[node].get("rotation", [0, 0, 0, 1])).as_matrix()
            own[:3, 3] = nodes[node].get("translation", [0, 0, 0])
            places[node] = above @ own
            for child in nodes[node].get("children", []):
                walk_down(child, places[node])

        for root in self.document["scenes"][0]["nodes"]:
            walk_down(root, np.eye(4))
        skin, primitive = self.document["skins"][0], self.document["meshes"][0]["primitives"][0]
        bind = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        transforms = np.stack([places[node] for node in skin["joints"]]) @ bind
        rest = self.array(primitive["attributes"]["POSITION"]).astype(float)
        homogeneous = np.concatenate([rest, np.ones((len(rest), 1))], axis=1)
        moved = np.zeros((len(rest), 4))
        for i in range(sum(name.startswith("JOINTS_") for name in primitive["attributes"])):
            joints = self.array(primitive["attributes"][f"JOINTS_{i}"])
            weights = self.array(primitive["attributes"][f"WEIGHTS_{i}"]).astype(float)
            moved += np.einsum("vk,vkab,vb->va", weights, transforms[joints], homogeneous)
        return moved[:, :3]


@pytest.fixture(scope="module")
def playback() -> Playback:
    return playback_of(walk(stand_in_body(), len(T_S)), T_S)


def without_pose_blend_shapes(playback: Playback, t_s: float) -> np.ndarray:
    body = stand_in_body()
    plain = dataclasses.replace(body, posedirs=np.zeros_like(body.posedirs))
    posed = playback.at(np.array([t_s]))
    return plain.with_shape(playback.shaped.betas).with_rotations(
        posed.rotations, posed.joints[:, 0] - posed.shaped.rest_joints[0]
    ).mesh()[0]  # fmt: skip


@pytest.mark.parametrize("every", [1, 3])
def test_the_mesh_moves_as_the_fit_says(playback: Playback, tmp_path: Path, every: int) -> None:
    write_glb(tmp_path / "body.glb", playback, every)
    glb = Glb(tmp_path / "body.glb")
    for instant in (0, 12, 27, 39):
        t_s = T_S[instant]
        expected = without_pose_blend_shapes(playback, t_s) @ Y_UP.T
        np.testing.assert_allclose(glb.skinned(t_s - T_S[0]), expected, atol=1e-5)
    between = T_S[0] + 0.51
    if every == 1:  # programs interpolate as the playback does
        expected = without_pose_blend_shapes(playback, between) @ Y_UP.T
        np.testing.assert_allclose(glb.skinned(between - T_S[0]), expected, atol=1e-5)


def test_what_skinning_cannot_carry_is_measured(playback: Playback, tmp_path: Path) -> None:
    write_glb(tmp_path / "body.glb", playback)
    posed = playback.at(T_S)
    lost_m = pose_blend_m(posed)
    bare = np.stack([without_pose_blend_shapes(playback, t) for t in T_S])
    # blended rotations do not stretch: what the mesh loses is no more than what the rest pose loses
    assert np.linalg.norm(posed.mesh() - bare, axis=-1).max() <= lost_m.max() + 1e-9
    stated = Glb(tmp_path / "body.glb").document["asset"]["extras"]["without_pose_blend_shapes_mm"]
    assert stated["largest"] == pytest.approx(1e3 * lost_m.max())
    assert stated["mean"] == pytest.approx(1e3 * lost_m.mean())


def test_the_file_keeps_the_rules_of_the_format(playback: Playback, tmp_path: Path) -> None:
    write_glb(tmp_path / "body.glb", playback)
    glb = Glb(tmp_path / "body.glb")
    document = glb.document
    assert document["buffers"] == [{"byteLength": len(glb.binary)}]
    end = 0
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0 and view["byteOffset"] >= end
        end = view["byteOffset"] + view["byteLength"]
    assert end <= len(glb.binary)
    primitive = document["meshes"][0]["primitives"][0]
    sampler = document["animations"][0]["samplers"][0]
    for accessor in (primitive["attributes"]["POSITION"], sampler["input"]):
        described, array = document["accessors"][accessor], glb.array(accessor).reshape(-1, 1 if accessor else 3)
        np.testing.assert_array_equal(np.ravel(described["min"]), array.min(axis=0))
        np.testing.assert_array_equal(np.ravel(described["max"]), array.max(axis=0))
    np.testing.assert_allclose(glb.array(sampler["input"]), T_S - T_S[0], atol=1e-6)
    for channel in document["animations"][0]["channels"]:
        values = glb.array(document["animations"][0]["samplers"][channel["sampler"]]["output"])
        assert len(values) == len(T_S)
        if channel["target"]["path"] == "rotation":
            np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-6)
            assert ((values[1:] * values[:-1]).sum(axis=1) > 0.9).all(), "a quaternion jumps to its negative"
    attributes = primitive["attributes"]
    weights = np.concatenate([glb.array(i) for name, i in attributes.items() if name.startswith("WEIGHTS")], axis=1)
    joints = np.concatenate([glb.array(i) for name, i in attributes.items() if name.startswith("JOINTS")], axis=1)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert (joints[weights == 0] == 0).all() and joints.max() < 24
    np.testing.assert_allclose(np.linalg.norm(glb.array(attributes["NORMAL"]), axis=1), 1, atol=1e-5)
    names = [document["nodes"][node]["name"] for node in document["skins"][0]["joints"]]
    assert tuple(names) == SMPL_24.joints


def test_another_reader_finds_the_rest_mesh(playback: Playback, tmp_path: Path) -> None:
    write_glb(tmp_path / "body.glb", playback)
    scene = trimesh.load(tmp_path / "body.glb", process=False)
    (mesh,) = scene.geometry.values()
    np.testing.assert_allclose(mesh.vertices, playback.shaped.rest_vertices, atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, stand_in_body().faces)
    assert mesh.is_watertight and mesh.volume > 0.03, "triangles turned inside out have a negative volume"
    assert (mesh.vertex_normals * mesh.vertices).sum() > 0


def test_stretches_that_are_not_valid_are_listed(tmp_path: Path) -> None:
    sequence = sequence_of(walk(stand_in_body(), 10), np.arange(10) / 10)
    reasons = np.array([1, 1, 0, 0, 6, 6, 6, 0, 0, 2])
    playback = Playback.of(dataclasses.replace(sequence, reasons=reasons), stand_in_body())
    write_glb(tmp_path / "body.glb", playback)
    extras = Glb(tmp_path / "body.glb").document["asset"]["extras"]
    assert Reason(6) == Reason.UNCERTAIN | Reason.MISFIT
    assert [why for *_, why in extras["not_valid"]] == ["no keypoints", "uncertain, misfit", "uncertain"]
    np.testing.assert_allclose([stretch[:2] for stretch in extras["not_valid"]], [[0, 0.1], [0.4, 0.6], [0.9, 0.9]])
    assert extras["first_s"] == 0


def test_models_with_more_influences_lose_none(tmp_path: Path, rng: np.random.Generator) -> None:
    body = stand_in_body()
    weights = body.weights + 1e-3 * rng.random(body.weights.shape)
    spread = dataclasses.replace(body, weights=weights / weights.sum(axis=1, keepdims=True))
    posed = walk(spread, 2)
    write_glb(tmp_path / "body.glb", playback_of(posed, np.arange(2) / 30))
    plain = dataclasses.replace(spread, posedirs=np.zeros_like(body.posedirs))
    glb = Glb(tmp_path / "body.glb")
    assert "JOINTS_5" in glb.document["meshes"][0]["primitives"][0]["attributes"]
    transl = posed.joints[:, 0] - posed.shaped.rest_joints[0]
    expected = plain.with_shape(posed.shaped.betas).with_rotations(posed.rotations, transl).mesh()[0]
    np.testing.assert_allclose(glb.skinned(0.0), expected @ Y_UP.T, atol=1e-5)


def test_long_recordings_stay_small_and_steps_are_checked(tmp_path: Path, playback: Playback) -> None:
    write_glb(tmp_path / "all.glb", playback)
    write_glb(tmp_path / "some.glb", playback, 4)
    a_key = ((tmp_path / "all.glb").stat().st_size - (tmp_path / "some.glb").stat().st_size) / 30
    assert a_key < 420, "30 minutes at 30 a second are 22 MB"
    with pytest.raises(InputError, match="use 1 or more"):
        write_glb(tmp_path / "none.glb", playback, 0)
