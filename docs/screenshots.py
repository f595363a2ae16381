"""Makes the pictures of the viewer and of the report that these pages show, from a finished demo.

`python docs/screenshots.py [DEMO]`: DEMO is what `make demo` made (out/demo). Debian's Chromium, driven by Playwright.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

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


def main() -> None:
    """Writes all pictures."""
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo")
    OUT.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
        picture_viewer(browser, demo / "session", demo / "motifs")
        picture_report(browser, demo / "session", demo / "motifs")
        browser.close()


if __name__ == "__main__":
    main()
