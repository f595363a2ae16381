"""Recordings as they come: the fit says what it could not do, frame by frame, and loses nothing.

One short session of four views is spoilt in each way, and goes from its keypoints to SMPL.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from capture.keypoints import Keypoints2d, load_keypoints
from core.errors import InputError
from core.files import read_npz
from core.skeletons import HALPE_26
from fitting import fit, triangulate
from fitting.landmarks import landmarks_of
from fitting.sequence import Reason, SmplSequence, load_smpl
from fitting.stand_in import stand_in_body
from simulation.person import make_person
from simulation.unfilmed import UnfilmedConfig, make_unfilmed, wall_rig

RATE, SECONDS = 30, 5
FRAMES = RATE * SECONDS
T_S = np.arange(FRAMES) / RATE
SPAN = (T_S > 2.0) & (T_S < 3.0)  # in which something is wrong
INNER, OUTER = (T_S > 2.2) & (T_S < 2.8), (T_S < 1.7) | (T_S > 3.3)
AWAY_M = np.array([1.5, 0.0, 0.0])
CONFIG = fit.FitConfig(num_overlays=0)
Spoil = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def clean_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("session")
    make_unfilmed(folder, UnfilmedConfig(seed=5, duration_s=float(SECONDS), num_views=4))
    return folder


@pytest.fixture
def session(clean_session: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean_session, tmp_path / "session"))


def spoil(session: Path, how: Spoil, views: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    """Changes the keypoints (frames, people, joints, 2) and scores of some views."""
    for view in views:
        path = session / "02_keypoints" / f"cam{view:02d}.npz"
        found = load_keypoints(path)
        Keypoints2d(*how(found.xy_px.copy(), found.score.copy()), HALPE_26).save(path)


def fitted(session: Path) -> tuple[SmplSequence, np.ndarray]:
    """The fit, and each frame's mean distance from the true joints."""
    triangulate.run(session)
    fit.run(session, CONFIG)
    found = load_smpl(session / fit.OUT / "smpl.npz")
    truth = read_npz(session / "truth" / "smpl.npz")["joints_m"]
    # the instants are those that two views share: the first or the last may be missing
    at = np.round(found.t_s * RATE).astype(int)
    return found, np.linalg.norm(found.joints_m - truth[at], axis=-1).mean(axis=1)


def nobody(xy: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    xy[SPAN], score[SPAN] = np.nan, 0.0
    return xy, score


def test_no_view_for_a_span(session: Path) -> None:
    """Someone walks out and comes back: the frames are there, marked, and those around them are as good as ever."""
    spoil(session, nobody)
    found, error_m = fitted(session)
    assert len(found.t_s) >= FRAMES - 2
    inner, outer = (np.isin(np.round(found.t_s * RATE), np.flatnonzero(part)) for part in (INNER, OUTER))
    assert np.all(found.reasons[inner] & Reason.NO_KEYPOINTS) and not found.frame_valid[inner].any()
    assert found.frame_valid[outer].all() and error_m[outer].max() < 0.03
    assert np.isfinite(found.poses).all(), (
        "nothing is lost: what is not valid still has a pose, of which nothing is known"
    )


def test_a_camera_that_stops(session: Path) -> None:
    spoil(session, lambda xy, score: (xy[: FRAMES // 2], score[: FRAMES // 2]), views=(1,))
    found, error_m = fitted(session)
    assert len(found.t_s) >= FRAMES - 2 and found.frame_valid.all() and error_m.max() < 0.03
    notes = json.loads((session / "06_points3d" / "manifest.json").read_text())["metrics"]["notes"]
    assert any("cam01: it lasts from" in note for note in notes)


def test_sides_exchanged_by_the_detector(session: Path) -> None:
    """In one view for a second, and in another view for another second."""

    def swap(xy: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mirror = HALPE_26.swap_idx
        xy[SPAN], score[SPAN] = xy[SPAN][:, :, mirror], score[SPAN][:, :, mirror]
        return xy, score

    spoil(session, swap, views=(2,))
    found, error_m = fitted(session)
    assert found.frame_valid.all() and error_m.max() < 0.03


def test_two_people_exchanged_by_the_detector(session: Path) -> None:
    """A second person is 1.5 m away; in each view the detector lists the two the other way round for a second."""
    person = make_person(np.random.default_rng(6), (0.0, float(SECONDS)))
    points = landmarks_of(person.shaped.body, HALPE_26).positions(person.posed_at(T_S)) + AWAY_M
    for view, camera in enumerate(wall_rig(4)):
        path = session / "02_keypoints" / f"{camera.id}.npz"
        one, two = load_keypoints(path), camera.project(points)[:, None].astype(np.float32)
        xy = np.concatenate([one.xy_px, two], axis=1)
        score = np.concatenate([one.score, np.full(two.shape[:3], 0.8, np.float32)], axis=1)
        exchanged = (0.5 + 0.7 * view < T_S) & (1.5 + 0.7 * view > T_S)
        xy[exchanged], score[exchanged] = xy[exchanged][:, ::-1], score[exchanged][:, ::-1]
        Keypoints2d(xy, score, HALPE_26).save(path)
    truth = read_npz(session / "truth" / "smpl.npz")["joints_m"]
    truths = [truth, person.joints_at(T_S) + AWAY_M]
    triangulate.run(session, triangulate.TriangulateConfig(subject="1"))
    fit.run(session, CONFIG)
    found = load_smpl(session / fit.OUT / "smpl.npz")
    at = np.round(found.t_s * RATE).astype(int)
    errors_m = [np.linalg.norm(found.joints_m - truth[at], axis=-1).mean(axis=1) for truth in truths]
    own = min(errors_m, key=np.median)
    assert found.frame_valid.mean() > 0.95
    assert own[found.frame_valid].max() < 0.05, "it is one person from the first frame to the last"


def test_nan_and_infinite_keypoints(session: Path, rng: np.random.Generator) -> None:
    def nonsense(xy: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bad = rng.random(score.shape) < 0.1
        xy[bad] = rng.choice(np.array([np.nan, np.inf, -np.inf, 1e30], np.float32), (int(bad.sum()), 2))
        score[rng.random(score.shape) < 0.02] = np.nan
        return xy, score

    spoil(session, nonsense)
    found, error_m = fitted(session)
    assert found.frame_valid.mean() > 0.98 and np.median(error_m) < 0.02
    assert np.isfinite(found.poses).all() and np.isfinite(found.joint_covariance).all()


def test_betas_of_another_length_are_refused(session: Path, tmp_path: Path) -> None:
    triangulate.run(session)
    body = stand_in_body()
    shape = {
        "betas": [0.1] * 6, "covariance": np.eye(6).tolist(), "subject": "anna", "body_sha256": body.sha256,
        "sessions": [],
    }  # fmt: skip
    (tmp_path / "shape.json").write_text(json.dumps(shape))
    with pytest.raises(InputError, match="6 betas"):
        fit.run(session, dataclasses.replace(CONFIG, shape=tmp_path / "shape.json"))
    assert not (session / fit.OUT).exists() and not (session / "07_subject").exists()


def test_a_body_with_another_joint_tree_is_refused(session: Path, tmp_path: Path) -> None:
    triangulate.run(session)
    arrays = stand_in_body().arrays()
    tree = arrays["kintree_table"].copy()
    tree[0, [4, 5]] = tree[0, [5, 4]]  # each knee hangs on the other side's hip
    np.savez(tmp_path / "body.npz", **{**arrays, "kintree_table": tree})
    with pytest.raises(InputError, match="joint"):
        fit.run(session, dataclasses.replace(CONFIG, body_model=str(tmp_path / "body.npz")))
    assert not (session / fit.OUT).exists()
