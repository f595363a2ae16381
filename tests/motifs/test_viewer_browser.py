"""The viewer in a real browser: the body is seen, keys and the slider move it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from test_viewer import MOTIFS, NUM_FRAMES, viewed

from motifs.viewer import Viewer

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
# drawn without a GPU
OPTIONS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]


@pytest.fixture
def page() -> Iterator[Any]:
    """A page about a walk with two rejected stretches, in Chromium."""
    viewer = Viewer(["s"], lambda name: viewed(20, 21, 50, motifs=MOTIFS), host="127.0.0.1", port=0, title="s")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.goto(viewer.url)
        yield page
        browser.close()
    viewer.close()


def at(page: Any, instant: int) -> None:
    """Waits until the page tells an instant."""
    page.get_by_text(f"instant {instant} of {NUM_FRAMES}").wait_for(timeout=30_000)


def coloured(page: Any, hue: tuple[int, int]) -> int:
    """Strongly coloured pixels of a range of hues (OpenCV's, 0 to 180) in the middle of the page."""
    page.wait_for_timeout(1500)
    picture = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    hsv = cv2.cvtColor(picture[200:600, 450:900], cv2.COLOR_BGR2HSV)
    return int(((hsv[..., 0] >= hue[0]) & (hsv[..., 0] <= hue[1]) & (hsv[..., 1] > 70)).sum())


def test_a_person_can_look_at_a_recording(page: Any) -> None:
    at(page, 0)
    assert coloured(page, (95, 120)) > 2000, "the body is seen, blue"
    page.mouse.click(650, 150)
    page.keyboard.press("l")
    at(page, 1)
    page.keyboard.press("n")
    at(page, 20)
    page.get_by_text("rejected: misfit").wait_for()
    assert coloured(page, (2, 20)) > 2000, "a rejected frame is orange"
    slider = page.locator(".mantine-Slider-root").first.bounding_box()
    page.mouse.click(slider["x"] + 0.7 * slider["width"], slider["y"] + slider["height"] / 2)
    page.get_by_text(re.compile(r"instant [5-7]\d of")).wait_for()
    page.get_by_text(re.compile("Motif walk")).first.wait_for()
