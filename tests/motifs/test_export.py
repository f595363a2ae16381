"""Export through the command: other tools' formats, read back by their own readers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calibration.formats import read_calibration
from core.cameras import Camera, Lens, Rig
from core.files import write_json
from core.transforms import SE3
from motifs import cli


@pytest.fixture
def with_rig(session: Path) -> Path:
    """A session whose two cameras are placed."""
    lens = Lens("radtan", (640, 480), (500.0, 501.0), (320.0, 241.0), (-0.1, 0.02, 0.001, -0.001, 0.0))
    poses = SE3.from_rotvec(np.array([[0.1, 0.2, 0.3], [-0.4, 0.1, 0.0]]), np.array([[0.0, 0.5, 3.0], [0.2, 0.1, 2.0]]))
    rig = Rig(tuple(Camera(f"cam{i}", lens, poses[i]) for i in range(2)))
    write_json(session / "04_rig" / "rig.json", rig.to_json())
    return session


@pytest.mark.parametrize(
    ("tool", "file"),
    [
        ("pose2sim", "Calib.toml"),
        ("anipose", "calibration.toml"),
        ("opencv", "cameras.yml"),
        ("easymocap", "intri.yml"),
        ("colmap", "cameras.txt"),
        ("colmap-binary", "cameras.bin"),
        ("project", "rig.json"),
    ],
)
def test_a_rig_comes_back_from_another_tools_file(tool: str, file: str, with_rig: Path, tmp_path: Path) -> None:
    assert cli.run(["export", str(with_rig), "--out", str(tmp_path / "x"), "--format", tool]) == 0
    found, truth = read_calibration(tmp_path / "x" / file), read_calibration(with_rig / "04_rig" / "rig.json")
    for camera in truth:
        np.testing.assert_allclose(found[camera.id].centre, camera.centre, atol=1e-6)
        np.testing.assert_allclose(found[camera.id].lens.params[:8], camera.lens.params[:8], atol=1e-6)


def test_colmap_reads_the_model_and_sees_the_same_pixels(with_rig: Path, tmp_path: Path) -> None:
    assert cli.run(["export", str(with_rig), "--out", str(tmp_path / "x"), "--format", "colmap"]) == 0
    # in a process of its own, zlib first: pycolmap's own zlib would otherwise take over
    program = (
        "import sys, zlib, pycolmap\n"
        "model = pycolmap.Reconstruction(sys.argv[1])\n"
        "for image in sorted(model.images.values(), key=lambda i: i.image_id):\n"
        "    point = image.cam_from_world() * [0.1, 0.2, 0.3]\n"
        "    print(*model.cameras[image.camera_id].img_from_cam(point))\n"
    )
    call = [sys.executable, "-c", program, str(tmp_path / "x")]
    answer = subprocess.run(call, capture_output=True, text=True, check=True)
    found = np.array([[float(v) for v in line.split()] for line in answer.stdout.splitlines()])
    rig = read_calibration(with_rig / "04_rig" / "rig.json")
    # COLMAP's pixel centres lie at halves
    np.testing.assert_allclose(found - 0.5, rig.project(np.array([0.1, 0.2, 0.3])), atol=1e-6)


def test_a_session_is_no_dataset(session: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", str(session), "--out", str(tmp_path / "x")]) == 1
    assert "motifs build" in capsys.readouterr().err


def test_what_a_format_does_not_say_is_said(with_rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", str(with_rig), "--out", str(tmp_path / "x"), "--format", "kalibr"]) == 0
    assert "1 files\nKalibr has no world: the cameras are placed relative to cam0" in capsys.readouterr().out


def test_a_lens_that_a_format_cannot_hold_leaves_nothing(
    with_rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = read_calibration(with_rig / "04_rig" / "rig.json")
    wide = Lens("fisheye", (640, 480), (300.0, 300.0), (320.0, 240.0), (0.0, 0.0, 0.0, 0.0))
    write_json(with_rig / "04_rig" / "rig.json", Rig((rig.cameras[0], Camera("cam1", wide, SE3.identity()))).to_json())
    for tool in ("pose2sim", "easymocap"):
        assert cli.run(["export", str(with_rig), "--out", str(tmp_path / "x"), "--format", tool]) == 1
        assert "cannot hold its fisheye lens" in capsys.readouterr().err
        assert not (tmp_path / "x").exists()
