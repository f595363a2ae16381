"""Training in several processes, started as `torchrun` starts them, so that a test can end one of them."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from model.bodies import BodyConfig
from model.distributed import Hardware
from model.recipes import Recipe

ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = """
import sys, pathlib, pickle
from core.errors import MotifsError
from model.train import train
try:
    recipe, hardware = pickle.loads(bytes.fromhex(sys.argv[3]))
    train(pathlib.Path(sys.argv[1]), recipe, pathlib.Path(sys.argv[2]), hardware=hardware)
except MotifsError as error:
    sys.exit(str(error))
"""


def beyond_the_paper(recipe: Recipe) -> Recipe:
    """A recipe with everything that goes beyond the paper."""
    return dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, two_views=4.0, spread=1.0, own_pose=1.0),
        data=dataclasses.replace(recipe.data, inputs="motion"),
        bodies=BodyConfig(mirror=True, tempo=0.2, limbs=0.1, posture_rad=0.25, reach=0.4),
    )


def start(
    dataset: Path, recipe: Recipe, run: Path, number: int, hardware: Hardware | None = None
) -> list[subprocess.Popen[str]]:
    """Processes that train together on this machine; process 0 is the main one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    call = [sys.executable, "-c", _PROGRAM, str(dataset), str(run), pickle.dumps((recipe, hardware)).hex()]
    return [
        subprocess.Popen(
            call, cwd=ROOT, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(number)
    ]  # fmt: skip


def wait(processes: list[subprocess.Popen[str]], timeout_s: float = 300.0) -> list[tuple[int, str]]:
    """Exit status and last line of each; what is still there after the time is ended, and the test fails."""
    deadline = time.monotonic() + timeout_s
    found = []
    try:
        for process in processes:
            _, said = process.communicate(timeout=max(deadline - time.monotonic(), 1.0))
            found.append((process.returncode, (said.strip().splitlines() or [""])[-1]))
    finally:
        for process in processes:
            process.kill()
    return found


def kill_at(processes: list[subprocess.Popen[str]], victim: int, log: Path, lines: int) -> None:
    """SIGKILL to one of the processes once the log has so many lines."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        if log.is_file() and log.read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.002)
    processes[victim].send_signal(signal.SIGKILL)
