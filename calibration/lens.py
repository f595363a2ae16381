"""Stage `03_lenses`: the lens of every view from pictures of a board, or from a calibration file.

Writes `lenses.json` (lenses, their covariance and quality) and, for each view with pictures, what its report draws:
`<view>.coverage.png` and `<view>.residuals.npz`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from calibration.camera_names import match_cameras
from calibration.formats import read_file, read_lenses
from calibration.lens_prior import imported_lens_covariance
from calibration.lens_quality import board_stretch, corner_counts, projection_sigma_px, remarks
from calibration.lens_solver import MIN_WEIGHT, LensSolution, calibrate_lens
from calibration.pictures import draw_coverage
from calibration.scene import Observations
from capture.finder import TargetFinder, markers_instead, refuse_contradicted
from capture.markers import MarkerPoints
from capture.session import Session, View
from capture.stills import list_stills, read_still
from capture.targets import Target, load_targets
from capture.video import probe, read_frames
from core.arrays import UInt8
from core.cameras import Camera, Lens
from core.errors import GateError, InputError
from core.files import read_json, write_json, write_npz
from core.progress import progress
from core.stage import Health, Manifest, Summary, run_stage
from core.transforms import SE3

STAGE = "03_lenses"
_ACTION = "take 10 to 20 sharp pictures of the whole board, tilted to all sides, in every part of the image"


@dataclass(frozen=True)
class LensConfig:
    """Settings of lens calibration.

    Attributes:
        lenses_from: calibration file (any format that can be read) for views without `lens_images`; that of the
            session where it has one and none is named. Cameras are matched as by `calibration.camera_names`.
        imported_exact: take these lenses as exact; otherwise as what other tools' lenses usually are worth (0.5 % of
            the focal length, 0.4 % of the width in the principal point), and the rig is solved within that.
        max_searched: pictures of a view in which the board is looked for, evenly spread.
        max_pictures: of those that show it, the ones used at most: those that together say most of the lens.
        min_points: corners a picture must show.
        min_pictures: pictures that must remain.
        max_dropped: share of the pictures that may not fit the lens.
        max_rms_px: root mean square reprojection error above which a lens is refused.
        max_focal_sigma: relative standard deviation of the focal length above which it is refused: the board was not
            tilted enough, or there are too few pictures.
        min_tilt_deg: largest angle between the boards of two pictures below which all count as fronto-parallel.
        min_coverage: share of the image (8 x 8 cells) that corners must reach.
        min_span: share of the image within the rectangle around all corners: boards in one part of the image say
            nothing of the lens elsewhere.
        max_stretch: share by which the board may be longer along one side than its description says.
    """

    lenses_from: Path | None = None
    imported_exact: bool = False
    max_searched: int = 300
    max_pictures: int = 60
    min_points: int = 8
    min_pictures: int = 3
    max_dropped: float = 0.4
    max_rms_px: float = 1.5
    max_focal_sigma: float = 0.02
    min_tilt_deg: float = 10.0
    min_coverage: float = 0.2
    min_span: float = 0.35
    max_stretch: float = 0.005


def run(session_dir: Path, config: LensConfig | None = None, *, workers: int = 1, redo: bool = False) -> Manifest:
    """Calibrates or imports the lens of every view of a session.

    Raises:
        InputError: if no view has `lens_images` and no file is given, or there is no lens board.
        GateError: if a lens is not determined well enough; the result is kept aside to look at.
    """
    config = config or LensConfig()
    session = Session.load(session_dir)
    if config.lenses_from is None and session.calibration is not None:
        config = dataclasses.replace(config, lenses_from=session.path(session.calibration))
    shown = [view for view in session.views if view.lens_images]
    imported, matched = _imported(session, config)
    items = [view.id for view in session.views if view.lens_images or view.id in imported]
    if not items:
        raise InputError(
            session.id,
            "no view has lens_images and no calibration file is given",
            "film a board with each camera, or name a file by --lenses-from",
        )
    inputs = {"session": session_dir / "session.json"}
    inputs |= {f"pictures of {view.id}": session.path(str(view.lens_images)) for view in shown}
    if shown:
        inputs["targets"] = session.path(_require_targets(session))
    if config.lenses_from is not None:
        inputs["lenses_from"] = config.lenses_from
    return run_stage(
        "calibrate lens",
        3,
        inputs=inputs,
        config=config,
        out=session.stage(STAGE),
        items=items,
        process=partial(_process, session_dir, config, max(workers // len(items), 1)),
        finish=partial(_finish, config, matched),
        workers=workers,
        redo=redo,
    )


def load_lenses(session_dir: Path) -> dict[str, Lens]:
    """Lenses by view.

    Raises:
        InputError: if the stage has not been run.
    """
    data = read_json(session_dir / STAGE / "lenses.json")
    return {view_id: Lens.from_json(lens) for view_id, lens in data["lenses"].items()}


def load_lens_covariances(session_dir: Path) -> dict[str, np.ndarray]:
    """Covariances (p, p) of `Lens.params` by view; of lenses that are taken as exact there is none."""
    quality = read_json(session_dir / STAGE / "lenses.json").get("quality", {})
    return {view_id: np.array(q["covariance"]) for view_id, q in quality.items() if "covariance" in q}


def _process(session_dir: Path, config: LensConfig, threads: int, view_id: str, folder: Path) -> Mapping[str, Any]:
    """Calibrates one view; returns its lens and quality."""
    session = Session.load(session_dir)
    view = session[view_id]
    if not view.lens_images:
        lens = _imported(session, config)[0][view_id]
        unsure = {} if config.imported_exact else {"covariance": imported_lens_covariance(lens).tolist()}
        return {"lens": lens.to_json(), "imported": True, "quality": {"imported": True, **unsure}}
    observations, names = _observe(session, view, config, threads)
    solution = calibrate_lens(
        observations, len(names), view.lens_model, view.size_px, item=view_id, max_views=config.max_pictures
    )
    draw_coverage(folder / f"{view_id}.coverage.png", view_id, solution, observations)
    quality = _quality(solution, observations, names)
    _save_residuals(folder / f"{view_id}.residuals.npz", solution, observations, names)
    return {"lens": solution.lens.to_json(), "imported": False, "quality": quality}


def _observe(session: Session, view: View, config: LensConfig, threads: int) -> tuple[Observations, list[str]]:
    """Corners in all pictures of a view, and the names of the pictures."""
    boards = {k: t for k, t in load_targets(session.path(_require_targets(session))).items() if t.mounting == "lens"}
    if len(boards) != 1:
        raise InputError(
            session.id,
            f"{len(boards)} targets are mounted as `lens`, not one",
            "declare the lens board in targets.json",
        )
    (target,) = boards.values()
    names: list[str] = []
    against: list[str] = []
    tables = []
    finder = TargetFinder(boards, parts=True)
    path = session.path(str(view.lens_images))
    total = len(list_stills(path)) if path.is_dir() else probe(path).num_frames
    chosen = np.unique(np.linspace(0, total - 1, min(total, config.max_searched)).round().astype(int)).tolist()
    with progress(f"lens board of {view.id}", len(chosen)) as advance:
        for seen in finder.look_at_all(_pictures(path, chosen, view, names), threads=threads):
            against += seen.against.values()
            if len(seen.points) >= config.min_points:
                tables.append(seen.points)
            advance()
    refuse_contradicted({target.id: len(tables)}, {target.id: against}, view.id)
    if not tables:
        some = [image for _, image in _pictures(path, chosen[:: max(len(chosen) // 2, 1)][:2], view, [])]
        instead = markers_instead(some, target)
        problem = f"none of {len(names)} pictures shows the board {target.id}"
        if instead:
            raise GateError(view.id, f"{problem}, but they show markers of {instead}", "correct it in targets.json")
        raise GateError(view.id, problem, _ACTION)
    return _observations(MarkerPoints.concatenate(tables, (target.id,)), target), names


def _observations(points: MarkerPoints, target: Target) -> Observations:
    xyz = target.points_m[points.point_idx]
    frame, zero = points.frame_idx.astype(int), np.zeros(len(points), int)
    return Observations(frame, zero, xyz, points.xy_px.astype(float), points.sigma_px.astype(float))


def _pictures(
    path: Path, chosen: list[int], view: View, names: list[str]
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w"]]]:
    """Some gray pictures of a folder of stills or of a video, numbered from 0; their names go into a list.

    Raises:
        InputError: if a picture is of another size than the view's frames.
    """
    for index, (name, image) in enumerate(_named_pictures(path, chosen)):
        size_px = (image.shape[1], image.shape[0])
        if size_px != view.size_px:
            found, own = ("x".join(map(str, size)) for size in (size_px, view.size_px))
            action = "film the board in the same mode as the recording, without cropping or resizing"
            raise InputError(view.id, f"its lens picture {name} is {found} px, its frames are {own}", action)
        names.append(name)
        yield index, image


def _named_pictures(path: Path, chosen: list[int]) -> Iterator[tuple[str, np.ndarray]]:
    if path.is_dir():
        stills = list_stills(path)
        for k in chosen:
            yield stills[k].name, read_still(stills[k])
        return
    for idx, image in read_frames(path, indices=chosen, color="gray"):
        yield f"frame {idx}", image


def _quality(solution: LensSolution, observations: Observations, names: Sequence[str]) -> dict[str, Any]:
    bundle, prior, pictures = solution.bundle, solution.prior, solution.pictures
    sigma_px = projection_sigma_px(solution.lens, solution.covariance)
    stretch, stretch_sigma = board_stretch(bundle, prior, pictures)
    used = solution.used[observations.image_idx]
    span = np.ptp(observations.xy_px[used], axis=0) / np.array(solution.lens.size_px)
    misfits = solution.used.sum() + sum(reason.startswith(("does not", "taken at")) for reason in solution.dropped)
    return {
        "rms_px": solution.rms_px,
        "num_views": int(solution.used.sum()),
        "params_sigma": solution.params_sigma.tolist(),
        "covariance": solution.covariance.tolist(),
        "view_rms_px": solution.view_rms_px.tolist(),
        "focal_sigma": solution.focal_sigma,
        "projection_sigma_px": {"median": float(np.nanmedian(sigma_px)), "max": float(np.nanmax(sigma_px))},
        "coverage": solution.coverage,
        "span": float(span.prod()),
        "tilt_deg": solution.tilt_deg,
        "stretch": stretch,
        "stretch_sigma": stretch_sigma,
        "dropped": {name: reason for name, reason in zip(names, solution.dropped, strict=True) if reason},
        "dropped_share": float(1 - solution.used.sum() / misfits),
        "corners": {"used": int(used.sum()), "rejected": int((solution.weight[used] < MIN_WEIGHT).sum())},
        "notes": [*solution.notes, *remarks(bundle, prior, pictures, solution.rms_px)],
    }


def _save_residuals(path: Path, solution: LensSolution, observations: Observations, names: Sequence[str]) -> None:
    """Everything that a picture of the calibration needs: every corner, every picture, and maps over the image."""
    kept = solution.used[observations.image_idx]
    write_npz(
        path,
        {
            "xy_px": observations.xy_px.astype(np.float32),
            "residual_px": solution.residual_px.astype(np.float32),
            "sigma_px": observations.sigma_px.astype(np.float32),
            "weight": solution.weight.astype(np.float32),
            "picture": observations.image_idx.astype(np.int32),
            "picture_names": np.array(names, dtype=np.str_),
            "picture_used": solution.used,
            "picture_rms_px": solution.view_rms_px,
            "corner_counts": corner_counts(solution.lens.size_px, observations.xy_px[kept]),
            "projection_sigma_px": projection_sigma_px(solution.lens, solution.covariance),
        },
    )


def _finish(
    config: LensConfig, matched: Sequence[str], folder: Path, facts: Mapping[str, Mapping[str, Any]]
) -> Summary:
    quality = {view_id: fact["quality"] for view_id, fact in facts.items()}
    lenses = {view_id: fact["lens"] for view_id, fact in facts.items()}
    write_json(folder / "lenses.json", {"lenses": lenses, "quality": quality})
    health = [figure for view_id, q in quality.items() if "rms_px" in q for figure in _health(config, view_id, q)]
    imported = () if config.lenses_from is None else read_file(config.lenses_from).notes
    return Summary({"views": quality, "import_notes": [*imported, *matched]}, health)


def _health(config: LensConfig, view_id: str, q: Mapping[str, Any]) -> list[Health]:
    """The figures that decide whether a lens may be used, the most telling first."""
    misfits = [f"{name} ({reason})" for name, reason in q["dropped"].items() if reason.startswith(("does", "taken"))]
    look = f"look at {'; '.join(misfits[:3])}; " if misfits else ""
    fits = f"{look}keep pictures of one zoom, one focus and one rigid board"
    spread = f"{_ACTION} (the boards span {q['tilt_deg']:.0f} deg)"
    print_ = "measure the print: its squares are longer one way, or its grid is not the one in targets.json"
    # a stretch that is not significant is no finding
    stretch = abs(q["stretch"]) if abs(q["stretch"]) > 5 * q["stretch_sigma"] else 0.0
    return [
        Health("dropped_pictures", q["dropped_share"], config.max_dropped, "max", fits, view_id),
        Health("pictures", float(q["num_views"]), float(config.min_pictures), "min", _ACTION, view_id),
        Health("tilt_deg", q["tilt_deg"], config.min_tilt_deg, "min", spread, view_id),
        Health("coverage", q["coverage"], config.min_coverage, "min", _ACTION, view_id),
        Health("span", q["span"], config.min_span, "min", _ACTION, view_id),
        Health("focal_sigma", q["focal_sigma"], config.max_focal_sigma, "max", spread, view_id),
        Health("board_stretch", stretch, config.max_stretch, "max", print_, view_id),
        Health("lens_rms_px", q["rms_px"], config.max_rms_px, "max", "check the board's sizes and its grid", view_id),
    ]


def _require_targets(session: Session) -> str:
    if session.targets is None:
        pictures = ", ".join(view.id for view in session.views if view.lens_images)
        raise InputError(
            session.id,
            f"there are lens pictures of {pictures}, but nothing says what board they show",
            "ingest it with --targets FILE, in which a board is mounted as `lens`",
        )
    return session.targets


def _imported(session: Session, config: LensConfig) -> tuple[dict[str, Lens], tuple[str, ...]]:
    """Lenses of the file given, by view; and how its cameras were told where their names do not."""
    if config.lenses_from is None:
        return {}, ()
    lenses = read_lenses(config.lenses_from)
    cameras = {name: Camera(name, lens, SE3.identity()) for name, lens in lenses.items()}
    views = tuple(view for view in session.views if view.id in cameras)
    if views:
        return imported_lenses(views, [cameras[view.id] for view in views], config.lenses_from), ()
    room = session.of_role("room")
    pairs, notes = match_cameras([view.id for view in room], list(cameras), str(config.lenses_from))
    return imported_lenses(room, [cameras[name] for name in pairs.values()], config.lenses_from), notes


def imported_lenses(views: Sequence[View], cameras: Sequence[Camera], path: Path) -> dict[str, Lens]:
    """Lenses of a file by view.

    Raises:
        InputError: if one is for pictures of another size, whose pixels it would misread.
    """
    for view, camera in zip(views, cameras, strict=True):
        if camera.lens.size_px != view.size_px:
            found, own = ("x".join(map(str, size)) for size in (camera.lens.size_px, view.size_px))
            action = f"ingest with the file's --size-px {view.id}=WIDTH,HEIGHT and --picture-from-px, or scale the file"
            raise InputError(view.id, f"camera {camera.id} of {path} is for {found} px, its frames are {own}", action)
    return {view.id: camera.lens for view, camera in zip(views, cameras, strict=True)}
