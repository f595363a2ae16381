"""`motifs view`: a browser page over a recording: its room, cameras, ways and pictures, and the body along time.

Built on viser, which serves the page and keeps it up to date. What is slow (pictures) is done in a thread of its own
that always takes the newest wish, so that scrubbing stays smooth whatever the pictures take.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import cv2
import numpy as np
import viser

from core.arrays import Float, UInt8
from core.errors import InputError, MotifsError
from fitting.film import reduced
from fitting.sequence import Reason, spoken
from motifs.timeline import REJECTED, VALID, colours_of, strip, with_cursor
from motifs.view_scene import LAYERS, Room, field_of_view
from motifs.view_server import serve, stop
from motifs.viewed import Viewed

_FPS = 30.0
_STRIP_PX, _PICTURE_PX, _THUMB_PX = 1400, 540, 120  # width of the strip, heights of pictures
_QUIET_S = 0.25  # pictures of all cameras are brought up to date when time has stood still so long
_SPEEDS = {"0.25 x": 0.25, "0.5 x": 0.5, "1 x": 1.0, "2 x": 2.0, "5 x": 5.0, "20 x": 20.0}
_LEGEND = 14  # names in it; the instant's own Motif is told in words
_NONE = "none"
_KEYS: tuple[tuple[str, Any, str], ...] = (
    ("play or pause", "space", "play"),
    ("next frame", "L", ">"),  # arrows are the slider's own
    ("frame before", "J", "<"),
    ("next rejected frame", "N", ">|"),
    ("rejected frame before", "B", "|<"),
)


class Viewer:
    """The page.

    Args:
        names: recordings or clips that can be chosen.
        open_named: loads one of them.
        host: address to listen on; people on other machines see the page only if it is not the loopback.
        port: to listen on; the next free one is taken if it is not free.
        title: of the page.

    Raises:
        InputError: if there is nothing to show, or the address is not this machine's.
    """

    def __init__(
        self, names: Sequence[str], open_named: Callable[[str], Viewed], *, host: str, port: int, title: str
    ) -> None:
        if not names:
            raise InputError(title, "there is nothing in it", "give a dataset that has clips")
        self._names, self._open_named = tuple(names), open_named
        self._lock, self._over = threading.RLock(), threading.Event()
        self._playing, self._instant, self._column = False, 0, -1
        self._inside: str | None = None  # the camera that somebody looks through
        self.viewed = open_named(self._names[0])
        self.server = serve(host, port, title)
        self.server.scene.set_up_direction("+z")
        self.server.gui.configure_theme(show_logo=False, show_share_button=False)
        self._build_controls()
        self._pictures = _Newest(self._draw_pictures)
        self._open(self.viewed)
        self._clock = threading.Thread(target=self._let_time_pass, daemon=True)
        self._clock.start()

    @property
    def url(self) -> str:
        """Where the page is."""
        host = self.server.get_host()
        if host in ("0.0.0.0", "::", ""):  # every address of this machine, of which it has one for itself
            host = "localhost"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server.get_port()}"

    def close(self) -> None:
        """Ends the page."""
        self._over.set()
        self._clock.join()
        self._pictures.close()
        stop(self.server)

    def show(self, instant: int) -> None:
        """Shows an instant."""
        with self._lock, self.server.atomic():
            last = max(len(self.viewed.t_s) - 1, 1)
            self._instant = int(np.clip(instant, 0, len(self.viewed.t_s) - 1))
            self._room.show(self._instant)
            if self._inside is not None:
                self._room.look_through(self._inside, self._instant)
            self._show_rays()
            self._text.content = paragraphs(told(self.viewed, self._instant))
            if (column := round(self._instant / last * _STRIP_PX)) != self._column:
                self._column = column
                self._timeline.image = with_cursor(self._strip, self._instant / last)
            self._slider.value = self._instant  # type: ignore[misc]
        self._ask_for_pictures()

    def press(self, what: str) -> None:
        """A button: play, < and > (a frame), |< and >| (the next stretch of rejected frames)."""
        with self._lock:
            if what == "play":
                self._playing = not self._playing
                if self._playing and self._instant == len(self.viewed.t_s) - 1:
                    self._instant = 0
                self._ask_for_pictures()
                return
            self._playing = False
            if what in ("<", ">"):
                self.show(self._instant + (1 if what == ">" else -1))
            else:
                self.show(next_rejected(self.viewed, self._instant, forward=what == ">|"))

    def _open(self, viewed: Viewed) -> None:
        with self._lock, self.server.atomic():
            self._playing, self._inside, self.viewed = False, None, viewed
            self._room = Room(self.server.scene, viewed, self._pick)
            x, y, _ = self._room.centre
            self.server.initial_camera.position = (x + 2.6, y - 3.6, 2.4)
            self.server.initial_camera.look_at = (x, y, 0.8)
            self._strip, self._column = strip(viewed, _STRIP_PX), -1
            self._slider.max = max(len(viewed.t_s) - 1, 1)
            self._camera.options = (_NONE, *viewed.view_ids)
            self._camera.value = viewed.view_ids[0] if viewed.view_ids else _NONE  # type: ignore[misc]
            self._legend.content = legend(viewed)
            self._show_layers()
            self.show(0)

    def _build_controls(self) -> None:
        gui = self.server.gui
        if len(self._names) > 1:
            choice = gui.add_dropdown("clip", self._names, initial_value=self._names[0])
            choice.on_update(lambda event: self._choose(choice))
        self._text = gui.add_html("")
        buttons = gui.add_button_group("frame", ("|<", "<", "play", ">", ">|"), hint="|< and >| find rejected frames")
        buttons.on_click(lambda event: self.press(buttons.value))
        self._speed = gui.add_dropdown("speed", tuple(_SPEEDS), initial_value="1 x")
        with gui.add_folder("show"):
            self._layers = {name: gui.add_checkbox(name, shown) for name, shown in LAYERS.items()}
            self._one_camera = gui.add_checkbox("rays of the chosen camera alone", False)
        for box in (*self._layers.values(), self._one_camera):
            box.on_update(lambda event: self._show_layers())
        bottom, left = gui.add_panel(), gui.add_panel()
        with bottom.add_tab("time"):
            self._timeline = gui.add_image(np.full((24, _STRIP_PX, 3), 255, np.uint8), format="png")
            self._slider = gui.add_slider("instant", 0, 1, 1, 0)
            self._slider.on_update(self._scrubbed)
            self._legend = gui.add_html("")
        with left.add_tab("picture"):
            self._camera = gui.add_dropdown("camera", (_NONE,), initial_value=_NONE)
            self._camera.on_update(lambda event: self._picked())
            self._picture = gui.add_image(np.full((9, 16, 3), 235, np.uint8), format="jpeg", jpeg_quality=85)
            self._trouble = gui.add_html("")
            gui.add_button("look through this camera, or out of it").on_click(self._look_through)
        left.dock_left()
        left.set_width(420)
        bottom.float(x=15, y=-15, width=900, height=170)
        for label, key, what in _KEYS:
            gui.add_command(label, hotkey=key).on_trigger(partial(_press, self, what))

    def _choose(self, choice: Any) -> None:
        """Opens the clip that was chosen; one that cannot be read is told, and the one before stays."""
        if choice.value == self.viewed.name:
            return
        with self._telling():
            self._open(self._open_named(choice.value))
        if choice.value != self.viewed.name:
            choice.value = self.viewed.name

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Shows under the picture what goes wrong; a thread that ended with it would leave a page that stands still."""
        trouble = ""
        try:
            yield
        except MotifsError as error:
            trouble = str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the rest of the page goes on
            trouble = f"{type(error).__name__}: {error}"
        self._trouble.content = paragraphs([trouble] if trouble else [])

    def _scrubbed(self, event: Any) -> None:
        if event.client is not None:  # a person moved it, not this program
            self._playing = False
            self.show(int(self._slider.value))

    def _pick(self, name: str) -> None:
        if name in self._camera.options:
            self._camera.value = name  # type: ignore[misc]

    def _picked(self) -> None:
        with self._lock:
            self._inside = None
            self._room.look_through(None, self._instant)
            self._show_rays()
        self._ask_for_pictures()

    def _look_through(self, event: Any) -> None:
        """Puts the person at the page into the camera, with its picture behind the body; and out of it again."""
        name = self._camera.value
        camera = self.viewed.camera(name, self._instant)
        if camera is None or event.client is None:
            return
        with self._lock, event.client.atomic():
            self._inside = None if self._inside == name else name
            self._room.look_through(self._inside, self._instant)
            if self._inside is None:
                return
            event.client.camera.wxyz = viser.transforms.SO3.from_matrix(camera.world_from_cam.R).wxyz
            event.client.camera.position = camera.centre
            event.client.camera.fov = field_of_view(camera)

    def _show_layers(self) -> None:
        with self._lock:
            self._room.show_layers({name: box.value for name, box in self._layers.items()})
            self._show_rays()

    def _show_rays(self) -> None:
        if self._layers["keypoint rays"].value:
            self._room.show_rays(self._instant, self._camera.value if self._one_camera.value else None)

    def _ask_for_pictures(self) -> None:
        self._pictures.ask((self.viewed, self._instant, self._camera.value, not self._playing))

    def _draw_pictures(self, wish: tuple[Viewed, int, str, bool]) -> None:
        """The chosen camera's picture with the body; plain ones in all frusta when time stands still."""
        with self._telling():
            self._draw(*wish)

    def _draw(self, viewed: Viewed, instant: int, chosen: str, still: bool) -> None:
        if (picture := picture_of(viewed, chosen, instant, _PICTURE_PX, body=True)) is not None:
            self._picture.image = picture
        if not still or self._over.wait(_QUIET_S):
            return
        for name, handle in self._room.frusta.items():
            if viewed is not self.viewed or instant != self._instant:
                return
            height = _PICTURE_PX if name == chosen else _THUMB_PX
            if (picture := picture_of(viewed, name, instant, height, body=False)) is not None:
                handle.image = picture

    def _let_time_pass(self) -> None:
        last = time.monotonic()
        while not self._over.wait(1 / _FPS):
            now = time.monotonic()
            with self._lock:
                if not self._playing:
                    last = now
                    continue
                t_s = self.viewed.t_s
                reached = float(t_s[self._instant]) + (now - last) * _SPEEDS[self._speed.value]
                instant = int(np.searchsorted(t_s, reached, side="right")) - 1
                if instant > self._instant:
                    last = now
                    self._playing = instant < len(t_s) - 1
                    with self._telling():
                        self.show(instant)
                    self._playing = self._playing and self._instant == instant


def _press(viewer: Viewer, what: str, event: Any) -> None:
    viewer.press(what)


class _Newest:
    """A thread that does the newest wish; older ones that wait are forgotten."""

    def __init__(self, do: Callable[[Any], None]) -> None:
        self._do, self._over = do, False
        self._wishes: list[Any] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ask(self, wish: Any) -> None:
        with self._changed:
            self._wishes = [wish]
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._over or bool(self._wishes))
                if self._over:
                    return
                wish = self._wishes.pop()
            self._do(wish)


def picture_of(
    viewed: Viewed, name: str, instant: int, max_height_px: int, *, body: bool
) -> UInt8[np.ndarray, "h w 3"] | None:
    """The picture of a view, plain or with the body and keypoints over it (RGB); None if there is none."""
    if name not in viewed.view_ids or (shot := viewed.shot(name)) is None:
        return None
    frame = shot.frames_at(viewed.t_s[instant : instant + 1])
    if body:
        found = [picture for _, picture in shot.draw(frame, max_height_px)]
    else:
        found = [reduced(picture, max_height_px) for _, picture in shot.plain(frame)]
    return np.asarray(cv2.cvtColor(found[0], cv2.COLOR_BGR2RGB)) if found else None


def next_rejected(viewed: Viewed, instant: int, *, forward: bool) -> int:
    """The first frame of the next stretch that may not be used, or of the one before; the same if there is none."""
    if viewed.playback is None:
        return instant
    wrong = viewed.playback.sequence.reasons != Reason.OK
    starts = np.flatnonzero(wrong & ~np.concatenate([[False], wrong[:-1]]))
    found = starts[starts > instant] if forward else starts[starts < instant][::-1]
    return int(found[0]) if len(found) else instant


def told(viewed: Viewed, instant: int) -> list[str]:
    """What is to be said of an instant, in lines."""
    t_s = float(viewed.t_s[instant])
    lines = [f"{viewed.name} {viewed.note}".strip(), f"{t_s:.3f} s, instant {instant} of {len(viewed.t_s)}"]
    if viewed.playback is not None:
        sequence = viewed.playback.sequence
        reasons = Reason(int(sequence.reasons[instant]))
        lines.append(f"rejected: {spoken(reasons)}" if reasons else "valid")
        lines.append(_uncertainty(sequence.joint_covariance[instant]))
    now = [motif.name for motif in viewed.motifs if motif.start_s <= t_s < motif.end_s]
    return [*lines, *(f"Motif {name}" for name in now)]


def paragraphs(lines: Sequence[str]) -> str:
    """Lines of text as HTML; nothing in them is markup."""
    return "".join(f'<p style="margin: .3em 1em; font-size: .85rem">{html.escape(line)}</p>' for line in lines)


def _uncertainty(covariance: Float[np.ndarray, "joints 3 3"]) -> str:
    known = np.isfinite(covariance).all(axis=(1, 2))
    if not known.any():
        return "uncertainty not known"
    sigma_mm = 1e3 * np.sqrt(np.maximum(np.linalg.eigvalsh(covariance[known])[:, -1], 0.0))
    return f"standard deviation of joints {np.median(sigma_mm):.0f} mm, at most {sigma_mm.max():.0f} mm"


def legend(viewed: Viewed) -> str:
    """What the colours of the strip mean, as HTML."""
    motifs = colours_of([motif.name for motif in viewed.motifs])
    names = ["valid", "rejected", *(f"Motif {name}" for name in motifs)]
    boxes = [
        f'<span style="background: rgb{colour}; padding: 0 .6em; margin: 0 .3em 0 .9em"></span>{html.escape(name)}'
        for name, colour in zip(names, (VALID, REJECTED, *motifs.values()), strict=True)
    ]
    more = f" and {len(boxes) - _LEGEND} more" if len(boxes) > _LEGEND else ""
    return f'<div style="font-size: .8rem; padding: 0 1em">{"".join(boxes[:_LEGEND])}{more}</div>'
