"""Opens the viewer on a recording of an hour and scrubs through it.

`python benchmarks/viewer.py [--minutes 60] [--cameras 4] [--scrubs 200] [--browser] [--keep DIR]`. A session is made:
the stand-in body in smooth motion at 30 Hz, keypoints and a video of every camera. Measured are

- opening: a new process from `motifs view` until the page answers with its first instant, and with `--browser`
  until the body stands in a headless Chromium (Debian's, driven by Playwright) on top of that;
- a scrub: from a wish for a random instant until all that changes is handed to the connection; one of a hundred wishes
  along the hour without a pause, as a hand on the slider makes them; and a picture with the body over it, which follows
  on its own (the first one of a camera takes reading its video through).

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from capture.session import Session, View
from capture.video import VideoWriter
from core.cameras import Camera, Lens, Rig
from core.clock import Timeline
from core.files import write_json, write_npz
from core.skeletons import HALPE_26
from core.transforms import SE3
from fitting.observations import Observations
from fitting.sequence import Reason, SmplSequence
from fitting.stand_in import stand_in_body

ROOT = Path(__file__).resolve().parents[1]
_RATE, _SIZE_PX, _CHUNK = 30, (640, 480), 2000


def motion(num_frames: int, seed: int) -> SmplSequence:
    """Smooth motion of the stand-in body that walks in circles; one frame in a thousand is rejected."""
    chance, body = np.random.default_rng(seed), stand_in_body()
    t_s = np.arange(num_frames) / _RATE
    swing, speed, phase = chance.uniform(0.0, 0.35, 72), chance.uniform(0.2, 1.2, 72), chance.uniform(0, 6.28, 72)
    poses = swing * np.sin(2 * np.pi * speed * t_s[:, None] + phase)
    poses[:, :3] = np.array([np.pi / 2, 0.0, 0.0])
    trans = np.stack([np.cos(0.2 * t_s), np.sin(0.2 * t_s), np.full(num_frames, 1.15)], axis=1)
    shaped = body.with_shape(np.zeros(10))
    joints = [
        shaped.with_pose(poses[k : k + _CHUNK].reshape(-1, 24, 3), trans[k : k + _CHUNK]).smpl_joints
        for k in range(0, num_frames, _CHUNK)
    ]
    rejected = chance.random(num_frames) < 1e-3
    return SmplSequence(
        t_s, f"{_RATE}/1", poses, trans, np.zeros(10), "neutral", body.name, body.sha256, np.concatenate(joints),
        np.broadcast_to(np.diag([4e-4, 1e-4, 1e-4]), (num_frames, 24, 3, 3)).copy(), np.ones((num_frames, 24), bool),
        ~rejected, np.where(rejected, int(Reason.MISFIT), 0), np.zeros((num_frames, 4)),
    )  # fmt: skip


def make_session(folder: Path, minutes: float, num_cameras: int, seed: int) -> None:
    """Everything that the viewer reads of a session with a finished fit."""
    num_frames = round(minutes * 60 * _RATE)
    sequence = motion(num_frames, seed)
    rig = Rig(tuple(_camera(k, num_cameras) for k in range(num_cameras)))
    views = [View(c.id, "room", _SIZE_PX, f"videos/{c.id}.mp4", num_frames=num_frames) for c in rig]
    Session(folder, "hour", "anna", tuple(views)).save()
    clock = {"rate": 1.0, "offset_s": 0.0, "offset_sigma_s": 0.0, "rate_sigma": 0.0, "measured_at_s": 0.0}
    write_json(folder / "01_sync/clocks.json", {"clocks": dict.fromkeys(rig.ids, clock)})
    write_json(folder / "04_rig/rig.json", rig.to_json())
    write_json(folder / "04_rig/markers.json", {"world_from_target": {}, "sigma_m": {}})
    sequence.save(folder / "07_smpl/smpl.npz")
    xy_px = np.full((num_cameras, num_frames, len(HALPE_26.joints), 2), np.nan)
    for k, camera in enumerate(rig):
        xy_px[k, :, :24] = camera.project(sequence.joints_m.reshape(-1, 3)).reshape(num_frames, 24, 2)
    timeline = Timeline(0.0, Fraction(_RATE), num_frames)
    seen = Observations(timeline, rig.ids, xy_px, np.ones(xy_px.shape[:-1]), HALPE_26)
    seen.save(folder / "06_points3d/observations.npz")
    first = folder / "videos" / f"{rig.ids[0]}.mp4"
    _film(first, num_frames)
    for name in rig.ids:
        write_npz(folder / f"01_sync/{name}.times.npz", {"t_local_s": sequence.t_s})
        if name != rig.ids[0]:
            (folder / "videos" / f"{name}.mp4").hardlink_to(first)


def _camera(k: int, number: int) -> Camera:
    """One of a ring of cameras that look at the middle of the room."""
    angle = 2 * np.pi * k / number
    centre = np.array([4 * np.cos(angle), 4 * np.sin(angle), 2.2])
    forward = np.array([0.0, 0.0, 1.0]) - centre
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(forward, right), forward])
    lens = Lens("pinhole", _SIZE_PX, (520.0, 520.0), (319.5, 239.5))
    return Camera(f"cam{k}", lens, SE3(R, -R @ centre))


def _film(path: Path, num_frames: int) -> None:
    """A dark picture with a bright bar that tells the frame."""
    picture = np.full((*_SIZE_PX[::-1], 3), 60, np.uint8)
    with VideoWriter(path, _SIZE_PX, Fraction(_RATE)) as writer:
        for frame in range(num_frames):
            picture[200:280] = 60
            picture[200:280, frame % _SIZE_PX[0]] = 250
            writer.write(picture)


def seconds_to_open(folder: Path, browser: bool) -> tuple[float, float | None]:
    """Until the page of a new process answers; until the body stands in a browser, from the start of the process."""
    started = time.perf_counter()
    call = [sys.executable, "-c", "from motifs.cli import main; main()", "view", str(folder), "--port", "0"]
    process = subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split(": ")[0]
        urllib.request.urlopen(url, timeout=30).read()
        answered = time.perf_counter() - started
        if not browser:
            return answered, None
        ready = _in_browser(url)
        return answered, ready - started
    finally:
        process.terminate()
        process.wait()


def _in_browser(url: str) -> float:
    """When the page in a browser has its body and the text of its first instant."""
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=options)
        page = chromium.new_page()
        page.goto(url)
        page.get_by_text("instant 0 of").wait_for(timeout=60_000)
        ready = time.perf_counter()
        chromium.close()
    return ready


def ms_to_scrub(folder: Path, number: int, seed: int) -> dict[str, float]:
    """Medians and worst of scrubs, with a client that is connected."""
    from motifs.view import ViewConfig, open_viewer
    from motifs.viewer import picture_of

    viewer = open_viewer(folder, ViewConfig(port=0))
    try:
        chance = np.random.default_rng(seed)
        wishes = chance.integers(0, len(viewer.viewed.t_s), number)
        draw = partial(picture_of, viewer.viewed, "cam0", max_height_px=540, body=True)
        shown = [_ms(partial(viewer.show, int(k))) for k in wishes]
        first = _ms(partial(draw, 0))
        pictures = [_ms(partial(draw, int(k))) for k in wishes[:40]]
        drag = [_ms(partial(viewer.show, int(k))) for k in np.linspace(0, len(viewer.viewed.t_s) - 1, 100)]
    finally:
        viewer.close()
    return {
        "ms_scrub": float(np.median(shown)),
        "ms_scrub_p95": float(np.percentile(shown, 95)),
        "ms_drag": float(np.mean(drag)),
        "ms_first_picture": first,
        "ms_picture": float(np.median(pictures)),
    }


def _ms(do: Callable[[], object]) -> float:
    started = time.perf_counter()
    do()
    return 1e3 * (time.perf_counter() - started)


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--scrubs", type=int, default=200)
    parser.add_argument("--browser", action="store_true", help="open the page in Chromium too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder of the session, made if it is not there, and kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="motifs-viewer-") as temporary:
        folder = given.keep or Path(temporary) / "hour"
        if not (folder / "06_points3d/observations.npz").is_file():
            make_session(folder, given.minutes, given.cameras, given.seed)
        answered, ready = seconds_to_open(folder, given.browser)
        found = {"minutes": given.minutes, "seconds_to_open": answered, **ms_to_scrub(folder, given.scrubs, given.seed)}
    if ready is not None:
        found["seconds_to_open_in_browser"] = ready
    for name, value in found.items():
        print(f"{name:28} {value:9.2f}")
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
