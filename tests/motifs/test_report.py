"""The report: one page that needs nothing beside it, the same bytes for the same session, safe to open."""

from __future__ import annotations

import base64
import hashlib
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

from capture.session import Session
from core.cameras import Camera, Lens, Rig
from core.errors import InputError
from core.files import write_json, write_npz
from core.stage import Health
from core.transforms import SE3
from motifs.pipeline import steps_of
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
    write_picture(session / "07_smpl/fit.png", 60)
    for stage in ("01_sync", "03_lenses", "04_rig", "07_smpl"):
        finish_stage(session / stage)
    return session


def test_a_page_needs_nothing_beside_it(finished: Path) -> None:
    plan = write_picture(finished / "04_rig/plan.png", 10)
    people = write_picture(finished / "06_points3d/people.png", 30)
    overlay = write_picture(finished / "07_smpl/overlays/cam1_000003.jpg", 200)
    path = write_report(finished, ReportConfig())
    text = path.read_text()
    page = Page(text)
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not re.search(r"https?://|url\((?!['\"]?data:)|@import", text)
    assert page.tags.count("script") == 1 and "link" not in page.tags and "iframe" not in page.tags
    assert_own_script_alone(text)
    for picture in (plan, people, overlay):
        assert base64.b64encode(picture).decode() in text
    assert page.tags.count("img") == 4  # the plan, the people, the overlay and the picture of the fit
    assert "Cameras should stand and look where they do in the room" in text
    assert sorted(p.name for p in path.parent.iterdir()) == ["report.html"]


def assert_own_script_alone(text: str) -> None:
    """The page allows the one script that is in it, by its hash, and loads nothing."""
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None and f"script-src 'sha256-{digest}'" in policy[1] and "default-src 'none'" in policy[1]


def test_rejected_stretches_are_listed_with_their_reasons(finished: Path) -> None:
    with np.load(finished / "07_smpl/smpl.npz") as file:
        arrays = dict(file)
    reasons = np.zeros(NUM_FRAMES, int)
    reasons[3:5], reasons[7:12], reasons[12] = 4, 2, 6
    write_npz(finished / "07_smpl/smpl.npz", {**arrays, "reasons": reasons})
    text = write_report(finished, ReportConfig()).read_text()
    rows = re.findall(r"<tr><td[^>]*>([\d.]+)</td><td[^>]*>([\d.]+)</td><td[^>]*>(\d+)</td><td[^>]*>([^<]*)</td>", text)
    assert rows == [
        ("0.23", "0.37", "5", "uncertain"), ("0.10", "0.13", "2", "misfit"), ("0.40", "0.40", "1", "uncertain, misfit"),
    ]  # fmt: skip


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
    assert "<script>alert" not in text and "&lt;script&gt;" in text and "a&amp;b" in text


def test_the_figures_of_the_fit_are_told(finished: Path) -> None:
    text = write_report(finished, ReportConfig()).read_text()
    assert "A row of errors that is brighter" in text and "motifs film s" in text and "IoU" not in text
    figures = {"valid": 0.95, "penetration_p95_m": 0.0123, "reprojection_px": {"cam1": 3.456, "cam2": None}}
    masks = {"cam1": {"median": 0.9123, "p5": 0.8765, "num_frames": 3}}
    edit(finished / "07_smpl/manifest.json", lambda data: data.update(metrics={**figures, "mask_iou": masks}))
    text = write_report(finished, ReportConfig()).read_text()
    for figure in (">95.0<", ">12.3<", ">3.46<", ">0.912<", ">0.876<"):
        assert figure in text


def test_overlays_are_limited(finished: Path) -> None:
    for index in range(5):
        write_picture(finished / f"07_smpl/overlays/cam1_{index:06d}.jpg", index)
    page = Page(write_report(finished, ReportConfig(max_overlays=2)).read_text())
    assert page.tags.count("img") == 3


def test_overlays_begin_with_the_worst_frame_of_the_worst_view(finished: Path) -> None:
    edit(finished / "07_smpl/manifest.json", lambda d: d.update(metrics={"reprojection_px": {"a_1": 2.0, "b": 3.0}}))
    for name in ("a_1_000004_best", "a_1_000012_worst", "b_000004_best", "b_000012_worst", "b_000001"):
        write_picture(finished / f"07_smpl/overlays/{name}.jpg", 90)
    text = write_report(finished, ReportConfig(max_overlays=4)).read_text()
    told = re.findall(r"<figcaption>([^<]*frame \([^<]*)</figcaption>", text)
    assert told == [
        "b, worst frame (0.40 s)", "b, best frame (0.13 s)", "a_1, worst frame (0.40 s)", "a_1, best frame (0.13 s)",
    ]  # fmt: skip


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


def test_every_calibration_stage_shows_its_pictures_and_what_to_look_for(finished: Path) -> None:
    shown = {
        "03_lenses/cam1.coverage.png": "cam1: corners should reach every edge",
        "04_markers/plan.png": "Boards should lie where they were hung",
        "04_scene/plan.png": "Walls, floor and furniture should show as lines",
        "01_sync/spectrum.png": "spectrum",
    }
    pictures = [write_picture(finished / path, gray) for gray, path in enumerate(shown)]
    poses = {"ceiling": {"rotvec": [0, 0, 0], "t_m": [1, 2, 2.5]}}
    write_json(finished / "04_markers/markers.json", {"world_from_target": poses, "sigma_m": {"ceiling": 0.0042}})
    text = write_report(finished, ReportConfig()).read_text()
    for picture, sentence in zip(pictures, shown.values(), strict=True):
        assert base64.b64encode(picture).decode() in text and sentence in text
    assert ">4.2<" in text and "1.000, 2.000, 2.500" in text


def test_clocks_are_drawn_by_method_where_methods_were_told_apart(finished: Path) -> None:
    path = finished / "01_sync/clocks.json"
    before = Page(write_report(finished, ReportConfig()).read_text()).tags.count("img")
    reading = {"offset_ms": 12.0, "sigma_ms": 0.5, "residual_ms": -0.5}
    edit(path, lambda data: data.update(evidence={"cam1": {"qr": reading, "<sound>": reading}}))
    write_json(finished / "04_rig/clocks.json", {"clocks": {"cam1": {"offset_s": 0.0165, "rate": 1.0}}})
    text = write_report(finished, ReportConfig()).read_text()
    assert Page(text).tags.count("img") == before + 1
    assert "moved since" in text and "+4.00" in text and "Each method&#39;s bar" in text


def test_foot_cameras_are_drawn_together_in_the_room(finished: Path) -> None:
    edit(finished / "session.json", lambda data: data["views"][1].update(role="left_foot"))
    covariance = np.broadcast_to(np.diag([0.0, 0, 1e-4, 4e-6, 4e-6, 1e-6]), (NUM_FRAMES, 6, 6))
    valid, filled = np.arange(NUM_FRAMES) >= 5, np.arange(NUM_FRAMES) >= 17
    way = np.tile([0.5, 1.0, 0.1], (NUM_FRAMES, 1))
    arrays = {"t_s": np.arange(NUM_FRAMES) / 30, "world_from_cam_t_m": way, "filled": filled, "valid": valid}
    write_npz(finished / "05_egomotion/cam2.npz", {**arrays, "covariance": covariance})
    text = write_report(finished, ReportConfig()).read_text()
    assert "Foot cameras" in text and "The ways of both feet" in text
    for figure in ("75%", "20%", ">2.0<", ">0.57<"):  # 15 of 20, 3 of 15, the worst of 2, 2 and 1 mm, 0.01 rad
        assert figure in text
    write_npz(finished / "05_egomotion/cam2.npz", {**arrays, "valid": valid & False, "covariance": covariance * np.nan})
    assert ">0%<" in write_report(finished, ReportConfig()).read_text()


def test_names_of_views_and_pictures_are_text_not_markup(finished: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>$\\frac"
    data = {"clocks": {hostile: {"offset_s": 0.0, "rate": 1.0, "methods": [hostile]}}}
    reading = {"offset_ms": 0.0, "sigma_ms": 0.5, "residual_ms": 0.0}
    write_json(finished / "01_sync/clocks.json", {**data, "evidence": {hostile: {hostile: reading}}})
    edit(finished / "03_lenses/lenses.json", lambda data: data["quality"]["cam1"].update(notes=[hostile, 3]))
    write_picture(finished / "04_rig/a<b onload=x>.png", 3)
    page = Page(write_report(finished, ReportConfig()).read_text())
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert "onerror" not in str(page.tags)


def test_the_rig_shows_how_each_camera_fits(finished: Path) -> None:
    before = Page(write_report(finished, ReportConfig()).read_text()).tags.count("img")
    metrics = {"reprojection_px": {"cam1": 0.2, "cam2": None}, "position_sigma_mm": {"cam1": 1.0, "cam2": 2.0}}
    edit(finished / "04_rig/manifest.json", lambda data: data.update(metrics=metrics))
    noted = {"import_notes": ["camera 7 is left out: Miqus M3 films markers only"]}
    edit(finished / "03_lenses/manifest.json", lambda data: data.update(metrics=noted))
    text = write_report(finished, ReportConfig()).read_text()
    assert "camera 7 is left out: Miqus M3 films markers only." in text
    assert Page(text).tags.count("img") == before + 1 and "No camera should stand out" in text


def test_a_stale_result_is_shown_by_the_sessions_name(finished: Path) -> None:
    made = {"inputs": {"clocks": "0" * 64}, "made_from": {"clocks": "01_sync/clocks.json"}}
    edit(finished / "04_rig/manifest.json", lambda data: data.update(made))
    for step in steps_of(Session.load(finished)):
        if not finished.joinpath(step.folder, "manifest.json").is_file():
            finish_stage(finished / step.folder)
    text = write_report(finished, ReportConfig()).read_text()
    name = Session.load(finished).id
    assert f"motifs calibrate rig {name} --redo (01_sync changed since)" in text and str(finished) not in text


def test_a_refused_result_is_shown_with_its_reason(finished: Path) -> None:
    for stage in ("04_rig", "07_smpl"):
        (finished / stage).rename(finished / f"{stage}.refused")
        finish_stage(finished / f"{stage}.refused", DRIFT)
    write_picture(finished / "07_smpl.refused/overlays/cam1_000003_worst.jpg", 90)
    text = write_report(finished, ReportConfig()).read_text()
    page = Page(text)
    assert {"room-rig", "annotation", "overlays"} <= set(page.ids)
    assert text.count("This result was refused: drift_px cam2 is 3, at most 2.") == 2
    assert "cam1, worst frame" in text and "does not hold" in text


def test_the_next_action_is_told_by_the_sessions_name(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of folders that are short occur in words."""
    monkeypatch.chdir(finished)
    for stage in ("02_keypoints", "06_points3d"):
        finish_stage(finished / stage)
    finish_stage(finished / "07_smpl.refused", Health("height_m", 3.0, 2.15, "max", "refine the rig on the persons"))
    shutil.rmtree(finished / "07_smpl")
    text = write_report(Path(), ReportConfig()).read_text()
    assert "refine the rig on the persons (see s/07_smpl.refused)" in text


@pytest.mark.parametrize("damage", ["{}", "[]", '{"clocks": {"cam1": {}}}'])
def test_a_damaged_file_costs_its_section_alone(damage: str, finished: Path) -> None:
    (finished / "01_sync/clocks.json").write_text(damage)
    (finished / "03_lenses/lenses.json").write_text("[]")
    text = write_report(finished, ReportConfig()).read_text()
    assert text.count("It cannot be shown: its files are damaged") >= 2 and "Room rig" in text and "Annotation" in text


def test_mounts_and_why_some_are_left_out(finished: Path) -> None:
    finish_stage(finished / "07_subject")
    mounts = {"left_foot": {"sigma_m": [0.001, 0.0042, 0.002], "sigma_rad": [0.01, 0.02, 0.03]}}
    told = {"mounts": mounts, "refused": {"right_foot": "no ankle circles"}}
    edit(finished / "07_subject/manifest.json", lambda data: data.update(metrics=told))
    text = write_report(finished, ReportConfig()).read_text()
    for figure in (">left_foot<", ">4.2<", ">1.7<", "left out: no ankle circles"):
        assert figure in text
