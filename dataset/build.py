"""Stage `build`: fitted sessions and imported motion into one dataset folder.

Each source becomes a part of its own (so that many processes can work, and a killed run resumes); the parts are then
copied into shards of bounded size in the order of their names, without decompressing them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from core.stage import Manifest, run_stage
from dataset.archives import unpacked
from dataset.assemble import assemble
from dataset.cutting import cut
from dataset.importers.reading import read_source
from dataset.labels import in_vocabulary
from dataset.parts import PARTS, write_part
from dataset.schema import Clip
from dataset.settings import BuildConfig
from dataset.sources import Source, file_name, find_sources
from fitting.body_kinds import SMPL
from fitting.smpl import BodyModel

__all__ = ["BuildConfig", "build", "build_from", "load_body"]

_VERSION = 4  # clips of sessions carry the figures of their fit


def build(
    sources: Sequence[Path], out: Path, config: BuildConfig | None = None, *, workers: int = 1, redo: bool = False
) -> Manifest:
    """Builds a dataset.

    Args:
        sources: session folders, motion files of other projects, folders of them, or archives of such folders.
        out: the dataset's folder.
        config: settings; None for the defaults.
        workers: processes; the result does not depend on it.
        redo: replace a dataset made from other sources or settings.

    Raises:
        InputError: if a source is missing or not fitted yet.
        StageError: if `out` was made otherwise, or too many sources cannot be read.
        GateError: if no clip is left.
    """
    config = BuildConfig() if config is None else config
    with unpacked(sources) as paths:
        return _build(find_sources(paths), out, config, workers, redo)


def _build(found: Mapping[str, Source], out: Path, config: BuildConfig, workers: int, redo: bool) -> Manifest:
    """`build` of the sources found."""
    inputs = {f"{item}/{path.name}": path for item, source in found.items() for path in source.inputs}
    if config.body_model != "stand-in":
        inputs["body_model"] = Path(config.body_model)
    return build_from(
        list(found), partial(_import_source, found, config), out, config, inputs, workers=workers, redo=redo
    )


def build_from(
    items: Sequence[str],
    read: Callable[[str], Sequence[Clip]],
    out: Path,
    config: BuildConfig | None = None,
    inputs: Mapping[str, Path] | None = None,
    *,
    stage: str = "build",
    settings: Any = None,
    workers: int = 1,
    redo: bool = False,
) -> Manifest:
    """Builds a dataset of motions that come from anywhere: the way in for formats of one's own.

    Args:
        items: names of the recordings, unique and good as file names.
        read: gives the sequences of a name, one a person, not yet cut, with ids that are unique in the dataset. Called
            in other processes when `workers` > 1, so it must be picklable then; an `InputError` marks the recording
            failed.
        out: the dataset's folder.
        config: settings; None for the defaults.
        inputs: files that `read` reads, by a short name; when their content changes, it is refused until `redo`.
        stage: name of the command that does it, for messages.
        settings: a frozen dataclass that `read` depends on; when it changes, likewise.
        workers: processes; the result does not depend on it.
        redo: replace a dataset made from other sources or settings.

    Raises:
        StageError: if `out` was made otherwise, or too many recordings cannot be read.
        GateError: if no clip is left.
    """
    config = BuildConfig() if config is None else config
    # of the model file its name alone: its content is hashed, and its folder is no business of the dataset's
    portable = dataclasses.replace(config, body_model=Path(config.body_model).name)
    return run_stage(
        stage,
        _VERSION,
        inputs=inputs or {},
        config=portable if settings is None else {"build": portable, "read": settings},
        out=out,
        items=items,
        process=partial(_write_item, read, portable),
        finish=partial(assemble, portable),
        max_failed_fraction=config.max_failed_fraction,
        workers=workers,
        redo=redo,
    )


@lru_cache(maxsize=1)
def load_body(name: str) -> BodyModel:
    """The body model of a setting: a file, or `stand-in`."""
    if name != "stand-in":
        return BodyModel.load(Path(name)).require(SMPL, "a dataset of SMPL's joints")
    from fitting.stand_in import stand_in_body  # takes a second to make; sessions do not need it

    return stand_in_body()


def _import_source(sources: Mapping[str, Source], config: BuildConfig, item: str) -> list[Clip]:
    """The whole sequences of a source, one for each person it shows."""
    return read_source(sources[item], partial(load_body, config.body_model), config.hik_labels)


def _write_item(read: Callable[[str], Sequence[Clip]], config: BuildConfig, item: str, folder: Path) -> dict[str, Any]:
    """One source into a part file; its facts are the index entries, what was skipped, and what it calls its labels."""
    clips, skipped = [], []
    names: list[str] = []
    for sequence in read(item):
        kept, left = cut(_in_words_of(config, sequence), config.cut)
        clips += kept
        skipped += left
        names += kept[0].labels.action_names if kept else ()
    entries = write_part(folder / PARTS / f"{item}.h5", clips, config) if clips else []
    return {"clips": entries, "skipped": skipped, "action_names": list(dict.fromkeys(names))}


def _in_words_of(config: BuildConfig, sequence: Clip) -> Clip:
    """The sequence with a subject that is a good file name, and labels in the given vocabulary if there is one."""
    labels = dataclasses.replace(sequence.labels, subject=file_name(sequence.labels.subject))
    actions = sequence.actions
    if actions is not None and config.vocabulary:
        actions = in_vocabulary(actions, labels.action_names, config.vocabulary, sequence.id)
        labels = dataclasses.replace(labels, action_names=config.vocabulary)
    return dataclasses.replace(sequence, labels=labels, actions=actions)
