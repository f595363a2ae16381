"""The viewer: what it shows is what the session holds, and nobody else gets to see it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st

from core.cameras import Camera, Lens, Rig
from core.errors import InputError
from core.transforms import SE3
from fitting.playback import Playback
from fitting.sequence import Reason, SmplSequence
from fitting.stand_in import stand_in_body
from motifs import cli
from motifs.timeline import REJECTED, VALID, colours_of, strip, with_cursor
from motifs.view import ViewConfig, open_viewer
from motifs.view_scene import ellipsoids
from motifs.view_server import is_loopback, is_own_page
from motifs.viewed import Segment, Viewed, Way
from motifs.viewer import Viewer, legend, next_rejected, paragraphs, told

NUM_FRAMES, FIRST_S = 90, 7.0
# viser leaves its event loop to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def sequence(*rejected: int) -> SmplSequence:
    """The stand-in body that walks along x, 1 cm an instant."""
    body = stand_in_body()
    poses = np.zeros((NUM_FRAMES, 72))
    poses[:, 0] = np.pi / 2
    trans = np.stack([0.01 * np.arange(NUM_FRAMES), np.zeros(NUM_FRAMES), np.ones(NUM_FRAMES)], axis=1)
    joints = body.with_shape(np.zeros(10)).with_pose(poses.reshape(-1, 24, 3), trans).smpl_joints
    reasons = np.isin(np.arange(NUM_FRAMES), rejected) * int(Reason.MISFIT)
    return SmplSequence(
        FIRST_S + np.arange(NUM_FRAMES) / 30, "30/1", poses, trans, np.zeros(10), "neutral", body.name, body.sha256,
        joints, np.broadcast_to(np.diag([4e-4, 1e-4, 1e-4]), (NUM_FRAMES, 24, 3, 3)).copy(),
        np.ones((NUM_FRAMES, 24), bool), reasons == 0, reasons, np.zeros((NUM_FRAMES, 4)),
    )  # fmt: skip


def viewed(*rejected: int, **more: Any) -> Viewed:
    return Viewed("s", Playback.of(sequence(*rejected), stand_in_body()), **more)


MOTIFS = (Segment(FIRST_S, FIRST_S + 1.0, "reach"), Segment(FIRST_S + 1.0, FIRST_S + 3.0, "walk"))


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    """A page about a walk with two rejected stretches and two Motifs."""
    lens = Lens("pinhole", (64, 48), (40.0, 40.0), (31.5, 23.5))
    shown = viewed(20, 21, 50, motifs=MOTIFS, rig=Rig((Camera("cam1", lens, SE3.identity()),)))
    page = Viewer(["s"], lambda name: shown, host="127.0.0.1", port=0, title="s")
    yield page
    page.close()


def bones(viewer: Viewer) -> np.ndarray:
    body = viewer._room._body
    assert body is not None
    return np.array([bone.position for bone in body._mesh.bones])


def test_the_body_stands_where_it_was(viewer: Viewer) -> None:
    for instant in (0, 40, NUM_FRAMES - 1):
        viewer.show(instant)
        np.testing.assert_allclose(bones(viewer), sequence().joints_m[instant], atol=1e-6)
        assert viewer._slider.value == instant and f"instant {instant} of" in viewer._text.content


def test_an_instant_outside_is_the_nearest(viewer: Viewer) -> None:
    viewer.show(10_000)
    assert viewer._slider.value == NUM_FRAMES - 1
    viewer.show(-5)
    assert viewer._slider.value == 0


def test_rejected_frames_are_marked_and_found(viewer: Viewer) -> None:
    viewer.show(0)
    assert viewer._room._body is not None
    usual = viewer._room._body._mesh.color
    seen = []
    for _ in range(3):
        viewer.press(">|")
        seen.append(int(viewer._slider.value))
    assert seen == [20, 50, 50] and "rejected: misfit" in viewer._text.content
    assert viewer._room._body._mesh.color != usual
    viewer.press("|<")
    assert viewer._slider.value == 20
    viewer.press("<")
    assert viewer._slider.value == 19 and "valid" in viewer._text.content


def test_it_plays_until_the_end_and_then_from_the_beginning(viewer: Viewer) -> None:
    viewer.show(NUM_FRAMES - 4)
    viewer._speed.value = "20 x"  # type: ignore[misc]
    viewer.press("play")
    for _ in range(200):
        if not viewer._playing:
            break
        viewer._over.wait(0.02)
    assert viewer._slider.value == NUM_FRAMES - 1
    viewer.press("play")
    assert viewer._playing
    viewer.press(">")  # whoever steps stops it
    assert not viewer._playing


def test_a_picture_to_look_through_lies_behind_the_person(viewer: Viewer) -> None:
    room, instant = viewer._room, 10
    usual = room.frusta["cam1"].scale
    room.look_through("cam1", instant)
    frustum = room.frusta["cam1"]
    # viser scales a frustum of depth 1 by the cube root of its volume
    half = np.tan(frustum.fov / 2)
    depth_m = frustum.scale / np.cbrt(half * half * frustum.aspect / 3)
    assert depth_m == pytest.approx(np.linalg.norm(sequence().joints_m[instant, 0]) + 3.0)
    room.look_through(None, instant)
    assert room.frusta["cam1"].scale == usual


async def _connects(viewer: Viewer, origin: str | None) -> bool:
    address = viewer.url.replace("http", "ws")
    protocol = [websockets.Subprotocol(f"viser-v{__import__('viser').__version__}")]
    try:
        async with websockets.connect(address, origin=origin, subprotocols=protocol):  # type: ignore[arg-type]
            return True
    except websockets.InvalidStatus:
        return False


def test_pages_of_other_sites_cannot_connect(viewer: Viewer) -> None:
    assert viewer.url.startswith("http://127.0.0.1:")
    for origin in (None, viewer.url):
        assert asyncio.run(_connects(viewer, origin)), origin
    for origin in ("https://example.org", "http://127.0.0.1.example.org", "http://localhost:9", "file://", "null"):
        assert not asyncio.run(_connects(viewer, origin)), origin


@pytest.mark.parametrize("host", ["127.0.0.2", "0.0.0.0"])
def test_nor_where_it_is_shown_to_other_machines(host: str) -> None:
    page = Viewer(["s"], lambda name: viewed(), host=host, port=0, title="s")
    try:
        assert asyncio.run(_connects(page, page.url)) and asyncio.run(_connects(page, None))
        assert not asyncio.run(_connects(page, "http://example.org"))
    finally:
        page.close()


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        (None, "192.168.0.7:8080", True),
        ("http://192.168.0.7:8080", "192.168.0.7:8080", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://localhost:8081", "localhost:8081", True),  # through a tunnel
        ("http://example.org:8080", "192.168.0.7:8080", False),
        ("http://example.org:8080", "example.org:8080", False),  # a site that points its own name here
        ("http://192.168.0.7:3000", "192.168.0.7:8080", False),
        ("ftp://localhost:1", "localhost:1", False),
        ("http://localhost:port", "localhost:port", False),
    ],
)
def test_what_is_a_page_of_its_own(origin: str | None, host: str, own: bool) -> None:
    assert is_own_page(origin, host) == own


def test_what_is_reached_from_this_machine_alone() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.0.0.2", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "192.168.0.7", "::", "", "localhost.example.org")))


def test_frames_without_a_body_are_shown_as_such() -> None:
    plain = sequence()
    poses, trans, joints = plain.poses.copy(), plain.trans.copy(), plain.joints_m.copy()
    poses[40:43], trans[40:43], joints[40:43] = np.nan, np.nan, np.nan
    gap = dataclasses.replace(plain, poses=poses, trans=trans, joints_m=joints)
    page = Viewer(
        ["s"], lambda name: Viewed("s", Playback.of(gap, stand_in_body())), host="127.0.0.1", port=0, title="s"
    )
    try:
        for instant, there in ((38, True), (41, False), (44, True)):
            page.show(instant)
            assert page._room._body is not None and page._room._body._mesh.visible == there
    finally:
        page.close()


def test_what_goes_wrong_is_told_and_the_page_goes_on() -> None:
    def open_named(name: str) -> Viewed:
        if name == "damaged":
            raise InputError("damaged", "it is <b>damaged</b>", "copy it again")
        return dataclasses.replace(viewed(), name=name)

    page = Viewer(["a", "damaged", "b"], open_named, host="127.0.0.1", port=0, title="s")
    try:
        for name, shown in (("damaged", "a"), ("b", "b")):
            choice = SimpleNamespace(value=name)
            page._choose(choice)
            assert page.viewed.name == choice.value == shown
            assert ("&lt;b&gt;damaged" in page._trouble.content) == (name == "damaged")
        nothing: dict[str, None] = {}
        page._draw = lambda *wish: nothing["pictures"]  # type: ignore[method-assign]
        for _ in range(2):  # and its thread lives
            page._trouble.content = ""
            page.show(3)
            for _ in range(100):
                if "KeyError" in page._trouble.content:
                    break
                page._over.wait(0.02)
            assert "KeyError" in page._trouble.content
    finally:
        page.close()


def test_short_motifs_of_a_long_recording_are_seen() -> None:
    """An hour with a Motif every 1.5 s is 0.6 columns a Motif."""
    starts = FIRST_S + 1.5 * np.arange(2400)
    motifs = tuple(Segment(float(t), float(t) + 1.5, "ab"[k % 2]) for k, t in enumerate(starts))
    playback = dataclasses.replace(
        viewed().playback,
        sequence=dataclasses.replace(sequence(), t_s=np.linspace(FIRST_S, FIRST_S + 3600, NUM_FRAMES)),
    )  # type: ignore[type-var]
    row = strip(Viewed("s", playback, motifs=motifs), 1400)[-8]
    assert (row == 255).all(axis=1).mean() < 0.01


def test_a_camera_has_a_place_only_while_it_records() -> None:
    poses = SE3(np.tile(np.eye(3), (3, 1, 1)), np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]))
    lens = Lens("pinhole", (64, 48), (40.0, 40.0), (31.5, 23.5))
    way = Way(lens, np.array([1.0, 1.05, 1.1]), poses, np.array([True, True, False]), np.zeros(3, bool))
    for t_s, x in ((0.95, 0.0), (1.02, 0.0), (1.03, 1.0), (1.07, 1.0), (1.09, None), (0.5, None), (9.0, None)):
        camera = way.at("left_foot", t_s)
        assert (camera is None) == (x is None)
        assert camera is None or camera.centre[0] == pytest.approx(x)


def test_nobody_gets_a_tunnel(viewer: Viewer) -> None:
    assert viewer.server.request_share_url() is None


@given(st.integers(1, 400), st.integers(1, 300), st.data())
def test_a_single_bad_frame_is_seen_at_any_width(frames: int, width: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, frames - 1))
    plain = sequence()
    reasons = np.where(np.arange(frames) == bad, int(Reason.MISFIT), 0)
    long = dataclasses.replace(plain, reasons=reasons, t_s=np.arange(frames) / 30)
    playback = dataclasses.replace(viewed().playback, sequence=long)  # type: ignore[type-var]
    picture = strip(Viewed("s", playback), width)
    row = picture[picture.shape[0] // 2]
    orange = np.flatnonzero((row == REJECTED).all(axis=1))
    assert len(orange) and ((row == REJECTED) | (row == VALID)).all()
    # and where it is
    assert abs((orange.mean() + 0.5) / width - (bad + 0.5) / frames) <= 1 / width + 1 / frames


def test_motifs_lie_where_they_were() -> None:
    picture = strip(viewed(motifs=MOTIFS), 300)
    colours = colours_of([motif.name for motif in MOTIFS])
    row = picture[-8]
    share = 1.0 / (sequence().t_s[-1] - FIRST_S)
    assert tuple(row[50]) == colours["reach"] and tuple(row[round(300 * share) + 5]) == colours["walk"]
    assert (with_cursor(picture, 1.0)[:, -1] == 0).all() and "Motif reach" in legend(viewed(motifs=MOTIFS))


def test_names_are_no_html() -> None:
    script = "<script>alert(1)</script>"
    shown = dataclasses.replace(viewed(motifs=(Segment(FIRST_S, FIRST_S + 1, script),)), name=script)
    assert "<script" not in legend(shown) and "<script" not in paragraphs(told(shown, 0))
    assert paragraphs(told(shown, 0)).count("&lt;script") == 2


def test_ellipsoids_are_two_standard_deviations() -> None:
    turned = SE3.from_rotvec(np.array([0.3, -0.2, 0.5]), np.zeros(3)).R
    covariance = np.stack([turned @ np.diag([1e-4, 4e-4, 9e-4]) @ turned.T, np.full((3, 3), np.nan)])
    wxyz, centres, radii = ellipsoids(np.array([[1.0, 2.0, 3.0], [np.nan] * 3]), covariance)
    np.testing.assert_allclose(np.sort(radii[0]), [0.02, 0.04, 0.06], rtol=1e-6)
    assert radii[1].max() < 1e-3 and np.isfinite(wxyz).all() and np.isfinite(centres).all()


def test_what_is_told_of_an_instant() -> None:
    shown = viewed(20, motifs=MOTIFS)
    assert told(shown, 0)[2:] == ["valid", "standard deviation of joints 20 mm, at most 20 mm", "Motif reach"]
    assert "rejected: misfit" in told(shown, 20)
    assert next_rejected(shown, 0, forward=True) == 20 and next_rejected(shown, 0, forward=False) == 0


def test_rays_go_through_their_keypoints(session: Path) -> None:
    from fractions import Fraction

    from core.clock import Timeline
    from core.skeletons import HALPE_26
    from fitting.observations import Observations

    lens = Lens("pinhole", (64, 48), (40.0, 40.0), (31.5, 23.5))
    camera = Camera("cam1", lens, SE3.from_rotvec(np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.2, 4.0])))
    joints = sequence().joints_m
    xy_px = np.full((1, NUM_FRAMES, 26, 2), np.nan)
    xy_px[0, :, :24] = camera.project(joints.reshape(-1, 3)).reshape(NUM_FRAMES, 24, 2)
    path = session / "observations.npz"
    timeline = Timeline(FIRST_S, Fraction(30), NUM_FRAMES)
    Observations(timeline, ("cam1",), xy_px, np.ones(xy_px.shape[:-1]), HALPE_26).save(path)
    shown = viewed(rig=Rig((camera,)), _observations=path)
    rays = shown.rays(30)
    assert len(rays) == 24 and len(shown.rays(30, "cam2")) == 0
    way = rays[:, 1] - rays[:, 0]
    away = np.cross(joints[30] - camera.centre, way / np.linalg.norm(way, axis=1, keepdims=True))
    assert np.abs(away).max() < 1e-6


def test_what_cannot_be_shown_is_refused(session: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no camera is placed yet"):
        open_viewer(session, ViewConfig())
    with pytest.raises(InputError, match="no session and no dataset"):
        open_viewer(tmp_path, ViewConfig())
    with pytest.raises(InputError, match="there is nothing in it"):
        Viewer([], lambda name: viewed(), host="127.0.0.1", port=0, title="empty")
    for host, port, problem in (("203.0.113.1", 0, "--host: 203"), ("no.such", 0, "--host"), ("::1", 99999, "--port")):
        with pytest.raises(InputError, match=problem):
            Viewer(["s"], lambda name: viewed(), host=host, port=port, title="s")
    assert cli.run(["view", str(tmp_path / "nowhere")]) == 1
