"""What a recording needs on paper and on a tablet: boards and markers at their true size, and the clock to show.

A page of paper is as large as its print and a margin. The clock is one HTML file that any tablet's browser shows
without a network: QR codes of the session time, one for each refresh of the display (`capture.time_code` reads them).
"""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibration.pictures.canvas import literal
from capture.prints import target_image
from capture.targets import Target, load_targets
from core.files import write_bytes, write_text
from dataset.sources import file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INCH_M = 0.0254
_BAR_M = 0.1
_NOTE_M = 0.012  # below the print: its name, and the bar
_MARGIN = 0.25  # of a marker, which is not found without white around it
_BORDER_M = 0.01
_SCRIPTS = ("qr.js", "clock.js")


@dataclass(frozen=True)
class PrepareConfig:
    """What is made.

    Attributes:
        targets: a targets.json: each board and marker in it becomes a PDF, at its true size on a page of its own.
        px_per_m: resolution of the prints; edges of squares lie on whole pixels.
    """

    targets: Path | None = None
    px_per_m: float = 3000.0


def prepare(out: Path, config: PrepareConfig) -> list[Path]:
    """Writes `clock.html`, and a PDF of every board and marker.

    Returns:
        The files.

    Raises:
        InputError: if the targets cannot be read, or a print is too large for the resolution.
    """
    targets = {} if config.targets is None else load_targets(config.targets)
    prints: dict[str, Target] = {}
    for name, target in targets.items():
        parts = target.panels if target.kind == "rig" else (target,)
        prints |= {name if target.kind != "rig" else f"{name}-{part.id}": part for part in parts}
    write_text(out / "clock.html", clock_page())
    for name, target in prints.items():
        write_bytes(out / f"{file_name(name)}.pdf", print_page(name, target, config.px_per_m))
    return [out / "clock.html", *(out / f"{file_name(name)}.pdf" for name in prints)]


def print_page(name: str, target: Target, px_per_m: float = 3000.0) -> bytes:
    """`print_figure` as PDF."""
    figure, buffer = print_figure(name, target, px_per_m), io.BytesIO()
    figure.savefig(buffer, format="pdf", facecolor=figure.get_facecolor(), metadata={"CreationDate": None})
    return buffer.getvalue()


def print_figure(name: str, target: Target, px_per_m: float = 3000.0) -> Figure:
    """A page with the print at its true size, and a bar of 100 mm to measure what the printer made of it."""
    from matplotlib.figure import Figure

    picture = target_image(target, px_per_m)
    wide_m, high_m = target.size_m
    border_m = max(_BORDER_M, _MARGIN * target.marker_m if target.kind == "marker" else 0.0)
    page_m = np.array([max(wide_m, _BAR_M) + 2 * border_m, high_m + 2 * border_m + _NOTE_M])
    figure = Figure(figsize=tuple(page_m / _INCH_M), facecolor="black" if target.inverted else "white")
    ink = "white" if target.inverted else "black"

    def share(x_m: float, y_m: float, w_m: float, h_m: float) -> tuple[float, float, float, float]:
        return (x_m / page_m[0], y_m / page_m[1], w_m / page_m[0], h_m / page_m[1])

    axes = figure.add_axes(share(border_m, border_m + _NOTE_M, wide_m, high_m))
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="none", aspect="auto")
    axes.set_axis_off()
    bar = figure.add_axes(share(border_m, _NOTE_M / 2, _BAR_M, 0.001))
    bar.set_facecolor(ink)
    bar.set(xticks=[], yticks=[])
    bar.spines[:].set_visible(False)
    said = f"{literal(name)}: {1e3 * wide_m:.1f} x {1e3 * high_m:.1f} mm; print at 100 %; the bar is 100 mm: measure it"
    figure.text(border_m / page_m[0], _NOTE_M / 6 / page_m[1], said, fontsize=6, color=ink)
    return figure


def clock_page() -> str:
    """The page that shows the session clock; nothing but its own script may run in it, and it loads nothing."""
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("motifs")
    environment = Environment(loader=loader, autoescape=True)
    script = "\n".join(loader.get_source(environment, name)[0] for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = loader.get_source(environment, "clock.html")[0]
    return page.replace("{{ script_sha256 }}", digest).replace("{{ script }}", script)
