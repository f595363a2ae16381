"""AMASS in and out: every layout, both spellings of the rate, and the way round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError, StageError
from core.files import read_npz, write_npz
from dataset import rotations
from dataset.build import build
from dataset.exporters.amass import export_amass
from dataset.importers.amass import contacts_from_joints, read_amass
from dataset.shards import AmdDataset
from fitting.smpl import BodyModel
from fitting.stand_in import stand_in_body


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return stand_in_body()


def amass_file(path: Path, walk: dict[str, np.ndarray], width: int = 156, **changes: object) -> Path:
    """An AMASS file of the walk in the layout of the given width."""
    frames = len(walk["poses"])
    poses = np.zeros((frames, width))
    poses[:, :66] = walk["poses"].reshape(frames, 72)[:, :66]
    arrays = {
        "poses": poses,
        "trans": walk["pelvis"],
        "betas": np.linspace(-1, 1, 16),
        "gender": np.array("female"),
        "mocap_framerate": np.array(120.0),
        **changes,
    }
    write_npz(path, {name: value for name, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize(("width", "layout"), [(72, "smpl"), (156, "smplh"), (165, "smplx")])
def test_every_layout_gives_the_same_body(tmp_path: Path, walker, body: BodyModel, width: int, layout: str) -> None:
    walk = walker(240, 120.0)
    clip = read_amass(amass_file(tmp_path / "walk.npz", walk, width), "walk", "anna", body)
    assert clip.labels.provenance["layout"] == layout and clip.rate == 120 and clip.labels.gender == "female"
    np.testing.assert_array_equal(clip.poses[:, :22], walk["poses"][:, :22].astype(np.float32))
    assert not clip.poses[:, 22:].any()
    # SMPL-X's shape space is another: the mean shape stands in for it
    np.testing.assert_allclose(clip.betas, 0.0 if layout == "smplx" else np.linspace(-1, 1, 16)[:10], atol=1e-7)
    expected = body.with_shape(clip.betas.astype(float)).with_pose(clip.poses.astype(float), walk["pelvis"]).joints
    np.testing.assert_allclose(clip.joints_m, expected, atol=1e-5)
    assert clip.valid[:, 22:].all() == (layout == "smpl") and clip.valid[:, :22].all()


@pytest.mark.parametrize(
    ("changes", "rate"),
    [
        ({"mocap_framerate": np.array(59.94)}, "2997/50"),
        ({"mocap_framerate": None, "mocap_frame_rate": np.array(100)}, "100/1"),
        ({"mocap_framerate": None, "mocap_frame_rate": np.array(30000 / 1001)}, "30000/1001"),
    ],
)
def test_both_spellings_of_the_rate(tmp_path: Path, walker, body: BodyModel, changes: dict, rate: str) -> None:
    path = amass_file(tmp_path / "walk.npz", walker(30, 30.0), **changes)
    assert read_amass(path, "walk", "anna", body).labels.rate == rate


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mocap_framerate": None}, "no frame rate"),
        ({"poses": None}, "has no poses"),
        ({"trans": np.zeros((3, 3))}, "no known layout"),
        ({"poses": np.zeros((30, 63))}, "no known layout"),
        ({"mocap_framerate": np.array(-1.0)}, "must be positive"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, walker, body: BodyModel, changes: dict, message: str) -> None:
    path = amass_file(tmp_path / "walk.npz", walker(30, 30.0), **changes)
    with pytest.raises(InputError, match=message):
        read_amass(path, "walk", "anna", body)


def test_the_way_round(tmp_path: Path, walker) -> None:
    build([amass_file(tmp_path / "CMU" / "01" / "walk.npz", walker(600, 120.0))], tmp_path / "amd")
    there = AmdDataset(tmp_path / "amd")
    (path,) = export_amass(there, tmp_path / "out")
    assert path == tmp_path / "out" / "CMU-01" / "walk-000_poses.npz"
    stored = read_npz(path)
    assert stored["poses"].shape == (600, 156) and stored["mocap_framerate"] == stored["mocap_frame_rate"] == 120.0
    build([path], tmp_path / "again")
    first, second = there.read("walk-000"), AmdDataset(tmp_path / "again").read("walk-000_poses-000")
    for name in ("poses", "trans", "betas", "joints_m", "valid", "reasons", "contacts"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    assert first.labels.rate == second.labels.rate and first.labels.gender == second.labels.gender
    with pytest.raises(InputError, match="a file already"):
        export_amass(there, tmp_path / "out")


def test_frames_that_are_not_numbers_are_cut_out(tmp_path: Path, walker) -> None:
    walk = walker(720, 120.0)
    walk["poses"][240:480] = np.nan
    build([amass_file(tmp_path / "walk.npz", walk)], tmp_path / "amd")
    assert [clip.num_frames for clip in AmdDataset(tmp_path / "amd").clips] == [240, 240]


def test_one_bad_file_among_many_is_named_and_may_be_allowed(tmp_path: Path, walker) -> None:
    from dataset.build import BuildConfig

    good = amass_file(tmp_path / "in" / "good.npz", walker(120, 30.0))
    bad = amass_file(tmp_path / "in" / "bad.npz", walker(120, 30.0), mocap_framerate=None)
    with pytest.raises(StageError, match=r"bad\.npz"):
        build([good, bad], tmp_path / "amd")
    manifest = build([good, bad], tmp_path / "amd", BuildConfig(max_failed_fraction=0.5))
    assert list(manifest.data["failed"]) == ["bad"] and manifest.metrics["clips"] == 1


def test_a_dataset_says_nothing_of_the_machine_it_was_built_on(tmp_path: Path, walker, body: BodyModel) -> None:
    from dataset.build import BuildConfig

    model = tmp_path / "licensed" / "BODY.npz"
    body.save_npz(model)
    build([amass_file(tmp_path / "walk.npz", walker(120, 30.0))], tmp_path / "amd", BuildConfig(body_model=str(model)))
    for path in (tmp_path / "amd").rglob("*.json"):
        assert str(tmp_path) not in path.read_text(), path.name
    assert AmdDataset(tmp_path / "amd").info.settings["body_model"] == "BODY.npz"


def test_contacts_are_low_and_slow(walker) -> None:
    joints = np.repeat(walker(1, 30.0)["joints_m"], 90, axis=0)
    joints[:, [8, 11], 2] += np.where(np.arange(90) < 45, 0.0, 0.3)[:, None]  # the right foot is lifted
    joints[60:, [7, 10], 0] += np.arange(30)[:, None] / 30.0  # the left foot slides at 1 m/s
    contacts = contacts_from_joints(joints, 30.0)
    np.testing.assert_array_equal(contacts[:43], 1.0)
    np.testing.assert_array_equal(contacts[47:, 2:], 0.0)
    np.testing.assert_array_equal(contacts[62:, :2], 0.0)
    np.testing.assert_array_equal(contacts[47:59, :2], 1.0)


def test_root_turns_with_the_room(tmp_path: Path, walker, body: BodyModel) -> None:
    """The importer's world is z up: a standing body's head is above its feet along z."""
    walk = walker(30, 30.0)
    clip = read_amass(amass_file(tmp_path / "walk.npz", walk), "walk", "anna", body)
    up = clip.joints_m[:, 15] - clip.joints_m[:, 0]
    assert (up[:, 2] > 0.4).all()
    turned = rotations.matrix_from_rotvec(clip.poses[:, 0].astype(float))
    np.testing.assert_allclose(turned[:, 2, 1], 1.0, atol=1e-6)  # SMPL's y axis points up


def test_stageii_files_of_smpl_x_come_in_by_folder(tmp_path: Path, walker, body: BodyModel) -> None:
    """The keys of AMASS's SMPL-X release; its stage i and shape files beside it hold no motion."""
    walk = walker(120, 120.0)
    extras = {
        "surface_model_type": np.array("smplx"),
        "mocap_time_length": np.array(1.0),
        "markers_latent": np.zeros((41, 3)),
        "latent_labels": np.array(["ARIEL", "C7"]),
        "num_betas": np.array(16),
        "root_orient": walk["poses"][:, 0],
        "pose_body": walk["poses"][:, 1:22].reshape(120, 63),
        "pose_hand": np.zeros((120, 90)),
        "mocap_framerate": None,
        "mocap_frame_rate": np.array(120.0),
    }
    amass_file(tmp_path / "ACCAD" / "s001" / "walk_stageii.npz", walk, 165, **extras)
    for name in ("neutral_stagei.npz", "female_shape.npz"):
        write_npz(tmp_path / "ACCAD" / "s001" / name, {"betas": np.zeros(16)})
    build([tmp_path / "ACCAD"], tmp_path / "amd")
    (clip,) = AmdDataset(tmp_path / "amd").clips
    assert (clip.id, clip.subject, clip.num_frames) == ("walk_stageii-000", "ACCAD-s001", 120)
