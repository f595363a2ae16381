"""One self-contained HTML page about a session: health, clocks, rig, overlays, errors along time, motifs.

The page needs no network and holds no time of day, so the same session gives the same page. Stages leave their pictures
in their own folders; the report shows them, says what to look for, and draws only what spans stages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from capture.session import Session
from core.files import read_npz, write_text
from core.skeletons import SMPL_24
from fitting.sequence import Reason, spoken
from motifs.calibration_report import calibration_sections
from motifs.charts import png_bytes
from motifs.dataset_report import motif_sections
from motifs.page import Picture, Section, Table, pictures_in, readable, render
from motifs.status import describe, metrics_of, next_action, result_of, said_of, session_status
from motifs.truth import TruthErrors, compare_with_truth, has_truth

_FIT = (
    "a row of errors that is brighter than the others is a camera to check; do not trust frames in which the line of "
    "the feet rises above the dashed one, or a band above the contacts is coloured."
)
_PEOPLE = "the subject's way should be whole; where it ends in the middle of the room, somebody else may go on as them."
_LOOK = "The fitted body drawn over the recorded pictures; its edge should lie on the person's."
_OVERLAY = re.compile(r"(.+)_(\d{6,})(?:_(best|worst))?\.jpg")
_KINDS = {"worst": 0, "best": 1}
_SPANS = 40  # rejected stretches that are listed
_FIT_FIGURES = (
    ("valid", "valid frames, %", 100.0, 1),
    ("height_m", "stature, m", 1.0, 3),
    ("penetration_p95_m", "depth of the soles under the floor, 95th percentile, mm", 1e3, 1),
    ("skate_m_s", "speed of resting soles over the floor, mm/s", 1e3, 1),
)


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows.

    Attributes:
        motifs: folder that `motifs discover` wrote, to be shown with the session.
        max_overlays: overlay pictures shown.
    """

    motifs: Path | None = None
    max_overlays: int = 12


def write_report(folder: Path, config: ReportConfig) -> Path:
    """Writes `report/report.html` of a session from whatever stages are finished.

    Returns:
        The page.

    Raises:
        InputError: if there is no such session, or `config.motifs` is no discovery.
    """
    session = Session.load(folder)
    statuses = session_status(folder)
    sections = [_health(folder), *calibration_sections(session)]
    made: dict[str, Callable[[], Section | None]] = {
        "People": partial(_people, session), "Annotation": partial(_annotation, session),
        "Overlays": partial(_overlays, session, config.max_overlays), "Against the truth": partial(_truth, session),
    }  # fmt: skip
    sections += [section for title, make in made.items() if (section := readable(title, make)) is not None]
    sections += motif_sections(config.motifs)
    page = render(
        session.id if session.id.lower().startswith("session") else f"Session {session.id}",
        f"Subject {session.subject} · {len(session.of_role('room'))} room cameras · "
        f"{sum(view.is_foot for view in session.views)} foot cameras · annotated at {session.rate} Hz",
        sections,
        # by the session's name: the same page wherever the session lies
        next_action(folder, statuses, reported=True, name=session.id),
        refused=any(status.state in ("refused", "failed") for status in statuses),
    )
    path = folder / "report" / "report.html"
    write_text(path, page)
    return path


def _health(folder: Path) -> Section:
    rows = tuple((s.step.command, s.state, "\n".join(describe(s))) for s in session_status(folder))
    return Section("Health", tables=(Table(("stage", "state", "health"), rows),))


def _people(session: Session) -> Section | None:
    folder = result_of(session, "06_points3d")
    shown = pictures_in(folder, advice={"people": _PEOPLE})
    return Section("People", said_of(folder), pictures=shown, wide=True) if shown else None


def _annotation(session: Session) -> Section | None:
    folder = result_of(session, "07_smpl")
    if not (folder / "smpl.npz").is_file():
        return None
    shown = pictures_in(folder, advice={"fit": _FIT})
    tables = (*_fit_tables(metrics_of(folder)), *_mounts(session), *_rejected(folder))
    return Section("Annotation", said_of(folder), tables=tables, pictures=shown, wide=True)


def _mounts(session: Session) -> tuple[Table, ...]:
    """How well it is known where each foot camera sits on its foot, and why some are left out."""
    metrics = metrics_of(result_of(session, "07_subject"))
    rows = [
        (view, f"{1e3 * max(mount['sigma_m']):.1f}", f"{np.degrees(max(mount['sigma_rad'])):.1f}", "used")
        for view, mount in (metrics.get("mounts") or {}).items()
    ]
    rows += [(view, "", "", f"left out: {why}") for view, why in (metrics.get("refused") or {}).items()]
    heads = ("mount of", "standard deviation (worst axis), mm", "deg", "")
    return (Table(heads, tuple(rows), (1, 2)),) if rows else ()


def _overlays(session: Session, limit: int) -> Section | None:
    """The worst frame of a view beside its best, views that fit worst first; then frames in between."""
    folder = result_of(session, "07_smpl")
    if not (folder / "smpl.npz").is_file():
        return None
    chosen = []
    if (folder / "overlays").is_dir():
        t_s, error_px = read_npz(folder / "smpl.npz")["t_s"], metrics_of(folder).get("reprojection_px") or {}
        for path in sorted((folder / "overlays").iterdir()):
            if (named := _OVERLAY.fullmatch(path.name)) is None:
                continue
            view, instant, kind = named.groups()
            when = f" ({t_s[int(instant)]:.2f} s)" if int(instant) < len(t_s) else ""
            order = (kind is None, -(error_px.get(view) or 0.0), view, _KINDS.get(kind, int(instant)))
            chosen.append((order, path, f"{view}, {kind or 'a'} frame{when}"))
    shown = tuple(Picture.read(path, caption) for _, path, caption in sorted(chosen)[:limit])
    return Section("Overlays", f"{_LOOK} `motifs film {session.id}` draws it on every frame.", pictures=shown)


def _rejected(folder: Path) -> tuple[Table, ...]:
    """Stretches of frames that may not be used, the longest first, and why."""
    arrays = read_npz(folder / "smpl.npz")
    if "reasons" not in arrays or not (arrays["reasons"] != 0).any():
        return ()
    reasons, t_s = arrays["reasons"].astype(int), arrays["t_s"]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], reasons, [0]])))
    spans = [(first, last) for first, last in pairwise(edges) if reasons[first]]
    spans.sort(key=lambda span: span[0] - span[1])
    rows = tuple(
        (f"{t_s[a]:.2f}", f"{t_s[b - 1]:.2f}", str(b - a), spoken(Reason(int(reasons[a])))) for a, b in spans[:_SPANS]
    )
    left_out = len(spans) - len(rows)
    why = f"why ({left_out} shorter stretches are not listed)" if left_out else "why"
    return (Table(("rejected from, s", "to, s", "frames", why), rows, (0, 1, 2)),)


def _fit_tables(metrics: Mapping[str, Any]) -> tuple[Table, ...]:
    """Figures of the whole fit and of each view, as far as they were measured."""
    whole = [
        (label, f"{scale * metrics[name]:.{digits}f}")
        for name, label, scale, digits in _FIT_FIGURES
        if metrics.get(name) is not None
    ]
    masks = metrics.get("mask_iou") or {}
    names = ("median", "p5") if masks else ()
    views = [
        (view, _figure(error, 2), *(_figure(masks.get(view, {}).get(name), 3) for name in names))
        for view, error in (metrics.get("reprojection_px") or {}).items()
    ]
    heads = ("view", "median reprojection error, px", "median IoU with its masks", "5th percentile")[: 2 + len(names)]
    tables = (Table(("figure", "value"), tuple(whole), (1,)), Table(heads, tuple(views), (1, 2, 3)[: len(heads) - 1]))
    return tuple(table for table in tables if table.rows)


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _truth(session: Session) -> Section | None:
    if not has_truth(session) or not (session.stage("07_smpl") / "smpl.npz").is_file():
        return None
    errors: TruthErrors = compare_with_truth(session.folder)
    rows = tuple((name, f"{value:.2f}") for name, value in errors.summary().items())
    by_joint = tuple((name, f"{mm:.1f}") for name, mm in zip(SMPL_24.joints, errors.joint_medians_mm(), strict=True))
    return Section(
        "Against the truth",
        "Medians over the recording; nothing was aligned before comparing.",
        tables=(Table(("figure", "value"), rows, (1,)), Table(("joint", "median error, mm"), by_joint, (1,))),
        pictures=(Picture.of(png_bytes(errors.chart()), "Joint and foot-camera errors along time."),),
        wide=True,
    )
