"""The whole-sequence fit on a synthetic walk seen by four cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from capture.session import Session, View
from core.cameras import Camera, Lens, Rig
from core.errors import InputError
from core.skeletons import HALPE_26, SMPL_24
from core.transforms import SE3, geodesic, so3_exp
from fitting.estimate import Estimate, EstimateConfig, Measurements
from fitting.fit import FitConfig
from fitting.fit import _inputs as stage_inputs_of_fit
from fitting.fit_model import SOLES, FitModel
from fitting.foot_mount import FootObservation
from fitting.landmarks import Landmarks
from fitting.objective import FitState, Objective, Weights
from fitting.points import triangulate_points
from fitting.quality import QualityConfig, figures, frame_reasons, health_of
from fitting.rays import rays_of
from fitting.sequence import Reason, SmplSequence, load_smpl
from fitting.smpl import BodyModel, PosedBody, rodrigues
from fitting.solver import SolverConfig
from fitting.stand_in import stand_in_body
from fitting.windows import estimate_body

STEP_S = 1 / 30
NOISE_PX = 2.0
HIDDEN = slice(14, 32)
LEGS = [i for i, name in enumerate(HALPE_26.joints) if name.endswith(("knee", "ankle", "toe", "heel"))]
FEET = [SMPL_24.idx(name) for name in ("left_ankle", "right_ankle", "left_foot", "right_foot")]


def room_rig() -> Rig:
    """Four cameras around the room's middle."""
    cameras = []
    for i, angle in enumerate(np.arange(4) * np.pi / 2 + 0.3):
        centre = np.array([4 * np.cos(angle), 4 * np.sin(angle), 2.0])
        z = np.array([0, 0, 0.9]) - centre
        z /= np.linalg.norm(z)
        x = np.cross(z, [0, 0, 1.0])
        x /= np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z])
        lens = Lens("radtan", (800, 600), (600.0, 600.0), (400.0, 300.0), (-0.1, 0.02, 0.0, 0.0, 0.0))
        cameras.append(Camera(f"cam{i}", lens, SE3(R, -R @ centre)))
    return Rig(tuple(cameras))


def walk(body: BodyModel, num_frames: int) -> PosedBody:
    """A person of other than mean shape who walks on a circle, turning through more than half a turn."""
    t = np.arange(num_frames) * STEP_S
    poses = np.zeros((num_frames, 24, 3))
    for side, sign, phase in (("left", 1, 0.0), ("right", -1, np.pi)):
        cycle = 2 * np.pi * 0.9 * t + phase
        poses[:, SMPL_24.idx(f"{side}_hip"), 0] = -0.2 + 0.4 * np.sin(cycle)
        poses[:, SMPL_24.idx(f"{side}_knee"), 0] = 0.5 + 0.4 * np.sin(cycle + 1)
        poses[:, SMPL_24.idx(f"{side}_ankle"), 0] = 0.2 * np.sin(cycle + 2)
        poses[:, SMPL_24.idx(f"{side}_shoulder"), 2] = -sign * 1.1
        poses[:, SMPL_24.idx(f"{side}_elbow"), 1] = -sign * (0.8 + 0.4 * np.sin(cycle))
    heading = np.linspace(0, 3.6, num_frames)
    R = rodrigues(poses)
    turn = so3_exp(np.stack([0 * t, 0 * t, heading], axis=-1))
    R[:, 0] = turn @ so3_exp(np.array([np.pi / 2, 0.0, 0.0]))
    transl = np.stack([0.5 * np.cos(heading), 0.5 * np.sin(heading), 0 * t + 1.1], axis=-1)
    return body.with_shape(np.array([0.8, -0.5, 0.3])).with_rotations(R, transl)


@pytest.fixture(scope="module")
def truth() -> PosedBody:
    return walk(stand_in_body(), 56)


@pytest.fixture(scope="module")
def measured(truth: PosedBody) -> Measurements:
    """Noisy keypoints with outliers; the legs are hidden from every room camera for 0.6 s; two foot cameras."""
    rng = np.random.default_rng(5)
    rig, landmarks = room_rig(), Landmarks.of(stand_in_body(), HALPE_26)
    xy = rig.project(landmarks.positions(truth))
    xy += rng.normal(0, NOISE_PX, xy.shape)
    outlier = rng.random(xy.shape[:-1]) < 0.04
    xy[outlier] += rng.normal(0, 80, (outlier.sum(), 2))
    score = np.full(xy.shape[:-1], 0.9)
    for joint in LEGS:
        score[:, HIDDEN, joint] = 0
    xy[score == 0] = np.nan
    points = triangulate_points(rig, xy, score, HALPE_26)
    return Measurements(rig, xy, score, points.xyz_m, STEP_S)


def foot_observations(truth: PosedBody) -> tuple[dict[str, FootObservation], dict[str, SE3]]:
    rng = np.random.default_rng(6)
    feet, mounts = {}, {}
    for role, joint, side in (("left_foot", "left_ankle", 1), ("right_foot", "right_ankle", -1)):
        mounts[role] = SE3.from_rotvec(np.array([-0.3, 0.1, 0.2 * side]), np.array([0.02 * side, 0.05, 0.12]))
        pose = truth.world_from_joint(SMPL_24.idx(joint)) @ mounts[role]
        num_frames = len(pose)
        covariance = np.tile(np.eye(6) * 0.005**2, (num_frames, 1, 1))
        noisy = pose.retract(rng.normal(0, 0.005, (num_frames, 6)))
        feet[role] = FootObservation.of(role, noisy, covariance, np.ones(num_frames, dtype=bool))
    return feet, mounts


@pytest.fixture(scope="module")
def found(measured: Measurements) -> Estimate:
    body = stand_in_body()
    return estimate_body(body, Landmarks.of(body, HALPE_26), measured)


def errors_m(found: Estimate, truth: PosedBody) -> np.ndarray:
    return np.linalg.norm(found.state.posed(stand_in_body()).joints - truth.joints, axis=-1)


def test_joints_are_found_and_uncertainty_is_stated(found: Estimate, truth: PosedBody) -> None:
    """2 px at 4 m and 600 px of focal length are 13 mm a view; four views, 26 joints and time do better."""
    error = errors_m(found, truth)
    seen = np.ones(len(error), dtype=bool)
    seen[HIDDEN] = False
    assert np.median(error[seen]) < 0.013
    assert np.percentile(error[seen], 95) < 0.04
    sigma = np.sqrt(np.linalg.eigvalsh(found.joint_covariance)[..., -1])
    middle = (HIDDEN.start + HIDDEN.stop) // 2
    assert sigma[middle, FEET].min() > 3 * sigma[seen][:, FEET].mean(), "hidden feet are known to be unknown"


def test_foot_cameras_carry_hidden_feet(found: Estimate, measured: Measurements, truth: PosedBody) -> None:
    body = stand_in_body()
    feet, mounts = foot_observations(truth)
    with_feet = estimate_body(body, Landmarks.of(body, HALPE_26), Measurements(**{**vars(measured), "feet": feet}))
    assert not with_feet.subject.refused
    hidden = errors_m(with_feet, truth)[HIDDEN][:, FEET].mean()
    assert hidden < 0.02
    assert hidden < 0.25 * errors_m(found, truth)[HIDDEN][:, FEET].mean()
    for view, mount in mounts.items():
        assert np.rad2deg(geodesic(with_feet.state.mounts[view].R, mount.R)) < 3
        np.testing.assert_allclose(with_feet.state.mounts[view].t, mount.t, atol=0.012)


def test_a_foot_camera_without_common_frames_is_refused(measured: Measurements, truth: PosedBody) -> None:
    body = stand_in_body()
    feet, _ = foot_observations(truth)
    lone = feet["left_foot"]
    information = lone.information.copy()
    information[10:] = 0
    short = {"left_foot": FootObservation(lone.ankle_idx, lone.world_from_cam, information)}
    quick = EstimateConfig(solver=SolverConfig(iterations=1))
    result = estimate_body(body, Landmarks.of(body, HALPE_26), Measurements(**{**vars(measured), "feet": short}), quick)
    assert "too few frames" in result.subject.refused["left_foot"]
    assert not result.state.mounts


def test_the_whole_gradient_is_the_derivative_of_the_cost(rng: np.random.Generator) -> None:
    body, rig = stand_in_body(), room_rig()
    posed = walk(body, 4)
    feet, mounts = foot_observations(posed)
    state = FitState(posed.rotations.copy(), posed.joints[:, 0] - posed.shaped.rest_joints[0], np.zeros(10), mounts)
    landmarks = Landmarks.of(body, HALPE_26)
    points = landmarks.positions(state.posed(body))
    xy = rig.project(points) + rng.normal(0, 3, (4, 4, 26, 2))
    rays = rays_of(rig, xy.reshape(4, -1, 2), np.ones((4, 4 * 26)), 0.1)
    resting = rng.random((3, len(SOLES))) < 0.5
    objective = Objective(
        FitModel.of(body, landmarks), STEP_S, Weights(), rays=rays, points_m=points + 0.01, feet=feet, resting=resting
    )
    system = objective.linearise(state)
    for frame, unknown in ((0, 2), (1, 4), (2, 8), (3, 15), (2, 57), (1, 74)):
        step = np.zeros((4, 75))
        step[frame, unknown] = 1e-6
        none = np.zeros(len(system.gradient_global))
        plus, minus = (objective.linearise(state.retract(s * step, none)).cost for s in (1, -1))
        assert system.gradient[frame, unknown] == pytest.approx((plus - minus) / 2e-6, rel=1e-3, abs=0.05)
    for unknown in (0, 5, 10, 14, 21):
        step_global = np.zeros(len(system.gradient_global))
        step_global[unknown] = 1e-6
        none = np.zeros((4, 75))
        plus, minus = (objective.linearise(state.retract(none, s * step_global)).cost for s in (1, -1))
        assert system.gradient_global[unknown] == pytest.approx((plus - minus) / 2e-6, rel=1e-3, abs=0.05)


def test_a_person_never_seen_is_refused(measured: Measurements) -> None:
    body = stand_in_body()
    nothing = Measurements(**{**vars(measured), "points_m": np.full_like(measured.points_m, np.nan)})
    with pytest.raises(InputError, match="seen together in no frame"):
        estimate_body(body, Landmarks.of(body, HALPE_26), nothing)


def test_reasons_name_what_is_wrong() -> None:
    config = QualityConfig()
    error_px = np.full((4, 5, 26), 2.0)
    error_px[:, 1] = np.nan  # nobody seen
    error_px[:, 2] = 90.0
    sigma = np.full((5, 24), 0.01)
    sigma[3] = 1.0
    soles = np.full((5, 6, 3), 0.02)
    soles[4, 0, 2] = -0.3
    bridged = np.zeros(5, dtype=bool)
    reasons = frame_reasons(error_px, sigma, soles, bridged, config)
    expected = [Reason.OK, Reason.NO_KEYPOINTS, Reason.MISFIT, Reason.UNCERTAIN, Reason.BELOW_FLOOR]
    assert reasons.tolist() == [int(reason) for reason in expected]
    bridged[1] = True
    assert frame_reasons(error_px, sigma, soles, bridged, config)[1] == Reason.OK
    assert frame_reasons(error_px, sigma, soles, bridged, config, floor=False)[4] == Reason.OK


def test_a_body_out_of_scale_is_refused(truth: PosedBody) -> None:
    """A rig in the wrong scale makes a giant: the gate names the board's square."""
    body = stand_in_body()
    facts = figures(
        body, np.zeros(10), np.full((2, 56, 26), 3.0), ("a", "b"), truth.joints[:, 0],
        np.zeros((56, 6, 3)), np.ones((56, 4)), np.ones(56, dtype=bool), STEP_S,
    )  # fmt: skip
    assert all(figure.ok for figure in health_of(facts, QualityConfig(), True))
    giant = [h for h in health_of({**facts, "height_m": 2.6}, QualityConfig(), True) if not h.ok]
    assert [h.name for h in giant] == ["height_m"]
    assert "square" in giant[0].action


def test_foot_cameras_are_never_left_out_in_silence(tmp_path: Path) -> None:
    views = (View("cam", "room", (8, 8)), View("left_foot", "left_foot", (8, 8)))
    session = Session(tmp_path, "s", "anna", views)
    (tmp_path / "01_sync").mkdir()
    (tmp_path / "04_rig").mkdir()
    (tmp_path / "04_rig" / "rig.json").touch()
    with pytest.raises(InputError, match=r"not followed yet.*calibrate feet.*--no-feet"):
        stage_inputs_of_fit(session, FitConfig())
    assert "egomotion" not in stage_inputs_of_fit(session, FitConfig(feet=False))
    (tmp_path / "05_egomotion").mkdir()
    assert "egomotion" in stage_inputs_of_fit(session, FitConfig())


def test_sequence_survives_the_disk(tmp_path: Path) -> None:
    T = 3
    sequence = SmplSequence(
        np.arange(T) / 30, "30/1", np.zeros((T, 72)), np.zeros((T, 3)), np.zeros(10), "neutral", "body", "0" * 64,
        np.zeros((T, 24, 3)), np.zeros((T, 24, 3, 3)), np.ones((T, 24), dtype=bool), np.ones(T, dtype=bool),
        np.zeros(T, dtype=np.int64), np.zeros((T, 4)),
    )  # fmt: skip
    sequence.save(tmp_path / "smpl.npz")
    again = load_smpl(tmp_path / "smpl.npz")
    assert again.rate == "30/1"
    assert len(again) == T
    np.testing.assert_array_equal(again.joint_valid, sequence.joint_valid)
    np.savez(tmp_path / "other.npz", poses=np.zeros((2, 72)))
    with pytest.raises(InputError, match="it lacks"):
        load_smpl(tmp_path / "other.npz")
