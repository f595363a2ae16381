"""The project's own sessions: `07_smpl/smpl.npz` as the fit writes it, of any body of the SMPL family.

Shards hold SMPL's 24 joints. Of fits of SMPL-H and SMPL-X the fingers, which were held, are left out, and SMPL-X's
betas, which mean something else to an SMPL body, become the mean shape, as those of AMASS files; joints stay as fitted.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from core.clock import frame_times, parse_rate
from core.errors import InputError
from core.files import read_json, read_npz
from core.stage import changed_inputs
from dataset.schema import NUM_JOINTS, REASON_OK, REASON_UNSPECIFIED, Clip, ClipLabels
from fitting.amass import AmassMotion
from fitting.body_kinds import KINDS, SMPL, SMPL_X, kind_of_poses

STAGE = "07_smpl"
# The instants are a grid by contract; a tenth of a frame is far above rounding and far below a lost frame.
_MAX_GRID_ERROR_FRAMES = 0.1
_COLUMNS = [3 * kind.num_joints for kind in KINDS]  # of poses
# figures of the fit that every clip of the session carries
_QUALITY = ("valid", "reprojection_px", "mask_iou", "penetration_p95_m", "skate_m_s")
_SHAPES: dict[str, tuple[int | str, ...]] = {
    "t_s": ("T",),
    "poses": ("T", "C"),
    "trans": ("T", 3),
    "joints_m": ("T", NUM_JOINTS, 3),
    "joint_covariance": ("T", NUM_JOINTS, 3, 3),
    "joint_valid": ("T", NUM_JOINTS),
    "frame_valid": ("T",),
    "reasons": ("T",),
    "contacts": ("T", 4),
}


def require_fit(session_dir: Path) -> Path:
    """The fit's result of a session.

    Raises:
        InputError: if the session has none, with the command that makes it.
    """
    if not (session_dir / "session.json").is_file():
        raise InputError(str(session_dir), "it holds no session.json", "give a session folder or motion files")
    path = session_dir / STAGE / "smpl.npz"
    if not path.is_file():
        raise InputError(str(session_dir), f"it has no {STAGE}/smpl.npz", f"fit it first: `motifs fit {session_dir}`")
    return path


def session_names(session_dir: Path) -> tuple[str, str]:
    """(session id, subject) from `session.json`."""
    path = session_dir / "session.json"
    data = read_json(path)
    if not isinstance(data, dict) or not all(isinstance(data.get(key), str) for key in ("id", "subject")):
        raise InputError(str(path), "it names no id and subject", "make it again with `motifs ingest`")
    return data["id"], data["subject"]


def require_current(fit: Path) -> None:
    """Refuses a fit that is older than what it was made from.

    Raises:
        InputError: naming the stages that changed.
    """
    if (fit / "manifest.json").is_file() and (changed := changed_inputs(fit)):
        session = fit.parent
        raise InputError(
            str(session), f"its fit is older than {', '.join(changed)}", f"run `motifs fit {session} --redo` first"
        )


def read_session(session_dir: Path, item: str) -> Clip:
    """The whole fitted sequence of a session, not yet cut; invalid frames carry their reason.

    Args:
        session_dir: session folder.
        item: id for the sequence, unique in the dataset.

    Raises:
        InputError: if the fit is missing, damaged, or not on an even time grid.
    """
    path = require_fit(session_dir)
    require_current(path.parent)
    session, subject = session_names(session_dir)
    data = read_npz(path)
    _check(data, path)
    manifest = path.with_name("manifest.json")
    motion = _motion(data, path)
    provenance: dict[str, Any] = {"source": "session", "session": session}
    if motion.kind is not SMPL:
        provenance |= {"layout": motion.kind.model_type, "shape": "mean" if motion.kind is SMPL_X else "file"}
    if manifest.is_file():
        fitted = read_json(manifest)
        provenance["fit_fingerprint"] = str(fitted.get("fingerprint", ""))
        metrics = fitted.get("metrics") or {}
        provenance["fit_quality"] = {name: metrics[name] for name in _QUALITY if metrics.get(name) is not None}
    labels = ClipLabels(
        rate=f"{motion.rate.numerator}/{motion.rate.denominator}",
        subject=subject,
        session=session,
        start_s=float(data["t_s"][0]),
        gender=motion.gender,
        body_model=str(data.get("body_model", "")),
        body_model_sha256=str(data.get("body_sha256", "")),
        provenance=provenance,
    )
    reasons = data["reasons"].astype(np.int32)
    reasons[~data["frame_valid"].astype(bool) & (reasons == REASON_OK)] = REASON_UNSPECIFIED
    # a measured frame may carry a remark; only what the fit calls invalid is
    reasons[data["frame_valid"].astype(bool)] = REASON_OK
    upper, stored = np.triu_indices(3), motion.to_kind(SMPL)
    return Clip(
        item,
        labels,
        poses=stored.poses.astype(np.float32),
        trans=stored.trans.astype(np.float32),
        betas=stored.betas.astype(np.float32).reshape(-1),
        joints_m=data["joints_m"].astype(np.float32),
        joint_covariance=data["joint_covariance"][..., upper[0], upper[1]].astype(np.float32),
        valid=data["joint_valid"].astype(bool),
        reasons=reasons,
        contacts=data["contacts"].astype(np.float32),
    )


def _motion(data: dict[str, np.ndarray], path: Path) -> AmassMotion:
    """The motion of the body that was fitted."""
    kind = kind_of_poses(data["poses"].shape[1], str(path))
    poses = data["poses"].reshape(-1, kind.num_joints, 3)
    return AmassMotion(kind, poses, data["trans"], data["betas"], str(data.get("gender", "neutral")), _rate(data, path))


def _rate(data: dict[str, np.ndarray], path: Path) -> Fraction:
    """The rational rate, checked against the times."""
    found = data.get("rate", data.get("mocap_frame_rate"))
    if found is None:
        raise InputError(str(path), "it states no frame rate", "run `motifs fit` with --redo")
    rate = parse_rate(found.item() if found.dtype.kind in "iuf" else str(found))
    grid = frame_times(len(data["t_s"]), rate, float(data["t_s"][0]))
    error = float(np.abs(data["t_s"] - grid).max() * float(rate))
    if not error < _MAX_GRID_ERROR_FRAMES:
        raise InputError(
            str(path), f"its times leave the grid of {rate} Hz by {error:.2f} frames", "run `motifs fit` with --redo"
        )
    return rate


def _check(data: dict[str, np.ndarray], path: Path) -> None:
    """Refuses a file whose arrays are missing or do not fit together."""
    problem = ""
    num_frames = len(data["t_s"]) if "t_s" in data and data["t_s"].ndim else 0
    num_columns = data["poses"].shape[-1] if "poses" in data and data["poses"].ndim else 0
    sizes = {"T": num_frames, "C": num_columns if num_columns in _COLUMNS else _COLUMNS[0]}
    for name, shape in _SHAPES.items():
        expected = tuple(sizes.get(size, size) if isinstance(size, str) else size for size in shape)
        if name not in data or "betas" not in data:
            problem = f"it has no {name if name not in data else 'betas'}"
        elif data[name].shape != expected:
            problem = f"{name} is {data[name].shape}, not {expected}"
        if problem:
            raise InputError(str(path), problem, "run `motifs fit` with --redo")
    if num_frames == 0:
        raise InputError(str(path), "it has no frames", "run `motifs fit` with --redo")
