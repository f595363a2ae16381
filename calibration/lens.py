"""Stage `03_lenses`: the lens of every view from pictures of a board, or from a calibration file.

Writes `lenses.json` (lenses and their quality) and one coverage picture a view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from calibration.formats import read_lenses
from calibration.lens_solver import LensSolution, calibrate_lens
from calibration.pictures import draw_coverage
from calibration.scene import Observations
from capture.markers import MarkerPoints, TargetFinder
from capture.session import Session, View
from capture.stills import list_stills, read_still
from capture.targets import Target, load_targets
from core.arrays import UInt8
from core.cameras import Camera, Lens
from core.errors import GateError, InputError
from core.files import read_json, write_json
from core.stage import Health, Manifest, Summary, run_stage
from core.transforms import SE3

STAGE = "03_lenses"
_ACTION = "take 10 to 20 sharp pictures of the whole board, tilted to all sides, in every part of the image"


@dataclass(frozen=True)
class LensConfig:
    """Settings of lens calibration.

    Attributes:
        lenses_from: calibration file (any format that can be read) for views without `lens_images`; cameras are
            matched by id, or by order if no id fits.
        max_pictures: pictures used of a view at most, evenly spread.
        min_points: corners a picture must show.
        max_rms_px: root mean square reprojection error above which a lens is refused.
        max_focal_sigma: relative standard deviation of the focal length above which it is refused: the board was not
            tilted enough, or there are too few pictures.
        min_coverage: share of the image (8 x 8 cells) that corners must reach.
    """

    lenses_from: Path | None = None
    max_pictures: int = 60
    min_points: int = 8
    max_rms_px: float = 1.5
    max_focal_sigma: float = 0.02
    min_coverage: float = 0.2


def run(session_dir: Path, config: LensConfig | None = None, *, workers: int = 1, redo: bool = False) -> Manifest:
    """Calibrates or imports the lens of every view of a session.

    Raises:
        InputError: if no view has `lens_images` and no file is given, or there is no lens board.
        GateError: if a lens is not determined well enough; the result is kept aside to look at.
    """
    config = config or LensConfig()
    session = Session.load(session_dir)
    shown = [view for view in session.views if view.lens_images]
    imported = _imported(session, config)
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
        1,
        inputs=inputs,
        config=config,
        out=session.stage(STAGE),
        items=items,
        process=partial(_process, session_dir, config),
        finish=partial(_finish, config),
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


def find_board(image: UInt8[np.ndarray, "h w"], finder: TargetFinder, target: Target, frame_idx: int) -> MarkerPoints:
    """Corners of the lens board in a picture; a checkerboard is looked for by OpenCV's two methods, in both layouts."""
    found = finder.find(image, frame_idx)
    if len(found) or target.kind != "checkerboard":
        return found
    columns, rows = target.grid
    for grid in ((columns, rows), (rows, columns)):
        corners = _classic_corners(image, grid)
        if corners is not None:
            index = np.arange(columns * rows)
            if grid != target.grid:  # numbered along the other side: point (i, j) of the transposed board
                index = (index % rows) * columns + index // rows
            n = len(corners)
            zero, sigma = np.zeros(n, np.int32), np.full(n, 0.2, np.float32)
            frame = np.full(n, frame_idx, np.int32)
            return MarkerPoints(found.target_ids, frame, zero, index.astype(np.int32), corners, sigma)
    return found


def _classic_corners(image: np.ndarray, grid: tuple[int, int]) -> np.ndarray | None:
    """Corners (n, 2) by OpenCV's first method, which finds boards with a narrow border that the newer one misses."""
    import cv2

    flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
    found, corners = cv2.findChessboardCorners(image, grid, flags=flags)
    if not found:
        return None
    step = np.linalg.norm(np.diff(corners.reshape(-1, 2)[: grid[0]], axis=0), axis=-1).min()
    half = int(np.clip(step / 3, 2, 8))
    term = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 40, 0.005)
    start = np.ascontiguousarray(corners.reshape(-1, 1, 2), dtype=np.float32)
    refined = cv2.cornerSubPix(image, start, (half, half), (-1, -1), term)
    return np.asarray(refined.reshape(-1, 2), np.float32)


def _process(session_dir: Path, config: LensConfig, view_id: str, folder: Path) -> Mapping[str, Any]:
    """Calibrates one view; returns its lens and quality."""
    session = Session.load(session_dir)
    view = session[view_id]
    if not view.lens_images:
        return {"lens": _imported(session, config)[view_id].to_json(), "imported": True}
    observations, num_pictures, size_px = _observe(session, view, config)
    solution = calibrate_lens(observations, num_pictures, view.lens_model, size_px, item=view_id)
    draw_coverage(folder / f"{view_id}.coverage.png", view_id, solution, observations)
    return {"lens": solution.lens.to_json(), "imported": False, "quality": _quality(solution)}


def _observe(session: Session, view: View, config: LensConfig) -> tuple[Observations, int, tuple[int, int]]:
    """Corners in all pictures of a view, the number of pictures, and their size."""
    boards = {k: t for k, t in load_targets(session.path(_require_targets(session))).items() if t.mounting == "lens"}
    if len(boards) != 1:
        raise InputError(
            session.id,
            f"{len(boards)} targets are mounted as `lens`, not one",
            "declare the lens board in targets.json",
        )
    (target,) = boards.values()
    finder, tables, size_px, count = TargetFinder(boards), [], view.size_px, 0
    for count, image in enumerate(_pictures(session.path(str(view.lens_images)), config.max_pictures), start=1):
        size_px = (image.shape[1], image.shape[0])
        found = find_board(image, finder, target, count - 1)
        if len(found) >= config.min_points:
            tables.append(found)
    if not tables:
        raise GateError(view.id, f"none of {count} pictures shows the board {target.id}", _ACTION)
    if size_px != view.size_px:
        raise InputError(
            view.id, f"its lens pictures are {size_px}, its frames {view.size_px}", "film the board in the same mode"
        )
    points = MarkerPoints.concatenate(tables, (target.id,))
    xyz = target.points_m[points.point_idx]
    frame, zero = points.frame_idx.astype(int), np.zeros(len(points), int)
    return Observations(frame, zero, xyz, points.xy_px.astype(float), points.sigma_px.astype(float)), count, size_px


def _pictures(path: Path, limit: int) -> Iterator[np.ndarray]:
    """Gray pictures of a folder of stills or of a video, evenly spread over it."""
    if path.is_dir():
        stills = list_stills(path)
        for k in _spread(len(stills), limit):
            yield read_still(stills[k])
        return
    from capture.video import probe, read_frames

    for _, image in read_frames(path, indices=_spread(probe(path).num_frames, limit), color="gray"):
        yield image


def _spread(total: int, limit: int) -> list[int]:
    return np.unique(np.linspace(0, total - 1, min(total, limit)).round().astype(int)).tolist()


def _quality(solution: LensSolution) -> dict[str, Any]:
    return {
        "rms_px": solution.rms_px,
        "num_views": int(solution.used.sum()),
        "params_sigma": solution.params_sigma.tolist(),
        "view_rms_px": solution.view_rms_px.tolist(),
        "focal_sigma": solution.focal_sigma,
        "coverage": solution.coverage,
        "tilt_deg": solution.tilt_deg,
        "notes": list(solution.notes),
    }


def _finish(config: LensConfig, folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
    quality = {view_id: fact.get("quality", {"imported": True}) for view_id, fact in facts.items()}
    lenses = {view_id: fact["lens"] for view_id, fact in facts.items()}
    write_json(folder / "lenses.json", {"lenses": lenses, "quality": quality})
    health = []
    for view_id, q in quality.items():
        if "rms_px" in q:
            tilted = f"{_ACTION} (the normals span {q['tilt_deg']:.0f} deg)"
            health += [
                Health("focal_sigma", q["focal_sigma"], config.max_focal_sigma, "max", tilted, view_id),
                Health("lens_rms_px", q["rms_px"], config.max_rms_px, "max", "check the board's sizes", view_id),
                Health("coverage", q["coverage"], config.min_coverage, "min", _ACTION, view_id),
            ]
    return Summary({"views": quality}, health)


def _require_targets(session: Session) -> str:
    if session.targets is None:
        pictures = ", ".join(view.id for view in session.views if view.lens_images)
        raise InputError(
            session.id,
            f"there are lens pictures of {pictures}, but nothing says what board they show",
            "ingest it with --targets FILE, in which a board is mounted as `lens`",
        )
    return session.targets


def _imported(session: Session, config: LensConfig) -> dict[str, Lens]:
    """Lenses of the file given, by view."""
    if config.lenses_from is None:
        return {}
    lenses = read_lenses(config.lenses_from)
    cameras = {name: Camera(name, lens, SE3.identity()) for name, lens in lenses.items()}
    views = tuple(view for view in session.views if view.id in cameras)
    if views:
        return imported_lenses(views, [cameras[view.id] for view in views], config.lenses_from)
    room = session.of_role("room")
    if len(room) != len(cameras):
        raise InputError(
            str(config.lenses_from),
            f"its cameras {', '.join(cameras)} match no view of the session",
            "name the cameras in the file as the views",
        )
    return imported_lenses(room, list(cameras.values()), config.lenses_from)


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
