"""HumanML3D both ways: vectors against their definition, the way round, and files in and out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from dataset.build import build
from dataset.exporters.humanml3d import HumanML3DConfig, export_humanml3d, joints_at_20_hz
from dataset.humanml3d import canonical, joints_from_vectors, vectors_from_joints, with_bones
from dataset.importers.humanml3d import read_humanml3d
from dataset.shards import AmdDataset
from fitting.smpl import BodyModel
from fitting.stand_in import stand_in_body


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return stand_in_body()


@pytest.fixture
def walked(walker, body: BodyModel) -> np.ndarray:
    """Somebody walks more than a whole circle, 20 Hz, y up; the left foot leads to +x of one who faces +z."""
    walk = walker(200, 20.0)
    joints = body.with_shape(np.zeros(body.num_betas)).with_pose(walk["poses"], walk["pelvis"]).joints[:, :22]
    return joints[..., [0, 2, 1]] * [1.0, 1.0, -1.0]


def turned_about_y(joints: np.ndarray, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return joints @ np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]]).T


def best_turn(source: np.ndarray, target: np.ndarray) -> float:
    """The angle about y that brings points onto others."""
    H = source.reshape(-1, 3)[:, [0, 2]].T @ target.reshape(-1, 3)[:, [0, 2]]
    return float(np.arctan2(H[1, 0] - H[0, 1], H[0, 0] + H[1, 1]))


def test_joints_come_back_from_vectors(walked: np.ndarray) -> None:
    truth = canonical(walked)[:-1]
    found = joints_from_vectors(vectors_from_joints(walked))
    found = turned_about_y(found, best_turn(found, truth))
    np.testing.assert_allclose(found, truth, atol=1e-9)
    stored = joints_from_vectors(vectors_from_joints(walked).astype(np.float32))
    np.testing.assert_allclose(turned_about_y(stored, best_turn(stored, truth)), truth, atol=2e-5)


def test_vectors_come_back_from_their_joints(walked: np.ndarray) -> None:
    vectors = vectors_from_joints(walked)
    again = vectors_from_joints(joints_from_vectors(vectors))
    # heading is smoothed over 20 frames, so the lost last frame shows at the end alone
    np.testing.assert_allclose(again[:80, :67], vectors[:80, :67], atol=1e-9)
    np.testing.assert_allclose(again[:80, 193:], vectors[:80, 193:], atol=1e-9)


def test_the_canonical_motion_begins_at_the_origin_and_faces_z(walked: np.ndarray) -> None:
    joints = canonical(walked)
    assert joints[..., 1].min() == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(joints[0, 0, [0, 2]], 0.0, atol=1e-12)
    across = joints[0, 2] - joints[0, 1] + joints[0, 17] - joints[0, 16]
    assert across[0] < 0 and abs(across[2]) < 1e-12  # right is -x


def test_numbers_mean_what_the_layout_says() -> None:
    """Somebody slides forward 5 cm a frame, stiff, facing +z, and lifts nothing."""
    pose = np.zeros((22, 3))
    pose[:, 1] = np.linspace(1.5, 0.0, 22)
    pose[[1, 16, 4, 7], 0], pose[[2, 17, 5, 8], 0] = [0.1, 0.3, 0.1, 0.1], [-0.1, -0.3, -0.1, -0.1]
    motion = np.repeat(pose[None], 50, axis=0)
    motion[..., 2] += 0.05 * np.arange(50)[:, None]
    vectors = vectors_from_joints(motion)
    assert vectors.shape == (49, 263)
    np.testing.assert_allclose(vectors[:, :4], np.broadcast_to([0.0, 0.0, 0.05, pose[0, 1]], (49, 4)), atol=1e-12)
    np.testing.assert_allclose(vectors[:, 4:7], np.broadcast_to(pose[1], (49, 3)), atol=1e-12)
    np.testing.assert_allclose(
        vectors[:, 193:259].reshape(49, 22, 3), np.broadcast_to([0, 0, 0.05], (49, 22, 3)), atol=1e-9
    )
    assert not vectors[:, 259:].any()  # 0.05^2 is above 0.002
    # the left hip lies left of the pelvis, but below: the turn of its idealised bone, +x
    bone = vectors[0, 67:70]
    np.testing.assert_allclose(bone, (pose[1] - pose[0]) / np.linalg.norm(pose[1] - pose[0]), atol=1e-9)


def test_a_turn_through_the_back_has_no_jump(walked: np.ndarray) -> None:
    steps = 2 * vectors_from_joints(walked)[:, 0]
    assert np.abs(steps).max() < 0.1  # a circle in 8 s is 0.04 rad a frame
    assert (np.sign(steps) == np.sign(steps[0])).all()  # also where the heading passes from +180 to -180 degrees


def test_other_bones_keep_directions(walked: np.ndarray) -> None:
    other = with_bones(walked, 1.2 * walked[7])
    bones = [j[:, 4] - j[:, 1] for j in (other, walked)]
    np.testing.assert_allclose(np.cross(*bones), 0.0, atol=1e-9)
    assert np.linalg.norm(bones[0], axis=-1) == pytest.approx(1.2 * np.linalg.norm(bones[1], axis=-1))
    np.testing.assert_allclose(other[:, 0], 1.2 * walked[:, 0], rtol=1e-6)


@pytest.mark.parametrize("layout", ["joints", "vectors"])
def test_files_come_in(tmp_path: Path, walked: np.ndarray, body: BodyModel, layout: str) -> None:
    path = tmp_path / "M000012.npy"
    np.save(path, (walked if layout == "joints" else vectors_from_joints(walked)).astype(np.float32))
    clip = read_humanml3d(path, "x", body)
    assert clip.rate == 20 and clip.labels.subject == "humanml3d-000012"
    assert clip.labels.provenance["layout"] == layout
    assert clip.valid[:, :22].all() and not clip.valid[:, 22:].any()
    # the stand-in body of the mean shape made them, so it fits: directions alone are left to rounding
    assert clip.labels.provenance["joint_error_mm"]["p95"] < 1.0
    up = clip.joints_m[:, 15] - clip.joints_m[:, 0]
    assert (up[:, 2] > 0.3).all()
    assert np.percentile(clip.joints_m[:, [10, 11], 2].min(axis=1), 2) == pytest.approx(0.02, abs=0.05)


@pytest.mark.parametrize(
    "array", [np.zeros((9, 24, 3)), np.zeros((9, 264)), np.zeros(263), np.zeros((0, 263)), np.array(["x"])]
)
def test_other_arrays_are_refused(tmp_path: Path, body: BodyModel, array: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InputError, match="Next: "):
        read_humanml3d(tmp_path / "x.npy", "x", body)


def test_python_objects_are_not_loaded(tmp_path: Path, body: BodyModel) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not a readable"):
        read_humanml3d(tmp_path / "x.npy", "x", body)


def test_a_folder_is_read_once_a_motion(tmp_path: Path, walked: np.ndarray) -> None:
    for folder, array in (("new_joints", walked), ("new_joint_vecs", vectors_from_joints(walked))):
        (tmp_path / "in" / folder).mkdir(parents=True)
        np.save(tmp_path / "in" / folder / "000001.npy", array.astype(np.float32))
    np.save(tmp_path / "in" / "Mean.npy", np.zeros(263))
    build([tmp_path / "in"], tmp_path / "amd")
    (clip,) = AmdDataset(tmp_path / "amd").clips
    assert clip.num_frames == 200 and clip.rate == "20/1"


def test_a_dataset_goes_out(dataset: AmdDataset, tmp_path: Path) -> None:
    first = dataset.clips[0]
    paths, notes = export_humanml3d(dataset, tmp_path / "x", clip_ids=[first.id])
    assert [p.relative_to(tmp_path / "x").parts[0] for p in paths] == ["new_joint_vecs", "new_joints"] and not notes
    vectors, joints = (np.load(path, allow_pickle=False) for path in paths)
    assert vectors.dtype == np.float32 and vectors.shape == (round(first.num_frames / 30 * 20) - 1, 263)
    truth = canonical(joints_at_20_hz(dataset.read(first.id)))[:-1]
    np.testing.assert_allclose(turned_about_y(joints, best_turn(joints, truth)), truth, atol=1e-4)
    with pytest.raises(InputError, match="a file already"):
        export_humanml3d(dataset, tmp_path / "x", clip_ids=[first.id])


def test_everybody_may_get_one_skeleton(dataset: AmdDataset, walked: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "000021.npy", walked)
    config = HumanML3DConfig(tmp_path / "000021.npy")
    paths, _ = export_humanml3d(dataset, tmp_path / "x", config, [dataset.clips[1].id])
    joints = np.load(paths[1])
    shins = np.linalg.norm(joints[:, 7] - joints[:, 4], axis=-1)
    np.testing.assert_allclose(shins, np.linalg.norm(walked[0, 7] - walked[0, 4]), atol=1e-4)
