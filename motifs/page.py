"""What a report is made of: sections with text, tables and pictures, and the HTML page of them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import MotifsError

_MIME = {".png": "image/png", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class Picture:
    """An embedded picture."""

    caption: str
    mime: str
    base64: str

    @staticmethod
    def of(content: bytes, caption: str, mime: str = "image/png") -> Picture:
        """From encoded bytes."""
        return Picture(caption, mime, base64.b64encode(content).decode())

    @staticmethod
    def read(path: Path, caption: str | None = None) -> Picture:
        """From a file; the caption is the file's name unless given."""
        return Picture.of(path.read_bytes(), caption or spoken(path.stem), _MIME[path.suffix])


@dataclass(frozen=True)
class Table:
    """Rows of text; `numeric` columns are set right-aligned."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()


@dataclass(frozen=True)
class Section:
    """A heading with text, tables and pictures."""

    title: str
    text: str = ""
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    wide: bool = False

    @property
    def anchor(self) -> str:
        """Name of the section in links."""
        return self.title.lower().replace(" ", "-")


def readable(title: str, make: Callable[..., Section | None], *arguments: Any) -> Section | None:
    """What `make` makes of its arguments; where a file is damaged, a section that says so, and the others stand."""
    try:
        return make(*arguments)
    except MotifsError as error:
        return Section(title, f"It cannot be shown: {error}")
    except Exception as error:  # noqa: BLE001 - a damaged file may be wrong in any way
        return Section(title, f"It cannot be shown: its files are damaged ({type(error).__name__}: {error}).")


def spoken(stem: str) -> str:
    """A file's name as words."""
    return stem.replace("_", " ").replace(".", ": ")


def pictures_in(folder: Path, limit: int | None = None, advice: Mapping[str, str] | None = None) -> tuple[Picture, ...]:
    """The pictures that a stage left at the top of its folder, by name.

    Args:
        folder: of the stage; none are found where it is missing.
        limit: how many at most.
        advice: what to look for in a picture, by the end of its name without the suffix.
    """
    found = sorted(p for p in folder.glob("*") if p.suffix in _MIME) if folder.is_dir() else []
    return tuple(Picture.read(path, _caption(path.stem, advice or {})) for path in found[:limit])


def _caption(stem: str, advice: Mapping[str, str]) -> str:
    for end, sentence in advice.items():
        if stem.endswith(end):
            subject = spoken(stem[: len(stem) - len(end)]).strip(" :")
            return f"{subject}: {sentence}" if subject else sentence[0].upper() + sentence[1:]
    return spoken(stem)


def render(title: str, lead: str, sections: Sequence[Section], next_action: str, *, refused: bool) -> str:
    """The page, self-contained; every text in it is escaped, and nothing but its own script may run or load in it."""
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("motifs")
    environment = Environment(loader=loader, autoescape=True)
    script = loader.get_source(environment, "sort.js")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        title=title, lead=lead, sections=sections, next_action=next_action, refused=refused, script=script,
        script_sha256=digest,
    )  # fmt: skip
