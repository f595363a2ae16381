"""A session fitted with SMPL, SMPL-H and SMPL-X: the same person, and every product of a fit from each of them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from bodies_with_hands import HANDS, save, stand_in_with_hands
from test_fit import STEP_S, room_rig, walk

from capture.keypoints import Keypoints2d
from capture.session import Session, View
from capture.video import VideoWriter
from core.files import read_json, write_json, write_npz
from core.skeletons import HALPE_26
from core.transforms import so3_exp
from dataset.importers.session import read_session
from fitting import triangulate
from fitting.amass import read_amass, write_amass
from fitting.backend import TORCH_CPU
from fitting.body_kinds import NUM_BODY_JOINTS, SMPL_H, SMPL_X
from fitting.films import FilmConfig
from fitting.films import run as film
from fitting.fit import STAND_IN, FitConfig, load_body, run
from fitting.landmarks import Landmarks
from fitting.person_shape import shape_of_sessions
from fitting.sequence import SmplSequence, load_smpl
from fitting.smpl import PosedBody
from fitting.stand_in import stand_in_body

NUM_FRAMES, NOISE_PX, SIZE_PX = 40, 1.0, (800, 600)
pytestmark = pytest.mark.slow
SAME_M = 1e-3  # the SMPL fit has two hand joints more, which only priors know


@pytest.fixture(scope="module")
def truth() -> PosedBody:
    return walk(stand_in_body(), NUM_FRAMES)


@pytest.fixture(scope="module")
def triangulated(tmp_path_factory: pytest.TempPathFactory, truth: PosedBody) -> Path:
    """A session of four room cameras, one of them with a gray video."""
    folder, rig, rng = tmp_path_factory.mktemp("hands") / "s", room_rig(), np.random.default_rng(4)
    xy = rig.project(Landmarks.of(stand_in_body(), HALPE_26).positions(truth))
    xy += rng.normal(0, NOISE_PX, xy.shape)
    videos = {"cam0": "videos/cam0.mp4"}
    views = [View(name, "room", SIZE_PX, videos.get(name), num_frames=NUM_FRAMES) for name in rig.ids]
    Session(folder, "s", "anna", tuple(views)).save()
    with VideoWriter(folder / "videos/cam0.mp4", SIZE_PX, Fraction(30)) as writer:
        for _ in range(NUM_FRAMES):
            writer.write(np.full(SIZE_PX[::-1], 200, np.uint8))
    (folder / "02_keypoints").mkdir()
    for name, points in zip(rig.ids, xy.astype(np.float32)[:, :, None], strict=True):
        write_npz(folder / f"01_sync/{name}.times.npz", {"t_local_s": STEP_S * np.arange(NUM_FRAMES)})
        score = np.full(points.shape[:-1], 0.9, np.float32)
        Keypoints2d(points, score, HALPE_26).save(folder / f"02_keypoints/{name}.npz")
    write_json(folder / "01_sync/clocks.json", {"clocks": {name: {"offset_s": 0.0, "rate": 1.0} for name in rig.ids}})
    write_json(folder / "04_rig/rig.json", rig.to_json())
    triangulate.run(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {"SMPL": STAND_IN} | {k.name: str(save(stand_in_with_hands(k), folder)) for k in (SMPL_H, SMPL_X)}


@pytest.fixture(scope="module")
def fitted(triangulated: Path, models: dict[str, str]) -> dict[str, Path]:
    """The session fitted with each body."""
    folders = {}
    for name, model in models.items():
        folders[name] = shutil.copytree(triangulated, triangulated.with_name(name))
        run(folders[name], FitConfig(body_model=model, num_overlays=1))
    return folders


@pytest.fixture(scope="module")
def sequences(fitted: dict[str, Path]) -> dict[str, SmplSequence]:
    return {name: load_smpl(folder / "07_smpl/smpl.npz") for name, folder in fitted.items()}


def test_all_bodies_agree_in_the_joints_they_share(sequences: dict[str, SmplSequence], truth: PosedBody) -> None:
    smpl = sequences["SMPL"]
    for name in ("SMPL-H", "SMPL-X"):
        other = sequences[name]
        assert other.kind.name == name and other.poses.shape == (len(smpl), 3 * other.kind.num_joints)
        apart = np.linalg.norm(other.joints_m - smpl.joints_m, axis=-1)
        assert apart.max() < SAME_M
        sigma, expected = (np.sqrt(np.trace(s.joint_covariance, axis1=-2, axis2=-1)) for s in (other, smpl))
        np.testing.assert_allclose(np.delete(sigma, HANDS, axis=1), np.delete(expected, HANDS, axis=1), rtol=0.05)
        np.testing.assert_array_equal(other.frame_valid, smpl.frame_valid)
        error = np.linalg.norm(other.joints_m - truth.smpl_joints, axis=-1)
        assert np.median(error) < 0.01


def test_a_gpus_lines_fit_the_same_and_are_named(
    triangulated: Path, models: dict[str, str], sequences: dict[str, SmplSequence]
) -> None:
    folder = shutil.copytree(triangulated, triangulated.with_name("device"))
    config = FitConfig(body_model=models["SMPL-H"], num_overlays=1, device=TORCH_CPU)
    done = run(folder, config, workers=2)
    assert done.metrics["device"] == TORCH_CPU
    there, here = load_smpl(folder / "07_smpl/smpl.npz"), sequences["SMPL-H"]
    for name in ("poses", "trans", "betas", "joints_m"):
        np.testing.assert_allclose(getattr(there, name), getattr(here, name), atol=1e-6)
    again = run(folder, dataclasses.replace(config, device="cpu"))  # nothing to do: the result would be the same
    assert again.metrics["device"] == TORCH_CPU


def test_fingers_are_written_as_they_are_held(
    sequences: dict[str, SmplSequence], models: dict[str, str], tmp_path: Path
) -> None:
    for name in ("SMPL-H", "SMPL-X"):
        sequence, body = sequences[name], load_body(models[name])
        poses = sequence.poses.reshape(len(sequence), -1, 3)
        held = np.broadcast_to(body.mean_pose[NUM_BODY_JOINTS:], poses[:, NUM_BODY_JOINTS:].shape)
        np.testing.assert_allclose(so3_exp(poses[:, NUM_BODY_JOINTS:]), so3_exp(held), atol=1e-9)
        posed = body.with_shape(sequence.betas).with_pose(poses, sequence.trans)
        np.testing.assert_allclose(posed.smpl_joints, sequence.joints_m, atol=1e-9)
        write_amass(tmp_path / f"{name}.npz", sequence)
        motion = read_amass(tmp_path / f"{name}.npz")
        assert motion.kind.name == name
        np.testing.assert_allclose(motion.poses, poses, atol=1e-12)
        np.testing.assert_allclose(motion.betas[:10], sequence.betas, atol=1e-12)


def test_shards_hold_smpls_joints(fitted: dict[str, Path], sequences: dict[str, SmplSequence]) -> None:
    smpl = read_session(fitted["SMPL"], "s")
    assert "layout" not in smpl.labels.provenance
    for name, layout, shape in (("SMPL-H", "smplh", "file"), ("SMPL-X", "smplx", "mean")):
        clip, sequence = read_session(fitted[name], "s"), sequences[name]
        assert clip.poses.shape == (NUM_FRAMES, 24, 3)
        assert clip.labels.provenance["layout"] == layout and clip.labels.provenance["shape"] == shape
        own = sequence.poses.reshape(NUM_FRAMES, -1, 3)[:, :NUM_BODY_JOINTS]
        np.testing.assert_allclose(clip.poses[:, :NUM_BODY_JOINTS], own, atol=1e-6)
        assert not clip.poses[:, NUM_BODY_JOINTS:].any(), "hands are at rest: nothing was fitted there"
        np.testing.assert_allclose(clip.joints_m, smpl.joints_m, atol=SAME_M)
        assert clip.betas.any() == (shape == "file")


def test_it_is_drawn_and_moves_in_3d(fitted: dict[str, Path], models: dict[str, str]) -> None:
    for name, num_joints in (("SMPL-H", 52), ("SMPL-X", 55)):
        folder = fitted[name]
        assert len(list((folder / "07_smpl/overlays").iterdir())) == 1
        film(folder, FilmConfig(body_model=models[name], every=10, keypoints=False))
        content = (folder / "08_film/body.glb").read_bytes()
        (length,) = struct.unpack_from("<I", content, 12)
        document = json.loads(content[20 : 20 + length])
        assert len(document["skins"][0]["joints"]) == num_joints
        assert document["nodes"][2 + num_joints - 1]["name"] == "right_thumb3"
        assert (folder / "08_film/cam0.mp4").stat().st_size > 1000


def test_a_persons_shape_is_of_the_body_that_was_fitted(fitted: dict[str, Path], models: dict[str, str]) -> None:
    shape = shape_of_sessions([fitted["SMPL-X"]])
    assert shape.body_sha256 == load_body(models["SMPL-X"]).sha256
    found = read_json(fitted["SMPL-X"] / "07_subject/subject.json")
    np.testing.assert_allclose(shape.betas, found["betas"], atol=1e-9)
