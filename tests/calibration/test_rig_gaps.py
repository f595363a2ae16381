"""Rigs of which something is missing: nothing moves, nobody saw the world, groups of cameras saw different things."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from calibration.align import pose_errors, rig_poses
from calibration.moving_target import choose_instants
from calibration.odd_camera import find_odd_camera
from calibration.rig_health import RigLimits
from calibration.rig_solution import solve_from_targets
from calibration.rig_targets import Sighting, TargetRig, solve_target_rig
from capture.targets import Target
from core.cameras import Camera, Rig
from core.errors import GateError
from simulation.target_scenes import RADTAN, TargetScene, film_all, look_at, room_stage


def high_cameras(num: int) -> Rig:
    """Cameras under the ceiling that all see the floor board."""
    centres = [(1.8 * np.cos(a), 1.6 * np.sin(a), 2.2) for a in 2 * np.pi * (np.arange(num) + 0.5) / num]
    poses = [look_at(np.array(centre), np.array([0.0, 0.0, 0.4])) for centre in centres]
    return Rig(tuple(Camera(f"cam{k}", RADTAN, pose.inverse()) for k, pose in enumerate(poses)))


def scene(rng: np.random.Generator, num: int = 4, seconds: float = 4.0) -> TargetScene:
    return film_all(dataclasses.replace(room_stage(seconds=seconds), rig=high_cameras(num)), rng)


def changed(made: TargetScene, change: Callable[[str, Sighting], Sighting]) -> TargetScene:
    return dataclasses.replace(made, sightings={name: change(name, s) for name, s in made.sightings.items()})


def without(sighting: Sighting, *names: str) -> Sighting:
    points = sighting.points
    gone = [points.target_ids.index(name) for name in names]
    return dataclasses.replace(sighting, points=points.where(~np.isin(points.target, gone)))


def test_a_room_in_which_nothing_moves_is_solved(rng: np.random.Generator) -> None:
    made = changed(scene(rng, 3, 2.0), lambda _, seen: without(seen, "rig"))
    solution = solve_from_targets(made.sightings, made.targets)
    errors = pose_errors(rig_poses(solution.rig.subset(made.rig.ids)), rig_poses(made.rig))
    sigma_m = [np.sqrt(np.linalg.eigvalsh(solution.covariance[name][3:, 3:])[-1]) for name in made.rig.ids]
    assert (errors.centre_m < 4 * np.array(sigma_m)).all()


def test_a_world_that_no_camera_saw_is_refused(rng: np.random.Generator) -> None:
    made = changed(scene(rng, 3, 2.0), lambda _, seen: without(seen, "floor"))
    with pytest.raises(GateError, match=r"floor: it is to tell the world, but no camera saw enough of it"):
        solve_from_targets(made.sightings, made.targets)


def test_cameras_that_saw_nothing_are_refused(rng: np.random.Generator) -> None:
    made = changed(scene(rng, 3, 1.0), lambda _, seen: without(seen, *seen.points.target_ids))
    with pytest.raises(GateError, match=r"cam0: these groups .* cam0 \| cam1 \| cam2; none saw any well enough"):
        solve_from_targets(made.sightings, made.targets, world="first_camera")


def test_clocks_of_groups_that_saw_the_rig_at_different_times_are_not_compared(rng: np.random.Generator) -> None:
    def change(name: str, seen: Sighting) -> Sighting:
        early = name in ("cam0", "cam1")
        rig = seen.points.target == seen.points.target_ids.index("rig")
        t_s = seen.t_s[seen.points.frame_idx]
        points = seen.points.where(~rig | (t_s < 2.0 if early else t_s > 3.0))
        late_s = 0.02 if early else -0.02
        return dataclasses.replace(seen, points=points, t_s=seen.t_s + late_s, clock_sigma_s=0.03)

    made = changed(scene(rng, seconds=5.0), change)
    solved = solve_target_rig(made.sightings, made.targets)
    offset_s = np.array([solved.clocks[name].offset_s for name in made.rig.ids])
    # each group is told within itself, and neither against the other: both stay at their priors' middle
    assert abs(offset_s[0] - offset_s[1]) < 0.002 and abs(offset_s[2] - offset_s[3]) < 0.002
    sigma_s = [np.sqrt(solved.clocks[name].covariance[0, 0]) for name in made.rig.ids]
    np.testing.assert_allclose(sigma_s, 0.03 / np.sqrt(2), rtol=0.05)


def test_a_camera_that_saw_nothing_move_hides_no_one_else_s_clock(rng: np.random.Generator) -> None:
    def change(name: str, seen: Sighting) -> Sighting:
        seen = without(seen, "rig") if name == "cam3" else seen
        late_s = 0.03 if name == "cam2" else 0.0
        return dataclasses.replace(seen, t_s=seen.t_s + late_s, clock_sigma_s=0.02)

    made = changed(scene(rng), change)
    solved = solve_target_rig(made.sightings, made.targets)
    assert [solved.clocks[name].observable for name in made.rig.ids] == [True, True, True, False]
    assert solved.clocks["cam2"].offset_s - solved.clocks["cam0"].offset_s == pytest.approx(-0.03, abs=0.001)


def test_views_that_few_instants_join_keep_these() -> None:
    counts = np.full((4, 1000), 20)
    counts[3] = 0
    counts[:2, 500:505] = 0  # the fourth view meets the third alone, while instants beside have three views
    counts[3, 500:505] = 8
    chosen = choose_instants(counts, 40)
    assert ((counts[2, chosen] > 0) & (counts[3, chosen] > 0)).sum() >= 4
    assert len(chosen) <= 45


@pytest.mark.slow
def test_a_clock_that_drags_all_cameras_along_is_named_with_its_error(rng: np.random.Generator) -> None:
    made = changed(
        film_all(room_stage(), rng),
        lambda name, seen: dataclasses.replace(seen, t_s=seen.t_s + 0.6) if name == "cam2" else seen,
    )
    solution = solve_from_targets(made.sightings, made.targets)
    refused = [h for h in solution.health(RigLimits(), "targets") if not h.ok]
    assert "cam2's clock seems 600 ms fast" in refused[0].item


def test_the_odd_camera_is_the_one_without_which_the_others_agree(rng: np.random.Generator) -> None:
    made = scene(rng, 3, 1.0)
    tried: list[tuple[str, ...]] = []

    def agree(_: TargetRig, others: object) -> bool:
        tried.append(tuple(others))  # type: ignore[call-overload]
        return "cam1" not in tried[-1]

    targets: dict[str, Target] = dict(made.targets)
    odd = find_odd_camera(made.sightings, targets, ["cam2", "cam1", "cam0"], agree)
    assert odd is not None and odd.view == "cam1" and tried == [("cam0", "cam1"), ("cam0", "cam2")]
    assert not np.isfinite(odd.late_s), "its clock is right, so no shift makes it fit better"
