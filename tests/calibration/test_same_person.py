from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calibration.person import person_floor, person_points, same_person, stature, swapped_views
from calibration.world_frame import world_on
from capture.keypoints import Keypoints2d
from core.cameras import Rig
from core.errors import GateError
from core.skeletons import BODY_25
from core.transforms import SE3
from simulation.stick_person import walking_person
from simulation.target_scenes import room_cameras

T_S = np.arange(0, 10, 1 / 20)
TURNED = SE3.from_rotvec(np.array([0.5, 0.1, -0.8]), np.array([0.3, -1.0, 2.0]))  # rig frame from world


def seen(
    rig: Rig, joints: np.ndarray, rng: np.random.Generator, noise_px: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    px = rig.project(joints) + noise_px * rng.standard_normal((len(rig), *joints.shape[:-1], 2))
    inside = np.stack([c.lens.contains(np.nan_to_num(p, nan=-1e6)) for c, p in zip(rig, px, strict=True)])
    return np.where(inside[..., None], px, np.nan), np.where(inside, 0.8, 0.0)


def turned(rig: Rig) -> Rig:
    """The rig in a frame of its own, as an imported file has it."""
    cameras = [dataclasses.replace(c, cam_from_world=c.cam_from_world @ TURNED.inverse()) for c in rig]
    return Rig(tuple(cameras))


def test_a_walk_tells_floor_vertical_and_stature_in_any_frame(rng: np.random.Generator) -> None:
    rig, joints = room_cameras(4), walking_person(T_S, 1.62)
    points = person_points(turned(rig), *seen(rig, joints, rng))
    tall = stature(points, BODY_25)
    assert tall is not None and abs(tall.metres - 1.62) < 3 * tall.sigma
    plane = person_floor(points, BODY_25, T_S)
    world = world_on(plane, TURNED.R[:, 0])
    off = world @ TURNED  # z up and floor at 0, if right; frames of one stance err together, so sigma is of stances
    tilt = np.arccos(min(off.R[2, 2], 1.0))
    assert tilt < 4 * np.sqrt(2) * plane.tilt_sigma_rad + np.radians(0.1)
    assert abs(off.t[2]) < 4 * plane.height_sigma_m + 0.01
    assert np.degrees(plane.tilt_sigma_rad) < 1


def test_a_room_of_another_scale_makes_a_giant(rng: np.random.Generator) -> None:
    rig, joints = room_cameras(4), walking_person(T_S[:100], 1.7)
    px, score = seen(rig, joints, rng)
    larger = Rig(
        tuple(dataclasses.replace(c, cam_from_world=SE3(c.cam_from_world.R, 2 * c.cam_from_world.t)) for c in rig)
    )
    tall = stature(person_points(larger, px, score), BODY_25)
    assert tall is not None and tall.metres == pytest.approx(3.4, rel=0.06)


def test_who_stands_still_tells_no_floor(rng: np.random.Generator) -> None:
    rig = room_cameras(4)
    joints = np.broadcast_to(walking_person(T_S[:1]), (60, len(BODY_25), 3))
    points = person_points(rig, *seen(rig, joints, rng, 0.5))
    with pytest.raises(GateError, match="vertical only to"):
        person_floor(points, BODY_25, T_S[:60])


def test_the_same_person_is_followed_in_all_views(rng: np.random.Generator) -> None:
    """Two people in random order; one camera is close to the other person, who is most prominent there."""
    rig = room_cameras(4)
    people = [walking_person(T_S), np.roll(walking_person(T_S, 1.8), 70, axis=0) * np.array([0.4, 0.4, 1.0])]
    found, truth = [], []
    for k in range(4):
        tables = [seen(Rig((rig.cameras[k],)), joints, rng) for joints in people]
        order = rng.integers(0, 2, len(T_S))
        xy = np.stack([tables[0][0][0], tables[1][0][0]], axis=1)
        score = np.stack([tables[0][1][0], tables[1][1][0]], axis=1)
        rows = np.arange(len(T_S))[:, None]
        shuffled = np.stack([order, 1 - order], axis=-1)
        found.append(
            Keypoints2d(xy[rows, shuffled].astype(np.float32), score[rows, shuffled].astype(np.float32), BODY_25)
        )
        truth.append(order)
    leader, chosen = same_person(rig, found, [T_S] * 4)
    who = [np.where(index < 0, -1, np.where(order == index, 0, 1)) for index, order in zip(chosen, truth, strict=True)]
    led = who[rig.ids.index(leader)]
    for k, followed in enumerate(who):
        both = (followed >= 0) & (led >= 0)
        assert both.mean() > 0.5, k
        # people cross each other's epipolar lines now and then
        assert (followed[both] == led[both]).mean() > 0.95, k


def test_exchanged_views_are_named(rng: np.random.Generator) -> None:
    rig = room_cameras(4)
    px, score = seen(rig, walking_person(T_S[:120]), rng)
    assert swapped_views(rig, px, score) == []
    order = [1, 0, 2, 3]  # opposite ones would be a room turned by half, in which the other two are exchanged
    assert swapped_views(rig, px[order], score[order]) == [("cam0", "cam1")]
