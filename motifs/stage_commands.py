"""The commands that run one annotation stage each (see `motifs.commands`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from calibration.egomotion import EgomotionConfig
from calibration.lens import LensConfig
from calibration.marker_map import MarkersConfig
from calibration.rig import RigConfig
from calibration.scene_map import SceneMapConfig
from capture.detect import DetectConfig
from capture.sync import SyncConfig
from fitting.fit import FitConfig
from fitting.triangulate import TriangulateConfig
from motifs.options import CORES, SETTINGS, Redo, SessionPath, Workers
from motifs.pipeline import STEPS


def _run_step(setting: str, session: Path, config: object, workers: int, redo: bool) -> None:
    """Runs one annotation stage and prints its figures."""
    from motifs.running import line_of

    step = next(step for step in STEPS if step.setting == setting)
    print(line_of(step.run(session, config, workers=workers, redo=redo)), flush=True)


def sync(
    session: SessionPath, config: Annotated[SyncConfig, SETTINGS], workers: Workers = CORES, redo: Redo = False
) -> None:
    """Put every camera of a session on one clock."""
    _run_step("sync", session, config, workers, redo)


def detect(
    session: SessionPath, config: Annotated[DetectConfig, SETTINGS], workers: Workers = CORES, redo: Redo = False
) -> None:
    """Find keypoints, boards and markers in the videos of a session."""
    _run_step("detect", session, config, workers, redo)


def calibrate_lens(
    session: SessionPath, config: Annotated[LensConfig, SETTINGS], workers: Workers = CORES, redo: Redo = False
) -> None:
    """Solve each camera's lens from pictures of a board, or take it from a calibration file."""
    _run_step("lens", session, config, workers, redo)


def calibrate_rig(
    session: SessionPath, config: Annotated[RigConfig, SETTINGS], workers: Workers = CORES, redo: Redo = False
) -> None:
    """Place the room cameras in one world."""
    _run_step("rig", session, config, workers, redo)


def calibrate_markers(
    session: SessionPath, config: Annotated[MarkersConfig, SETTINGS], workers: Workers = CORES, redo: Redo = False
) -> None:
    """Place all boards and markers that do not move, from room videos and hand-held photographs."""
    _run_step("markers", session, config, workers, redo)


def calibrate_scene(
    session: SessionPath, config: Annotated[SceneMapConfig, SETTINGS], workers: Workers = CORES, redo: Redo = False
) -> None:
    """Map the still room from the room cameras and a walk-through."""
    _run_step("scene", session, config, workers, redo)


def calibrate_feet(
    session: SessionPath, config: Annotated[EgomotionConfig, SETTINGS], workers: Workers = CORES, redo: Redo = False
) -> None:
    """Follow the foot cameras through the room."""
    _run_step("feet", session, config, workers, redo)


def triangulate(
    session: SessionPath, config: Annotated[TriangulateConfig, SETTINGS], workers: Workers = 1, redo: Redo = False
) -> None:
    """Lift the keypoints of all views to 3D."""
    _run_step("triangulate", session, config, workers, redo)


def fit(session: SessionPath, config: Annotated[FitConfig, SETTINGS], workers: Workers = 1, redo: Redo = False) -> None:
    """Fit SMPL to the whole sequence."""
    _run_step("fit", session, config, workers, redo)
