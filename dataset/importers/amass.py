"""AMASS `.npz`: SMPL, SMPL-H and SMPL-X layouts, both spellings of the frame rate, no pickles.

The first 22 joints are the same in all three layouts; fingers and face are left out and SMPL's two hand joints are kept
only where the file has them. AMASS's world is z up, like ours. SMPL-X shape coefficients mean something else to an SMPL
body, so they are replaced by the mean shape, and the provenance says so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.arrays import Bool, Float
from core.clock import parse_rate
from core.errors import InputError
from core.files import read_npz, sha256_of_file
from core.skeletons import SMPL_24
from dataset.schema import NUM_JOINTS, Clip, ClipLabels
from fitting.smpl import BodyModel

_RATE_NAMES = ("rate", "mocap_frame_rate", "mocap_framerate")
_NUM_BODY = 22
_SMPL_WIDTH, _SMPLX_WIDTH = 72, 165
_NUM_BETAS = 10
# A foot joint stands when it is this close to the lowest it gets in the sequence and hardly moves.
_CONTACT_HEIGHT_M, _CONTACT_SPEED_M_S = 0.05, 0.25
_FEET = [SMPL_24.idx(name) for name in ("left_ankle", "left_foot", "right_ankle", "right_foot")]


def read_amass(path: Path, item: str, subject: str, body: BodyModel) -> Clip:
    """A whole AMASS sequence, not yet cut.

    Args:
        path: the file.
        item: id for the sequence, unique in the dataset.
        subject: who moves; AMASS files do not say.
        body: model that the joints are computed with.

    Raises:
        InputError: if the file is damaged, holds Python objects, or lacks poses, trans or the rate.
    """
    data = read_npz(path)
    poses, layout = _poses(data, path)
    rate = _rate(data, path)
    betas = np.zeros(_NUM_BETAS)
    if layout != "smplx" and "betas" in data:
        given = data["betas"].astype(float).reshape(-1)[:_NUM_BETAS]
        betas[: len(given)] = given
    # the joints of the stored float32 numbers, so that exporting and importing again changes nothing
    poses, trans, betas = (array.astype(np.float32).astype(np.float64) for array in (poses, data["trans"], betas))
    joints = body.with_shape(betas[: body.num_betas]).with_pose(poses, trans).joints
    frames = len(poses)
    labels = ClipLabels(
        rate=str(rate),
        subject=subject,
        session=item,
        start_s=0.0,
        gender=str(data.get("gender", "neutral")).strip("b'"),
        body_model=body.name,
        body_model_sha256=body.sha256,
        provenance={
            "source": "amass",
            "layout": layout,
            "shape": "mean" if layout == "smplx" else "file",
            "file_sha256": sha256_of_file(path),
        },
    )
    measured: Bool[np.ndarray, "frames 24"] = np.ones((frames, NUM_JOINTS), dtype=bool)
    measured[:, _NUM_BODY:] = layout == "smpl"
    return Clip(
        item,
        labels,
        poses=poses.astype(np.float32),
        trans=trans.astype(np.float32),
        betas=betas.astype(np.float32),
        joints_m=joints.astype(np.float32),
        joint_covariance=np.full((frames, NUM_JOINTS, 6), np.nan, dtype=np.float32),
        valid=data["valid"].astype(bool) if _has(data, "valid", (frames, NUM_JOINTS)) else measured,
        reasons=data["reasons"].astype(np.int32) if _has(data, "reasons", (frames,)) else np.zeros(frames, np.int32),
        contacts=data["contacts"].astype(np.float32)
        if _has(data, "contacts", (frames, 4))
        else contacts_from_joints(joints, float(parse_rate(rate))),
    )


def contacts_from_joints(joints_m: Float[np.ndarray, "frames 24 3"], rate_hz: float) -> Float[np.ndarray, "frames 4"]:
    """Contacts of left heel, left toe, right heel, right toe: 1 where ankle or toe joint is low and slow, else 0."""
    feet = joints_m[:, _FEET]
    if np.isfinite(feet).all(axis=(1, 2)).sum() < 2:
        return np.zeros((len(feet), 4), dtype=np.float32)
    # the 2nd percentile, not the minimum: one bad frame must not lift the floor
    low = feet[..., 2] < np.nanpercentile(feet[..., 2], 2.0, axis=0) + _CONTACT_HEIGHT_M
    slow = np.linalg.norm(np.gradient(feet, axis=0), axis=-1) * rate_hz < _CONTACT_SPEED_M_S
    return (low & slow).astype(np.float32)


def _has(data: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> bool:
    """Whether the file carries one of this project's own extra arrays."""
    return name in data and data[name].shape == shape


def _poses(data: dict[str, np.ndarray], path: Path) -> tuple[Float[np.ndarray, "frames 24 3"], str]:
    """SMPL poses of any layout, and which layout it was."""
    for name in ("poses", "trans"):
        if name not in data:
            raise InputError(str(path), f"it has no {name}", "give an AMASS motion file (not shape.npz)")
    flat, trans = data["poses"], data["trans"]
    widths = {_SMPL_WIDTH: "smpl", 156: "smplh", _SMPLX_WIDTH: "smplx"}
    if flat.ndim != 2 or flat.shape[1] not in widths or trans.shape != (len(flat), 3) or len(flat) == 0:
        raise InputError(
            str(path),
            f"poses {flat.shape} and trans {trans.shape} are of no known layout",
            f"poses must be (frames, {' or '.join(map(str, widths))}) and trans (frames, 3)",
        )
    layout = widths[flat.shape[1]]
    poses = np.zeros((len(flat), NUM_JOINTS, 3))
    joints = NUM_JOINTS if layout == "smpl" else _NUM_BODY
    poses[:, :joints] = flat[:, : 3 * joints].reshape(len(flat), joints, 3)
    return poses, layout


def _rate(data: dict[str, np.ndarray], path: Path) -> str:
    """Frame rate as a rational text, whichever way it is spelled."""
    for name in _RATE_NAMES:
        if name in data and data[name].size == 1:
            value = data[name].item()
            text = value.decode() if isinstance(value, bytes) else value
            rate = parse_rate(text)
            return f"{rate.numerator}/{rate.denominator}"
    raise InputError(str(path), "it states no frame rate", "add mocap_frame_rate (frames a second)")
