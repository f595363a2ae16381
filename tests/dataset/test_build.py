"""The stage `build`: clips, shards, index, statistics; and what it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import pickle
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from core.errors import GateError, InputError, StageError
from core.files import read_json, sha256_of_file, write_json, write_npz
from dataset.build import BuildConfig, build
from dataset.cutting import CutConfig
from dataset.features import LAYOUT, SD_FLOORS
from dataset.schema import CONVENTIONS, REASON_NON_FINITE, REASONS, SCHEMA, SPLITS
from dataset.shards import AmdDataset, content_sha256, new_shard, read_clip, write_clip
from dataset.sources import find_sources
from dataset.splits import SplitConfig
from fitting.sequence import Reason, load_smpl


def tree(folder: Path) -> dict[str, str]:
    """Hash of every file of a dataset but the manifest, which holds times of day."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_a_session_comes_back_whole(make_session, walker, tmp_path: Path) -> None:
    session = make_session("kitchen", "anna")
    manifest = build([session], tmp_path / "amd")
    dataset = AmdDataset(tmp_path / "amd")
    assert manifest.metrics["clips"] == len(dataset) == 1
    (info,) = dataset.clips
    assert (info.id, info.subject, info.session, info.num_frames) == ("kitchen-000", "anna", "kitchen", 300)
    clip, truth = dataset.read(info.id), walker(300, 30.0)
    np.testing.assert_array_equal(clip.poses, truth["poses"].astype(np.float32))
    np.testing.assert_array_equal(clip.joints_m, truth["joints_m"].astype(np.float32))
    np.testing.assert_array_equal(clip.joint_covariance[0, 0], np.float32([1e-4, 0, 0, 4e-4, 0, 9e-4]))
    assert clip.labels.start_s == pytest.approx(8.0)
    assert clip.labels.provenance["fit_fingerprint"] == "fit-of-kitchen"
    assert clip.labels.provenance["fit_quality"] == {"valid": 0.9, "mask_iou": {"cam1": {"median": 0.93}}}
    assert content_sha256(clip) == info.sha256
    part = dataset.read(info.id, 100, 130)
    np.testing.assert_array_equal(part.joints_m, clip.joints_m[100:130])
    with h5py.File(tmp_path / "amd" / "data" / info.shard) as file:
        stored = dict(file["clips"][info.id].attrs)
        assert file["clips"][info.id]["poses"].chunks == (256, 24, 3)
    assert {key: stored[key] for key in CONVENTIONS} == CONVENTIONS


def test_the_fit_and_the_dataset_speak_of_the_same_reasons_and_arrays(make_session, tmp_path: Path) -> None:
    fit = {reason.name.lower(): int(reason) for reason in Reason if reason.name}
    assert {name: bit for name, bit in REASONS.items() if bit < 1 << 16} == fit
    session = make_session("fit")
    sequence = load_smpl(session / "07_smpl" / "smpl.npz")
    sequence.save(session / "07_smpl" / "smpl.npz")
    build([session], tmp_path / "amd")
    labels = AmdDataset(tmp_path / "amd").read("fit-000").labels
    assert (labels.rate, labels.body_model, labels.body_model_sha256) == ("30/1", "sticks", "5713")


def test_the_same_sources_give_the_same_bytes(make_session, tmp_path: Path) -> None:
    sessions = [make_session(f"rec{i}", f"s{i}", 200, seed=i) for i in range(3)]
    build(sessions, tmp_path / "a")
    build(sessions[::-1], tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.slow
def test_workers_change_no_byte(make_session, tmp_path: Path) -> None:
    sessions = [make_session(f"rec{i}", f"s{i}", 200, seed=i) for i in range(3)]
    build(sessions, tmp_path / "a")
    build(sessions, tmp_path / "b", workers=2)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_shards_are_bounded_and_all_clips_are_reached(dataset: AmdDataset) -> None:
    assert len(dataset.info.shards) > 1
    assert sum(shard.num_clips for shard in dataset.info.shards) == len(dataset.clips) == 5
    for clip in dataset.clips:
        assert len(dataset.read(clip.id)) == clip.num_frames


def test_open_dataset_goes_to_other_processes(dataset: AmdDataset) -> None:
    first = dataset.clips[0].id
    here = dataset.read(first)
    there = pickle.loads(pickle.dumps(dataset)).read(first)
    np.testing.assert_array_equal(here.poses, there.poses)


def test_sequences_are_cut_at_long_gaps_and_nothing_is_lost(make_session, tmp_path: Path) -> None:
    valid = np.ones(300, bool)
    valid[[0, 1, 60, 61, 62]] = False  # the beginning, and a moment of 0.1 s
    valid[100:130] = False  # a second
    valid[145:200] = False  # leaves half a second between
    reasons = np.where(valid, 0, 3)
    session = make_session("gaps", frame_valid=valid, reasons=reasons)
    build([session], tmp_path / "amd")
    dataset = AmdDataset(tmp_path / "amd")
    assert [(c.num_frames, round((c.start_s - 8.0) * 30)) for c in dataset.clips] == [(98, 2), (100, 200)]
    clip = dataset.read(dataset.clips[0].id)
    np.testing.assert_array_equal(np.flatnonzero(~clip.frame_valid), [58, 59, 60])
    assert clip.reasons[58] == 3
    (skipped,) = dataset.info.skipped
    assert skipped.duration_s == pytest.approx(0.5) and "shorter than 1 s" in skipped.reason


def test_frames_that_are_not_numbers_never_look_measured(make_session, walker, tmp_path: Path) -> None:
    poses = walker(300, 30.0)["poses"].reshape(300, 72)
    poses[150, 5] = np.nan
    build([make_session("nan", poses=poses)], tmp_path / "amd")
    clip = AmdDataset(tmp_path / "amd").read("nan-000")
    assert np.flatnonzero(~clip.frame_valid).tolist() == [150]
    assert clip.reasons[150] == REASON_NON_FINITE and not clip.valid[150].any() and clip.valid[149].all()


def test_one_subject_is_all_for_training_and_that_is_said(make_session, tmp_path: Path) -> None:
    build([make_session("only")], tmp_path / "amd")
    info = AmdDataset(tmp_path / "amd").info
    assert info.split_clips == {"train": 1, "val": 0, "test": 0}
    assert any("no clips in val and test" in note for note in info.notes)


def test_statistics_are_of_the_training_split_with_floors(dataset: AmdDataset) -> None:
    stats = dataset.stats()
    train = [clip for clip in dataset.clips if clip.split == "train"]
    features = np.concatenate([frames_at_5hz(dataset, clip.id) for clip in train])
    assert stats.num_frames == len(features)
    np.testing.assert_allclose(stats.mean, features.mean(axis=0), atol=1e-5)
    floors = np.concatenate([np.full(p.stop - p.start, SD_FLOORS[n]) for n, p in LAYOUT.parts.items()])
    # variance as the difference of two sums: about 1e-7 of the squared values, of order 10
    np.testing.assert_allclose(stats.sd, np.maximum(features.std(axis=0), floors), atol=1e-3)
    assert read_json(dataset.path / "meta" / "stats.json")["split"] == "train"


def frames_at_5hz(dataset: AmdDataset, clip_id: str) -> np.ndarray:
    from dataset.resample import resample

    return resample(dataset.motion(clip_id), 5.0).features().astype(np.float64)


def test_again_is_at_once_and_other_settings_are_refused(make_session, tmp_path: Path) -> None:
    session = make_session("one")
    first = build([session], tmp_path / "amd")
    assert build([session], tmp_path / "amd").data == first.data
    other = BuildConfig(cut=CutConfig(min_clip_s=2.0))
    with pytest.raises(StageError, match="min_clip_s"):
        build([session], tmp_path / "amd", other)
    build([session], tmp_path / "amd", other, redo=True)


def test_a_kill_after_the_parts_are_gone_is_mended(make_session, tmp_path: Path, monkeypatch) -> None:
    session = make_session("one")
    build([session], tmp_path / "undisturbed")

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("core.stage._publish", killed)
        with pytest.raises(KeyboardInterrupt):
            build([session], tmp_path / "amd")
    assert not (tmp_path / "amd").exists()
    build([session], tmp_path / "amd")
    assert tree(tmp_path / "amd") == tree(tmp_path / "undisturbed")


@pytest.mark.slow
def test_two_builders_of_one_dataset_do_no_harm(make_session, tmp_path: Path) -> None:
    sessions = [make_session(f"rec{i}", f"s{i}", 200, seed=i) for i in range(3)]
    build(sessions, tmp_path / "alone")
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_build_or_wait, args=(sessions, tmp_path / "amd")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert tree(tmp_path / "amd") == tree(tmp_path / "alone")


def _build_or_wait(sessions: list[Path], out: Path) -> None:
    """Builds; the one that comes second is told so and tries again."""
    for _ in range(200):
        try:
            build(sessions, out, workers=2)
            return
        except StageError as error:
            assert "another process is working on it" in str(error)
            time.sleep(0.1)
    raise AssertionError("the other never ended")


def test_an_unfitted_session_names_the_next_command(make_session, tmp_path: Path) -> None:
    session = make_session("raw")
    (session / "07_smpl" / "smpl.npz").unlink()
    with pytest.raises(InputError, match=r"no 07_smpl/smpl\.npz.*motifs fit"):
        build([session], tmp_path / "amd")
    with pytest.raises(InputError, match="no such file or folder"):
        build([tmp_path / "nowhere"], tmp_path / "amd")
    assert not (tmp_path / "amd").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("poses", np.zeros((300, 71)), r"poses is \(300, 71\)"),
        ("t_s", np.arange(300) / 29.0, "leave the grid"),
        ("rate", np.array("fast"), "not a frame rate"),
        ("joint_valid", np.ones((299, 24), bool), "joint_valid"),
    ],
)
def test_damaged_fits_are_refused(make_session, tmp_path: Path, name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(StageError, match=message):
        build([make_session("bad", **{name: value})], tmp_path / "amd")
    assert not (tmp_path / "amd").exists()


def test_a_dataset_without_clips_is_refused(make_session, tmp_path: Path) -> None:
    with pytest.raises(GateError, match="clips 0 < 1"):
        build([make_session("short", num_frames=20)], tmp_path / "amd")


def test_pickles_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    with path.open("wb") as stream:
        np.savez(stream, poses=np.array([{"a": 1}], dtype=object), trans=np.zeros((1, 3)))
    with pytest.raises(StageError, match="plain arrays"):
        build([path], tmp_path / "amd")


def test_sources_of_the_same_name_are_told_apart(make_session, tmp_path: Path) -> None:
    for subject in ("01", "02"):
        write_npz(tmp_path / "CMU" / subject / "walk.npz", {"poses": np.zeros((3, 72))})
    found = find_sources([tmp_path / "CMU"])
    assert list(found) == ["01-walk", "02-walk"]
    assert [source.take.subject for source in found.values()] == ["CMU-01", "CMU-02"]


@pytest.mark.parametrize(
    ("schema", "action"),
    [
        ("action-motifs/amd/0", "motifs build` with --redo"),
        ("action-motifs/amd/99", "pip install --upgrade"),
        ("lerobot/v2.1", "that `motifs build` has made"),
        (None, "that `motifs build` has made"),
    ],
)
def test_other_versions_are_refused_with_the_cure(dataset_copy: AmdDataset, schema: str | None, action: str) -> None:
    path = dataset_copy.path / "meta" / "info.json"
    write_json(path, {**read_json(path), "schema": schema})
    with pytest.raises(InputError, match=action):
        AmdDataset(dataset_copy.path)


def test_missing_and_truncated_shards_are_named(dataset_copy: AmdDataset) -> None:
    shard = dataset_copy.path / "data" / dataset_copy.clips[-1].shard
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=rf"{shard.name}: truncated or changed: {len(content) // 2} bytes"):
        AmdDataset(dataset_copy.path)
    shard.unlink()
    with pytest.raises(InputError, match=rf"{shard.name}: this shard is missing"):
        AmdDataset(dataset_copy.path)
    with pytest.raises(InputError, match="no such clip"):
        dataset_copy.read("nobody-000")
    with pytest.raises(InputError, match="make a dataset with `motifs build`"):
        AmdDataset(dataset_copy.path / "data")


def test_index_and_description_agree(dataset: AmdDataset, read_meta) -> None:
    info = read_meta(dataset.path, "info.json")
    assert info["schema"] == SCHEMA and sum(info["split_clips"].values()) == info["num_clips"] == 5
    assert set(info["split_clips"]) == set(SPLITS) and min(info["split_clips"].values()) == 1
    assert info["num_frames"] == sum(clip.num_frames for clip in dataset.clips)


def test_the_card_says_what_is_in_it(dataset: AmdDataset) -> None:
    text = (dataset.path / "README.md").read_text()
    assert f"5 clips, {dataset.info.num_frames} frames" in text and "of 5 people" in text
    for clip in dataset.clips:
        frames = sum(c.num_frames for c in dataset.of_split(clip.split))
        assert f"| {clip.split} | {len(dataset.of_split(clip.split))} | {frames} |" in text
    assert "| `joint_covariance` | T x 24 x 6 | float32 | m^2 |" in text and "100.0% of the joints" in text


def test_actions_travel_where_there_are_any(dataset: AmdDataset, tmp_path: Path) -> None:
    clip = dataset.read(dataset.clips[0].id)
    assert clip.actions is None
    labels = dataclasses.replace(clip.labels, action_names=("walk", "wave"))
    given = dataclasses.replace(clip, labels=labels, actions=np.eye(2, dtype=np.uint8)[np.arange(len(clip)) % 2])
    with new_shard(tmp_path / "shard.h5") as file:
        sha256 = write_clip(file, given, "lzf")
    with h5py.File(tmp_path / "shard.h5") as file:
        found = read_clip(file, clip.id)
    assert found.actions is not None and found.labels.action_names == ("walk", "wave")
    np.testing.assert_array_equal(found.actions, given.actions)
    assert content_sha256(found) == sha256 != content_sha256(clip)


def test_pinned_subjects_stay_where_they_are_put(make_session, tmp_path: Path) -> None:
    sessions = [make_session(f"rec{i}", f"s{i}", 60, seed=i) for i in range(4)]
    split = SplitConfig(pinned_splits={"s2": "test"}, test_share=0.0, val_share=0.0)
    build(sessions, tmp_path / "amd", BuildConfig(split=split))
    assert [clip.split for clip in AmdDataset(tmp_path / "amd").clips] == ["train", "train", "test", "train"]


def test_a_fit_older_than_what_it_was_made_from_is_refused(make_session, tmp_path: Path) -> None:
    folder = make_session("kitchen")
    rig = folder / "04_rig" / "rig.json"
    rig.parent.mkdir()
    rig.write_text("{}")
    path = folder / "07_smpl" / "manifest.json"
    manifest = read_json(path)
    write_json(path, {**manifest, "inputs": {"rig": sha256_of_file(rig)}, "made_from": {"rig": "04_rig/rig.json"}})
    build([folder], tmp_path / "fresh")
    rig.write_text('{"moved": true}')
    with pytest.raises(StageError, match=r"its fit is older than 04_rig\. Next: run `motifs fit .* --redo`"):
        build([folder], tmp_path / "stale")
    assert not (tmp_path / "stale").exists()
