"""Peers in environments of their own: made once in a cache folder from pinned releases on PyPI, run as subprocesses."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# each peer pulls an OpenCV distribution of its own, of which an environment holds one
PINS = {
    "caliscope": ("caliscope==0.11.8", "numpy==2.4.6", "opencv-python==5.0.0.93"),
    "aniposelib": ("aniposelib==0.8.0", "numpy==2.4.6", "opencv-contrib-python==5.0.0.93"),
    "opencv": ("opencv-python-headless==5.0.0.93", "numpy==2.4.6"),
}


class PeerError(Exception):
    """A peer could not be installed or did not finish."""


@dataclass(frozen=True, eq=False)
class PeerRig:
    """What a peer found: `cam_from_world` of every view, focal lengths and wall time."""

    R: np.ndarray
    t: np.ndarray
    fx: np.ndarray
    seconds: float


def interpreter(peer: str) -> Path:
    """Python of a peer's environment, made if it is not there (needs the network).

    Raises:
        PeerError: if it cannot be installed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "motifs-peers"
    folder = cache / f"{peer}-{PINS[peer][0].split('==')[1]}-{sys.version_info.major}{sys.version_info.minor}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.is_file():
        venv.create(folder, with_pip=True, clear=True)
        made = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *PINS[peer]], capture_output=True, text=True, check=False
        )
        if made.returncode:
            last = made.stderr.strip().splitlines()[-1:] or ["pip said nothing"]
            raise PeerError(f"{peer} cannot be installed ({last[0]}); the network is needed once, for {PINS[peer][0]}")
        done.touch()
    return python


def run_on_boards(peer: str, mode: str, arrays: dict[str, np.ndarray], *, limit_s: float = 900.0) -> PeerRig:
    """A peer's rig from a table of corners (`boards_tool.py` says what `arrays` hold).

    Raises:
        PeerError: if it fails or takes too long.
    """
    found = run_tool("boards_tool.py", peer, mode, arrays, limit_s=limit_s)
    return PeerRig(found["R"], found["t"], found["fx"], float(found["seconds"]))


def run_tool(
    tool: str, peer: str, mode: str, arrays: dict[str, np.ndarray], *, limit_s: float = 900.0
) -> dict[str, np.ndarray]:
    """What one of the tools beside this file makes of arrays with a peer, in that peer's environment.

    Raises:
        PeerError: if it fails or takes too long.
    """
    python = interpreter(peer)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, **arrays)  # type: ignore[arg-type]  # numpy's stubs take the flag for an array
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        try:
            ran = subprocess.run(
                [python, Path(__file__).with_name(tool), peer, mode, source, out],
                capture_output=True, text=True, timeout=limit_s, check=False, env=environment,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise PeerError(f"{peer} did not finish in {limit_s:.0f} s") from error
        if ran.returncode:
            last = ran.stderr.strip().splitlines()[-1:] or [f"exit status {ran.returncode}"]
            raise PeerError(f"{peer} failed: {last[0]}")
        with np.load(out) as found:
            return {name: found[name] for name in found.files}
