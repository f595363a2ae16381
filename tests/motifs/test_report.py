"""The report: one page that needs nothing beside it, the same bytes for the same session, safe to open."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_status import DRIFT, finish_stage
from tiny_session import edit

from core.cameras import Camera, Lens, Rig
from core.errors import InputError
from core.files import write_json, write_npz
from core.transforms import SE3
from motifs.report import ReportConfig, write_report

NUM_FRAMES = 20


def write_picture(path: Path, gray: int) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 8), gray, np.uint8))
    return path.read_bytes()


class Page(HTMLParser):
    """What a page refers to, and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self.ids += [value or "" for name, value in attrs if name == "id"]


@pytest.fixture
def finished(session: Path) -> Path:
    """A session with results of every stage that the report shows."""
    lens = Lens("pinhole", (64, 48), (40.0, 41.0), (31.5, 23.5))
    clock = {"offset_s": 0.0125, "rate": 1.00002, "offset_sigma_s": 0.001, "residual_ms": 0.7, "methods": ["qr"]}
    write_json(session / "01_sync/clocks.json", {"clocks": {"cam1": clock, "cam2": {"offset_s": 0.0, "rate": 1.0}}})
    quality = {"cam1": {"rms_px": 0.123, "num_views": 17}, "cam2": {"imported": True}}
    lenses = {"lenses": dict.fromkeys(quality, lens.to_json()), "quality": quality}
    write_json(session / "03_lenses/lenses.json", lenses)
    rig = Rig((Camera("cam1", lens, SE3.identity()), Camera("cam2", lens, SE3(np.eye(3), np.array([1.0, 2, 3])))))
    write_json(session / "04_rig/rig.json", {**rig.to_json(), "covariance": {"cam1": (1e-6 * np.eye(6)).tolist()}})
    write_npz(
        session / "07_smpl/smpl.npz",
        {
            "t_s": np.arange(NUM_FRAMES) / 30,
            "joint_covariance": np.broadcast_to(1e-4 * np.eye(3), (NUM_FRAMES, 24, 3, 3)),
            "joint_valid": np.ones((NUM_FRAMES, 24), bool),
            "frame_valid": np.arange(NUM_FRAMES) != 7,
            "contacts": np.zeros((NUM_FRAMES, 4)),
        },
    )
    for stage in ("01_sync", "03_lenses", "04_rig", "07_smpl"):
        finish_stage(session / stage)
    return session


def test_a_page_needs_nothing_beside_it(finished: Path) -> None:
    plan = write_picture(finished / "04_rig/plan.png", 10)
    overlay = write_picture(finished / "07_smpl/overlays/cam1_000003.jpg", 200)
    path = write_report(finished, ReportConfig())
    text = path.read_text()
    page = Page(text)
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not re.search(r"https?://|url\((?!['\"]?data:)|@import", text)
    assert "script" not in page.tags and "link" not in page.tags and "iframe" not in page.tags
    for picture in (plan, overlay):
        assert base64.b64encode(picture).decode() in text
    assert page.tags.count("img") == 3  # the plan, the overlay and the chart of the annotation
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html"]


def test_the_same_session_gives_the_same_page_anywhere(finished: Path, tmp_path: Path) -> None:
    write_picture(finished / "04_rig/plan.png", 10)
    first = write_report(finished, ReportConfig()).read_bytes()
    assert write_report(finished, ReportConfig()).read_bytes() == first
    moved = Path(shutil.move(finished, tmp_path / "elsewhere"))
    assert write_report(moved, ReportConfig()).read_bytes() == first
    assert str(tmp_path).encode() not in first


@pytest.mark.parametrize("figure", ["12.50 ±", "20.0 ±", "0.123", "-1.000, -2.000, -3.000", "40.0, 41.0"])
def test_the_figures_are_those_of_the_stages(figure: str, finished: Path) -> None:
    assert figure in write_report(finished, ReportConfig()).read_text()


def test_a_session_without_results_says_what_to_do(session: Path) -> None:
    text = write_report(session, ReportConfig()).read_text()
    assert text.count("waiting") >= 6 and "motifs run s" in text
    assert "img" not in Page(text).tags


def test_a_refused_stage_stands_out(session: Path) -> None:
    finish_stage(session / "01_sync.refused", DRIFT)
    text = write_report(session, ReportConfig()).read_text()
    assert "refused" in text and "drift_px cam2 3, at most 2" in text and "mount cam2 firmly" in text


def test_names_are_text_not_markup(session: Path) -> None:
    edit(session / "session.json", lambda data: data.update(subject="<script>alert(1)</script>", id="a&b"))
    text = write_report(session, ReportConfig()).read_text()
    assert "<script>" not in text and "&lt;script&gt;" in text and "a&amp;b" in text


def test_overlays_are_limited(finished: Path) -> None:
    for index in range(5):
        write_picture(finished / f"07_smpl/overlays/cam1_{index}.png", index)
    page = Page(write_report(finished, ReportConfig(max_overlays=2)).read_text())
    assert page.tags.count("img") == 3


def test_motifs_are_shown_where_they_are_given(session: Path, tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "motifs/timeline.png", 77)
    text = write_report(session, ReportConfig(motifs=tmp_path / "motifs")).read_text()
    assert base64.b64encode(picture).decode() in text


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, Path.touch])
def test_a_folder_without_motifs_is_refused_and_the_page_stays(
    make: Callable[[Path], None], session: Path, tmp_path: Path
) -> None:
    before = write_report(session, ReportConfig()).read_bytes()
    make(tmp_path / "motifs")
    with pytest.raises(InputError, match="no pictures of motifs"):
        write_report(session, ReportConfig(motifs=tmp_path / "motifs"))
    assert (session / "report/report.html").read_bytes() == before
