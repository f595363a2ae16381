"""The report's sections on calibration: clocks, lenses, rig, marker map, scene map, foot cameras.

Stages leave their pictures in their own folders; drawn here is what spans stages, or what a lower floor measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calibration.pictures import Reading, Room, Way, camera_figure, clocks_figure, png_bytes, ways_figure
from capture.session import Session
from capture.targets import load_targets
from core.cameras import Rig
from core.clock import Clock
from core.files import read_json, read_npz
from core.transforms import SE3
from motifs.coverage import coverage_section
from motifs.page import Picture, Section, Table, pictures_in, readable
from motifs.status import metrics_of, result_of, said_of

_REFINED = ("04_rig", "05_egomotion")
_WORST = "standard deviation (worst axis)"
_LENS = (
    "corners should reach every edge of the picture; the arrows should point every which way, for a pattern means "
    "another lens model or a bent board; where the map is bright, the lens is a guess."
)
_PLAN = (
    "cameras should stand and look where they do in the room, boards lie where they were hung, and no ellipse stand "
    "out from the others: a large one wants a board nearer to its camera."
)
_MARKERS = (
    "boards should lie where they were hung; a large ellipse wants another photograph that shows the board together "
    "with one that is well placed."
)
_SCENE = (
    "walls, floor and furniture should show as lines, straight and at right angles where the room is; points off them "
    "are wrong matches, and parts of the room without points carry no camera."
)
_WAY = "the way should be smooth; long red stretches are guesses between measurements, and gray ones no pose at all."
_FEET = (
    "The ways of both feet should lie side by side and inside the room; the height should come back to one level at "
    "every step, and its band stay narrower than the steps are high."
)
_CLOCKS = (
    "Each method's bar should reach the line, or it contradicts the others; a clock that only one method measured is "
    "known as well as its bar is short."
)
_CAMERAS = "No camera should stand out: one that fits worse than the others was moved, or has a wrong lens or clock."


def calibration_sections(session: Session) -> list[Section]:
    """Sections on clocks, on what was seen, and on the calibration stages that have a result."""
    made: dict[str, Callable[[Session], Section | None]] = {
        "Clocks": _clocks, "Coverage": coverage_section, "Lenses": _lenses, "Room rig": _rig, "Marker map": _markers,
        "Scene map": _scene, "Foot cameras": _feet,
    }  # fmt: skip
    return [section for title, make in made.items() if (section := readable(title, make, session)) is not None]


def _json(session: Session, stage: str, file: str) -> Any:
    """A stage's file, or None if there is none."""
    path = result_of(session, stage) / file
    return read_json(path) if path.is_file() else None


def _notes(session: Session, stage: str) -> str:
    """Whether a result was refused, and what a calibration file that it took said beside, or did not say."""
    notes = [f"{note}." for note in metrics_of(result_of(session, stage)).get("import_notes") or []]
    return " ".join(part for part in (said_of(result_of(session, stage)), *notes) if part)


def _clocks(session: Session) -> Section | None:
    data = _json(session, "01_sync", "clocks.json")
    if data is None:
        return None
    # the feet's clocks were refined after the rig's: each view's last word is what its times were made with
    by_stage = [(_json(session, stage, "clocks.json") or {"clocks": {}})["clocks"] for stage in _REFINED]
    refined = {view: clock for clocks in by_stage for view, clock in clocks.items()}
    rows = []
    for view, first in data["clocks"].items():
        clock = {**first, **refined.get(view, {}), "residual_ms": first.get("residual_ms")}
        row = (
            view,
            f"{1e3 * clock['offset_s']:.2f} ± {1e3 * (clock.get('offset_sigma_s') or 0):.2f}",
            f"{1e6 * (clock['rate'] - 1):.1f} ± {1e6 * (clock.get('rate_sigma') or 0):.1f}",
            "" if clock.get("residual_ms") is None else f"{clock['residual_ms']:.2f}",
            ", ".join(clock.get("methods", [])),
            f"{_moved_ms(first, clock):+.2f}" if view in refined else "",
        )
        rows.append(row if refined else row[:-1])
    heads = ("view", "offset, ms", "drift, ppm", "residual, ms", "from", "moved since, ms")
    table = Table(heads if refined else heads[:-1], tuple(rows), (1, 2, 3, 5))
    drawn = (Picture.of(_clock_picture(data), _CLOCKS),) if data.get("evidence") else ()
    said = said_of(result_of(session, "01_sync"))
    return Section(
        "Clocks", said, tables=(table,), pictures=(*drawn, *pictures_in(result_of(session, "01_sync"))), wide=True
    )


def _moved_ms(first: Mapping[str, Any], clock: Mapping[str, Any]) -> float:
    """How far a refined clock is from the first, where the first was measured."""
    before, after = Clock.from_json(first), Clock.from_json(clock)
    at = np.array([before.measured_at_s])
    return float(1e3 * (after.to_session(at) - before.to_session(at))[0])


def _clock_picture(data: Mapping[str, Any]) -> bytes:
    """What each method alone says of each clock."""
    clocks = data["clocks"]
    readings = [
        Reading(view, method, 1e-3 * value["residual_ms"], 1e-3 * value["sigma_ms"])
        for view, by_method in data.get("evidence", {}).items()
        for method, value in by_method.items()
        if value["sigma_ms"]  # none: the view that a method compares the others with, of which it says nothing
    ]
    sigma = {view: float(clock.get("offset_sigma_s") or 0.0) for view, clock in clocks.items()}
    return png_bytes(clocks_figure({view: float(c["offset_s"]) for view, c in clocks.items()}, sigma, readings))


def _lenses(session: Session) -> Section | None:
    data = _json(session, "03_lenses", "lenses.json")
    if data is None:
        return None
    rows = []
    for view, lens in data["lenses"].items():
        quality = data.get("quality", {}).get(view) or {}
        focal, centre, rms = lens["focal_px"], lens["centre_px"], quality.get("rms_px")
        sigma = quality.get("focal_sigma")
        rows.append(
            (
                view,
                lens["model"],
                f"{focal[0]:.1f}, {focal[1]:.1f}" + ("" if sigma is None else f" ± {sigma * focal[0]:.2g}"),
                f"{centre[0]:.1f}, {centre[1]:.1f}",
                "" if rms is None else f"{rms:.3f}",
                str(quality.get("num_views") or ""),
                "; ".join(map(str, quality.get("notes", []))) or ("from a file" if quality.get("imported") else ""),
            )
        )
    heads = ("view", "model", "focal length, px", "principal point, px", "RMS, px", "pictures", "notes")
    shown = pictures_in(result_of(session, "03_lenses"), advice={".coverage": _LENS})
    return Section(
        "Lenses",
        _notes(session, "03_lenses"),
        tables=(Table(heads, tuple(rows), (2, 3, 4, 5)),),
        pictures=shown,
        wide=True,
    )


def _rig(session: Session) -> Section | None:
    data = _json(session, "04_rig", "rig.json")
    if data is None:
        return None
    rows = []
    for camera in Rig.from_json(data):
        covariance = _covariances(data).get(camera.id)
        sigma = None if covariance is None else np.sqrt(np.diag(covariance))
        rows.append(
            (
                camera.id,
                ", ".join(f"{v:.3f}" for v in camera.centre),
                "" if sigma is None else f"{1e3 * sigma[3:].max():.1f}",
                "" if sigma is None else f"{np.rad2deg(sigma[:3].max()):.3f}",
            )
        )
    heads = ("camera", "centre in the world, m", f"{_WORST}, mm", f"{_WORST}, deg")
    shown = pictures_in(result_of(session, "04_rig"), advice={"plan": _PLAN})
    return Section(
        "Room rig",
        _notes(session, "04_rig"),
        tables=(Table(heads, tuple(rows), (1, 2, 3)),),
        pictures=(*shown, *_fits(session, data)),
        wide=True,
    )


def _covariances(data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(value, float) for name, value in (data.get("covariance") or {}).items()}


def _fits(session: Session, data: Mapping[str, Any]) -> tuple[Picture, ...]:
    """How each camera fits and how well it is placed, where the stage counted it."""
    metrics, cameras = metrics_of(result_of(session, "04_rig")), [camera["id"] for camera in data["cameras"]]
    health = (_json(session, "04_rig", "manifest.json") or {}).get("health", [])
    limits = {h["name"]: h["limit"] for h in health if h["kind"] == "max"}
    wanted = {
        "reprojection_px": "reprojection error, px",
        "position_sigma_mm": "position, mm\n(standard deviation, worst axis)",
        "rotation_sigma_deg": "orientation, deg\n(standard deviation, worst axis)",
    }
    panels = [(label, metrics[name], limits.get(name)) for name, label in wanted.items() if metrics.get(name)]
    if not panels:
        return ()
    return (Picture.of(png_bytes(camera_figure(cameras, panels)), _CAMERAS),)


def _markers(session: Session) -> Section | None:
    data = _json(session, "04_markers", "markers.json")
    if data is None:
        return None
    sigma = data.get("sigma_m", {})
    rows = tuple(
        (name, ", ".join(f"{v:.3f}" for v in pose["t_m"]), f"{1e3 * sigma[name]:.1f}" if name in sigma else "")
        for name, pose in data["world_from_target"].items()
    )
    table = Table(("board or marker", "place in the world, m", f"{_WORST}, mm"), rows, (1, 2))
    folder = result_of(session, "04_markers")
    shown = pictures_in(folder, advice={"plan": _MARKERS})
    return Section("Marker map", said_of(folder), tables=(table,), pictures=shown, wide=True)


def _scene(session: Session) -> Section | None:
    folder = result_of(session, "04_scene")
    shown = pictures_in(folder, advice={"plan": _SCENE})
    return Section("Scene map", said_of(folder), pictures=shown, wide=True) if shown else None


def _feet(session: Session) -> Section | None:
    folder = result_of(session, "05_egomotion")
    ways, rows = {}, []
    for view in session.views:
        if view.is_foot and (folder / f"{view.id}.npz").is_file():
            data = read_npz(folder / f"{view.id}.npz")
            ways[view.id] = _way(data)
            rows.append(_foot_row(view.id, data))
    if not ways:
        return None
    heads = ("camera", "frames with a pose", "of them filled", f"median {_WORST}, mm", "deg")
    both = png_bytes(ways_figure("foot cameras", ways, _room(session)))
    shown = pictures_in(folder, advice={f"{view_id}": _WAY for view_id in ways})
    pictures = (Picture.of(both, _FEET), *shown)
    said = said_of(folder)
    return Section(
        "Foot cameras", said, tables=(Table(heads, tuple(rows), (1, 2, 3, 4)),), pictures=pictures, wide=True
    )


def _way(data: Mapping[str, np.ndarray]) -> Way:
    sigma = np.sqrt(np.einsum("nii->ni", data["covariance"])[:, 3:])
    return Way(data["t_s"], data["world_from_cam_t_m"], data["filled"], data["valid"], sigma)


def _foot_row(name: str, data: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    valid = data["valid"]
    if not valid.any():
        return (name, "0%", "", "", "")
    sigma = np.sqrt(np.einsum("nii->ni", data["covariance"][valid]))
    mm, deg = 1e3 * sigma[:, 3:].max(axis=1), np.degrees(sigma[:, :3].max(axis=1))
    filled = (data["filled"] & valid).sum() / valid.sum()
    return (name, f"{valid.mean():.0%}", f"{filled:.0%}", f"{np.median(mm):.1f}", f"{np.median(deg):.2f}")


def _room(session: Session) -> Room | None:
    """The rig and the boards that hang in the room; None without a rig."""
    data = _json(session, "04_rig", "rig.json")
    if data is None:
        return None
    found = _json(session, "04_markers", "markers.json") or _json(session, "04_rig", "markers.json") or {}
    poses = {
        name: SE3.from_rotvec(np.array(pose["rotvec"], float), np.array(pose["t_m"], float))
        for name, pose in found.get("world_from_target", {}).items()
    }
    return Room(Rig.from_json(data), poses, _sizes(session))


def _sizes(session: Session) -> dict[str, tuple[float, float]]:
    path: Path | None = None if session.targets is None else session.path(session.targets)
    if path is None or not path.is_file():
        return {}
    return {name: target.size_m for name, target in load_targets(path).items() if target.kind != "rig"}
