"""`motifs film`: a fit to look at -> `08_film`, a video of every view with the body over it, and the body as GLB.

A fit that was refused can be looked at too: that is when one needs to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from calibration.clocks import clock_inputs
from calibration.egomotion import STAGE as FEET
from calibration.lens import STAGE as LENSES
from calibration.rig import load_rig
from capture.session import Session, View
from core.errors import InputError
from core.stage import Manifest, no_items, run_stage
from fitting.film import is_followed, shot_of, write_video
from fitting.fit import OUT as FIT
from fitting.fit import STAND_IN, load_body
from fitting.glb import write_glb
from fitting.observations import Observations
from fitting.playback import Playback
from fitting.sequence import load_smpl
from fitting.triangulate import OUT as POINTS

STAGE_VERSION = 1
OUT = "08_film"
GLB = "body.glb"
MAX_FAILED_FRACTION = 0.5


@dataclass(frozen=True)
class FilmConfig:
    """Settings of `motifs film`.

    Attributes:
        body_model: the SMPL model file that was fitted, or "stand-in".
        views: views to film; all that have pictures and a place if none are named.
        every: only every so many frames of the videos, which then show fewer pictures a second.
        max_height_px: taller pictures are reduced to this height, which saves most of the time that 4K takes.
        keypoints: whether detected joints are drawn beside the body.
        glb: whether the moving body is written for 3D programs.
        glb_every: only every so many instants of it.
    """

    body_model: str = STAND_IN
    views: tuple[str, ...] = ()
    every: int = 1
    max_height_px: int = 1080
    keypoints: bool = True
    glb: bool = True
    glb_every: int = 1


def run(session_dir: Path, config: FilmConfig | None = None, *, workers: int = 1, redo: bool = False) -> Manifest:
    """Draws the fit of a session over its pictures.

    Raises:
        InputError: if the session is not fitted, was fitted with another body, or a view named cannot be drawn on.
        StageError: if it was run before with other settings.
    """
    config = config or FilmConfig()
    if min(config.every, config.glb_every) < 1 or config.max_height_px < 2:
        raise InputError("film", f"every {config.every}, glb_every {config.glb_every}", "use whole numbers from 1 on")
    session = Session.load(session_dir)
    fit = fit_folder(session)
    views = _views(session, config)
    _playback(fit, config)  # refuses another body before anything is hashed
    items = [*(view.id for view in views), *([GLB] if config.glb else [])]
    return run_stage(
        "film", STAGE_VERSION, inputs=_inputs(session, config, views, fit),
        config=dataclasses.replace(config, body_model=Path(config.body_model).name), out=session.stage(OUT),
        items=items, process=partial(_process, session_dir, config), finish=no_items,
        max_failed_fraction=MAX_FAILED_FRACTION, workers=workers, redo=redo,
    )  # fmt: skip


def fit_folder(session: Session) -> Path:
    """Where the fit lies: the one that was refused if the last was.

    Raises:
        InputError: if there is none.
    """
    fit = session.stage(FIT)
    for folder in (fit.with_name(f"{fit.name}.refused"), fit):
        if (folder / "smpl.npz").is_file():
            return folder
    raise InputError(session.id, "nothing is fitted yet", "run `motifs fit` first")


def _process(session_dir: Path, config: FilmConfig, item: str, folder: Path) -> Mapping[str, Any]:
    """Makes one file."""
    session = Session.load(session_dir)
    fit = fit_folder(session)
    playback = _playback(fit, config)
    if item == GLB:
        write_glb(folder / GLB, playback, config.glb_every)
        return {}
    seen = Observations.load(session.stage(POINTS) / "observations.npz") if config.keypoints else None
    shot = shot_of(session, session[item], load_rig(session_dir), playback, seen)
    if fit.name != FIT:
        shot = dataclasses.replace(shot, note="of a fit that was refused")
    return {"frames": write_video(folder / f"{item}.mp4", shot, config.every, config.max_height_px)}


def _playback(fit: Path, config: FilmConfig) -> Playback:
    return Playback.of(load_smpl(fit / "smpl.npz"), load_body(config.body_model))


def _views(session: Session, config: FilmConfig) -> list[View]:
    """The views named, or all that can be drawn on."""
    placed = load_rig(session.folder).ids
    usable = [v for v in session.views if v.has_pictures and (v.id in placed or is_followed(session, v))]
    for name in config.views:
        if session[name] not in usable:
            raise InputError(name, "it has no pictures, or its place is not known", "leave it out of --views")
    return [view for view in usable if not config.views or view.id in config.views]


def _inputs(session: Session, config: FilmConfig, views: Sequence[View], fit: Path) -> dict[str, Path]:
    inputs = {
        "session": session.folder / "session.json",
        "fit": fit / "smpl.npz",
        "rig": session.stage("04_rig") / "rig.json",
        **clock_inputs(session.folder, [view.id for view in views]),
    }
    for view in views:
        pictures = view.video or view.images
        if pictures is not None:
            inputs[f"pictures of {view.id}"] = session.path(pictures)
        if view.is_foot:
            inputs[f"way of {view.id}"] = session.stage(FEET) / f"{view.id}.npz"
            inputs["lenses"] = session.stage(LENSES) / "lenses.json"
    if config.keypoints:
        inputs["points"] = session.stage(POINTS) / "observations.npz"
    if config.body_model != STAND_IN:
        inputs["body model"] = Path(config.body_model)
    return inputs
