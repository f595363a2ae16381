"""Many sessions on a cluster: nothing is lost, nothing is done twice, and one session's trouble is its own."""

from __future__ import annotations

import fcntl
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client, Future
from short_stages import ITEMS, STEPS
from tiny_session import write_session

from calibration.rig import RigConfig
from capture.sync import SyncConfig
from core.errors import InputError, StageError
from core.files import read_json
from fitting.fit import FitConfig
from motifs import batch, cli, running
from motifs.batch import SessionRun, run_sessions, with_whole_paths
from motifs.cluster import VersionError, lab_cluster, local_cluster, require_version
from motifs.pipeline import RunConfig
from motifs.status import print_status, session_status

# what a cluster of Dask leaves to the garbage collector when a worker is killed
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Four sessions with two short stages."""
    for module in ("motifs.batch", "motifs.pipeline", "motifs.running", "motifs.status"):
        monkeypatch.setattr(f"{module}.steps_of", lambda session: list(STEPS))
    return [write_session(tmp_path / f"s{k}") for k in range(4)]


@pytest.fixture
def here() -> Iterator[Client]:
    """Two workers that are threads of this process."""
    with Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as client:
        yield client


def journal(session: Path) -> Counter[str]:
    """How often each item was done."""
    return Counter((session / "journal").read_text().splitlines())


ONCE = Counter(f"{step.folder} {item}" for step in STEPS for item in ITEMS)


def run(client: Client, sessions: list[Path], config: RunConfig | None = None, **options: Any) -> list[SessionRun]:
    return run_sessions(client, sessions, config or RunConfig(), **options)


def test_every_stage_of_every_session_is_done_once_in_order(sessions: list[Path], here: Client) -> None:
    told: list[tuple[str, int]] = []
    ended = run(here, sessions, announce=lambda found: told.append((found.folder.name, len(found.manifests))))
    assert [found.folder for found in ended] == sessions and not any(found.error for found in ended)
    assert sorted(told) == [(s.name, k) for s in sessions for k in (1, 2)]
    assert all(journal(session) == ONCE for session in sessions)
    # and again: all is there
    assert all(len(found.manifests) == 2 for found in run(here, sessions))
    assert all(journal(session) == ONCE for session in sessions)


def test_a_session_that_fails_stops_no_other_and_says_why(sessions: list[Path], here: Client) -> None:
    (sessions[1] / "01_sync-b").write_text("too dark")
    (sessions[2] / "07_smpl-a").write_text("defect")
    (sessions[3] / "session.json").write_text("{")
    ended = run(here, sessions)
    assert [len(found.manifests) for found in ended] == [2, 0, 1, 0]
    problems = [str(found.error) for found in ended if found.error is not None]
    assert "too dark" in problems[0] and "ZeroDivisionError: of the stage" in problems[1] and "s3" in problems[2]
    assert [found.summary()["state"] for found in ended] == ["done", "failed", "failed", "failed"]
    assert ended[1].summary()["stage"] == "sync" and ended[1].summary()["problem"] == "too dark"
    # the reason stays with the session until it is tried again
    assert session_status(sessions[1])[0].state == "failed"
    ended = run(here, sessions[:3])
    assert not any(found.error for found in ended)
    assert all(journal(session) == ONCE for session in sessions[:3])
    assert session_status(sessions[1])[0].state == "done"


def test_other_settings_are_refused_until_redo(sessions: list[Path], here: Client) -> None:
    run(here, sessions[:1])
    other = RunConfig(sync=SyncConfig(method="none"))
    [refused] = run(here, sessions[:1], other)
    assert refused.error is not None and "made otherwise" in refused.error.problem
    [redone] = run(here, sessions[:1], other, redo=True)
    assert redone.error is None and len(redone.manifests) == 2


def test_a_cluster_on_this_machine_is_reached_from_nowhere_else() -> None:
    with local_cluster(1):
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = [c.laddr.ip for p in family for c in p.net_connections() if c.status == psutil.CONN_LISTEN]
    assert set(listening) == {"127.0.0.1"}


def test_a_killed_worker_costs_only_the_item_it_was_at(sessions: list[Path]) -> None:
    (sessions[0] / "01_sync-c").write_text("fatal")
    (sessions[1] / "07_smpl-b").write_text("fatal")
    with local_cluster(2) as client:
        ended = run(client, sessions)
    assert not any(found.error for found in ended)
    assert all(journal(session) == ONCE for session in sessions)


def test_a_session_that_kills_every_worker_is_given_up_alone(sessions: list[Path]) -> None:
    (sessions[0] / "01_sync-a").write_text("always fatal")
    with local_cluster(2) as client:
        ended = run(client, sessions)
    assert ended[0].error is not None and "memory" in ended[0].error.action
    assert not any(found.error for found in ended[1:])
    assert all(journal(session) == ONCE for session in sessions[1:])


def test_a_stage_for_a_gpu_goes_to_a_worker_that_has_one(sessions: list[Path]) -> None:
    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", resources={"GPU": 1}
    ) as client:  # fmt: skip
        [found] = run(client, sessions[:1], RunConfig(fit=FitConfig(device="cuda")))
        assert found.error is None
        with lab_cluster(client.scheduler.address, gpu=True):
            pass


def test_workers_that_cannot_do_it_are_named_at_once(here: Client) -> None:
    address = here.scheduler.address
    with pytest.raises(InputError, match=r"none of 2 workers has a GPU.*--resources GPU=1"), lab_cluster(address, True):
        pass
    with pytest.raises(InputError, match=r"runs version a.*install the same"):
        require_version("b", "worker w", "a")


def test_a_stage_that_a_dying_worker_is_still_at_is_waited_for(
    sessions: list[Path], here: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_BUSY_S", 0.05)
    with (sessions[0] / ".01_sync.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        free = threading.Timer(0.5, lambda: fcntl.flock(held, fcntl.LOCK_UN))
        free.start()
        [found] = run(here, sessions[:1])
        free.join()
    assert found.error is None and journal(sessions[0]) == ONCE


def test_a_stage_that_somebody_else_never_leaves_is_told(
    sessions: list[Path], here: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_BUSY_S", 0.01)
    monkeypatch.setattr(batch, "_BUSY_TRIES", 3)
    with (sessions[0] / ".01_sync.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        one, other = run(here, sessions[:2])
    assert one.error is not None and "another process" in one.error.problem and other.error is None


def test_the_end_of_the_scheduler_is_told_of_every_session(sessions: list[Path], here: Client) -> None:
    def gone(found: SessionRun) -> None:
        here.cancel([Future(key, here) for key in list(here.futures)], reason="scheduler-connection-lost")

    ended = run(here, sessions, announce=gone)
    errors = [found.error for found in ended if found.error is not None]
    assert errors and all("scheduler has ended" in error.problem for error in errors)


def test_a_worker_of_another_version_that_comes_later_gets_nothing(
    sessions: list[Path], here: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, said = next(iter(here.scheduler_info(n_workers=-1)["workers"])), []

    def require(asked: str, worker: str) -> None:
        require_version(asked, worker, "an older one" if worker == old else asked)

    monkeypatch.setattr(batch, "require_version", require)
    ended = run(here, sessions, say=said.append)
    assert not any(found.error for found in ended) and all(journal(s) == ONCE for s in sessions)
    assert said and all(old in line and "an older one" in line for line in said)


def test_workers_that_are_all_of_another_version_end_it(
    sessions: list[Path], here: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "code_version", lambda: "a newer one")
    ended = run(here, sessions)
    assert all(isinstance(found.error, VersionError) for found in ended)


def test_files_are_named_from_the_root_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "SMPL.pkl").write_text("")
    config = RunConfig(rig=RigConfig(reference=Path("ref.toml")), fit=FitConfig(body_model="SMPL.pkl"))
    whole = with_whole_paths(config)
    assert whole.rig.reference == tmp_path / "ref.toml" and whole.fit.body_model == str(tmp_path / "SMPL.pkl")
    assert whole.fit.pose_prior == "cmu" and with_whole_paths(RunConfig()) == RunConfig()


def test_a_worker_that_does_several_things_at_a_time_is_refused() -> None:
    with (
        Client(processes=False, n_workers=1, threads_per_worker=3, dashboard_address="127.0.0.1:0") as threads,
        pytest.raises(InputError, match=r"3 tasks at a time.*--nthreads 1"),
        lab_cluster(threads.scheduler.address),
    ):
        pass


def test_a_scheduler_that_does_not_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motifs.cluster._CONNECT_S", 0.2)
    for address in ("tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1"):
        with (
            pytest.raises(InputError, match=r"--scheduler: no scheduler answers.*dask scheduler"),
            lab_cluster(address),
        ):
            pass


def test_what_the_command_says(
    sessions: list[Path], here: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(running, "check_settings", lambda config, devices: None)
    (sessions[1] / "01_sync-b").write_text("too dark")
    where = {"workers": 1, "scheduler": here.scheduler.address, "summary": tmp_path / "summary.json"}
    with pytest.raises(StageError, match=r"1 of 2 sessions: failed \(.*s1\); the first, b: too dark.*look at it"):
        running.run_all(sessions[:2], RunConfig(), **where)  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert "s0: 07_smpl" in said and "s1: b: too dark" in said and "1 of 2 sessions are done" in said
    assert [row["state"] for row in read_json(tmp_path / "summary.json")] == ["done", "failed"]
    cli.run(["status", *map(str, sessions)])
    said = capsys.readouterr().out
    assert "2/2" in said and "failed: sync" in said and "waiting: sync" in said


def test_the_summary_of_one_session_is_written_however_it_ends(
    sessions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("motifs.pipeline.check_settings", lambda config: None)
    path = tmp_path / "summary.json"

    def ended(session: Path, status: int) -> dict[str, Any]:
        path.unlink(missing_ok=True)
        assert cli.run(["run", str(session), "--workers", "1", "--summary", str(path)]) == status
        capsys.readouterr()
        [row] = read_json(path)
        assert row["session"] == str(session)
        return dict(row)

    done = ended(sessions[0], 0)
    assert done["state"] == "done" and set(done["stages"]) == {"01_sync", "07_smpl"}
    assert ended(sessions[0], 0) == done  # and again: all is there
    (sessions[1] / "07_smpl-b").write_text("too dark")
    failed = ended(sessions[1], 1)
    assert failed["state"] == "failed" and failed["stage"] == "fit" and set(failed["stages"]) == {"01_sync"}
    assert (failed["item"], failed["problem"], failed["action"]) == ("b", "too dark", "look at it")
    (sessions[2] / "01_sync-a").write_text("defect")
    with pytest.raises(ZeroDivisionError):
        running.run_all([sessions[2]], RunConfig(), workers=1, summary=path)
    assert "ZeroDivisionError: of the stage" in read_json(path)[0]["problem"]
    assert ended(tmp_path / "nowhere", 1)["stage"] == ""


def test_a_session_named_twice_is_refused(session: Path) -> None:
    with pytest.raises(InputError, match="the same session"):
        running.run_all([session, session / "."], RunConfig(), workers=1)

    def run_nothing() -> None:
        running.run_all([], RunConfig(), workers=1)

    for none in (run_nothing, lambda: running.plan([]), lambda: print_status([])):
        with pytest.raises(InputError, match="none was named"):
            none()
    assert batch.needs_gpu(FitConfig(device="cuda:1")) and not batch.needs_gpu(RunConfig().sync)
