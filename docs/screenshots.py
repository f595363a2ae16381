"""Makes the pictures that these pages show: of every stage, of the viewer and of the reports.

`python docs/screenshots.py [DEMO] [SCENE]`: DEMO is what `make demo` made (out/demo), SCENE one with a walk-through;
without one it is simulated, which takes some minutes. Debian's Chromium is driven by Playwright.
"""

from __future__ import annotations

import base64
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from capture.session import Session
from motifs import cli
from motifs.calibration_report import calibration_sections
from motifs.dataset_report import write_dataset_report
from motifs.report import ReportConfig, write_report
from motifs.view import ViewConfig, open_viewer

OUT = Path(__file__).resolve().parent / "pictures"
OPTIONS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
_INSTANT = 230


def picture_viewer(browser: Any, session: Path, motifs: Path) -> None:
    """The room at an instant in which the person sits down, and the view through a camera."""
    viewer = open_viewer(session, ViewConfig(motifs=motifs, port=0))
    viewer.show(_INSTANT)
    page = browser.new_page(viewport={"width": 1400, "height": 860})
    page.goto(viewer.url)
    page.get_by_text(f"instant {_INSTANT} of").wait_for(timeout=60_000)
    page.wait_for_timeout(6_000)
    close = page.locator(".mantine-Notification-closeButton")  # that there is no GPU
    if close.count():
        close.first.click()
        page.wait_for_timeout(500)
    page.screenshot(path=OUT / "viewer.png")
    page.get_by_text("look through this camera, or out of it").click()
    page.wait_for_timeout(4_000)
    page.screenshot(path=OUT / "viewer-through.png")
    viewer.close()


def picture_report(browser: Any, session: Path, motifs: Path) -> None:
    """The head of the report, and its annotation."""
    page = browser.new_page(viewport={"width": 1200, "height": 860})
    page.goto(write_report(session, ReportConfig(motifs=motifs)).as_uri())
    page.screenshot(path=OUT / "report.png")
    page.locator("#annotation").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('#annotation').scrollIntoView()")
    page.wait_for_timeout(500)
    page.screenshot(path=OUT / "report-annotation.png")


def picture_dataset(browser: Any, dataset: Path, motifs: Path) -> None:
    """The head of a dataset's report."""
    page = browser.new_page(viewport={"width": 1200, "height": 860})
    page.goto(write_dataset_report(dataset, motifs).as_uri())
    page.screenshot(path=OUT / "stage-dataset.png")


def copy_stages(session: Path) -> None:
    """The pictures that stages left in their folders, and those that the report draws of them."""
    overlay = sorted((session / "07_smpl" / "overlays").glob("*_worst.jpg"))[0]
    left = {
        "lens.png": session / "03_lenses/room00.coverage.png",
        "rig.png": session / "04_rig/plan.png",
        "markers.png": session / "04_markers/plan.png",
        "feet.png": session / "05_egomotion/left_foot.png",
        "people.png": session / "06_points3d/people.png",
        "fit.png": session / "07_smpl/fit.png",
        "overlay.jpg": overlay,
    }
    for name, path in left.items():
        shutil.copyfile(path, OUT / f"stage-{name}")
    sections = {section.title: section for section in calibration_sections(Session.load(session))}
    for name, title in (("clocks", "Clocks"), ("coverage", "Coverage")):
        (OUT / f"stage-{name}.png").write_bytes(base64.b64decode(sections[title].pictures[0].base64))


def copy_scene(session: Path) -> None:
    """The plan of a scene map; the session is simulated and calibrated as far as that if it is not there."""
    if not session.exists():
        cli.run(["simulate", "--out", str(session), "--num-walkthrough", "240", "--duration-s", "14"])
    for command in ("sync", "detect", "calibrate lens", "calibrate rig", "calibrate scene"):
        if cli.run([*command.split(), str(session)]):
            raise SystemExit(f"{command} failed")
    shutil.copyfile(session / "04_scene/plan.png", OUT / "stage-scene.png")


def main() -> None:
    """Writes all pictures."""
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo")
    OUT.mkdir(exist_ok=True)
    copy_stages(demo / "session")
    with tempfile.TemporaryDirectory() as folder:
        copy_scene(Path(sys.argv[2]) if len(sys.argv) > 2 else Path(folder) / "session")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
        picture_viewer(browser, demo / "session", demo / "motifs")
        picture_report(browser, demo / "session", demo / "motifs")
        picture_dataset(browser, demo / "amd", demo / "motifs")
        browser.close()


if __name__ == "__main__":
    main()
