"""Batches made ahead: the same as without, in order, and errors in the step that they belong to."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from core.errors import InputError
from dataset.loader import WindowSampler
from dataset.prefetch import prefetch
from dataset.shards import AmdDataset


def sampler(dataset: AmdDataset) -> WindowSampler:
    return WindowSampler(dataset, "train", 2.0, 5.0, seed=3, batch_size=4)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_processes_change_nothing_wherever_one_begins(dataset: AmdDataset, workers: int) -> None:
    whole = sampler(dataset)
    start, end = whole.steps_per_epoch - 1, whole.steps_per_epoch + 5  # over the end of an epoch
    found = list(prefetch(sampler(dataset), start, end, workers))
    assert [step for step, _ in found] == list(range(start, end))
    for step, batch in found:
        expected = whole.batch(step)
        assert batch.keys() == expected.keys()
        assert all(np.array_equal(batch[name], expected[name], equal_nan=True) for name in batch)


@pytest.mark.slow
def test_ranks_with_processes_of_their_own_resume_with_other_ones(dataset: AmdDataset) -> None:
    """Two ranks of three processes each, killed in the middle of an epoch, go on with one and none."""
    make = partial(WindowSampler, dataset, "train", 2.0, 5.0, 3, batch_size=4)
    whole, middle = make(), make().steps_per_epoch // 2
    for rank in range(2):
        before = prefetch(make(rank=rank, num_ranks=2), 0, 10**6, 3)
        found = [next(before) for _ in range(middle)]
        before.close()
        found += prefetch(make(rank=rank, num_ranks=2), middle, middle + 3, 1 - rank)
        for step, batch in found:
            expected = whole.batch(step)
            assert all(np.array_equal(batch[name], expected[name][rank::2], equal_nan=True) for name in expected)
        assert [step for step, _ in found] == list(range(middle + 3))


@pytest.mark.slow
def test_who_stops_early_leaves_no_process_waiting(dataset: AmdDataset) -> None:
    batches = prefetch(sampler(dataset), 0, 10**6, 2)
    assert next(batches)[0] == 0
    batches.close()


@pytest.mark.slow
def test_damage_is_named_in_the_process_that_trains(dataset_copy: AmdDataset) -> None:
    for clip in dataset_copy.clips:
        shard = dataset_copy.path / "data" / clip.shard
        shard.write_bytes(b"\0" * shard.stat().st_size)
    with pytest.raises(InputError, match=r"clip rec\d-000 in .*damaged"):
        list(prefetch(sampler(dataset_copy), 0, 4, 2))
