"""Kills `motifs run` again and again, and compares what it ends with to an undisturbed run, byte for byte.

`python benchmarks/kills.py [--kills N] [--seed S] [--session DIR] [--workers W]`. Kills are shared out among stages:
most come while a stage is at work, a quarter at any moment; half of them take the whole process group, half only the
main process, as an operator's `kill -9` would. Runs that came to their end are begun anew until there were N kills.
Without a session a small one is simulated, with a walk-through, so that every stage has work. The undisturbed run uses
one worker process, the disturbed ones `--workers`, so the comparison also covers the number of workers. The last line
is JSON; the exit status is 1 if a file was lost or differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from capture.session import Session
from motifs.pipeline import steps_of

ROOT = Path(__file__).resolve().parents[1]
_INPUTS = ("session.json", "targets.json", "videos", "images", "keypoints", "lens_images")
_SMALL = ("--num-room-cameras", "3", "--duration-s", "12", "--num-photos", "12", "--num-walkthrough", "120")
_POLL_S = 0.002
_MISSES = 5  # runs that may come to their end before their kill, of one stage
_ANY_MOMENT = 0.25  # share of the kills that do not wait for a stage


@dataclass
class Tally:
    """What the kills hit.

    Attributes:
        kills: processes killed.
        stages: kills while a stage was at work, by folder.
        between: kills while none was.
    """

    kills: int = 0
    stages: dict[str, int] = field(default_factory=dict)
    between: int = 0

    def __add__(self, other: Tally) -> Tally:
        stages = {stage: self.stages.get(stage, 0) + other.stages.get(stage, 0) for stage in self.stages | other.stages}
        return Tally(self.kills + other.kills, stages, self.between + other.between)

    def add(self, at_work: Sequence[str]) -> None:
        """Counts one kill."""
        self.kills += 1
        self.between += not at_work
        for stage in at_work:
            self.stages[stage] = self.stages.get(stage, 0) + 1


def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """A `motifs` process in a group of its own."""
    call = [sys.executable, "-c", "from motifs.cli import main; main()", *arguments]
    return subprocess.Popen(call, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Waits for a process that should succeed."""
    _, error = process.communicate()
    if process.returncode:
        raise SystemExit(f"motifs ended with status {process.returncode}:\n{error.decode()}")


def kill(process: subprocess.Popen[bytes], whole_group: bool) -> None:
    """SIGKILL to the process, or to it and all its workers."""
    if whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def stages_at_work(session: Path) -> list[str]:
    """Stages that a living process holds: their lock's file is locked, not only there."""
    held = {int(line.split()[5].rsplit(":", 1)[1]) for line in Path("/proc/locks").read_text().splitlines()}
    found = []
    for path in session.glob(".*.lock"):
        with suppress(FileNotFoundError):
            if path.stat().st_ino in held:
                found.append(path.name[1 : -len(".lock")])
    return found


def kill_in_stage(
    session: Path, call: Sequence[str], stage: str, delay_s: float, whole_group: bool
) -> list[str] | None:
    """Starts a run and kills it `delay_s` after a stage has begun, or as soon as that has ended.

    Returns:
        The stages it was in; None if the run ended before.
    """
    process = start(call)
    begun = None
    while process.poll() is None:
        at_work = stages_at_work(session)
        if begun is None and stage in at_work:
            begun = time.perf_counter()
        if begun is not None and (stage not in at_work or time.perf_counter() - begun >= delay_s):
            kill(process, whole_group)
            return at_work
        time.sleep(_POLL_S)
    finish(process)
    return None


def kill_after(session: Path, call: Sequence[str], delay_s: float, whole_group: bool) -> list[str] | None:
    """Starts a run and kills it after a while; returns the stages it was in, None if it had ended before."""
    process = start(call)
    try:
        process.wait(delay_s)
    except subprocess.TimeoutExpired:
        at_work = stages_at_work(session)
        kill(process, whole_group)
        return at_work
    finish(process)
    return None


def content(session: Path) -> dict[str, str]:
    """Hash of every file, hidden ones too; a manifest without its times, and no report."""
    found = {}
    for path in sorted(p for p in session.rglob("*") if p.is_file()):
        name = path.relative_to(session).as_posix()
        if name.startswith("report/"):
            continue
        data = path.read_bytes()
        if path.name == "manifest.json":
            manifest = json.loads(data)
            del manifest["timing"]
            data = json.dumps(manifest).encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def disturb(session: Path, workers: int, num_kills: int, seconds: dict[str, float], chance: random.Random) -> Tally:
    """Runs a session to its end under so many kills, shared out among its stages; fewer if it comes to its end before.

    Args:
        seconds: what each stage took undisturbed.
    """
    tally, call = Tally(), ["run", str(session), "--workers", str(workers)]
    for number, (stage, taken_s) in enumerate(seconds.items()):
        wanted = max(math.ceil((num_kills - tally.kills) / (len(seconds) - number)), 1)
        here = misses = 0
        while here < wanted and misses < _MISSES and not (session / stage).exists():
            whole_group = tally.kills % 2 == 0
            if chance.random() < _ANY_MOMENT:
                at_work = kill_after(session, call, chance.uniform(0.5, 4.0), whole_group)
            else:
                at_work = kill_in_stage(session, call, stage, chance.uniform(0.0, 0.6) * taken_s, whole_group)
            misses += at_work is None
            if at_work is not None:
                tally.add(at_work)
                here += 1
    finish(start(call))
    return tally


def copy_inputs(source: Path, target: Path) -> Path:
    """The recording without any result."""
    target.mkdir(parents=True)
    for name in _INPUTS:
        path = source / name
        if path.is_dir():
            shutil.copytree(path, target / name)
        elif path.is_file():
            shutil.copyfile(path, target / name)
    return target


def compare(session: Path, num_kills: int, workers: int, seed: int, folder: Path) -> dict[str, object]:
    """Undisturbed and disturbed runs of one recording; prints a table and returns the summary."""
    chance = random.Random(seed)
    # the same name in both, so that a path in a result would have to be absolute to differ
    calm = copy_inputs(session, folder / "undisturbed" / "session")
    finish(start(["run", str(calm), "--workers", "1"]))
    stages = [step.folder for step in steps_of(Session.load(calm))]
    seconds = {s: json.loads((calm / s / "manifest.json").read_text())["timing"]["seconds"] for s in stages}
    tally, runs, expected = Tally(), 0, content(calm)
    lost: list[str] = []
    extra: list[str] = []
    different: list[str] = []
    while tally.kills < num_kills:  # a run comes to its end under a few kills: what is left is for another one
        rough = copy_inputs(session, folder / f"disturbed{runs}" / "session")
        tally += disturb(rough, workers, num_kills - tally.kills, seconds, chance)
        runs += 1
        found = content(rough)
        lost += sorted(expected.keys() - found.keys())
        extra += sorted(found.keys() - expected.keys())
        different += sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
        shutil.rmtree(rough.parent)
    print(f"{tally.kills} kills of {runs} runs")
    print(f"{'stage':16} {'seconds':>8} {'kills':>6} {'files':>6} {'different':>10}")
    for stage in stages:
        files = [name for name in expected if name.startswith(f"{stage}/")]
        wrong = sum(name.startswith(f"{stage}/") for name in [*lost, *different])
        print(f"{stage:16} {seconds[stage]:8.1f} {tally.stages.get(stage, 0):6d} {len(files):6d} {wrong:10d}")
    print(f"{'between stages':16} {'':8} {tally.between:6d}")
    for word, names in (("lost", lost), ("different", different), ("left over", extra)):
        for name in names:
            print(f"{word}: {name}")
    return {
        "kills": tally.kills,
        "runs": runs,
        "lost": len(lost),
        "different": len(different),
        "left_over": len(extra),
        "stages_hit": sorted(tally.stages),
    }


def main() -> None:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=14, help="how many, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--session", type=Path, help="a simulated session; only its inputs are copied")
    parser.add_argument("--workers", type=int, default=2, help="processes of the disturbed run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="motifs-kills-") as temporary:
        folder = Path(temporary)
        session = given.session
        if session is None:
            session = folder / "session"
            finish(start(["simulate", "--out", str(session), *_SMALL]))
        result = compare(session, given.kills, given.workers, given.seed, folder)
    print(json.dumps(result))
    sys.exit(1 if result["lost"] or result["different"] or result["left_over"] else 0)


if __name__ == "__main__":
    main()
