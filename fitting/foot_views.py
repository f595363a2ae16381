"""The foot cameras of a session at the instants of the fit: their poses, and what they see of their wearer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from calibration.clocks import load_times
from calibration.egomotion import Egomotion, load_egomotion
from calibration.lens import load_lenses
from capture.session import Session, View
from core.arrays import Float
from core.cameras import Lens
from core.errors import InputError
from core.transforms import interpolate
from fitting.foot_mount import FootObservation
from fitting.observations import Observations
from fitting.own_view import own_keypoints, own_rays

_STAGE, _KEYPOINTS = "05_egomotion", "02_keypoints"
_LONGEST_STEP = 1.5  # frames between two measured poses that one is interpolated from


def foot_inputs(session: Session) -> dict[str, Path]:
    """What `foot_observations` reads.

    Raises:
        InputError: if the foot cameras are not followed yet.
    """
    inputs = {"egomotion": session.stage(_STAGE)}
    if not inputs["egomotion"].is_dir():
        action = "run `motifs calibrate feet` first, or fit without them: `--no-feet`"
        raise InputError(session.id, "its foot cameras are not followed yet", action)
    for view in session.of_role("left_foot", "right_foot"):
        if (path := _keypoints(session, view)).is_file():
            inputs |= {f"keypoints of {view.id}": path, "lenses": session.stage("03_lenses") / "lenses.json"}
    return inputs


def _keypoints(session: Session, view: View) -> Path:
    return session.stage(_KEYPOINTS) / f"{view.id}.npz"


def foot_observations(
    session: Session, seen: Observations, points_m: Float[np.ndarray, "frames joints 3"], min_score: float
) -> dict[str, FootObservation]:
    """What the tracked foot cameras measured; filled gaps are no measurements.

    Args:
        session: with its foot cameras followed.
        seen: what the room cameras saw, at the instants of the fit.
        points_m: triangulated keypoints, NaN where not known.
        min_score: keypoints below this detector score are not used.

    Raises:
        InputError: if a foot camera has keypoints and no lens.
    """
    feet, t_s = {}, seen.timeline.t_s
    for view in session.of_role("left_foot", "right_foot"):
        if not (session.stage(_STAGE) / f"{view.id}.npz").is_file():
            continue
        track = load_egomotion(session.folder, view.id)
        foot = _poses(view, track, t_s)
        if foot is not None and _keypoints(session, view).is_file():
            foot = _with_own_view(session, view, foot, seen, points_m, min_score)
        if foot is not None:
            feet[view.id] = foot
    return feet


def _poses(view: View, track: Egomotion, t_s: np.ndarray) -> FootObservation | None:
    """Its poses at the instants of the fit; None where hardly any was measured."""
    measured = track.valid & ~track.filled
    if measured.sum() < 2:
        return None
    times, poses = track.t_s[measured], track.world_from_cam[measured]
    right = np.clip(np.searchsorted(times, t_s), 1, len(times) - 1)
    near = np.where(t_s - times[right - 1] < times[right] - t_s, right - 1, right)
    gap = times[right] - times[right - 1]
    inside = (t_s >= times[0]) & (t_s <= times[-1]) & (gap <= _LONGEST_STEP / float(view.rate))
    covariance = track.covariance[measured][near]
    return FootObservation.of(view.role, interpolate(poses, times, t_s), covariance, inside)


def _with_own_view(
    session: Session, view: View, foot: FootObservation, seen: Observations, points_m: np.ndarray, min_score: float
) -> FootObservation:
    lens = _lens(session, view)
    in_cam = np.einsum("tji,tkj->tki", foot.world_from_cam.R, points_m - foot.world_from_cam.t[:, None])
    expected_px = np.where((in_cam[..., 2:] > 0) & foot.known[:, None, None], lens.project(in_cam), np.nan)
    xy_px, score = own_keypoints(
        _keypoints(session, view), seen.skeleton, load_times(session.folder, view.id), seen.timeline.t_s,
        float(view.rate), expected_px,
    )  # fmt: skip
    score = np.where(foot.known[:, None], score, 0.0)  # a camera that is lost tells nothing
    return dataclasses.replace(foot, own=own_rays(lens, xy_px, score, min_score))


def _lens(session: Session, view: View) -> Lens:
    lenses = load_lenses(session.folder)
    if view.id not in lenses:
        action = "run `motifs calibrate lens` for it, or take its keypoints out of 02_keypoints"
        raise InputError(view.id, "this foot camera has keypoints and no lens", action)
    return lenses[view.id]
