"""Runs many short sessions on a Dask cluster while workers are killed: nothing is lost, nothing is done twice.

`python benchmarks/cluster.py [--sessions N] [--workers W] [--kills K] [--terms T] [--seed S]`. A few sessions are
simulated (four room cameras, twelve seconds, `simulation.projects`) and copied. A scheduler and W workers are started
as a laboratory would start them, every worker with a preload that writes a line for each item that a stage has
recorded; `motifs run SESSIONS --scheduler` does the rest, K workers are killed at random moments and T told to end.
Files of all copies are compared with those of a run in one process without a cluster. The last line is JSON; the exit
status is 1 if anything was lost, done twice or differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kills import ROOT, content, finish, start

from capture.session import Session
from motifs.pipeline import steps_of
from motifs.projects import ImportConfig, bring
from simulation.projects import film_person, write_project

_JOURNAL = '''
"""Loaded by every worker: notes each item that a stage has recorded, in the order of the machine's clock."""
import os
from core import stage


def noted(partial, item, process, do_item=stage._do_item):
    do_item(partial, item, process)
    line = f"{partial} {item}\\n".encode()
    journal = os.open(os.environ["MOTIFS_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(journal, line)
    os.close(journal)


if stage._do_item.__name__ != "noted":  # the nanny's process and the worker's may both load this
    stage._do_item = noted
'''


@contextmanager
def lab(folder: Path, num_workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]], Callable[[], None]]]:
    """A scheduler and workers as processes of their own.

    Yields:
        The address, the workers' nannies, and what starts another worker and adds it to them.
    """
    preload, journal = folder / "journal_preload.py", folder / "journal"
    preload.write_text(_JOURNAL)
    environment = {
        **os.environ, "MOTIFS_JOURNAL": str(journal), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0", "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "null", "DASK_LOGGING__DISTRIBUTED": "error",
    }  # fmt: skip
    address_file = folder / "scheduler.json"
    own = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    call = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", *own]
    scheduler = subprocess.Popen([*call, "--scheduler-file", str(address_file)], env=environment, cwd=folder)
    while not address_file.is_file() or not address_file.read_text().strip():
        time.sleep(0.05)
    address = json.loads(address_file.read_text())["address"]
    call = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", *own]
    call += ["--preload", str(preload), "--local-directory", str(folder)]
    workers: list[subprocess.Popen[bytes]] = []

    def start_worker() -> None:
        workers.append(subprocess.Popen(call, env=environment, cwd=folder))

    for _ in range(num_workers):
        start_worker()
    try:
        yield address, workers, start_worker
    finally:
        for process in (*workers, scheduler):
            process.terminate()
        for process in (*workers, scheduler):
            process.wait()


def worker_of(nanny: subprocess.Popen[bytes]) -> int | None:
    """The process under a nanny that does the work."""
    import psutil

    for child in psutil.Process(nanny.pid).children():
        if "spawn_main" in " ".join(child.cmdline()):
            return int(child.pid)
    return None


class Killer(threading.Thread):
    """Ends workers at random moments, never before work has begun.

    Args:
        nannies: of the workers; each starts another one when its own is killed.
        start_worker: starts one in place of one that was told to end.
        signals: how they are ended, one after the other: SIGKILL is of the process that works, SIGTERM of its nanny,
            which is how a queue ends a job.
        journal: file that grows while work is done.
        after_items: about as many items lie between two kills.
        chance: of the moments.
    """

    def __init__(
        self,
        nannies: list[subprocess.Popen[bytes]],
        start_worker: Callable[[], None],
        signals: Sequence[signal.Signals],
        journal: Path,
        after_items: int,
        chance: random.Random,
    ) -> None:
        super().__init__(daemon=True)
        self.kills, self.over = 0, threading.Event()
        self._nannies, self._start_worker, self._signals, self._journal = nannies, start_worker, signals, journal
        self._after, self._chance = after_items, chance

    def run(self) -> None:
        """Until all have been ended or the work is over."""
        target = 0
        while self.kills < len(self._signals) and not self.over.is_set():
            target += self._chance.randint(max(self._after // 2, 1), max(self._after, 1))
            while not self.over.wait(0.05) and _lines(self._journal) < target:
                pass
            self.over.wait(self._chance.uniform(0.0, 1.0))
            nanny = self._chance.choice([nanny for nanny in self._nannies if nanny.poll() is None])
            pid = worker_of(nanny)
            if pid is None or self.over.is_set():
                continue
            if self._signals[self.kills] == signal.SIGTERM:
                nanny.terminate()
                self._start_worker()
            else:
                os.kill(pid, signal.SIGKILL)
            self.kills += 1


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def make_session(folder: Path, seed: int) -> Path:
    """A session of somebody whom four cameras film, whose joints and cameras another tool told."""
    write_project(folder / "project", "pose2sim", film_person(seed))
    session, _ = bring(folder / "project", folder / "session", ImportConfig(subject=f"person-{seed}"))
    return session.folder


def bench(given: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Simulates, copies, runs and compares; prints a table and returns the summary."""
    originals = [make_session(folder / "originals" / str(k), given.seed + k) for k in range(given.originals)]
    # the same name in all, so that a path in a result would have to be absolute to differ
    alone = [shutil.copytree(made, folder / "alone" / str(k) / "session") for k, made in enumerate(originals)]
    copies = []
    for k in range(given.sessions):
        copies.append(shutil.copytree(originals[k % len(originals)], folder / "copies" / f"{k:03d}" / "session"))
    started = time.perf_counter()
    for session in alone:
        finish(start(["run", str(session), "--workers", "1"]))
    alone_s = (time.perf_counter() - started) / len(alone)
    num_items = sum(map(_items, alone)) * len(copies) // len(alone)
    started = time.perf_counter()
    signals = [signal.SIGKILL] * given.kills + [signal.SIGTERM] * given.terms
    chance = random.Random(given.seed)
    chance.shuffle(signals)
    with lab(folder, given.workers) as (address, nannies, start_worker):
        after_items = num_items // (len(signals) + 1)
        killer = Killer(nannies, start_worker, signals, folder / "journal", after_items, chance)
        killer.start()
        call = ["run", *map(str, copies), "--scheduler", address, "--workers", "1"]
        run = start([*call, "--summary", str(folder / "ended.json")])
        _, error = run.communicate()
        killer.over.set()
    seconds = time.perf_counter() - started
    if run.returncode:
        print(error.decode(), file=sys.stderr)
    return _compare(folder, copies, alone, killer.kills) | {
        "workers": given.workers,
        "seconds": round(seconds, 1),
        "seconds_a_session_alone": round(alone_s, 1),
    }


def _items(session: Path) -> int:
    """Items of all stages of a finished session."""
    steps = steps_of(Session.load(session))
    counts = [json.loads((session / step.folder / "manifest.json").read_text())["counts"] for step in steps]
    return sum(count["ok"] + count["failed"] for count in counts)


def _compare(folder: Path, copies: list[Path], alone: list[Path], kills: int) -> dict[str, object]:
    ended = {row["session"]: row for row in json.loads((folder / "ended.json").read_text())}
    lost = [str(copy) for copy in copies if ended.get(str(copy), {}).get("state") != "done"]
    done = Counter((folder / "journal").read_text().splitlines())
    twice = sorted(item for item, times in done.items() if times > 1)
    different = []
    for k, copy in enumerate(copies):
        expected, found = content(alone[k % len(alone)]), content(copy)
        names = sorted(expected.keys() | found.keys())
        different += [f"{copy}/{name}" for name in names if expected.get(name) != found.get(name)]
    for word, names in (("lost", lost), ("done twice", twice), ("different", different)):
        for name in names[:20]:
            print(f"{word}: {name}")
    print(f"{'sessions':>9} {'items':>7} {'kills':>6} {'lost':>5} {'done twice':>11} {'different files':>16}")
    print(f"{len(copies):9d} {len(done):7d} {kills:6d} {len(lost):5d} {len(twice):11d} {len(different):16d}")
    return {
        "sessions": len(copies), "items": len(done), "kills": kills, "lost": len(lost), "done_twice": len(twice),
        "different": len(different),
    }  # fmt: skip


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=2, help="workers that are killed")
    parser.add_argument("--terms", type=int, default=2, help="workers that are told to end, as by a queue")
    parser.add_argument("--originals", type=int, default=3, help="how many different sessions are simulated")
    parser.add_argument("--seed", type=int, default=0, help="of the sessions and the moments")
    parser.add_argument("--keep", type=Path, help="folder to work in, which is kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="motifs-cluster-") as temporary:
        folder = given.keep or Path(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        result = bench(given, folder)
    print(json.dumps(result))
    sys.exit(1 if result["lost"] or result["done_twice"] or result["different"] else 0)


if __name__ == "__main__":
    main()
