"""What `motifs view` shows and where: a session or a dataset, on this machine alone unless it is told otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import InputError
from fitting.fit import STAND_IN

if TYPE_CHECKING:
    from dataset.shards import AmdDataset
    from motifs.viewer import Viewer


@dataclass(frozen=True)
class ViewConfig:
    """Settings of `motifs view`.

    Attributes:
        body_model: the SMPL model file that was fitted, or "stand-in".
        motifs: folder that `motifs discover` wrote, to be shown under the timeline.
        clips: of a dataset, which (ids, or patterns of them: "walk*"); all if none are named.
        host: address to listen on. Others in the network see the page, and whatever it shows, only with 0.0.0.0.
        port: to listen on; the next free one if it is taken.
    """

    body_model: str = STAND_IN
    motifs: Path | None = None
    clips: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8080


def open_viewer(source: Path, config: ViewConfig) -> Viewer:
    """Starts the page of a session or a dataset.

    Raises:
        InputError: if it is neither, has nothing to show, or was fitted with another body.
    """
    from motifs.viewer import Viewer

    if (source / "session.json").is_file():
        from motifs.viewed import viewed_session

        viewed = viewed_session(source, config.body_model, config.motifs)
        return Viewer([viewed.name], lambda name: viewed, host=config.host, port=config.port, title=viewed.name)
    if (source / "meta").is_dir():
        from dataset.shards import AmdDataset
        from fitting.fit import load_body
        from motifs.viewed import viewed_clip

        dataset, body = AmdDataset(source), load_body(config.body_model)
        names = _clips(dataset, config.clips)
        return Viewer(
            names, lambda name: viewed_clip(dataset, name, body, config.motifs),
            host=config.host, port=config.port, title=source.name,
        )  # fmt: skip
    raise InputError(str(source), "it is no session and no dataset", "give a folder of `motifs ingest` or `build`")


def _clips(dataset: AmdDataset, patterns: tuple[str, ...]) -> list[str]:
    """Ids of the clips that were asked for, in the dataset's order."""
    ids = [clip.id for clip in dataset.clips]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in ids):
            raise InputError(pattern, f"no clip of {dataset.path.name} is called so", "name clips of meta/clips.json")
    return [name for name in ids if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]
