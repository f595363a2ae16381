"""Frame times that a computer wrote down: both layouts, whose they are, and what is refused."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from capture.frame_times import read_frame_times
from capture.ingest import ingest
from capture.sync import SyncConfig, load_times
from capture.sync import run as sync
from capture.video import VideoWriter
from core.errors import InputError

SHARED = Path(os.environ.get("MOTIFS_SHARED", Path(__file__).resolve().parents[3] / "shared"))
TIMES = (25.0, 25.17, 25.33)


def table(path: Path, header: str = "sync_index,cam_id,frame_time") -> Path:
    rows = [f"{35 + k},{camera},{t + 0.001 * camera}" for k, t in enumerate(TIMES) for camera in (2, 3)]
    path.write_text("\n".join([header, *reversed(rows)]))  # in any order
    return path


@pytest.mark.parametrize("view", ["cam3", "cam_3", "cam03", "3"])
def test_a_table_of_all_cameras_gives_each_its_own(tmp_path: Path, view: str) -> None:
    times = read_frame_times(table(tmp_path / "t.csv"), view, 3)
    np.testing.assert_allclose(times, np.array(TIMES) + 0.003)


def test_plain_numbers_are_of_the_one_view(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("0.5\n0.75\n\n1.5\n")
    np.testing.assert_array_equal(read_frame_times(tmp_path / "t.txt", "left", 3), [0.5, 0.75, 1.5])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("0.1,5\n0.2,6\n0.3,7\n", "no column is called"),
        ("0.1\nsoon\n0.3\n", "no frame times"),
        ("0.1\nnan\n0.3\n", "is no time"),
        ("0.1\n0.2\n", "has 2 times of cam3, whose video has 3"),
        ("0.1\n0.3\n0.2\n", "not later than the one before"),
        ("sync_index,cam_id,frame_time\n0,1,0.1\n", "no row is of"),
        ("sync_index,cam_id,frame_time\n0,3\n", "no frame times"),
    ],
)
def test_what_is_no_list_of_times_is_refused_by_name(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=problem):
        read_frame_times(tmp_path / "t.csv", "cam3", 3)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_frame_times(tmp_path / "t.csv", "cam3", 3)


def test_they_come_with_the_recording_and_hold_instead_of_the_container_s(tmp_path: Path) -> None:
    (tmp_path / "recording/videos").mkdir(parents=True)
    for camera in (2, 3):
        with VideoWriter(tmp_path / f"recording/videos/cam{camera}.mp4", (64, 48), Fraction(6)) as writer:
            for _ in TIMES:
                writer.write(np.zeros((48, 64), np.uint8))
    table(tmp_path / "recording/timestamps.csv")
    session = ingest(tmp_path / "recording", tmp_path / "session")
    assert session["cam3"].frame_times == "timestamps/cam3.csv"
    sync(session.folder, SyncConfig(method="none", check=False))
    np.testing.assert_allclose(load_times(session.folder, "cam3"), np.array(TIMES) + 0.003)


def test_times_that_do_not_belong_to_the_video_leave_no_session(tmp_path: Path) -> None:
    (tmp_path / "recording/videos").mkdir(parents=True)
    with VideoWriter(tmp_path / "recording/videos/cam3.mp4", (64, 48), Fraction(6)) as writer:
        for _ in range(5):
            writer.write(np.zeros((48, 64), np.uint8))
    table(tmp_path / "recording/timestamps.csv")
    with pytest.raises(InputError, match="3 times of cam3, whose video has 5 frames"):
        ingest(tmp_path / "recording", tmp_path / "session")
    assert not (tmp_path / "session").exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason="reference recordings are not here (MOTIFS_SHARED)")
def test_a_peer_s_own_file_is_read() -> None:
    path = SHARED / "data/caliscope_charuco_4cam/calibration/extrinsic/timestamps.csv"
    times = read_frame_times(path, "cam_1", 57)
    assert times[0] == 25.00100565 and times[-1] - times[0] == pytest.approx(9.33, abs=0.01)
