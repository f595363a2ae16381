"""Many sessions on a cluster: every stage of every session is a task, and what stops one session stops no other.

The client hands out a session's next stage when the one before has ended. A worker that dies costs the items that it
was at: the scheduler gives its stage to another one, which goes on behind the items that are recorded (`core.stage`).
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture.session import Session
from core.errors import BusyError, MotifsError, StageError
from core.progress import Line, RemoteLines, progress, remote_lines, send_lines_to
from core.stage import Manifest
from core.versions import code_version
from motifs.cluster import GPU, VersionError, require_version
from motifs.pipeline import RunConfig, Step, check_session, steps_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client, Future

_LOG = logging.getLogger("motifs")
_TOPIC = "motifs-lines"
_POLL_S = 5.0
_BUSY_S, _BUSY_TRIES = 1.0, 180  # how often, and how many times, a stage that another process is at is asked for
_PATIENCE_S = 30.0  # how long there may be no worker before that is told


@dataclass(eq=False)
class SessionRun:
    """How far a session has come.

    Attributes:
        folder: the session, as the user names it.
        steps: its stages, in running order; empty if it could not be read.
        manifests: of the stages that are done.
        error: what ended it before its last stage.
    """

    folder: Path
    steps: Sequence[Step] = ()
    manifests: list[Manifest] = field(default_factory=list)
    error: MotifsError | None = None

    @property
    def step(self) -> Step | None:
        """The stage that is next or at work; None if all are done or none can be."""
        left = self.steps[len(self.manifests) :]
        return left[0] if left and self.error is None else None

    def summary(self) -> Mapping[str, Any]:
        """For a file: the state, and the error with its stage if there was one."""
        found: dict[str, Any] = {"session": str(self.folder), "state": "failed" if self.error else "done"}
        found["stages"] = {m.data["stage"]: {"seconds": m.seconds, "failed": dict(m.failed)} for m in self.manifests}
        if self.error is not None:
            stopped = self.steps[len(self.manifests)].command if self.steps else ""
            found |= {"stage": stopped, **vars(self.error)}
        return found


@dataclass(frozen=True)
class Task:
    """One stage of one session, as it is sent to a worker.

    Attributes:
        session: absolute folder.
        step: the stage.
        config: of the stage.
        processes: that it may use.
        redo: whether a result made otherwise is replaced.
        version: of the code that sent it.
        label: the session's name on the display; empty if nobody looks.
    """

    session: Path
    step: Step
    config: Any
    processes: int
    redo: bool
    version: str
    label: str = ""

    def __call__(self) -> Manifest | MotifsError:
        """Does the stage, in a worker; what a laboratory can act on is an answer and no error of the cluster's."""
        with _ALONE, _lines_sent(self.label):
            try:
                require_version(self.version, _own_address())
                check_session(Session.load(self.session))
                return self._run()
            except MotifsError as error:
                return error
            except OSError as error:
                return StageError(self.session.name, str(error), "check the disk and the folder's permissions")
            except Exception as error:  # noqa: BLE001  a defect in one session must not end the others
                _LOG.exception("%s of %s", self.step.command, self.session)
                problem = f"{self.step.command} ended with {type(error).__name__}: {error}"
                return StageError(self.session.name, problem[:1000], "report this with the worker's log")

    def _run(self) -> Manifest:
        """Does the stage; a worker that was told to end may still be at it for a while, and what it does counts."""
        for _ in range(_BUSY_TRIES):
            with suppress(BusyError):
                return self.step.run(self.session, self.config, workers=self.processes, redo=self.redo)
            time.sleep(_BUSY_S)
        return self.step.run(self.session, self.config, workers=self.processes, redo=self.redo)


def _own_address() -> str:
    """Of the worker that this runs in."""
    from distributed import get_worker

    return str(get_worker().address)


_ALONE = threading.Lock()  # stages set threads and displays of their whole process


def run_sessions(
    client: Client,
    folders: Sequence[Path],
    config: RunConfig,
    *,
    processes: int = 1,
    redo: bool = False,
    announce: Callable[[SessionRun], None] = lambda run: None,
    say: Callable[[str], None] = print,
) -> list[SessionRun]:
    """Runs every annotation stage of sessions on a cluster; finished ones return at once.

    Args:
        folders: sessions, at the same place for all workers.
        processes: for each stage; the results do not depend on it, nor on the number of workers.
        redo: replace results that were made with other settings or inputs.
        announce: called after each stage of a session, and when a session ends with an error.
        say: takes what is to be told of the cluster.

    Returns:
        Of every session in the given order how it ended.
    """
    runs = [_begun(folder) for folder in folders]
    for run in runs:
        if run.error is not None:
            announce(run)
    with (
        progress("sessions", len(runs)) as session_done,
        progress("stages", sum(len(run.steps) for run in runs)) as stage_done,
        _lines_drawn(client) as shown,
    ):
        session_done(sum(run.step is None for run in runs))

        useless: set[str] = set()  # workers of another version of the code, which came while others were at work

        def submit(run: SessionRun) -> Future:
            assert run.step is not None
            label = run.folder.name if shown else ""
            own = with_whole_paths(getattr(config, run.step.setting))
            task = Task(run.folder.resolve(), run.step, own, processes, redo, code_version(), label)
            # one name for all keys: the scheduler keeps tasks of one kind to itself until a worker is free
            return client.submit(
                task, key=f"stage-{uuid.uuid4().hex}", pure=False, resources={GPU: 1} if needs_gpu(own) else None,
                priority=len(run.manifests),  # sessions that have come far are ended before others are begun
                workers=_others(client, useless) if useless else None,
            )  # fmt: skip

        at_work = {submit(run): run for run in runs if run.step is not None}
        suspects: deque[SessionRun] = deque()
        on_trial: SessionRun | None = None
        while at_work:
            for future in _ended(client, list(at_work)):
                run = at_work.pop(future)
                answer = _answer(future, run)
                if answer is None and run is not on_trial:
                    suspects.append(run)
                    continue
                if isinstance(answer, VersionError) and _others(client, useless | {answer.item}):
                    useless.add(answer.item)
                    say(str(answer))
                    at_work[submit(run)] = run
                    continue
                on_trial = None if run is on_trial else on_trial
                if isinstance(answer, Manifest):
                    run.manifests.append(answer)
                    stage_done()
                else:
                    run.error = answer or _deadly(run)
                    stage_done(len(run.steps) - len(run.manifests))
                announce(run)
                if run.step is None:
                    session_done()
                else:
                    at_work[submit(run)] = run
            # who ends workers is told from who was there by chance by trying them one at a time
            if suspects and on_trial is None:
                on_trial = suspects.popleft()
                at_work[submit(on_trial)] = on_trial
    return runs


def with_whole_paths(config: Any) -> Any:
    """Settings whose files are named from the root on: a worker was started in another folder than the command."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        parts = {f.name: with_whole_paths(getattr(config, f.name)) for f in dataclasses.fields(config) if f.init}
        return dataclasses.replace(config, **parts)
    if isinstance(config, Path):
        return config.resolve()
    named = isinstance(config, str) and Path(config).suffix and Path(config).is_file()  # a body model, a prior
    return str(Path(config).resolve()) if named else config


def _others(client: Client, useless: set[str]) -> list[str]:
    """Addresses of the workers that are there, but for some."""
    return [address for address in client.scheduler_info(n_workers=-1)["workers"] if address not in useless]


def needs_gpu(config: Any) -> bool:
    """Whether a stage's settings ask for a GPU."""
    return str(getattr(config, "device", "cpu")).startswith("cuda")


def _begun(folder: Path) -> SessionRun:
    try:
        return SessionRun(folder, steps_of(Session.load(folder)))
    except MotifsError as error:
        return SessionRun(folder, error=error)


def _ended(client: Client, futures: Sequence[Future]) -> Sequence[Future]:
    """Waits until tasks have ended; says so if there is nobody to do them."""
    from distributed import wait

    alone_s = 0.0
    while True:
        try:
            return list(wait(futures, timeout=_POLL_S, return_when="FIRST_COMPLETED").done)
        except CancelledError:  # the scheduler has ended, and with it all that it knew
            return futures
        except TimeoutError:
            alone_s = 0.0 if client.scheduler_info()["workers"] else alone_s + _POLL_S
            if alone_s == _PATIENCE_S:
                print("no worker is there: start one with `dask worker ADDRESS --nthreads 1`", flush=True)


def _answer(future: Future, run: SessionRun) -> Manifest | MotifsError | None:
    """What a task returned, or what it raised as an error that names the session; None if its workers ended."""
    from distributed import KilledWorker

    try:
        answer: Manifest | MotifsError = future.result()
    except KilledWorker:
        return None
    except CancelledError:
        action = "start a scheduler and workers, and run it again: what is done is not done again"
        return StageError(run.folder.name, "the scheduler has ended", action)
    except Exception as error:  # noqa: BLE001  of the cluster: a message that was lost, a task that was cancelled
        return StageError(run.folder.name, f"{type(error).__name__}: {error}", "run it again; see the scheduler's log")
    return answer


def _deadly(run: SessionRun) -> StageError:
    problem = "the workers that took it ended, one after the other, as they do when memory is short"
    return StageError(run.folder.name, problem, "run it again with fewer workers, or on one that has more memory")


@contextmanager
def _lines_sent(label: str) -> Iterator[None]:
    """Sends progress of this process through the cluster while the block runs."""
    if not label:
        yield
        return
    from distributed import get_worker

    worker = get_worker()

    class Outbox:
        def send(self, message: Line) -> None:
            worker.log_event(_TOPIC, (label, worker.address, *message))

    send_lines_to(Outbox())
    try:
        yield
    finally:
        send_lines_to(None)


@contextmanager
def _lines_drawn(client: Client) -> Iterator[bool]:
    """Draws the lines of all workers while the block runs, if there is a display; yields whether."""
    lines = remote_lines()
    if lines is None:
        yield False
        return
    drawer = _Drawer(lines)
    client.subscribe_topic(_TOPIC, drawer)
    try:
        yield True
    finally:
        client.unsubscribe_topic(_TOPIC)


class _Drawer:
    """Draws lines of workers, and ends those of a worker that another one has followed."""

    def __init__(self, lines: RemoteLines) -> None:
        self._lines = lines
        self._open: dict[str, tuple[str, set[str]]] = {}  # by session: its worker, and the keys of its lines

    def __call__(self, event: tuple[float, tuple[str, str, str, str, int | None, int | None]]) -> None:
        label, worker, key, title, total, amount = event[1]
        before, keys = self._open.get(label, (worker, set()))
        if before != worker:
            for old in keys:
                self._lines.take((old, "", None, None))
            keys = set()
        own = f"{label} {worker} {key}"
        self._open[label] = (worker, keys | {own})
        self._lines.take((own, f"{label}: {title}", total, amount))
