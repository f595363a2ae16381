"""The annotation stages of a session in running order, and running them all.

A stage that a session has no data for (a lens without pictures of a board, egomotion without foot cameras) is left out
by `steps_of`, never run on nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibration.egomotion import EgomotionConfig
from calibration.formats import read_calibration, read_lenses
from calibration.lens import LensConfig
from calibration.marker_map import MarkersConfig, still_targets
from calibration.rig import RigConfig
from calibration.scene_map import SceneMapConfig
from capture.detect import DetectConfig
from capture.session import Session
from capture.sync import SyncConfig
from capture.targets import load_targets
from core.errors import MotifsError
from core.stage import Manifest
from fitting.backend import require_device
from fitting.fit import FitConfig, load_body
from fitting.triangulate import TriangulateConfig


@dataclass(frozen=True)
class Step:
    """One annotation stage.

    Attributes:
        command: the subcommand that runs it.
        folder: where its result lives in the session.
        module: module whose `run` does it.
        setting: the field of `RunConfig` that configures it.
        applies: whether a session has data for it.
    """

    command: str
    folder: str
    module: str
    setting: str
    applies: Callable[[Session], bool]

    def run(self, folder: Path, config: Any, *, workers: int = 1, redo: bool = False) -> Manifest:
        """Runs the stage on a session folder."""
        manifest: Manifest = importlib.import_module(self.module).run(folder, config, workers=workers, redo=redo)
        return manifest


def _always(session: Session) -> bool:
    return True


def _has_targets(session: Session) -> bool:
    """Whether boards or markers hang in the room; a targets file that cannot be read is for its stage to refuse."""
    try:
        return bool(still_targets(session))
    except MotifsError:
        return True


def _has_walkthrough(session: Session) -> bool:
    return bool(session.of_role("walkthrough"))


def _has_feet(session: Session) -> bool:
    return any(view.is_foot for view in session.views)


STEPS = (
    Step("sync", "01_sync", "capture.sync", "sync", _always),
    Step("detect", "02_keypoints", "capture.detect", "detect", _always),
    Step("calibrate lens", "03_lenses", "calibration.lens", "lens", _always),
    Step("calibrate rig", "04_rig", "calibration.rig", "rig", _always),
    Step("calibrate markers", "04_markers", "calibration.marker_map", "markers", _has_targets),
    Step("calibrate scene", "04_scene", "calibration.scene_map", "scene", _has_walkthrough),
    Step("calibrate feet", "05_egomotion", "calibration.egomotion", "feet", _has_feet),
    Step("triangulate", "06_points3d", "fitting.triangulate", "triangulate", _always),
    Step("fit", "07_smpl", "fitting.fit", "fit", _always),
)


@dataclass(frozen=True)
class RunConfig:
    """Settings of every annotation stage.

    Attributes:
        sync: clocks.
        detect: keypoints, boards and markers.
        lens: lenses.
        rig: room cameras.
        markers: marker map, where targets hang in the room.
        scene: scene map, where there is a walk-through.
        feet: egomotion of the foot cameras.
        triangulate: 3D points.
        fit: SMPL.
    """

    sync: SyncConfig = field(default_factory=SyncConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    lens: LensConfig = field(default_factory=LensConfig)
    rig: RigConfig = field(default_factory=RigConfig)
    markers: MarkersConfig = field(default_factory=MarkersConfig)
    scene: SceneMapConfig = field(default_factory=SceneMapConfig)
    feet: EgomotionConfig = field(default_factory=EgomotionConfig)
    triangulate: TriangulateConfig = field(default_factory=TriangulateConfig)
    fit: FitConfig = field(default_factory=FitConfig)


def steps_of(session: Session) -> list[Step]:
    """The stages that apply to a session, in running order."""
    return [step for step in STEPS if step.applies(session)]


def check_session(session: Session) -> None:
    """Looks at the session's files that late stages need, so that hours of work do not end at a wrong one."""
    if session.targets is not None:
        load_targets(session.path(session.targets))


def check_settings(config: RunConfig, *, devices: bool = True) -> None:
    """Looks at the files that settings name, before hours of work.

    Args:
        devices: whether devices must be there too: not where others do the work.
    """
    if config.lens.lenses_from is not None:
        read_lenses(config.lens.lenses_from)
    if config.rig.reference is not None:
        read_calibration(config.rig.reference)
    load_body(config.fit.body_model)
    if devices:
        require_device(config.fit.device)


def run_session(
    folder: Path,
    config: RunConfig,
    *,
    workers: int = 1,
    redo: bool = False,
    announce: Callable[[Step, Manifest], None] = lambda step, manifest: None,
) -> list[Manifest]:
    """Runs every annotation stage of a session; finished ones return at once.

    Args:
        announce: called after each stage.

    Raises:
        MotifsError: of the stage that failed; before the first stage, if a file that a later one needs is unusable.
    """
    session = Session.load(folder)
    check_session(session)
    check_settings(config)
    manifests = []
    for step in steps_of(session):
        manifest = step.run(folder, getattr(config, step.setting), workers=workers, redo=redo)
        announce(step, manifest)
        manifests.append(manifest)
    return manifests
