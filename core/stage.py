"""The stage runner: from declared inputs and a config to one complete folder, resumable item by item.

A stage is a function that calls `run_stage`. While it works, its files live in a hidden folder beside the result, one
record for each finished item; when every item is done and the health figures hold, the folder is renamed into place.
What exists under the final name is therefore complete. Killed at any moment, the next run redoes only unfinished items.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from core.errors import BusyError, GateError, MotifsError, StageError
from core.files import dump_json, publish_folder, read_json, sha256_of_file, sha256_of_path, to_jsonable, write_json
from core.manifest import Health, Manifest, Summary, changed_inputs
from core.progress import lines_from_workers, progress, send_lines_to
from core.threads import one_blas_thread
from core.versions import code_version, library_versions

__all__ = ["Health", "Manifest", "Summary", "changed_inputs", "failure_of", "no_items", "run_stage"]

_RECORDS = ".items"
_FAILURE = "failure"  # no item is called so: their records end in .json

Process = Callable[[str, Path], Mapping[str, Any]]
Finish = Callable[[Path, Mapping[str, Mapping[str, Any]]], "Summary"]


def run_stage(
    name: str,
    version: int,
    *,
    inputs: Mapping[str, Path],
    config: Any,
    out: Path,
    items: Sequence[str],
    process: Process,
    finish: Finish,
    max_failed_fraction: float = 0.0,
    workers: int = 1,
    redo: bool = False,
) -> Manifest:
    """Runs one stage to a complete folder `out`, or returns at once if it is there already.

    Args:
        name: the command that runs this stage, for messages (`calibrate rig`).
        version: raised whenever the same inputs and config would give another result.
        inputs: every file and folder the stage reads, by a short name; their contents are hashed.
        config: a frozen dataclass; part of the fingerprint.
        out: folder to make.
        items: independent pieces of work (views, clips), by unique names that are good file names.
        process: does one item, writing its files into the folder it is given, and returns facts for `finish`. Called
            in other processes when `workers` > 1, so it must be picklable then. A `MotifsError` marks the item failed.
        finish: combines the items that succeeded; gets the folder that holds all their files.
        max_failed_fraction: share of items that may fail before the stage does.
        workers: processes; the result does not depend on it.
        redo: replace a result made from other inputs or settings.

    Raises:
        StageError: if `out` was made otherwise and `redo` is off, or too many items failed.
        GateError: if a health figure lies past its threshold; the result is kept as `<out>.refused` to look at.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    identity = {
        "stage": name,
        "version": version,
        "config": _portable(config),
        "inputs": {key: _input_hash(name, key, path) for key, path in sorted(inputs.items())},
    }
    fingerprint = hashlib.sha256(dump_json(identity).encode()).hexdigest()
    with _lock(out):
        if (existing := _reusable(out, identity, fingerprint, redo)) is not None:
            shutil.rmtree(_refused(out), ignore_errors=True)  # of another try, which is given up by asking for this one
            return existing
        partial = _open_partial(out, fingerprint)
        with _failure_kept(partial):
            records = _process_items(name, partial, items, process, workers)
            failed = {item: record["failed"] for item, record in records.items() if "failed" in record}
            if len(failed) > max_failed_fraction * len(items):
                for item in failed:  # tried again by the next run: what they lacked may be there by then
                    (partial / _RECORDS / f"{item}.json").unlink()
                _raise_failed(name, records, failed, len(items), max_failed_fraction)
            summary = one_blas_thread(finish)(
                partial, {item: records[item]["facts"] for item in items if item not in failed}
            )
        data = {
            **identity,
            "fingerprint": fingerprint,
            "code_version": code_version(),
            "libraries": library_versions(),
            "counts": {"ok": len(items) - len(failed), "failed": len(failed)},
            "failed": failed,
            "metrics": summary.metrics,
            "health": [{**to_jsonable(h), "ok": h.ok} for h in summary.health],
            "outputs": _list_outputs(partial),
            "made_from": _neighbours(out, inputs),
            "timing": {"started": started.isoformat(), "seconds": round(time.perf_counter() - clock, 3)},
        }
        return _publish(out, partial, data, summary.health)


def _neighbours(out: Path, inputs: Mapping[str, Path]) -> dict[str, str]:
    """Inputs that other stages of the same session made, relative to the session."""
    inside = {key: p.relative_to(out.parent) for key, p in sorted(inputs.items()) if p.is_relative_to(out.parent)}
    return {key: path.as_posix() for key, path in inside.items() if path.parts[0][:2].isdigit()}


def no_items(folder: Path, facts: Mapping[str, Mapping[str, Any]]) -> Summary:
    """A `finish` for stages whose items are the whole result."""
    return Summary()


def _portable(config: Any) -> Any:
    """A config as JSON types that say the same in every folder and on every machine.

    Of a path the name alone: the content of the file is hashed among the inputs.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: _portable(getattr(config, f.name)) for f in dataclasses.fields(config)}
    return config.name if isinstance(config, Path) else to_jsonable(config)


def _input_hash(name: str, key: str, path: Path) -> str:
    if path.exists():
        return sha256_of_path(path)
    made = (
        "run the stage that makes it, or `motifs run` for all of them" if path.name[:2].isdigit() else "check the path"
    )
    raise StageError(name, f"its input {key} is missing, {path}", made)


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Holds the stage's folder; the system releases it if the process dies."""
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_name(f".{out.name}.lock")
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists() or path.stat().st_ino != os.fstat(stream.fileno()).st_ino:
                raise BlockingIOError  # its holder ended and removed the file between our opening and locking it
        except BlockingIOError as error:
            raise BusyError(out.name, "another process is working on it", "wait for it to end, or stop it") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _reusable(out: Path, identity: Mapping[str, Any], fingerprint: str, redo: bool) -> Manifest | None:
    """The finished result if it may stand; refuses one that was made otherwise unless `redo`."""
    if not out.exists():
        return None
    if not out.is_dir() or (any(out.iterdir()) and not (out / "manifest.json").is_file()):
        raise StageError(str(out), "it is there and no result of a stage", "name another place, or remove it yourself")
    if redo or not any(out.iterdir()):
        return None
    manifest = Manifest.read(out)
    if manifest.fingerprint != fingerprint:
        changes = ", ".join(_differences(manifest.data, identity))
        raise StageError(
            str(out), f"was made otherwise: {changes}", f"run `motifs {identity['stage']}` with --redo to replace it"
        )
    missing = [f for f in manifest.data["outputs"] if not (out / f).is_file()]
    if missing:
        raise StageError(str(out), f"{missing[0]} is missing from it", f"run `motifs {identity['stage']}` with --redo")
    return manifest


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two stage identities, in words."""
    if old.get("stage") != new["stage"]:
        return [f"by stage {old.get('stage')!r}"]
    changes = (
        [f"stage version {old.get('version')} -> {new['version']}"] if old.get("version") != new["version"] else []
    )
    for part, label in (("config", "setting"), ("inputs", "input")):
        before, after = old.get(part) or {}, new[part] or {}
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                detail = f" {before.get(key)} -> {after.get(key)}" if part == "config" else " has changed"
                changes.append(f"{label} {key}{detail}")
    return changes or ["for reasons its manifest does not hold"]


def _open_partial(out: Path, fingerprint: str) -> Path:
    """The working folder; work begun under another fingerprint is discarded."""
    partial = out.with_name(f".{out.name}.partial")
    marker = partial / _RECORDS / "fingerprint"
    if not marker.is_file() or marker.read_text() != fingerprint:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / _RECORDS).mkdir(parents=True)
        marker.write_text(fingerprint)
    # what a killed run left of files it was writing, and of a result it was replacing
    for leftover in partial.rglob(".*.part*"):
        leftover.unlink()
    for leftover in out.parent.glob(f".{out.name}.*.old"):
        shutil.rmtree(leftover)
    return partial


@contextmanager
def _failure_kept(partial: Path) -> Iterator[None]:
    """Leaves in the working folder why the stage failed, for `failure_of`, until it is tried again."""
    record = partial / _RECORDS / _FAILURE
    record.unlink(missing_ok=True)
    try:
        yield
    except MotifsError as error:
        write_json(record, {"item": error.item, "problem": error.problem, "action": error.action})
        raise


def failure_of(out: Path) -> Mapping[str, str] | None:
    """Why the last try at a stage failed (`item`, `problem`, `action`); None if it did not, or ended otherwise."""
    record = out.with_name(f".{out.name}.partial") / _RECORDS / _FAILURE
    return read_json(record) if record.is_file() else None


def _process_items(
    name: str, partial: Path, items: Sequence[str], process: Process, workers: int
) -> dict[str, Mapping[str, Any]]:
    """Does every item that has no record yet; returns all records."""
    if len(set(items)) != len(items):
        raise StageError(name, f"items repeat: {sorted(items)}", "give every item its own name")
    waiting = [item for item in items if not (partial / _RECORDS / f"{item}.json").is_file()]
    with progress(name, len(items)) as advance:
        advance(len(items) - len(waiting))
        if workers > 1 and len(waiting) > 1:
            # spawn, not fork: torch and OpenCV hold threads that do not survive a fork
            context = multiprocessing.get_context("spawn")
            size = min(workers, len(waiting))
            with (
                lines_from_workers(context) as outbox,
                ProcessPoolExecutor(size, mp_context=context, initializer=_begin_worker, initargs=(outbox,)) as pool,
            ):
                try:
                    for _ in pool.map(_do_item, [partial] * len(waiting), waiting, [process] * len(waiting)):
                        advance()
                except BrokenProcessPool as error:
                    raise StageError(
                        name, "one of its worker processes was ended from outside", "free memory or lower --workers"
                    ) from error
        else:
            for item in waiting:
                _do_item(partial, item, process)
                advance()
    return {item: read_json(partial / _RECORDS / f"{item}.json") for item in items}


def _begin_worker(outbox: Connection | None) -> None:
    """Sends this worker's progress to the process that started it, and ends the worker as soon as that one is gone.

    An orphan would go on writing into the folder that the next run has taken over, and then wait forever for work.
    """
    send_lines_to(outbox)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@one_blas_thread
def _do_item(partial: Path, item: str, process: Process) -> None:
    """Processes one item in a folder of its own, moves its files over, and only then records it."""
    scratch = partial / f".{item}.scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        record: dict[str, Any] = {"facts": process(item, scratch)}
    except MotifsError as error:
        record = {"failed": {"item": error.item, "problem": error.problem, "action": error.action}}
    else:
        for path in sorted(p for p in scratch.rglob("*") if p.is_file()):
            target = partial / path.relative_to(scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    shutil.rmtree(scratch)
    write_json(partial / _RECORDS / f"{item}.json", record)


def _raise_failed(
    name: str, records: Mapping[str, Any], failed: Mapping[str, Mapping[str, str]], total: int, allowed: float
) -> None:
    first = next(iter(failed.values()))
    if len(failed) == 1:
        raise StageError(first["item"], first["problem"], first["action"])
    raise StageError(
        name,
        f"{len(failed)} of {total} items failed, {allowed:.0%} allowed ({', '.join(failed)}); the first, "
        f"{first['item']}: {first['problem']}",
        first["action"],
    )


def _list_outputs(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and _RECORDS not in p.parts)
    return {p.relative_to(folder).as_posix(): sha256_of_file(p) for p in files if p.name != "manifest.json"}


def _refused(out: Path) -> Path:
    """Where a result is kept whose health figures do not hold."""
    return out.with_name(f"{out.name}.refused")


def _publish(out: Path, partial: Path, data: Mapping[str, Any], health: Sequence[Health]) -> Manifest:
    """Renames the working folder to its final name, or to `<out>.refused` if a health figure does not hold."""
    refused_folder = _refused(out)
    shutil.rmtree(refused_folder, ignore_errors=True)
    refused = [figure for figure in health if not figure.ok]
    write_json(partial / "manifest.json", data)
    if refused:
        shutil.rmtree(partial / _RECORDS)
        partial.rename(refused_folder)
        worst = refused[0]
        also = f" (also {'; '.join(f'{h.item} {h}'.strip() for h in refused[1:])})" if len(refused) > 1 else ""
        raise GateError(worst.item or str(data["stage"]), f"{worst}{also}, see {refused_folder}", worst.action)
    shutil.rmtree(partial / _RECORDS)
    publish_folder(partial, out)
    return Manifest.read(out)
