"""A disk that is full or may not be written: one line that says so, nothing half-written, and the next run goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_session import content, write_session

ROOT = Path(__file__).resolve().parents[2]
# files may not grow beyond LIMIT bytes, which is how a full disk meets a writer; 0 takes every right to write away
_RUN = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from motifs.cli import run
code = run(sys.argv[2:])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
raise SystemExit(code)
"""


def call(limit: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command whose files may not grow beyond a number of bytes."""
    line = [sys.executable, "-c", _RUN, str(limit), *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("limit", [0, 100, 700])
def test_a_stage_on_a_full_disk_says_so_and_leaves_nothing_half_written(limit: int, tmp_path: Path) -> None:
    session, whole = write_session(tmp_path / "a" / "s"), write_session(tmp_path / "b" / "s")
    before = content(session)
    failed = call(limit, "sync", session, "--method", "none", "--no-check", "--workers", "1")
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert failed.stderr.startswith("motifs sync: ") and "check the disk" in failed.stderr
    assert content(session) == before
    for folder in (session, whole):
        done = call(1 << 30, "sync", folder, "--method", "none", "--no-check", "--workers", "1")
        assert done.returncode == 0, done.stderr
    names = [{p.relative_to(f): p.read_bytes() for p in (f / "01_sync").glob("*.npz")} for f in (session, whole)]
    assert names[0] == names[1] and names[0]


def test_ingest_on_a_full_disk_leaves_no_session(tmp_path: Path) -> None:
    source = write_session(tmp_path / "recording")
    (source / "session.json").unlink()
    failed = call(300, "ingest", source, "--out", tmp_path / "s", "--keypoints-skeleton", "COCO_17", "--copy")
    assert failed.returncode == 1 and "Traceback" not in failed.stderr and "check the disk" in failed.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recording"]


def test_a_folder_that_is_a_file_or_may_not_be_written_is_named(tmp_path: Path) -> None:
    session = write_session(tmp_path / "s")
    shutil.copyfile(session / "session.json", tmp_path / "file")
    failed = call(1 << 30, "ingest", session, "--out", tmp_path / "file" / "x", "--keypoints-skeleton", "COCO_17")
    assert failed.returncode == 1 and "Traceback" not in failed.stderr and str(tmp_path / "file") in failed.stderr
