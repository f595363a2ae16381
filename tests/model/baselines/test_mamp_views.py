"""Crops, resizing and rotations of skeletons."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.baselines.mamp_views import (
    centre_crop,
    centred,
    crop_bounds,
    num_frames,
    random_crop,
    random_rotation,
    random_rotations,
    resized,
    stretch_resized,
)
from model.baselines.skeletons import SkeletonBatch


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramps(*lengths: int) -> SkeletonBatch:
    """Sequences of one person whose coordinates are the number of the frame, padded with NaN."""
    time = torch.arange(float(max(lengths)), dtype=torch.float64)
    exists = (time < torch.tensor(lengths)[:, None])[:, None]
    joints_m = time[:, None, None].expand(len(lengths), 1, -1, 2, 3)
    return SkeletonBatch(torch.where(exists[..., None, None], joints_m, torch.nan), exists)


def random_people(num_frames: int) -> SkeletonBatch:
    joints_m = torch.randn(3, 2, num_frames, 4, 3, generator=seeded(1), dtype=torch.float64)
    return SkeletonBatch(joints_m, torch.ones(3, 2, num_frames, dtype=torch.bool))


def test_the_first_joint_of_the_first_person_is_the_origin() -> None:
    batch = random_people(6)
    exists = batch.exists.clone()
    exists[1, 0, :2] = exists[2, 0] = False
    moved = centred(SkeletonBatch(batch.joints_m, exists), 3)
    for (sequence, person, frame), other in {(0, 0, 0): 1, (1, 0, 2): 1, (2, 1, 0): 0}.items():
        assert moved.joints_m[sequence, person, frame, 3].abs().max() == 0
        shift = batch.joints_m[sequence] - moved.joints_m[sequence]
        assert torch.allclose(shift[other], shift[person, frame, 3].expand_as(shift[other]))


@pytest.mark.parametrize("length", [50, 64, 120, 300])
def test_resizing_is_linear_interpolation(length: int) -> None:
    batch = random_people(length)
    flat = batch.joints_m.permute(0, 1, 3, 4, 2).flatten(1, 3)
    expected = torch.nn.functional.interpolate(flat, size=120, mode="linear", align_corners=False)
    found = resized(batch, 120)
    assert torch.allclose(found.joints_m.permute(0, 1, 3, 4, 2).flatten(1, 3), expected) and found.exists.all()


def test_a_linear_motion_stays_linear() -> None:
    found = resized(ramps(200, 60), 120)
    value = found.joints_m[:, 0, :, 1, 2]
    # frames are 200/120 and 60/120 long; beyond the middles of the first and the last nothing is known
    assert torch.allclose(value[0].diff(), torch.tensor(200 / 120, dtype=torch.float64))
    assert torch.allclose(value[1, 1:-1].diff(), torch.tensor(0.5, dtype=torch.float64))
    assert value[1, [0, -1]].tolist() == [0.0, 59.0] and value[1, 1].item() == pytest.approx(0.25)
    assert found.exists.all()


def test_a_person_between_two_frames_has_to_be_in_both() -> None:
    batch = ramps(4)
    exists = torch.tensor([[[True, False, True, True]]])
    one_person = SkeletonBatch(torch.where(exists[..., None, None], batch.joints_m, torch.nan), exists)
    found = resized(one_person, 8)
    # new frames lie at 0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3 of the old
    assert found.exists[0, 0].tolist() == [True, False, False, False, False, True, True, True]
    assert torch.allclose(found.joints_m[0, 0, 5:, 0, 0], torch.tensor([2.25, 2.75, 3.0], dtype=torch.float64))
    same = resized(one_person, 4)
    assert torch.equal(same.exists, exists) and torch.equal(same.joints_m[exists], batch.joints_m[exists])


def test_a_sequence_counts_up_to_its_last_frame() -> None:
    exists = torch.zeros(3, 2, 7, dtype=torch.bool)
    exists[0, 0, :3] = exists[0, 1, 4] = exists[1, 0] = True
    batch = SkeletonBatch(torch.zeros(3, 2, 7, 1, 3), exists)
    assert num_frames(batch).tolist() == [5, 7, 0]
    assert not resized(batch, 4).exists[2].any() and not random_crop(batch, 4, seeded()).exists[2].any()


def test_crops_are_as_long_and_where_they_may_be() -> None:
    length = torch.tensor([300, 100, 40]).repeat_interleave(5000)
    start, kept = crop_bounds(length, seeded())
    assert (start >= 0).all() and (start + kept <= length).all()
    by_length = kept.reshape(3, 5000)
    assert by_length[0].min() == 150 and by_length[0].max() in (298, 299) and (by_length[2] == 40).all()
    # of 100 frames a share of 0.5 to 0.64 becomes the least number
    assert by_length[1].min() == 64 and (by_length[1] == 64).float().mean().item() == pytest.approx(0.3, abs=0.03)
    # the standard deviation of the mean of 5,000 uniform numbers is 0.6 frames
    assert by_length[0].double().mean().item() == pytest.approx(224.5, abs=2.5)
    first = start.reshape(3, 5000)[1][by_length[1] == 64]
    assert first.unique().tolist() == list(range(37))


def test_a_crop_is_one_stretch_of_the_sequence() -> None:
    batch = ramps(300, 80)
    start, kept = crop_bounds(num_frames(batch), seeded(3))
    found = random_crop(batch, 120, seeded(3))
    assert found.exists.all() and torch.equal(found.joints_m, random_crop(batch, 120, seeded(3)).joints_m)
    for value, first, length in zip(found.joints_m[:, 0, :, 0, 0], start.tolist(), kept.tolist(), strict=True):
        inside = first + (np.arange(120) + 0.5) * length / 120 - 0.5
        assert value.tolist() == pytest.approx(np.clip(inside, first, first + length - 1).tolist())
    assert not torch.equal(found.joints_m, random_crop(batch, 120, seeded(4)).joints_m)


def test_the_centre_loses_as_much_on_either_side() -> None:
    found = centre_crop(ramps(200, 40), 40)
    # 5 and 1 frames less on either side: 190 and 38 are left
    assert found.joints_m[0, 0, [0, -1], 0, 0].tolist() == pytest.approx([5 + 190 / 80 - 0.5, 194 - 190 / 80 + 0.5])
    assert found.joints_m[1, 0, [0, -1], 0, 0].tolist() == [1.0, 38.0]
    stretch = stretch_resized(ramps(200, 40), torch.tensor([5, 1]), torch.tensor([190, 38]), 40)
    assert torch.equal(found.joints_m, stretch.joints_m)


def test_a_rotation_keeps_distances_and_the_origin() -> None:
    batch = random_people(5)
    found = random_rotation(batch, seeded())
    for before, after in zip(batch.joints_m, found.joints_m, strict=True):
        # of all joints of both people in all frames: one turn for the whole sequence
        assert torch.allclose(torch.pdist(before.reshape(-1, 3)), torch.pdist(after.reshape(-1, 3)))
        assert torch.allclose(before.norm(dim=-1), after.norm(dim=-1)) and not torch.allclose(before, after)
    turns = random_rotations(3, seeded())
    assert torch.allclose(found.joints_m[2, 1, 4, 0], turns[2] @ batch.joints_m[2, 1, 4, 0])


def test_rotations_are_turns_about_the_axes_one_after_the_other() -> None:
    turns = random_rotations(2000, seeded())
    assert torch.allclose(turns @ turns.mT, torch.eye(3, dtype=torch.float64).expand_as(turns), atol=1e-12)
    assert torch.allclose(torch.linalg.det(turns), torch.ones(2000, dtype=torch.float64))
    # R = Rz Ry Rx
    x, y, z = (
        torch.atan2(turns[:, 2, 1], turns[:, 2, 2]),
        -torch.asin(turns[:, 2, 0]),
        torch.atan2(turns[:, 1, 0], turns[:, 0, 0]),
    )
    for angle in (x, y, z):
        assert -0.3 <= angle.min() < -0.29 and 0.29 < angle.max() <= 0.3
        # the standard deviation of the mean of 2,000 is 0.004
        assert abs(angle.mean().item()) < 0.016
    assert abs(torch.corrcoef(torch.stack([x, y, z])).triu(1)).max() < 0.1
