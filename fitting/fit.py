"""`motifs fit`: everything measured of a session -> `07_smpl`, SMPL parameters with covariance and validity.

First `07_subject`, what stays the same of the person; then the poses, one item of the stage for each stretch of the
recording, so that long ones are done by many processes, go on where they were stopped, and need the memory of one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from calibration.rig import load_rig
from capture.session import Session
from core.errors import InputError
from core.files import read_npz, require_file, write_json, write_npz
from core.parallel import processes
from core.skeletons import Skeleton
from core.stage import Manifest, Summary, run_stage
from core.transforms import so3_log
from fitting.backend import CPU, require_device
from fitting.charts import draw_fit
from fitting.contacts import ContactConfig, foot_contacts
from fitting.estimate import Estimate, EstimateConfig, Measurements, estimate_poses
from fitting.film import write_stills
from fitting.fit_model import FitModel, points_of_soles
from fitting.foot_views import foot_inputs, foot_observations
from fitting.landmarks import Landmarks
from fitting.objective import FitState
from fitting.observations import Observations
from fitting.person_shape import PersonShape
from fitting.playback import Playback
from fitting.points import reprojection_px
from fitting.pose_density import PoseDensity
from fitting.pose_density_files import read_pose_density
from fitting.pose_statistics import CMU_FILE, cmu_pose_statistics
from fitting.quality import QualityConfig, figures, frame_reasons, health_of
from fitting.sequence import Reason, SmplSequence, load_smpl
from fitting.silhouettes import MaskConfig, compare_with_masks
from fitting.smpl import BodyModel
from fitting.stand_in import stand_in_body
from fitting.stretches import Stretches
from fitting.subject import Subject, estimate_subject
from fitting.trajectories import load_paths
from fitting.triangulate import OUT as POINTS_OUT
from fitting.triangulate import stage_inputs, subject_points
from fitting.windows import Seam, cut_windows, mend_seam, mended, overlap_frames

__all__ = ["FitConfig", "Reason", "SmplSequence", "load_smpl", "run"]

STAGE_VERSION = 6
OUT = "07_smpl"
SUBJECT_OUT = "07_subject"
STRETCHES = "stretches"
PICTURE = "fit.png"
_CHUNK = 2000  # frames reprojected at a time
_MANY = 8  # stretches whose seams are worth processes
STAND_IN = "stand-in"
ANATOMY, CMU = "anatomy", "cmu"


@dataclass(frozen=True)
class FitConfig:
    """Settings of `motifs fit`.

    Attributes:
        body_model: SMPL, SMPL-H or SMPL-X model file (.npz, .pkl or .safetensors), or "stand-in" for the project's own
            body. Keypoints say nothing of fingers and face, which are held at the model's mean pose.
        gender: of the body model, noted in the result.
        feet: whether foot cameras are used where they were tracked.
        shape: file of `motifs shape`, the person's shape over all sessions; found from this session alone without it.
        pose_prior: "anatomy" for each joint's spread and range, "cmu" for how limbs are held, and go together, in CMU's
            motion capture (`fitting/data`), or a file: SMPLify's mixture (.pkl, .npz), or VPoser (.ckpt).
        estimate: weights and iterations.
        contacts: when a sole rests on the floor.
        quality: thresholds of validity and refusal.
        masks: how the body is compared with silhouettes, where the session has them.
        num_overlays: pictures drawn for each view that has a video; 0 draws none.
        device: cpu, or one GPU: cuda, cuda:1. The result is the same within 1e-4.
    """

    body_model: str = STAND_IN
    gender: str = "neutral"
    feet: bool = True
    shape: Path | None = None
    pose_prior: str = CMU
    estimate: EstimateConfig = dataclasses.field(default_factory=EstimateConfig)
    contacts: ContactConfig = dataclasses.field(default_factory=ContactConfig)
    quality: QualityConfig = dataclasses.field(default_factory=QualityConfig)
    masks: MaskConfig = dataclasses.field(default_factory=MaskConfig)
    num_overlays: int = 3
    device: str = CPU


def load_body(body_model: str) -> BodyModel:
    """The stand-in or a model file.

    Raises:
        InputError: if the file is missing or no body model.
    """
    return stand_in_body() if body_model == STAND_IN else BodyModel.load(Path(body_model))


def run(session_dir: Path, config: FitConfig | None = None, *, workers: int = 1, redo: bool = False) -> Manifest:
    """Fits SMPL to the subject of a session.

    Raises:
        InputError: if an earlier stage is missing, a file that was named is not what it should be, or there is no such
            device.
        GateError: if the fit is not believable.
        StageError: if it was run before with other settings.
    """
    config = config or FitConfig()
    require_device(config.device)
    session = Session.load(session_dir)
    body = load_body(config.body_model)
    subject_points(session)  # tells which stage is missing before anything is hashed
    _shape(config, body)
    density_of(config.pose_prior)
    inputs = _inputs(session, config)
    _find_subject(session, config, inputs, redo=redo)
    stretches = Stretches.load(session.stage(SUBJECT_OUT) / STRETCHES)
    return run_stage(
        "fit",
        STAGE_VERSION,
        inputs={**inputs, "subject": session.stage(SUBJECT_OUT) / "subject.json"},
        config=_portable(config),
        out=session.stage(OUT),
        items=list(stretches.windows),
        process=partial(_fit_stretch, session_dir, config),
        finish=partial(_join, session, body, config, stretches, workers),
        workers=workers,
        redo=redo,
    )


def _find_subject(session: Session, config: FitConfig, inputs: Mapping[str, Path], *, redo: bool) -> None:
    """Shape and mounts, in a stage of their own, which also cuts the measurements into stretches."""

    def process(item: str, folder: Path) -> Mapping[str, Any]:
        body, landmarks, measured, seen = load_measured(session, config)
        model = _model_for(config, seen.skeleton)
        found = estimate_subject(model, measured.checked(landmarks), config.estimate, config.device)
        if (shape := _shape(config, body)) is not None:  # as sure as all sessions are
            count = len(found.betas)
            covariance = found.covariance.copy()
            covariance[:count, :count] = shape.covariance
            found = dataclasses.replace(found, betas=shape.betas, covariance=covariance)
        found.save(folder / "subject.json", body)
        windows = cut_windows(measured.known, measured.step_s, config.estimate)
        named = {f"{window.begin:07d}": window for window in windows}
        Stretches.cut(folder / STRETCHES, measured, named, seen.skeleton)
        offsets_mm = {name: 1000 * offset for name, offset in zip(landmarks.names, found.offsets, strict=True)}
        return {"betas": found.betas, "offsets_mm": offsets_mm, **found.mounts_json()}

    run_stage(
        "fit subject",
        STAGE_VERSION,
        inputs=inputs,
        config=_portable(config),
        out=session.stage(SUBJECT_OUT),
        items=["subject"],
        process=process,
        finish=lambda folder, facts: Summary(facts["subject"]),
        redo=redo,
    )


def _portable(config: FitConfig) -> FitConfig:
    """The config without what does not change the result: the device, and files' folders, whose content is hashed."""
    body_model, pose_prior = Path(config.body_model).name, Path(config.pose_prior).name
    return dataclasses.replace(config, body_model=body_model, pose_prior=pose_prior, device=CPU)


def _inputs(session: Session, config: FitConfig) -> dict[str, Path]:
    inputs = {**stage_inputs(session), "points": session.stage(POINTS_OUT)}
    if config.body_model != STAND_IN:
        inputs["body model"] = Path(config.body_model)
    if config.pose_prior != ANATOMY:
        inputs["pose prior"] = CMU_FILE if config.pose_prior == CMU else Path(config.pose_prior)
    if config.shape is not None:
        inputs["shape"] = config.shape
    room = session.of_role("room")
    inputs |= {f"masks of {view.id}": session.path(view.masks) for view in room if view.masks is not None}
    if config.feet and any(view.is_foot for view in session.views):
        inputs |= foot_inputs(session)
    return inputs


def load_measured(session: Session, config: FitConfig) -> tuple[BodyModel, Landmarks, Measurements, Observations]:
    """The body, where the keypoints lie on it, and all that was measured."""
    body = load_body(config.body_model)
    seen = Observations.load(session.stage(POINTS_OUT) / "observations.npz")
    rig = load_rig(session.folder).subset(seen.view_ids)
    points_m, step_s = subject_points(session).xyz_m, 1 / float(seen.timeline.rate)
    feet = foot_observations(session, seen, points_m, config.estimate.min_score) if config.feet else {}
    staying = load_paths(session.stage(POINTS_OUT) / "paths.npz").staying
    shape = _shape(config, body)
    betas = None if shape is None else shape.betas
    measured = Measurements(rig, seen.xy_px, seen.score, points_m, step_s, feet, betas, staying)
    return body, Landmarks.of(body, seen.skeleton), measured, seen


def _shape(config: FitConfig, body: BodyModel) -> PersonShape | None:
    """The person's shape, if it is known.

    Raises:
        InputError: if it belongs to another body model.
    """
    if config.shape is None:
        return None
    shape = PersonShape.load(config.shape)
    if shape.body_sha256 != body.sha256 or len(shape.betas) != body.num_betas:
        problem = f"its {len(shape.betas)} betas belong to another body model than {body.name}"
        raise InputError(str(config.shape), problem, "name that model by --body-model, or make the shape again")
    return shape


@lru_cache(maxsize=2)
def _model(body_model: str, pose_prior: str, stamps: tuple[int, ...], skeleton: Skeleton) -> FitModel:
    """The body made ready, kept from one stretch to the next; the stamps tell files that were written again."""
    body = load_body(body_model)
    return FitModel.of(body, Landmarks.of(body, skeleton), density_of(pose_prior))


def density_of(pose_prior: str) -> PoseDensity | None:
    """The pose prior of a setting (`FitConfig.pose_prior`); None where each joint counts by itself.

    Raises:
        InputError: if it is a file, and missing or no pose prior.
    """
    if pose_prior == CMU:
        return cmu_pose_statistics().density()
    return None if pose_prior == ANATOMY else read_pose_density(Path(pose_prior))


def _model_for(config: FitConfig, skeleton: Skeleton) -> FitModel:
    files = [Path(name) for name in (config.body_model, config.pose_prior) if name not in (STAND_IN, ANATOMY, CMU)]
    stamps = tuple(require_file(path).stat().st_mtime_ns for path in files)
    return _model(config.body_model, config.pose_prior, stamps, skeleton)


def _fit_stretch(session_dir: Path, config: FitConfig, item: str, folder: Path) -> Mapping[str, Any]:
    """Fits one stretch into `<item>.npz`."""
    subject_dir = session_dir / SUBJECT_OUT
    stretches, subject = Stretches.load(subject_dir / STRETCHES), Subject.load(subject_dir / "subject.json")
    model = _model_for(config, stretches.skeleton)
    found = estimate_poses(model, stretches.read(item), subject, config.estimate, config.device)
    arrays = {"R": found.state.R, "transl": found.state.transl, "joint_covariance": found.joint_covariance}
    write_npz(folder / f"{item}.npz", arrays, compressed=False)
    return {"cost": found.cost, "num_steps": found.num_steps, "converged": found.converged}


def _join(
    session: Session,
    body: BodyModel,
    config: FitConfig,
    stretches: Stretches,
    workers: int,
    folder: Path,
    facts: Mapping[str, Mapping[str, Any]],
) -> Summary:
    """All stretches in one sequence, its pictures and its figures."""
    subject = Subject.load(session.stage(SUBJECT_OUT) / "subject.json")
    parts = []
    for item, window in stretches.windows.items():
        if not (folder / f"{item}.npz").is_file():  # a run was killed while it cleared them away
            _fit_stretch(session.folder, config, item, folder)
        data = {name: array[window.kept] for name, array in read_npz(folder / f"{item}.npz").items()}
        state = FitState(data["R"], data["transl"], subject.betas, subject.mounts)
        parts.append(Estimate(state, data["joint_covariance"], subject, **facts[item]))
    windows = list(stretches.windows.values())
    overlap = overlap_frames(stretches.step_s, config.estimate)
    with processes(workers if len(windows) > _MANY else 1) as pool:
        mend, each = partial(_mend, session.folder, config), map if pool is None else pool.map
        found = mended(windows, parts, overlap, lambda seams, states: each(mend, seams, states))
    summary = _finish(session, body, found, config, folder)
    for item in stretches.windows:
        (folder / f"{item}.npz").unlink()
    return summary


def _mend(session_dir: Path, config: FitConfig, seam: Seam, state: FitState) -> FitState:
    """`mend_seam` from what the stage before left."""
    subject_dir = session_dir / SUBJECT_OUT
    stretches, subject = Stretches.load(subject_dir / STRETCHES), Subject.load(subject_dir / "subject.json")
    model = _model_for(config, stretches.skeleton)
    return mend_seam(model, stretches.frames(seam.span), subject, config.estimate, seam, state, config.device)


def _finish(session: Session, body: BodyModel, found: Estimate, config: FitConfig, folder: Path) -> Summary:
    _, landmarks, measured, seen = load_measured(session, config)
    t_s, posed = seen.timeline.t_s, found.state.posed(body)
    model = FitModel.of(body, landmarks).with_offsets(found.subject.offsets)
    error_px = np.full(seen.score.shape, np.nan, np.float32)
    for first in range(0, len(t_s), _CHUNK):
        part = slice(first, first + _CHUNK)
        used = seen.score[:, part] >= config.estimate.min_score
        positions = model.keypoints.positions(found.state.frames(part).posed(model.body))
        error_px[:, part] = np.where(used, reprojection_px(measured.rig, positions, seen.xy_px[:, part]), np.nan)
    soles = points_of_soles(body).positions(posed)
    bridged = np.zeros(len(t_s), dtype=bool)
    for view in found.state.mounts:
        bridged |= measured.feet[view].known
    sequence = _sequence(body, found, t_s, seen.timeline.rate, error_px, soles, bridged, config)
    sequence.save(folder / "smpl.npz")
    write_json(folder / "feet.json", found.subject.mounts_json())
    draw_fit(folder / PICTURE, sequence, error_px, seen.view_ids, config.quality.max_joint_sigma_m)
    playback = Playback.of(sequence, body)
    if config.num_overlays:
        write_stills(session, measured.rig, playback, seen, error_px, folder / "overlays", config.num_overlays)
    figured = figures(
        body, found.state.betas, error_px, seen.view_ids, sequence.joints_m[:, 0], soles, sequence.contacts,
        sequence.frame_valid, measured.step_s,
    )  # fmt: skip
    reasons = {reason.name: int((sequence.reasons & reason != 0).sum()) for reason in Reason if reason.name}
    ended = {"num_steps": found.num_steps, "converged": found.converged, "device": config.device}
    masks = compare_with_masks(session, measured.rig, playback, config.masks)
    facts = {**figured, "mask_iou": masks, "reasons": reasons, "feet": found.subject.mounts_json(), **ended}
    return Summary(facts, health_of(facts, config.quality, config.estimate.floor))


def _sequence(
    body: BodyModel, found: Estimate, t_s: np.ndarray, rate: object, error_px: np.ndarray, soles: np.ndarray,
    bridged: np.ndarray, config: FitConfig,
) -> SmplSequence:  # fmt: skip
    state = found.state
    posed = state.posed(body)
    sigma = np.sqrt(np.maximum(np.linalg.eigvalsh(found.joint_covariance)[..., -1], 0.0))
    reasons = frame_reasons(error_px, sigma, soles, bridged, config.quality, floor=config.estimate.floor)
    step_s = float(np.diff(t_s).mean()) if len(t_s) > 1 else 1.0
    return SmplSequence(
        t_s=t_s,
        rate=f"{rate.numerator}/{rate.denominator}",  # type: ignore[attr-defined]
        poses=so3_log(posed.rotations).reshape(len(t_s), -1),
        trans=state.transl,
        betas=state.betas,
        gender=config.gender,
        body_model=body.name,
        body_sha256=body.sha256,
        joints_m=posed.smpl_joints,
        joint_covariance=found.joint_covariance,
        joint_valid=sigma <= config.quality.max_joint_sigma_m,
        frame_valid=reasons == 0,
        reasons=reasons,
        contacts=foot_contacts(soles[:, :4], step_s, config.contacts),
    )
