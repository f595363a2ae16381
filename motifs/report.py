"""One self-contained HTML page about a session: health, clocks, rig, overlays, errors along time, motifs.

The page needs no network and holds no time of day, so the same session gives the same page. Stages leave their pictures
in their own folders; the report shows them and draws only what spans stages.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from capture.session import Session
from core.errors import InputError
from core.files import read_json, read_npz, write_text
from core.skeletons import SMPL_24
from motifs.charts import annotation_chart, png_bytes
from motifs.status import describe, next_action, session_status
from motifs.truth import TruthErrors, compare_with_truth, has_truth

_MIME = {".png": "image/png", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows.

    Attributes:
        motifs: folder that `motifs discover` wrote, to be shown with the session.
        max_overlays: overlay pictures shown.
    """

    motifs: Path | None = None
    max_overlays: int = 12


@dataclass(frozen=True)
class Picture:
    """An embedded picture."""

    caption: str
    mime: str
    base64: str

    @staticmethod
    def of(content: bytes, caption: str, mime: str = "image/png") -> Picture:
        """From encoded bytes."""
        return Picture(caption, mime, base64.b64encode(content).decode())

    @staticmethod
    def read(path: Path, caption: str | None = None) -> Picture:
        """From a file; the caption is the file's name unless given."""
        return Picture.of(
            path.read_bytes(), caption or path.stem.replace("_", " ").replace(".", ": "), _MIME[path.suffix]
        )


@dataclass(frozen=True)
class Table:
    """Rows of text; `numeric` columns are set right-aligned."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()


@dataclass(frozen=True)
class Section:
    """A heading with text, tables and pictures."""

    title: str
    text: str = ""
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    wide: bool = False

    @property
    def anchor(self) -> str:
        """Name of the section in links."""
        return self.title.lower().replace(" ", "-")


def write_report(folder: Path, config: ReportConfig) -> Path:
    """Writes `report/report.html` of a session from whatever stages are finished.

    Returns:
        The page.

    Raises:
        InputError: if there is no such session, or `config.motifs` is no discovery.
    """
    from jinja2 import Environment, PackageLoader

    session = Session.load(folder)
    statuses = session_status(folder)
    sections = [_health(folder), *_clocks(session), *_lenses(session), *_rig(session), *_feet(session)]
    sections += [*_annotation(session, config), *_truth(session), *_motifs(config)]
    template = Environment(loader=PackageLoader("motifs"), autoescape=True).get_template("report.html")
    page = template.render(
        title=session.id if session.id.lower().startswith("session") else f"Session {session.id}",
        lead=f"Subject {session.subject} · {len(session.of_role('room'))} room cameras · "
        f"{sum(view.is_foot for view in session.views)} foot cameras · annotated at {session.rate} Hz",
        sections=sections,
        next_action=next_action(Path(session.id), statuses, reported=True),
        refused=any(status.state == "refused" for status in statuses),
    )
    path = folder / "report" / "report.html"
    write_text(path, page)
    return path


def _health(folder: Path) -> Section:
    rows = tuple((s.step.command, s.state, "\n".join(describe(s))) for s in session_status(folder))
    return Section("Health", tables=(Table(("stage", "state", "health"), rows),))


def _pictures(folder: Path, limit: int | None = None) -> tuple[Picture, ...]:
    """The pictures that a stage left at the top of its folder."""
    found = sorted(p for p in folder.glob("*") if p.suffix in _MIME) if folder.is_dir() else []
    return tuple(Picture.read(path) for path in found[:limit])


def _clocks(session: Session) -> list[Section]:
    path = session.stage("01_sync") / "clocks.json"
    if not path.is_file():
        return []
    rows = tuple(
        (
            view,
            f"{1e3 * clock['offset_s']:.2f} ± {1e3 * (clock.get('offset_sigma_s') or 0):.2f}",
            f"{1e6 * (clock['rate'] - 1):.1f} ± {1e6 * (clock.get('rate_sigma') or 0):.1f}",
            "" if clock.get("residual_ms") is None else f"{clock['residual_ms']:.2f}",
            ", ".join(clock.get("methods", [])),
        )
        for view, clock in read_json(path)["clocks"].items()
    )
    heads = ("view", "offset, ms", "drift, ppm", "residual, ms", "from")
    return [Section("Clocks", tables=(Table(heads, rows, (1, 2, 3)),), pictures=_pictures(session.stage("01_sync")))]


def _lenses(session: Session) -> list[Section]:
    path = session.stage("03_lenses") / "lenses.json"
    if not path.is_file():
        return []
    data = read_json(path)
    rows = []
    for view, lens in data["lenses"].items():
        quality = data.get("quality", {}).get(view) or {}
        focal, centre = lens["focal_px"], lens["centre_px"]
        rms = quality.get("rms_px")
        rows.append(
            (
                view,
                lens["model"],
                f"{focal[0]:.1f}, {focal[1]:.1f}",
                f"{centre[0]:.1f}, {centre[1]:.1f}",
                "" if rms is None else f"{rms:.3f}",
                str(quality.get("num_views") or ""),
            )
        )
    heads = ("view", "model", "focal length, px", "principal point, px", "RMS, px", "pictures")
    table = Table(heads, tuple(rows), (2, 3, 4, 5))
    return [Section("Lenses", tables=(table,), pictures=_pictures(session.stage("03_lenses")))]


def _rig(session: Session) -> list[Section]:
    path = session.stage("04_rig") / "rig.json"
    if not path.is_file():
        return []
    from core.cameras import Rig

    data = read_json(path)
    covariance = data.get("covariance") or {}
    rows = []
    for camera in Rig.from_json(data):
        sigma = np.sqrt(np.diag(np.array(covariance[camera.id], dtype=float))) if camera.id in covariance else None
        rows.append(
            (
                camera.id,
                ", ".join(f"{v:.3f}" for v in camera.centre),
                "" if sigma is None else f"{1e3 * np.linalg.norm(sigma[3:]):.1f}",
                "" if sigma is None else f"{np.rad2deg(np.linalg.norm(sigma[:3])):.3f}",
            )
        )
    heads = ("camera", "centre in the world, m", "standard deviation, mm", "standard deviation, deg")
    return [
        Section("Room rig", tables=(Table(heads, tuple(rows), (1, 2, 3)),), pictures=_pictures(session.stage("04_rig")))
    ]


def _feet(session: Session) -> list[Section]:
    pictures = _pictures(session.stage("05_egomotion"))
    return [Section("Foot cameras", pictures=pictures)] if pictures else []


def _annotation(session: Session, config: ReportConfig) -> list[Section]:
    sections = []
    path = session.stage("07_smpl") / "smpl.npz"
    if path.is_file():
        chart = png_bytes(annotation_chart(read_npz(path)))
        caption = "Uncertainty of the fitted joints, ground contacts and rejected frames along time."
        sections.append(Section("Annotation", pictures=(Picture.of(chart, caption),), wide=True))
        overlays = _pictures(session.stage("07_smpl") / "overlays", config.max_overlays)
        sections.append(Section("Overlays", "The fitted body drawn over the recorded pictures.", pictures=overlays))
    return sections


def _truth(session: Session) -> list[Section]:
    if not has_truth(session) or not (session.stage("07_smpl") / "smpl.npz").is_file():
        return []
    errors: TruthErrors = compare_with_truth(session.folder)
    rows = tuple((name, f"{value:.2f}") for name, value in errors.summary().items())
    by_joint = tuple((name, f"{mm:.1f}") for name, mm in zip(SMPL_24.joints, errors.joint_medians_mm(), strict=True))
    return [
        Section(
            "Against the truth",
            "Medians over the recording; nothing was aligned before comparing.",
            tables=(Table(("figure", "value"), rows, (1,)), Table(("joint", "median error, mm"), by_joint, (1,))),
            pictures=(Picture.of(png_bytes(errors.chart()), "Joint and foot-camera errors along time."),),
            wide=True,
        )
    ]


def _motifs(config: ReportConfig) -> list[Section]:
    if config.motifs is None:
        return []
    # the timeline first, then the motifs by rank
    pictures: Sequence[Picture] = sorted(_pictures(config.motifs), key=lambda p: (p.caption != "timeline", p.caption))
    if not pictures:
        raise InputError(str(config.motifs), "it holds no pictures of motifs", "make them with `motifs discover`")
    text = "Atoms and motifs that the trained model finds in this recording, without labels."
    return [Section("Action motifs", text, pictures=tuple(pictures), wide=True)]
