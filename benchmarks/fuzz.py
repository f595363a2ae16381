"""Feeds damaged and hostile files to every reader of foreign files, and watches what happens.

`python benchmarks/fuzz.py [--seconds S] [--only NAMES...] [--corpus DIR] [--seed N]`. Each reader gets its own process,
in which atheris (a coverage-guided fuzzer) changes sound files for S seconds. A reader may return or raise
`MotifsError`; anything else is a crash: another exception, more than 20 s for one file, more memory than the file's
size explains (2 GiB), and code that runs: an audit hook ends the process where one is started, a socket connected, a
module of the attacker's imported or a file written outside the test's folder. A crashing input is kept and named. The
last line is JSON; the exit status is 1 if there was a crash.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuzz_readers import targets

ROOT = Path(__file__).resolve().parents[1]
_MAX_FILE, _MAX_S, _MAX_MB = 1 << 16, 20, 2048
_FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "socket.connect",
    "shutil.rmtree",
)


@contextmanager
def _watched(folder: Path) -> Iterator[None]:
    """Ends the process as a crash where code of a file runs: see the module."""
    inside = str(folder.resolve())

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in _FORBIDDEN:
            raise SystemError(f"{event} {arguments!r}")
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            path = str(Path(os.fsdecode(arguments[0])).absolute()) if isinstance(arguments[0], (str, bytes)) else inside
            if not path.startswith((inside, "/dev/")):
                raise SystemError(f"a file is written outside: {path}")

    sys.addaudithook(hook)
    yield


def _limit_memory() -> None:
    """Ends what asks for far more memory than `_MAX_MB` before the machine suffers: that watch looks once a second."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + 4 * _MAX_MB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def fuzz_one(name: str, seconds: float, seed: int, corpus: Path) -> None:
    """Fuzzes one reader in this process; ends it."""
    import atheris

    packages = ("core", "capture", "calibration", "fitting", "dataset", "model", "motifs")
    with atheris.instrument_imports(include=list(packages)):
        target = targets()[name]
    from core.errors import MotifsError

    seeds = corpus / "seeds"
    seeds.mkdir(parents=True, exist_ok=True)
    target.seeds(seeds)
    work = corpus / "work"
    work.mkdir(exist_ok=True)
    path = work / f"input{target.suffix}"
    for seed_file in seeds.iterdir():  # once before the watch begins: what is imported late is imported now
        path.write_bytes(seed_file.read_bytes())
        try:
            target.read(path)
        except MotifsError:
            continue

    _limit_memory()

    def one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            target.read(path)
        except MotifsError:
            return

    options = [
        f"-max_total_time={round(seconds)}", f"-seed={seed + 1}", f"-max_len={_MAX_FILE}", f"-timeout={_MAX_S}",
        f"-rss_limit_mb={_MAX_MB}", f"-artifact_prefix={corpus}/crash-", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    with _watched(corpus):
        atheris.Setup([sys.argv[0], *options, str(seeds)], one)
        atheris.Fuzz()


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each reader")
    parser.add_argument("--only", nargs="*", default=[], help="names of readers")
    parser.add_argument("--corpus", type=Path, help="folder for inputs and crashes; a temporary one unless it is named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        fuzz_one(given.one, given.seconds, given.seed, given.corpus)
        return
    names = given.only or list(targets())
    executions, crashes = 0, []
    print(f"{'reader':30} {'inputs':>9}  outcome")
    with tempfile.TemporaryDirectory(prefix="motifs-fuzz-") as temporary:
        for name in names:
            folder = (given.corpus or Path(temporary)) / re.sub(r"\W+", "-", name)
            folder.mkdir(parents=True, exist_ok=True)
            call = [sys.executable, __file__, "--one", name, "--seconds", str(given.seconds), "--seed", str(given.seed)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "SILENT"}
            answer = subprocess.run(
                [*call, "--corpus", str(folder)], capture_output=True, text=True, errors="replace", check=False,
                env=environment, cwd=folder,
            )  # fmt: skip
            log = answer.stdout + answer.stderr
            done = re.search(r"number_of_executed_units:\s*(\d+)", log)
            number = int(done.group(1)) if done else 0
            executions += number
            if answer.returncode:
                told = [line for line in log.splitlines() if "Error" in line or "ERROR" in line or "Exception" in line]
                crashes.append(name)
                print(f"{name:30} {number:9d}  CRASH {told[0] if told else log[-300:]}", flush=True)
                (folder / "log.txt").write_text(log)
            else:
                print(f"{name:30} {number:9d}  sound", flush=True)
    print(json.dumps({"readers": len(names), "inputs": executions, "crashes": len(crashes), "crashed": crashes}))
    sys.exit(bool(crashes))


if __name__ == "__main__":
    main()
