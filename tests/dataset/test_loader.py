"""Windows: the frames they should hold, and the same ones whenever and wherever they are asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import InputError
from dataset.build import build
from dataset.features import LAYOUT, REFERENCE_LEG_M
from dataset.loader import WindowReader, WindowRef, WindowSampler, local_joints_at, window_refs
from dataset.resample import resample
from dataset.shards import AmdDataset


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=True) for k in a)


def test_a_window_holds_its_own_frames(dataset: AmdDataset) -> None:
    clip = dataset.clips[2]
    whole = resample(dataset.motion(clip.id), 5.0).features()
    window = WindowReader(dataset, 4.0, 5.0).read(WindowRef(clip.id, 2, 3.0))
    assert window["features"].shape == (20, LAYOUT.size) and window["features"].dtype == np.float32
    np.testing.assert_allclose(window["features"], whole[15:35], atol=1e-4)
    assert window["valid"].all() and window["joint_valid"].shape == (20, 22)
    sigma_m = REFERENCE_LEG_M / clip.leg_m * np.sqrt((1e-4 + 4e-4 + 9e-4) / 3)
    np.testing.assert_allclose(window["joint_sigma_m"], sigma_m, rtol=1e-5)


def test_short_clips_are_padded_and_the_mask_says_so(dataset: AmdDataset) -> None:
    clip = dataset.clips[0]  # 10 s
    window = WindowReader(dataset, 30.0, 5.0).read(WindowRef(clip.id, 0, 0.0))
    np.testing.assert_array_equal(window["valid"], np.arange(150) < 50)
    assert not window["features"][50:].any() and not window["joint_valid"][50:].any()


def test_memory_changes_no_value(dataset: AmdDataset) -> None:
    refs = window_refs(dataset, "all", 3.0, 1.7)
    with_cache, without = WindowReader(dataset, 3.0, 5.0), WindowReader(dataset, 3.0, 5.0, cache_mb=0)
    assert all(same(with_cache.read(ref), without.read(ref)) for ref in refs)


def test_memory_is_bounded(dataset: AmdDataset) -> None:
    reader = WindowReader(dataset, 3.0, 5.0, cache_mb=8)
    reader._budget = 700_000  # room for two of the five clips
    for ref in window_refs(dataset, "all", 3.0):
        reader.read(ref)
    assert len(reader._cache) <= 2


def test_long_clips_of_a_large_dataset_are_read_window_by_window(dataset: AmdDataset, monkeypatch) -> None:
    monkeypatch.setattr("dataset.loader._motion_bytes", lambda num_frames: 10_000 * num_frames)
    reader = WindowReader(dataset, 2.0, 5.0, cache_mb=8)  # 11 clips of 2 s; the dataset's are 10 s and more
    whole = WindowReader(dataset, 2.0, 5.0, cache_mb=1000)
    for ref in window_refs(dataset, "all", 2.0):
        assert same(reader.read(ref), whole.read(ref))
    assert not reader._cache and len(whole._cache) == 5


def test_steps_resume_in_the_middle_of_an_epoch(dataset: AmdDataset) -> None:
    first = WindowSampler(dataset, "train", 2.0, 5.0, seed=3, batch_size=4)
    steps = 2 * first.steps_per_epoch + 1
    seen = [first.batch(step) for step in range(steps)]
    again = WindowSampler(dataset, "train", 2.0, 5.0, seed=3, batch_size=4)
    assert same(again.batch(steps - 1), seen[-1]) and same(again.batch(1), seen[1])
    other = WindowSampler(dataset, "train", 2.0, 5.0, seed=4, batch_size=4)
    assert not same(other.batch(1), seen[1])


def test_an_epoch_covers_every_clip_by_its_length(dataset: AmdDataset) -> None:
    sampler = WindowSampler(dataset, "all", 2.0, 5.0, seed=0, batch_size=1)
    refs = [ref for step in range(sampler.steps_per_epoch) for ref in sampler.refs(step)]
    assert len(refs) == sum(round(clip.duration_s / 2.0) for clip in dataset.clips)
    for idx, clip in enumerate(dataset.clips):
        starts = sorted(ref.start_s for ref in refs if ref.clip_idx == idx)
        assert len(starts) == round(clip.duration_s / 2.0)
        assert starts[0] >= 0 and starts[-1] <= clip.duration_s - 2.0
        # one in each equal part: two neighbours are at most two parts apart
        assert np.diff(starts).max() <= 2 * (clip.duration_s - 2.0) / len(starts) + 1 / 30
    next_epoch = [ref for step in range(len(refs), 2 * len(refs)) for ref in sampler.refs(step)]
    assert next_epoch != refs


def test_ranks_share_one_batch(dataset: AmdDataset) -> None:
    whole = WindowSampler(dataset, "train", 2.0, 5.0, seed=1, batch_size=6)
    ranks = [
        WindowSampler(dataset, "train", 2.0, 5.0, seed=1, batch_size=6, rank=r, num_ranks=2).refs(1) for r in (0, 1)
    ]
    assert sorted(map(str, ranks[0] + ranks[1])) == sorted(map(str, whole.refs(1)))
    assert ranks[0] == whole.refs(1)[::2]


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 5))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_ranks_are_disjoint_and_complete_in_every_epoch(dataset: AmdDataset, ranks: int, rows: int, seed: int) -> None:
    make = partial(WindowSampler, dataset, "all", 2.0, 5.0, seed, batch_size=ranks * rows)
    whole = make()
    parts = [make(rank=rank, num_ranks=ranks) for rank in range(ranks)]
    for epoch in range(2):
        steps = range(epoch * whole.steps_per_epoch, (epoch + 1) * whole.steps_per_epoch)
        expected = [ref for step in steps for ref in whole.refs(step)]
        shared = [ref for part in parts for step in steps for ref in part.refs(step)]
        assert sorted(map(str, shared)) == sorted(map(str, expected))
        assert len(set(expected)) >= 0.9 * len(expected)  # a short clip may give one place twice


def test_ranks_in_turn_give_the_order_of_one(dataset: AmdDataset) -> None:
    make = partial(WindowSampler, dataset, "train", 2.0, 5.0, 5, batch_size=6)
    whole, ranks = make(), [make(rank=rank, num_ranks=3) for rank in range(3)]
    for step in (0, whole.steps_per_epoch + 1):
        batch, parts = whole.batch(step), [rank.batch(step) for rank in ranks]
        for name, array in batch.items():
            shared = np.stack([part[name] for part in parts], axis=1).reshape(array.shape)
            np.testing.assert_array_equal(shared, array)


def test_batches_mix_all_shards(dataset: AmdDataset) -> None:
    assert len(dataset.info.shards) > 2
    sampler = WindowSampler(dataset, "all", 1.0, 5.0, seed=0, batch_size=8)
    seen = [
        {dataset.clips[ref.clip_idx].shard for ref in sampler.refs(step)} for step in range(sampler.steps_per_epoch)
    ]
    assert set.union(*seen) == {shard.name for shard in dataset.info.shards}
    assert min(map(len, seen)) > 1


def test_many_shards_leave_few_files_open(dataset: AmdDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataset.shards._MAX_OPEN", 2)
    reader = WindowReader(dataset, 2.0, 5.0, cache_mb=0)
    whole = WindowReader(AmdDataset(dataset.path), 2.0, 5.0)
    for ref in (*window_refs(dataset, "all", 2.0), *window_refs(dataset, "all", 2.0)[::-3]):
        assert same(reader.read(ref), whole.read(ref))
        assert len(dataset._files) <= 2


def test_more_ranks_than_rows_are_refused(dataset: AmdDataset) -> None:
    with pytest.raises(InputError, match="rank 2 of 3: a batch of 2 has no rows for it"):
        WindowSampler(dataset, "all", 2.0, 5.0, 0, batch_size=2, rank=2, num_ranks=3)


def test_a_batch_larger_than_the_data_is_filled(dataset: AmdDataset) -> None:
    sampler = WindowSampler(dataset, "val", 30.0, 5.0, seed=0, batch_size=16)
    assert sampler.steps_per_epoch >= 1 and sampler.batch(0)["features"].shape == (16, 150, LAYOUT.size)


def test_windows_in_order_cover_each_clip_once(dataset: AmdDataset) -> None:
    refs = window_refs(dataset, "all", 4.0)
    covered = {clip.id: np.zeros(clip.num_frames, int) for clip in dataset.clips}
    for ref in refs:
        first = round(ref.start_s * 30)
        covered[ref.clip_id][first : first + 120] += 1
    assert all((count == 1).all() for count in covered.values())


@pytest.mark.parametrize(("window_s", "stride_s"), [(4.0, 2.0), (4.0, 1.3), (30.0, 15.0), (2.0, 7.0)])
def test_overlapping_windows_reach_the_end(dataset: AmdDataset, window_s: float, stride_s: float) -> None:
    for idx, clip in enumerate(dataset.clips):
        starts = [ref.start_s for ref in window_refs(dataset, "all", window_s, stride_s) if ref.clip_idx == idx]
        np.testing.assert_allclose(np.diff(starts), stride_s)
        assert starts[0] == 0.0 and starts[-1] < clip.duration_s
        assert starts[-1] + max(window_s, stride_s) >= clip.duration_s - 1e-9
        assert len(starts) == 1 or starts[-2] + window_s < clip.duration_s


def test_a_window_after_the_last_frame_is_empty(dataset: AmdDataset) -> None:
    window = WindowReader(dataset, 2.0, 5.0).read(WindowRef(dataset.clips[0].id, 0, 9.99))
    assert not window["valid"].any() and not window["features"].any()


def test_atoms_get_the_whole_clip_at_30_fps(dataset: AmdDataset) -> None:
    clip = dataset.clips[1]
    joints = local_joints_at(dataset, clip.id)
    assert joints.shape == (clip.num_frames, 22, 3) and joints.dtype == np.float32
    np.testing.assert_allclose(joints[:, 0, :2], 0.0, atol=1e-6)


def test_invalid_frames_are_masked_not_used(make_session, walker, tmp_path: Path) -> None:
    joints = walker(300, 30.0)["joints_m"]
    joints[60] = np.nan
    build([make_session("nan", joints_m=joints)], tmp_path / "amd")
    dataset = AmdDataset(tmp_path / "amd")
    window = WindowReader(dataset, 10.0, 5.0).read(WindowRef("nan-000", 0, 0.0))
    # frame 60 is instant 10; the velocity of instant 9 looks at it
    np.testing.assert_array_equal(np.flatnonzero(~window["valid"]), [9, 10])
    assert np.isfinite(window["features"]).all()
    assert np.isnan(local_joints_at(dataset, "nan-000")[60]).all()


def test_no_velocity_looks_at_what_stands_in_an_invalid_frame(make_session, walker, tmp_path: Path) -> None:
    joints = walker(300, 30.0)["joints_m"]
    joints[60] += 5.0  # a fit gone wrong, and known to be
    valid, reasons = np.arange(300) != 60, np.where(np.arange(300) == 60, 4, 0)
    build([make_session("wild", joints_m=joints, frame_valid=valid, reasons=reasons)], tmp_path / "amd")
    dataset = AmdDataset(tmp_path / "amd")
    window = WindowReader(dataset, 10.0, 5.0).read(WindowRef("wild-000", 0, 0.0))
    np.testing.assert_array_equal(np.flatnonzero(~window["valid"]), [9, 10])
    # the circle of 1 m in 8 s, and limbs that swing: nobody here moves faster than 3 m/s
    assert (
        np.abs(window["features"][:, LAYOUT.velocities]).max() < 3 and dataset.stats().mean[LAYOUT.velocities].max() < 1
    )


def test_an_empty_split_is_an_error_with_a_cure(make_session, tmp_path: Path) -> None:
    build([make_session("only")], tmp_path / "amd")
    with pytest.raises(InputError, match=r"split val.*--split-by session"):
        WindowSampler(AmdDataset(tmp_path / "amd"), "val", 2.0, 5.0, seed=0)
    with pytest.raises(InputError, match="less than two frames"):
        WindowReader(AmdDataset(tmp_path / "amd"), 0.1, 5.0)
