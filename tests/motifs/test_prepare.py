"""What `motifs prepare` makes: prints that are as large as they say, and a clock whose codes are read."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from capture.targets import Target, save_targets
from capture.time_code import CodeReader, code_modules
from motifs import cli
from motifs.prepare import clock_page, print_figure, print_page

BOARD = Target("floor", "charuco", "static", (5, 4), 0.03, 0.022, "DICT_4X4_50")
DARK = Target("door", "marker", "static", marker_m=0.12, dictionary="DICT_5X5_100", first_marker=3, inverted=True)
_POINTS = 72 / 0.0254  # of a PDF, a metre


def seen(figure: Any, dpi: int) -> np.ndarray:
    """A page as a scanner of that resolution sees it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor())
    return decoded(buffer.getvalue())


def decoded(content: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return picture


def test_a_print_is_as_large_as_it_says() -> None:
    dpi = 500
    picture = seen(print_figure("floor", BOARD), dpi)
    board = cv2.aruco.CharucoBoard((5, 4), 0.03, 0.022, cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50))
    corners, numbers, _, _ = cv2.aruco.CharucoDetector(board).detectBoard(picture)
    assert len(numbers) == 12
    known = np.asarray(board.getChessboardCorners())[np.ravel(numbers), :2]
    found_m = np.reshape(corners, (-1, 2)) / dpi * 0.0254
    apart = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (known, found_m)]
    np.testing.assert_allclose(apart[1], apart[0], atol=1.5 * 0.0254 / dpi)  # some pixels
    bar = np.flatnonzero((picture < 80).sum(axis=1) > 0.095 / 0.0254 * dpi)[-1]
    assert (picture[bar] < 80).sum() == pytest.approx(0.1 / 0.0254 * dpi, abs=2)


@pytest.mark.parametrize("target", [BOARD, DARK])
def test_a_page_has_room_for_its_print(target: Target) -> None:
    page = print_page(target.id, target)
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", page)
    assert box is not None
    wide, high = (float(value) / _POINTS for value in box.groups())
    assert wide > target.size_m[0] + 0.019 and high > target.size_m[1] + 0.019
    assert print_page(target.id, target) == page  # the same every time


def test_a_marker_on_black_is_found_with_its_margin() -> None:
    picture = np.bitwise_not(seen(print_figure("door", DARK), 100))
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_100)
    _, numbers, _ = cv2.aruco.ArucoDetector(dictionary).detectMarkers(picture)
    assert np.ravel(numbers).tolist() == [3]


def test_the_command_prints_every_board_and_every_panel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    panels = (Target("a", "marker", "carried", marker_m=0.1, dictionary="DICT_4X4_50", first_marker=40),)
    rig = Target("rig", "rig", "carried", panels=panels, target_from_panel=(None,))
    save_targets(tmp_path / "targets.json", [BOARD, DARK, rig])
    assert cli.run(["prepare", "--targets", str(tmp_path / "targets.json"), "--out", str(tmp_path / "prints")]) == 0
    names = sorted(path.name for path in (tmp_path / "prints").iterdir())
    assert names == ["clock.html", "door.pdf", "floor.pdf", "rig-a.pdf"]
    assert capsys.readouterr().out.count("prints/") == 4


def test_the_clock_needs_nothing_beside_it() -> None:
    page = clock_page()
    assert not re.findall(r"( src=| href=|@import|url\()", page) and "default-src 'none'" in page


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium")
def test_the_clock_shows_codes_that_are_read(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    path = tmp_path / "clock.html"
    path.write_text(clock_page(), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 800, "height": 700})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path.as_uri())
        rng = np.random.default_rng(0)
        numbers = [f"{x:.3f}" for x in rng.uniform(1e5, 1e7, 60)] + ["1480", "0.5", "100016.7", "99999999.999"]
        for number in numbers:  # as OpenCV writes them, of which the reader makes its mixtures
            text = f"MOTIFS-T={number}"
            dark = np.array(page.evaluate("text => QR(text)", text), bool)
            np.testing.assert_array_equal(~dark, code_modules(text), err_msg=text)
        for _ in range(200):  # Playwright's own waiting is done by `eval`, which the page does not allow
            if page.evaluate("shown > 0"):
                break
            page.wait_for_timeout(100)
        told = []
        for _ in range(3):
            picture = decoded(page.screenshot())
            told.append((CodeReader((800, 700), fisheye=False).read(picture)[0], page.evaluate("refreshes")))
            page.wait_for_timeout(300)
        period_us, hold = page.evaluate("[period, hold]")
        browser.close()
    assert not errors and hold % 2 == 1 and hold * period_us >= 40_000 > (hold - 2) * period_us
    codes = []
    for text, refreshes in told:
        assert re.fullmatch(r"MOTIFS-T=\d+\.\d{3}", text), text
        steps = (round(1000 * float(text.removeprefix("MOTIFS-T="))) - 100_000_001) / (hold * period_us)
        assert steps == int(steps) and 0 <= refreshes / hold - steps < 60  # of a picture that took its time
        codes.append(steps)
    assert codes == sorted(codes) and codes[0] < codes[-1]
