"""Stage `build`: fitted sessions and imported motion into one dataset folder.

Each source becomes a part of its own (so that many processes can work, and a killed run resumes); the parts are then
copied into shards of bounded size in the order of their names, without decompressing them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from core.stage import Manifest, run_stage
from dataset.assemble import assemble
from dataset.cutting import cut
from dataset.importers.amass import read_amass
from dataset.importers.session import read_session
from dataset.labels import in_vocabulary
from dataset.parts import PARTS, write_part
from dataset.schema import Clip
from dataset.settings import BuildConfig
from dataset.sources import Source, file_name, find_sources
from fitting.body_kinds import SMPL
from fitting.smpl import BodyModel

__all__ = ["BuildConfig", "build", "build_from", "load_body"]

_VERSION = 2  # arrays that do not shrink are no longer deflated; splits stay when people are added; Croissant card


def build(
    sources: Sequence[Path], out: Path, config: BuildConfig | None = None, *, workers: int = 1, redo: bool = False
) -> Manifest:
    """Builds a dataset.

    Args:
        sources: session folders, AMASS `.npz` files, or folders of them.
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
    found = find_sources(sources)
    inputs = {f"{item}/{path.name}": path for item, source in found.items() for path in source.inputs}
    if config.body_model != "stand-in":
        inputs["body_model"] = Path(config.body_model)
    return build_from(
        list(found), partial(_import_source, found, config), out, config, inputs, workers=workers, redo=redo
    )


def build_from(
    items: Sequence[str],
    read: Callable[[str], Clip],
    out: Path,
    config: BuildConfig | None = None,
    inputs: Mapping[str, Path] | None = None,
    *,
    workers: int = 1,
    redo: bool = False,
) -> Manifest:
    """Builds a dataset of sequences that come from anywhere: the way in for formats of one's own.

    Args:
        items: names of the sequences, unique and good as file names; the clips' ids begin with them.
        read: gives the whole sequence of a name, not yet cut. Called in other processes when `workers` > 1, so it must
            be picklable then; an `InputError` marks the sequence failed.
        out: the dataset's folder.
        config: settings; None for the defaults.
        inputs: files that `read` reads, by a short name; when their content changes, it is refused until `redo`.
        workers: processes; the result does not depend on it.
        redo: replace a dataset made from other sources or settings.

    Raises:
        StageError: if `out` was made otherwise, or too many sequences cannot be read.
        GateError: if no clip is left.
    """
    config = BuildConfig() if config is None else config
    # of the model file its name alone: its content is hashed, and its folder is no business of the dataset's
    portable = dataclasses.replace(config, body_model=Path(config.body_model).name)
    return run_stage(
        "build",
        _VERSION,
        inputs=inputs or {},
        config=portable,
        out=out,
        items=items,
        process=partial(_write_item, read, portable),
        finish=partial(assemble, portable),
        max_failed_fraction=config.max_failed_fraction,
        workers=workers,
        redo=redo,
    )


def load_body(name: str) -> BodyModel:
    """The body model of a setting: a file, or `stand-in`."""
    if name != "stand-in":
        return BodyModel.load(Path(name)).require(SMPL, "a dataset of SMPL's joints")
    from fitting.stand_in import stand_in_body  # takes a second to make; sessions do not need it

    return stand_in_body()


def _import_source(sources: Mapping[str, Source], config: BuildConfig, item: str) -> Clip:
    """The whole sequence of a source."""
    source = sources[item]
    if source.kind == "session":
        return read_session(source.path, item)
    return read_amass(source.path, item, source.subject, load_body(config.body_model))


def _write_item(read: Callable[[str], Clip], config: BuildConfig, item: str, folder: Path) -> dict[str, Any]:
    """One source into a part file; its facts are the index entries, what was skipped, and what it calls its labels."""
    sequence = _in_words_of(config, dataclasses.replace(read(item), id=item))
    clips, skipped = cut(sequence, config.cut)
    entries = write_part(folder / PARTS / f"{item}.h5", clips, config) if clips else []
    return {"clips": entries, "skipped": skipped, "action_names": sequence.labels.action_names if clips else ()}


def _in_words_of(config: BuildConfig, sequence: Clip) -> Clip:
    """The sequence with a subject that is a good file name, and labels in the given vocabulary if there is one."""
    labels = dataclasses.replace(sequence.labels, subject=file_name(sequence.labels.subject))
    actions = sequence.actions
    if actions is not None and config.vocabulary:
        actions = in_vocabulary(actions, labels.action_names, config.vocabulary, sequence.id)
        labels = dataclasses.replace(labels, action_names=config.vocabulary)
    return dataclasses.replace(sequence, labels=labels, actions=actions)
