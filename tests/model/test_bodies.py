"""Other bodies: mirror images, lengths, posture, reach and tempo do to frame vectors what they would do to a person."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import InputError
from core.skeletons import SMPL_24
from dataset.features import LAYOUT, NUM_FEATURE_JOINTS
from dataset.loader import WindowReader, WindowRef, WindowSampler
from dataset.shards import AmdDataset
from model.atoms import AtomConfig
from model.bodies import Bodies, BodyConfig, draw_variation, on_body
from model.recipes import Recipe
from model.segments import MotionBatch
from model.train import train
from model.windows import DataConfig, find_atoms, make_batch

J = NUM_FEATURE_JOINTS
PARENTS = np.array(SMPL_24.parents)[:J]
ALL = BodyConfig(mirror=True, tempo=0.2, limbs=0.1, posture_rad=0.25, reach=0.4)


def window(people: Path, tempo: float = 1.0, start_s: float = 1.0) -> dict[str, np.ndarray]:
    dataset = AmdDataset(people)
    return WindowReader(dataset, 6.0, 5.0).read(WindowRef(dataset.clips[0].id, 0, start_s, tempo))


def frames(people: Path) -> tuple[torch.Tensor, torch.Tensor]:
    found = window(people)
    return torch.from_numpy(found["features"])[None], torch.from_numpy(found["valid"])[None]


def positions(x: torch.Tensor) -> np.ndarray:
    return x[..., LAYOUT.positions].unflatten(-1, (J, 3)).numpy()


def bones(x: torch.Tensor) -> np.ndarray:
    joints = positions(x)
    return joints[:, :, 1:] - joints[:, :, PARENTS[1:]]


def lowest_ankle(x: torch.Tensor) -> float:
    """Mean height of the lower ankle."""
    ankles = [SMPL_24.idx("left_ankle"), SMPL_24.idx("right_ankle")]
    return float(positions(x)[0, :, ankles, 2].min(axis=0).mean())


def body(**changes: torch.Tensor) -> Bodies:
    plain = Bodies(torch.eye(3).expand(1, J, 3, 3).clone(), torch.ones(1))
    return dataclasses.replace(plain, **changes)


def test_the_same_body_changes_nothing(people: Path) -> None:
    x, valid = frames(people)
    assert torch.allclose(on_body(x, valid, body()), x, atol=1e-5)


def test_longer_legs_lift_the_body_and_keep_its_feet_down(people: Path) -> None:
    x, valid = frames(people)
    matrices = torch.eye(3).expand(1, J, 3, 3).clone()
    legs = [SMPL_24.idx(f"{side}_{joint}") for side in ("left", "right") for joint in ("knee", "ankle")]
    matrices[:, legs] *= 1.2
    longer = on_body(x, valid, body(bones=matrices))
    length = np.linalg.norm(bones(longer), axis=-1) / np.linalg.norm(bones(x), axis=-1)
    expected = np.ones(J)
    expected[legs] = 1.2
    np.testing.assert_allclose(length[0, 3], expected[1:], atol=1e-3)
    assert lowest_ankle(longer) == pytest.approx(lowest_ankle(x), abs=1e-5)
    assert positions(longer)[0, :, 0, 2].mean() > positions(x)[0, :, 0, 2].mean() + 0.1


def test_reach_scales_movement_about_the_mean_pose(people: Path) -> None:
    x, valid = frames(people)
    wide = on_body(x, valid, body(reach=torch.tensor([2.0])))
    mean, other = positions(x).mean(axis=1), positions(wide).mean(axis=1)
    np.testing.assert_allclose(other[..., :2], mean[..., :2], atol=1e-5)
    np.testing.assert_allclose(other[..., 2] - mean[..., 2], (other - mean)[0, 0, 2], atol=1e-5)
    assert lowest_ankle(wide) == pytest.approx(lowest_ankle(x), abs=1e-5)
    np.testing.assert_allclose(positions(wide).std(axis=1), 2 * positions(x).std(axis=1), atol=1e-5)
    for part in (LAYOUT.velocities, LAYOUT.root_velocity, LAYOUT.yaw_rate):
        assert torch.allclose(wide[..., part], 2 * x[..., part], atol=1e-6)


def test_velocities_remain_those_of_the_positions(people: Path) -> None:
    """About the pelvis, in a heading that does not turn, a body's velocities are the differences of its positions."""
    x, valid = frames(people)
    student = draw_variation(dataclasses.replace(ALL, mirror=False), 1, 0, 0).student
    assert student is not None
    x[..., LAYOUT.velocities] = 5 * torch.diff(x[..., LAYOUT.positions], dim=1, append=x[:, -1:, LAYOUT.positions])
    other = on_body(x, valid, student)
    steps = 5 * torch.diff(other[..., LAYOUT.positions], dim=1)
    assert torch.allclose(other[:, :-1, LAYOUT.velocities], steps, atol=1e-4)


def test_frames_that_do_not_exist_count_for_nothing(people: Path) -> None:
    x, valid = frames(people)
    student = draw_variation(ALL, 1, 0, 0).student
    assert student is not None
    valid[:, 20:] = False
    spoilt = torch.where(valid[..., None], x, 1e3)
    assert torch.allclose(on_body(x, valid, student)[:, :20], on_body(spoilt, valid, student)[:, :20], atol=1e-4)


def test_student_and_teacher_have_bodies_of_their_own_and_rows_are_the_whole_batchs(people: Path) -> None:
    x, _ = frames(people)
    batch = MotionBatch(x.expand(4, -1, -1), torch.zeros(4, x.shape[1], dtype=torch.long))
    whole = draw_variation(ALL, 4, seed=3, step=7)
    seen = whole.apply(batch)
    assert seen.teacher_x is not None and not torch.allclose(seen.x, seen.teacher_x, atol=1e-2)
    again = draw_variation(ALL, 4, seed=3, step=7).rows(slice(1, None, 2))
    part = again.apply(MotionBatch(batch.x[1::2], batch.atom[1::2]))
    assert part.teacher_x is not None
    assert torch.equal(part.x, seen.x[1::2]) and torch.equal(part.teacher_x, seen.teacher_x[1::2])
    assert not np.array_equal(draw_variation(ALL, 64, 3, 8).mirror, draw_variation(ALL, 64, 3, 7).mirror)
    assert draw_variation(BodyConfig(), 64, 0, 0).apply(batch) is batch


def test_mirrored_windows_exchange_what_is_known_of_left_and_right(people: Path) -> None:
    x, _ = frames(people)
    known = torch.zeros(2, x.shape[1], J, dtype=torch.bool)
    known[..., SMPL_24.idx("left_wrist")] = True
    batch = MotionBatch(x.expand(2, -1, -1), torch.zeros(2, x.shape[1], dtype=torch.long), joint_valid=known)
    variation = dataclasses.replace(draw_variation(BodyConfig(), 2, 0, 0), mirror=np.array([False, True]))
    seen = variation.apply(batch)
    assert torch.equal(seen.x[0], batch.x[0]) and seen.joint_valid is not None
    left, right = (SMPL_24.idx(f"{side}_wrist") for side in ("left", "right"))
    assert torch.equal(seen.joint_valid[1].any(dim=0).nonzero()[:, 0], torch.tensor([right]))
    mirrored = positions(seen.x)
    np.testing.assert_allclose(mirrored[1, :, right], mirrored[0, :, left] * [1, -1, 1], atol=1e-6)


def test_a_faster_window_is_shorter_and_its_atoms_with_it(people: Path) -> None:
    dataset = AmdDataset(people)
    slow, fast = window(people, 1.0, 0.0), window(people, 2.0, 0.0)
    # at twice the tempo every second frame of the grid remains, and velocities double
    np.testing.assert_allclose(
        fast["features"][:10, LAYOUT.positions], slow["features"][:20:2, LAYOUT.positions], atol=1e-5
    )
    v = slow["features"][:20, LAYOUT.velocities]
    np.testing.assert_allclose(fast["features"][:9, LAYOUT.velocities], v[:18:2] + v[1:18:2], atol=0.15)
    data = DataConfig(window_s=6.0)
    atoms = find_atoms(dataset, dataset.clips, data, Recipe("any").atoms)
    batch, _ = make_batch({name: np.stack([slow[name], fast[name]]) for name in slow}, dataset.clips, atoms, 5.0)
    cuts_s = atoms.cuts_s[dataset.clips[0].id]
    for row, tempo in enumerate((1.0, 2.0)):
        atom = batch.atom[row][batch.atom[row] >= 0].numpy()
        starts = np.flatnonzero(np.diff(atom, prepend=-1) != 0) / 5
        expected = cuts_s[: len(starts)] / tempo
        assert len(starts) > 3 and np.abs(starts - expected).max() <= 0.1 + 1e-6  # half a frame of the grid


def test_atoms_that_a_fast_window_has_no_frame_of_are_left_out(people: Path) -> None:
    """A window of 30 frames at twice the tempo spans 60 Atoms of one frame: 30 of them are seen, with their Motifs."""
    dataset, data = AmdDataset(people), DataConfig(window_s=6.0)
    clock = AtomConfig(rule="clock", pause_s=0.2, min_frames=1)
    atoms = find_atoms(dataset, dataset.clips, data, clock)
    motif = {clip: np.arange(len(cuts)) // 3 for clip, cuts in atoms.cuts_s.items()}
    types = {clip: np.unique(of) for clip, of in motif.items()}
    found = {name: array[None] for name, array in window(people, 2.0, 0.0).items()}
    batch, _ = make_batch(found, dataset.clips, dataclasses.replace(atoms, motif=motif, types=types), 5.0)
    seen = batch.atom[0][batch.atom[0] >= 0]
    assert seen.tolist() == list(range(len(seen))) and 20 < len(seen) <= 30 and batch.motif is not None
    # every second Atom, so three Atoms in two Motifs of three
    of_atoms = np.unique((2 * np.arange(len(seen))) // 3, return_inverse=True)[1]
    assert batch.motif[0, : len(seen)].tolist() == of_atoms.tolist()


def test_widths_vary_twice_as_much_as_lengths() -> None:
    student = draw_variation(BodyConfig(limbs=0.1), 4000, 0, 0).student
    assert student is not None
    spread = student.bones.diagonal(dim1=-2, dim2=-1)[..., 0].log().std(dim=0)
    for joint, expected in (
        ("left_knee", 0.1),
        ("right_wrist", 0.1),
        ("spine2", 0.1),
        ("left_hip", 0.2),
        ("right_collar", 0.2),
    ):
        assert float(spread[SMPL_24.idx(joint)]) == pytest.approx(expected, rel=0.06), joint


def test_tempo_is_drawn_with_the_windows(people: Path) -> None:
    dataset = AmdDataset(people)
    usual, varied = (WindowSampler(dataset, "train", 6.0, 5.0, 0, batch_size=8, tempo=t) for t in (0.0, 0.3))
    refs = [ref for step in range(40) for ref in varied.refs(step)]
    spread = np.log([ref.tempo for ref in refs])
    assert abs(spread.std() - 0.3) < 0.06 and abs(spread.mean()) < 0.06
    assert {ref.tempo for step in range(5) for ref in usual.refs(step)} == {1.0}
    assert varied.refs(3) == WindowSampler(dataset, "train", 6.0, 5.0, 0, batch_size=8, tempo=0.3).refs(3)
    for ref in refs:
        clip = dataset.clips[ref.clip_idx]
        assert ref.start_s >= 0 and (ref.start_s == 0 or ref.start_s + 6.0 * ref.tempo <= clip.duration_s + 1e-6)


def test_bodies_need_a_network_that_sees_no_rotations(people: Path, tiny: Recipe, tmp_path: Path) -> None:
    recipe = dataclasses.replace(tiny, bodies=BodyConfig(limbs=0.1))
    with pytest.raises(InputError, match=r"bodies.*rotations.*data\.inputs=motion"):
        train(people, recipe, tmp_path / "run")
