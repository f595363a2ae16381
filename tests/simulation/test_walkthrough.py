"""The walk through the simulated room, and what hangs in rooms without boards."""

from __future__ import annotations

import numpy as np

from simulation.cameras import ROOM_M
from simulation.furniture import Furniture
from simulation.room import build_room, table_box
from simulation.walkthrough import walkthrough_poses
from simulation.world import SimulateConfig, build_world


def test_the_walk_stays_in_the_room_and_looks_up_from_below(rng: np.random.Generator) -> None:
    poses = walkthrough_poses(rng, 90)
    assert len(poses) == 90 and len(walkthrough_poses(rng, 0)) == 0
    assert (np.abs(poses.t[:, :2]) < ROOM_M[:2] / 2 - 0.2).all()
    high, low = poses[:45], poses[45:]
    assert (high.t[:, 2] > 1.2).all() and (low.t[:, 2] < 0.6).all() and (low.t[:, 2] > 0.1).all()
    assert np.median(low.R[:, 2, 2]) > 0.75 and np.abs(np.median(high.R[:, 2, 2])) < 0.4
    table = table_box(Furniture())
    inside = ((low.t > table[0] - 0.05) & (low.t < table[1] + 0.05)).all(axis=1)
    assert not inside.any()


def test_neighbouring_frames_share_what_they_see(rng: np.random.Generator) -> None:
    world = build_world(SimulateConfig(seed=3, num_walkthrough=90, boards_overhead=False))
    lens, poses = world.lenses["walkthrough"], world.world_from_walkthrough
    points = rng.uniform(-0.5, 0.5, (4000, 3)) * ROOM_M + [0, 0, ROOM_M[2] / 2]
    seen = np.stack([lens.contains(lens.project(poses[i].inverse().apply(points))) for i in range(len(poses))])
    shared = (seen[1:] & seen[:-1]).sum(axis=1) / np.maximum(seen[1:].sum(axis=1), 1)
    assert np.quantile(shared, 0.1) > 0.4 and seen.any(axis=0).mean() > 0.9


def test_a_room_without_boards_overhead_keeps_the_floor_s(rng: np.random.Generator) -> None:
    room = build_room(np.random.default_rng(4), Furniture(), boards_overhead=False)
    full = build_room(np.random.default_rng(4), Furniture())
    assert set(room.world_from_target) == {"floor"} and len(full.world_from_target) > 8
    # the rest of the room is the same
    for ours, theirs in zip(room.pictures[:20], full.pictures[:20], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_session_has_no_walk_unless_asked() -> None:
    world = build_world(SimulateConfig(seed=3))
    assert "walkthrough" not in world.lenses and "photos" in world.lenses
    assert "photos" not in build_world(SimulateConfig(seed=3, num_photos=0)).lenses
