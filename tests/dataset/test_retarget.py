"""Retargeting: a source made of the SMPL body itself gives back its rotations, shape, size and floor."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from motion_files import as_source, posed_body

from core.errors import InputError
from core.skeletons import SMPL_24
from core.transforms import geodesic, so3_exp
from dataset.importers.skeleton_maps import BANDAI, MOTION_BUILDER, SkeletonMap, map_of
from dataset.retarget import align, retarget
from fitting.stand_in import stand_in_body

BETAS = np.array([1.0, -0.5, 0.8, -0.6, 0.5, -0.4, 0.3, 0.2, 0.1, -0.3])


@pytest.mark.parametrize("skeleton", [MOTION_BUILDER, BANDAI])
def test_rotations_and_positions_come_back(skeleton: SkeletonMap, rng: np.random.Generator) -> None:
    truth = posed_body(60, rng, BETAS)
    found = retarget(as_source(truth, skeleton), skeleton, stand_in_body(), "take")
    turned = [j for j, name in enumerate(SMPL_24.joints) if name in skeleton.turns]
    # the limbs' bones lie elsewhere only by as much as the shape is not found
    error = np.rad2deg(geodesic(found.posed.world_rotations, truth.world_rotations))[:, turned]
    assert error.max() < 2.0
    assert np.nanmax(found.error_m) < 0.012 and found.scale == pytest.approx(1.0, abs=0.003)


def test_shape_is_found_from_the_bones(rng: np.random.Generator) -> None:
    body = stand_in_body()
    shaped = align(as_source(posed_body(5, rng, BETAS), MOTION_BUILDER), MOTION_BUILDER, body, "take").shaped
    truth, mean = body.with_shape(BETAS).rest_joints, body.joint_template
    limbs = [[SMPL_24.idx(f"left_{a}"), SMPL_24.idx(f"left_{b}")] for a, b in (("hip", "knee"), ("shoulder", "elbow"))]

    def lengths(joints: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.diff(joints[limbs], axis=1)[:, 0], axis=-1)

    wrong = np.abs(lengths(mean) - lengths(truth))
    assert (wrong > 0.005).all() and (np.abs(lengths(shaped.rest_joints) - lengths(truth)) < 0.2 * wrong).all()


def test_twist_is_kept(rng: np.random.Generator) -> None:
    """A forearm that turns about itself moves no joint but the hand; the wrist's rotation still comes through."""
    truth = posed_body(40, rng)
    turn = so3_exp(np.stack([np.linspace(0, 1.5, 40), np.zeros(40), np.zeros(40)], axis=1))
    rotations = truth.rotations.copy()
    rotations[:, SMPL_24.idx("left_wrist")] = turn
    twisted = truth.shaped.with_rotations(rotations)
    found = retarget(as_source(twisted, MOTION_BUILDER), MOTION_BUILDER, stand_in_body(), "take")
    assert np.rad2deg(geodesic(found.posed.rotations[:, 20], turn)).max() < 2.0


def test_spine2_bends_by_half_where_the_source_has_none(rng: np.random.Generator) -> None:
    found = retarget(as_source(posed_body(30, rng), BANDAI), BANDAI, stand_in_body(), "take")
    local = found.posed.rotations
    np.testing.assert_allclose(local[:, SMPL_24.idx("spine2")], local[:, SMPL_24.idx("spine3")], atol=1e-9)
    assert not found.measured[SMPL_24.idx("spine2")] and not found.measured[22:].any() and found.measured[:6].all()


@pytest.mark.parametrize("unit_m", [1.0, 0.01, 0.0254, 0.001])
def test_feet_stand_on_the_floor_in_any_unit(rng: np.random.Generator, unit_m: float) -> None:
    found = retarget(as_source(posed_body(60, rng), MOTION_BUILDER, unit_m), MOTION_BUILDER, stand_in_body(), "take")
    feet = found.posed.joints[:, 7:12:3, 2], found.posed.joints[:, 10:12, 2]
    rest = stand_in_body().joint_template[[7, 10], 1] - stand_in_body().v_template[:, 1].min()
    soles = np.minimum(found.posed.joints[:, [7, 8], 2] - rest[0], found.posed.joints[:, [10, 11], 2] - rest[1])
    assert np.percentile(soles.min(axis=1), 2.0) == pytest.approx(0.0, abs=1e-9) and feet[0].min() > 0


def test_no_human_size_and_mirrored_skeletons_are_refused(rng: np.random.Generator) -> None:
    motion = as_source(posed_body(5, rng), MOTION_BUILDER)
    with pytest.raises(InputError, match="no person's"):
        retarget(dataclasses.replace(motion, positions=7 * motion.positions), MOTION_BUILDER, stand_in_body(), "take")
    mirror = np.diag([-1.0, 1.0, 1.0])
    mirrored = dataclasses.replace(
        motion, positions=motion.positions @ mirror, rotations=mirror @ motion.rotations @ mirror
    )
    with pytest.raises(InputError, match="left hip is not to the left"):
        retarget(mirrored, MOTION_BUILDER, stand_in_body(), "take")


def test_unknown_skeletons_are_refused() -> None:
    with pytest.raises(InputError, match="of no known skeleton"):
        map_of(["a", "b"], "take")
