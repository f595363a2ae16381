"""`motifs run`: one session in this process, many on a cluster; what is said meanwhile, and what is left at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from capture.session import Session
from core.errors import InputError, MotifsError, StageError
from core.files import write_json
from core.stage import Manifest
from motifs.batch import SessionRun, needs_gpu, run_sessions
from motifs.cluster import lab_cluster, local_cluster, local_workers
from motifs.pipeline import RunConfig, Step, check_settings, run_session, steps_of
from motifs.status import session_status


def plan(sessions: Sequence[Path]) -> str:
    """The stages of sessions and where they stand, a line each.

    Raises:
        InputError: if sessions cannot be used, as `run_all`.
    """
    _check(sessions)
    rows = [(session, status) for session in sessions for status in session_status(session)]
    return "\n".join(f"{status.step.command:<17} {status.state:<12} {s / status.step.folder}" for s, status in rows)


def run_all(
    sessions: Sequence[Path],
    config: RunConfig,
    *,
    workers: int,
    scheduler: str | None = None,
    redo: bool = False,
    summary: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Runs every annotation stage of sessions: of one alone with its stages' items side by side, of many with sessions
    side by side.

    Args:
        sessions: folders.
        workers: processes on this machine, or of each stage on the lab's cluster.
        scheduler: address of the lab's cluster.
        redo: replace results that were made with other settings or inputs.
        summary: JSON file to write: how every session ended.
        say: takes lines for people.

    Raises:
        InputError: if sessions or settings cannot be used.
        MotifsError: of the session that failed, or of the first of several; the others are done all the same.
    """
    _check(sessions)
    if len(sessions) == 1 and scheduler is None:
        _run_one(sessions[0], config, workers=workers, redo=redo, summary=summary, say=say)
        say(f"next, `motifs report {sessions[0]}` and `motifs build {sessions[0]} --out DATASET`")
        return
    gpu = needs_gpu(config.fit)
    check_settings(config, devices=scheduler is None)
    num_workers = local_workers(workers, len(sessions))
    processes = workers if scheduler else max(workers // num_workers, 1)
    cluster = lab_cluster(scheduler, gpu) if scheduler else local_cluster(num_workers, gpu)
    with cluster as client:
        ended = run_sessions(
            client, sessions, config, processes=processes, redo=redo, announce=lambda run: say(_news(run)), say=say
        )  # fmt: skip
    if summary is not None:
        write_json(summary, [run.summary() for run in ended])
    failed = [run for run in ended if run.error is not None]
    say(f"{len(ended) - len(failed)} of {len(ended)} sessions are done")
    if failed:
        raise _error(failed, len(ended))
    say(f"next, `motifs status {sessions[0]} ...` and `motifs build {sessions[0]} ... --out DATASET`")


def _run_one(
    session: Path, config: RunConfig, *, workers: int, redo: bool, summary: Path | None, say: Callable[[str], None]
) -> None:
    """Runs a session in this process; the summary says how it ended, whatever ended it."""
    run = SessionRun(session)

    def announce(step: Step, manifest: Manifest) -> None:
        run.manifests.append(manifest)
        say(line_of(manifest))

    try:
        run.steps = steps_of(Session.load(session))
        run_session(session, config, workers=workers, redo=redo, announce=announce)
    except MotifsError as error:
        run.error = error
        raise
    except Exception as error:
        run.error = StageError(session.name, f"{type(error).__name__}: {error}", "report this with what was printed")
        raise
    finally:
        if summary is not None and (run.error is not None or run.step is None):
            write_json(summary, [run.summary()])


def line_of(manifest: Manifest) -> str:
    """A line about a finished stage, and what it has to note on lines of their own."""
    failed = ", ".join(manifest.failed)
    first = f"{manifest.data['stage']:<17} {manifest.seconds:7.1f} s  {len(manifest.health)} health figures hold"
    notes = [f"  {note}" for note in manifest.metrics.get("notes", ())]
    return "\n".join([first + (f"; failed: {failed}" if failed else ""), *notes])


def _check(sessions: Sequence[Path]) -> None:
    if not sessions:
        raise InputError("SESSIONS", "none was named", "give one folder or more that `motifs ingest` made")
    seen: dict[Path, Path] = {}
    for session in sessions:
        first = seen.setdefault(session.resolve(), session)
        if first is not session:
            raise InputError(str(session), f"it is the same session as {first}", "name it once")


def _news(run: SessionRun) -> str:
    """What has just happened to a session among many."""
    if run.error is not None:
        return f"{run.folder.name}: {run.error}"
    return f"{run.folder.name}: {line_of(run.manifests[-1])}"


def _error(failed: Sequence[SessionRun], total: int) -> StageError:
    error = failed[0].error
    assert error is not None
    names = ", ".join(str(run.folder) for run in failed)
    first = f"the first, {error.item}: {error.problem}"
    return StageError(f"{len(failed)} of {total} sessions", f"failed ({names}); {first}", error.action)
