"""Clips out as BVH, GLB and WebDataset, read again by readers that are not this project's."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from core.errors import InputError
from core.files import write_npz
from core.skeletons import SMPL_24
from dataset.build import build
from dataset.exporters.bvh import BvhConfig, bvh_text, export_bvh
from dataset.exporters.clips import gap_notes, rest_offsets, without_gaps
from dataset.exporters.glb import export_glb
from dataset.exporters.webdataset import WebDatasetConfig, export_webdataset
from dataset.schema import FIELDS, Clip
from dataset.shards import AmdDataset
from fitting.stand_in import stand_in_body


def bvh_joints(text: str) -> tuple[list[str], np.ndarray, float]:
    """Names, places (frames, joints, 3) in the file's unit and axes, and frame time, of BVH text."""
    head, motion = text.split("MOTION")
    names, offsets, parents, orders, stack, end = [], [], [], [], [], False
    for words in (line.split() for line in head.splitlines()[1:]):
        if words[0] in ("ROOT", "JOINT"):
            names.append(words[1])
            parents.append(stack[-1] if stack else -1)
        elif words[0] == "End":
            end = True
        elif words[0] == "{" and not end:
            stack.append(len(names) - 1)
        elif words[0] == "OFFSET" and not end:
            offsets.append(np.array(words[1:], float))
        elif words[0] == "CHANNELS":
            orders.append("".join(word[0] for word in words[-3:]))
        elif words[0] == "}":
            end = bool(stack.pop() is None) if not end else False
    lines = motion.split("\n")[1:]
    values = np.array([line.split() for line in lines[2:] if line], float)
    assert len(values) == int(lines[0].split()[1]) and values.shape[1] == 3 + 3 * len(names)
    world, places = [], []
    for j, parent in enumerate(parents):
        local = Rotation.from_euler(orders[j], values[:, 3 + 3 * j : 6 + 3 * j], degrees=True).as_matrix()
        world.append(local if parent < 0 else world[parent] @ local)
        places.append(offsets[j] + values[:, :3] if parent < 0 else places[parent] + world[parent] @ offsets[j])
    return names, np.stack(places, axis=1), float(lines[1].split()[2])


@pytest.fixture
def clip(dataset: AmdDataset) -> Clip:
    return dataset.read(dataset.clips[0].id)


def with_gap(clip: Clip) -> Clip:
    """The clip without a body in frames 10 to 13."""
    poses, trans, joints = clip.poses.copy(), clip.trans.copy(), clip.joints_m.copy()
    poses[10:13], trans[11], joints[12] = np.nan, np.nan, np.nan
    return dataclasses.replace(clip, poses=poses, trans=trans, joints_m=joints)


@pytest.mark.parametrize("unit", ["cm", "m"])
@pytest.mark.parametrize("order", ["ZXY", "ZYX"])
def test_bvh_gives_the_joints_back(clip: Clip, unit: str, order: str) -> None:
    names, places, frame_s = bvh_joints(bvh_text(clip, BvhConfig(unit, order)))
    assert tuple(sorted(names)) == tuple(sorted(SMPL_24.joints)) and frame_s == pytest.approx(1 / 30, abs=1e-9)
    found = places[:, [names.index(name) for name in SMPL_24.joints]] / {"cm": 100.0, "m": 1.0}[unit]
    # x z -y of a world with z up
    truth = clip.joints_m[..., [0, 2, 1]] * np.array([1.0, 1.0, -1.0])
    assert np.abs(found - truth).max() < 1e-5 and (found[:, 15, 1] > found[:, 7, 1]).all()


def test_bvh_angles_do_not_spin(clip: Clip) -> None:
    values = np.array([line.split() for line in bvh_text(clip, BvhConfig()).splitlines()[-len(clip) :]], float)
    assert np.abs(np.diff(values[:, 3:], axis=0)).max() < 180.0


def test_bvh_of_another_body_is_refused(clip: Clip) -> None:
    stretched = dataclasses.replace(clip, joints_m=clip.joints_m * np.linspace(1, 2, len(clip))[:, None, None])
    with pytest.raises(InputError, match="leave a rigid skeleton"):
        rest_offsets(dataclasses.replace(stretched, joints_m=stretched.joints_m.astype(np.float32)))


def test_gaps_are_filled_and_told(clip: Clip) -> None:
    filled, frames = without_gaps(with_gap(clip))
    assert frames == 3
    np.testing.assert_array_equal(filled.poses[:10], clip.poses[:10])
    assert np.abs(filled.joints_m[10:13] - clip.joints_m[10:13]).max() < 0.03
    np.testing.assert_allclose(rest_offsets(filled), rest_offsets(clip), atol=1e-6)
    assert without_gaps(clip) == (clip, 0)
    assert "3 frames" in gap_notes({"a": 3, "b": 0}, "which it cannot mark")[0] and not gap_notes({"a": 0}, "")
    with pytest.raises(InputError, match="none of its frames"):
        without_gaps(dataclasses.replace(clip, trans=np.full_like(clip.trans, np.nan)))


def test_bvh_files_lie_by_subject(dataset: AmdDataset, tmp_path: Path) -> None:
    paths, notes = export_bvh(dataset, tmp_path / "x")
    assert len(paths) == len(dataset.clips) and not notes
    assert paths[0] == tmp_path / "x" / dataset.clips[0].subject / f"{dataset.clips[0].id}.bvh"
    with pytest.raises(InputError, match="a file already"):
        export_bvh(dataset, tmp_path / "x")


def test_glb_opens_elsewhere(tmp_path: Path, walker) -> None:
    walk = walker(120, 30.0)
    poses = np.zeros((120, 156))
    poses[:, :66] = walk["poses"].reshape(120, 72)[:, :66]
    arrays = {"poses": poses, "trans": walk["pelvis"], "betas": np.linspace(-1, 1, 16), "mocap_framerate": 30.0}
    write_npz(tmp_path / "walk.npz", arrays)
    build([tmp_path / "walk.npz"], tmp_path / "amd")
    dataset = AmdDataset(tmp_path / "amd")
    (path,), notes = export_glb(dataset, tmp_path / "x", stand_in_body(), every=2)
    scene = trimesh.load_scene(path)
    (mesh,) = scene.geometry.values()
    assert len(mesh.vertices) == 6890 and not notes and {"pelvis", "left_knee"} <= set(scene.graph.nodes)
    # world from the node of the pelvis: y up
    first = dataset.read(dataset.clips[0].id).joints_m[0, 0]
    np.testing.assert_allclose(scene.graph.get("pelvis")[0][:3, 3], [first[0], first[2], -first[1]], atol=1e-5)


def test_glb_wants_the_body_of_the_clips(dataset: AmdDataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fitted with the body sticks"):
        export_glb(dataset, tmp_path / "x", stand_in_body())
    assert not (tmp_path / "x").exists()


def samples(path: Path) -> dict[str, dict[str, bytes]]:
    """Members by sample and ending, as WebDataset groups them: neighbours that agree up to the first dot."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, ending = member.name.partition(".")
            assert (member.mtime, member.uid, member.uname, member.isfile()) == (0, 0, "", True)
            assert key == next(reversed(found), key) or key not in found
            found.setdefault(key, {})[ending] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return found


def test_tars_hold_every_clip(dataset: AmdDataset, tmp_path: Path) -> None:
    paths = export_webdataset(dataset, tmp_path / "x", WebDatasetConfig(shard_mb=0.3))
    assert {path.name.rsplit("-", 1)[0] for path in paths} == {"train", "val", "test"}
    assert (tmp_path / "x" / "train-000001.tar").is_file()
    seen = {}
    for path in paths:
        for key, members in samples(path).items():
            described = json.loads(members["json"])
            clip = dataset.read(described["id"])
            arrays = np.load(io.BytesIO(members["npz"]), allow_pickle=False)
            assert set(members) == {"json", "npz"} and set(arrays) == set(clip.arrays()) <= set(FIELDS)
            for name, array in clip.arrays().items():
                np.testing.assert_array_equal(arrays[name], array)
            assert described["split"] == path.name.split("-")[0] and described["subject"] == clip.labels.subject
            seen[key] = described["id"]
    assert sorted(seen.values()) == sorted(clip.id for clip in dataset.clips)


def test_tars_are_the_same_bytes_again(dataset: AmdDataset, tmp_path: Path) -> None:
    first, second = (export_webdataset(dataset, tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    with pytest.raises(InputError, match="a file already"):
        export_webdataset(dataset, tmp_path / "a")
    with pytest.raises(InputError, match="above 0"):
        WebDatasetConfig(shard_mb=0.0)
