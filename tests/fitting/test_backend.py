"""Devices: their names, and that a fit on one is the fit on the CPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from test_fit import foot_observations, room_rig
from test_standing import standing_person

import fitting.solver
from core.errors import InputError
from core.skeletons import HALPE_26, SMPL_24
from core.transforms import so3_exp
from fitting.backend import TORCH_CPU, Array, require_device
from fitting.estimate import Estimate
from fitting.fit import FitConfig, _portable, run
from fitting.fit_model import SOLES, FitModel
from fitting.foot_mount import FootObservation
from fitting.landmarks import Landmarks
from fitting.measurements import EstimateConfig, Measurements
from fitting.mount_geometry import ridden_feet
from fitting.objective import FitState, Objective, Weights
from fitting.points import triangulate_points
from fitting.pose_density import GaussianDensity
from fitting.rays import rays_of
from fitting.smpl import PosedBody
from fitting.solver import SolverConfig, factorise, marginals, solve
from fitting.stand_in import stand_in_body
from fitting.standing import resting_soles
from fitting.windows import estimate_body

STEP_S, NUM_FRAMES = 1 / 30, 44
QUICK = EstimateConfig(solver=SolverConfig(iterations=4), subject_frames=30, window_s=0.8, overlap_s=0.2)


@pytest.mark.parametrize("name", ["tpu", "CPU", "cuda:", "cuda:x", "cuda:-1", ""])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is no device"):
        require_device(name)


@pytest.mark.parametrize(
    ("built", "count", "name", "says"),
    [
        (None, 0, "cuda", "without CUDA"),
        ("12.8", 0, "cuda", "no GPU"),
        ("12.8", 2, "cuda:2", "cuda:0 to cuda:1"),
        ("12.8", 2, "cuda:1", ""),
        ("12.8", 1, "cuda", ""),
        (None, 0, "cpu", ""),
    ],
)
def test_a_missing_gpu_is_refused(
    monkeypatch: pytest.MonkeyPatch, built: str | None, count: int, name: str, says: str
) -> None:
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if not says:
        assert require_device(name) == name
        return
    with pytest.raises(InputError, match=says):
        require_device(name)


def test_a_stage_refuses_it_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(InputError, match="--device"):
        run(tmp_path / "no session", FitConfig(device="cuda"))


def test_the_result_of_one_device_is_that_of_another() -> None:
    assert _portable(FitConfig(device="cuda:1")) == _portable(FitConfig())


def person_who_circles_feet(num: int) -> PosedBody:
    """Someone who lifts and turns both feet in the first half, which tells how their cameras sit, and then stands."""
    standing = standing_person(num)
    R, phase = standing.rotations.copy(), np.minimum(np.arange(num) / (num // 2), 1.0) * 2 * np.pi
    for side in ("left", "right"):
        circle = np.stack([0.5 * np.sin(phase), 0 * phase, 0.5 * (1 - np.cos(phase))], axis=-1)
        R[:, SMPL_24.idx(f"{side}_ankle")] = so3_exp(circle)
        R[:, SMPL_24.idx(f"{side}_hip")] = so3_exp(np.outer(1 - np.cos(phase), [-0.4, 0.0, 0.0]))
    transl = standing.joints[:, 0] - standing.shaped.rest_joints[0]
    return standing.shaped.with_rotations(R, transl)


@pytest.fixture(scope="module")
def measured() -> Measurements:
    """Cameras on both feet, and a detector with an opinion of its own on knees."""
    rng = np.random.default_rng(4)
    rig, landmarks, truth = room_rig(), Landmarks.of(stand_in_body(), HALPE_26), person_who_circles_feet(NUM_FRAMES)
    seen_m = landmarks.positions(truth)
    seen_m[:, HALPE_26.idx("left_knee"), 2] += 0.03
    xy = rig.project(seen_m) + rng.normal(0, 2, (4, NUM_FRAMES, 26, 2))
    score = np.full(xy.shape[:-1], 0.9)
    points = triangulate_points(rig, xy, score, HALPE_26)
    return Measurements(rig, xy, score, points.xyz_m, STEP_S, quiet_feet(truth, rng), staying=0.2)


def quiet_feet(truth: PosedBody, rng: np.random.Generator) -> dict[str, FootObservation]:
    """Foot cameras good enough to tell a foot that rests."""
    num, sigma = len(truth.joints), 1e-3
    covariance, known = np.tile(np.eye(6) * sigma**2, (num, 1, 1)), np.ones(num, dtype=bool)
    feet = {}
    for view, mount in foot_observations(truth)[1].items():
        pose = truth.world_from_joint(SMPL_24.idx(view.replace("foot", "ankle"))) @ mount
        feet[view] = FootObservation.of(view, pose.retract(rng.normal(0, sigma, (num, 6))), covariance, known)
    return feet


def test_a_gpus_lines_find_what_the_cpu_does(measured: Measurements) -> None:
    """The session's shape, offsets and mounts, two stretches, and the seam between them."""
    body = stand_in_body()
    landmarks = Landmarks.of(body, HALPE_26)
    here, there = (estimate_body(body, landmarks, measured, QUICK, device=name) for name in ("cpu", TORCH_CPU))
    _assert_same(here, there)
    assert set(here.subject.mounts) == {"left_foot", "right_foot"}
    assert np.abs(here.subject.offsets).max() > 0.005
    model = FitModel.of(body, landmarks)
    soles_m = model.landmarks.positions(here.state.posed(model.body))[:, model.sole_idx]
    assert resting_soles(soles_m, STEP_S, measured.feet, QUICK.standing).mean() > 0.2


def _assert_same(here: Estimate, there: Estimate) -> None:
    """To 1e-8 of a metre and radian; marginal covariances are single precision on the CPU."""
    for mine, other in ((here.state, there.state), (here.subject, there.subject)):
        for field in dataclasses.fields(mine):
            value = getattr(mine, field.name)
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(value, getattr(other, field.name), rtol=1e-8, atol=1e-8)
    for view, mount in here.subject.mounts.items():
        np.testing.assert_allclose(mount.matrix, there.subject.mounts[view].matrix, atol=1e-8)
    atol = 1e-5 * np.abs(here.joint_covariance).max()
    np.testing.assert_allclose(here.joint_covariance, there.joint_covariance, rtol=1e-4, atol=atol)
    assert here.cost == pytest.approx(there.cost, rel=1e-10)
    assert here.num_steps == there.num_steps


@pytest.mark.parametrize("free", [False, True])
def test_nothing_of_the_host_slips_into_a_device(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, free: bool
) -> None:
    """torch's device without numbers refuses the host's arrays as a GPU does, and needs none."""
    monkeypatch.setattr(fitting.solver, "on_host", _shape_alone)
    monkeypatch.setattr("fitting.odd_even._check", lambda *_: None)
    objective, state = _with_all_terms(rng, 5, free)
    system = dataclasses.replace(objective, device="meta").linearise(state)
    factor = factorise(system, 0.1)
    step, step_global = solve(system, factor)
    frames = marginals(factor)[0]
    assert step.shape == (5, 75) and frames.shape == (5, 75, 75)
    assert len(step_global) == (state.globals_of[-1].stop if free else 0)


def _shape_alone(array: Array) -> np.ndarray:
    if isinstance(array, np.ndarray):
        return array
    assert array.device.type == "meta"
    return np.eye(len(array)) if array.ndim == 2 and array.shape[0] == array.shape[1] else np.zeros(array.shape)


def _with_all_terms(rng: np.random.Generator, num: int, free: bool) -> tuple[Objective, FitState]:
    body, rig, posed = stand_in_body(), room_rig(), standing_person(num)
    feet, mounts = foot_observations(posed)
    landmarks = Landmarks.of(body, HALPE_26)
    points_m = landmarks.positions(posed)
    rays = rays_of(rig, rig.project(points_m).reshape(4, -1, 2), np.ones((4, num * 26)), 0.1)
    offsets = np.zeros((26, 3)) if free else None
    transl = posed.joints[:, 0] - posed.shaped.rest_joints[0]
    state = FitState(posed.rotations, transl, np.zeros(10), mounts, offsets)
    model = FitModel.of(body, landmarks, GaussianDensity(np.zeros(69), np.eye(69)))
    geometry = dataclasses.replace(EstimateConfig().geometry, heel_axis="-y")
    ends = np.array([0, 1, num - 2, num - 1])
    objective = Objective(
        model, STEP_S, Weights(), rays=rays, points_m=points_m, feet=feet, free=free, geometry=geometry,
        ridden=ridden_feet(model.feet, {view: foot.ankle_idx for view, foot in feet.items()}, geometry),
        resting=rng.random((num - 1, len(SOLES))) < 0.5, anchors=(ends, state.frames(ends)),
    )  # fmt: skip
    return objective, state
