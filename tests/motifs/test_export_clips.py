"""Motions of other projects in and clips out, through the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.files import write_npz
from core.skeletons import SMPL_24
from dataset.shards import AmdDataset
from motifs import cli

ENDINGS = {"amass": ".npz", "bvh": ".bvh", "glb": ".glb", "humanml3d": ".npy", "trc": ".trc", "webdataset": ".tar"}


def amass_file(path: Path) -> Path:
    """Two seconds of somebody who sways."""
    sway = 0.3 * np.sin(np.arange(60) / 10.0)
    poses = np.zeros((60, 156))
    poses[:, 0], poses[:, 5::3] = np.pi / 2, sway[:, None]
    arrays = {"poses": poses, "trans": np.zeros((60, 3)), "betas": np.zeros(16), "mocap_frame_rate": 30.0}
    write_npz(path, arrays)
    return path


@pytest.fixture
def amd(tmp_path: Path) -> Path:
    motion = amass_file(tmp_path / "in" / "sway.npz")
    assert cli.run(["build", str(motion), "--out", str(tmp_path / "amd"), "--workers", "1"]) == 0
    return tmp_path / "amd"


@pytest.mark.parametrize("tool", ENDINGS)
def test_every_format_is_written(tool: str, amd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", str(amd), "--out", str(tmp_path / "x"), "--format", tool]) == 0
    files = [path for path in (tmp_path / "x").rglob("*") if path.is_file()]
    assert files and {path.suffix for path in files} == {ENDINGS[tool]}
    assert f"{len(files)} files" in capsys.readouterr().out


def test_humanml3d_goes_round(amd: Path, tmp_path: Path) -> None:
    assert cli.run(["export", str(amd), "--out", str(tmp_path / "x"), "--format", "humanml3d"]) == 0
    assert cli.run(["build", str(tmp_path / "x"), "--out", str(tmp_path / "again"), "--workers", "1"]) == 0
    assert cli.run(["export", str(tmp_path / "again"), "--out", str(tmp_path / "y"), "--format", "humanml3d"]) == 0
    first, second = (np.load(next((tmp_path / name / "new_joints").iterdir())) for name in "xy")
    assert np.abs(first[: len(second)] - second).max() < 2e-3  # a vector's last frame is lost each time


def test_wrong_calls_say_what_to_do(amd: Path, session: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    out = ("--out", tmp_path / "x")
    refused("export", session, *out, "--format", "bvh", says="it is a session, and bvh files are made from a dataset")
    refused("export", amd, *out, "--format", "bvh", "--split", "test", says="no clips are in its split test")
    refused("export", amd, *out, "--format", "glb", "--glb.every", "0", says="use 1 or more")
    refused("export", amd, *out, "--format", "glb", "--body-model", tmp_path / "no.npz", says="no.npz")
    refused("export", amd, *out, "--format", "webdataset", "--webdataset.shard-mb", "0", says="above 0")
    refused("export", amd, *out, "--format", "humanml3d", "--humanml3d.skeleton", tmp_path / "n.npy", says="n.npy")
    refused("export", tmp_path / "in", *out, says="no meta/info.json")


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.skeleton", b"3\n1\n5"), ("x.npy", b"\x93NUMPY"), ("x.npz", b"PK\x03\x04"), ("x.bin", b"")],
)
def test_damaged_motions_are_named(name: str, content: bytes, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / name).write_bytes(content)
    refused("build", tmp_path / name, "--out", tmp_path / "amd", "--workers", "1", says=name)


def test_trc_holds_the_joints_y_up_and_leaves_out_what_was_not_measured(amd: Path, tmp_path: Path) -> None:
    assert cli.run(["export", str(amd), "--out", str(tmp_path / "x"), "--format", "trc"]) == 0
    path = next((tmp_path / "x").rglob("*.trc"))
    lines = path.read_text().split("\n")
    names, values = lines[1].split("\t"), lines[2].split("\t")
    head = dict(zip(names, values, strict=True))
    assert lines[0] == f"PathFileType\t4\t(X/Y/Z)\t{path.name}" and head["Units"] == "m" and head["NumFrames"] == "60"
    markers = [name for name in lines[3].split("\t")[2:] if name]
    assert markers == list(SMPL_24.joints) and int(head["NumMarkers"]) == len(markers)
    clip = AmdDataset(amd).read(AmdDataset(amd).clips[0].id)
    for frame in (0, 17, 59):
        row = lines[6 + frame].split("\t")
        assert int(row[0]) == frame + 1 and float(row[1]) == pytest.approx(frame / 30, abs=1e-6)
        assert len(row) == 2 + 3 * len(markers)
        for k in range(len(markers)):
            cells = row[2 + 3 * k : 5 + 3 * k]
            if not clip.valid[frame, k]:
                assert cells == ["", "", ""]
                continue
            x, y, z = map(float, cells)
            np.testing.assert_allclose([x, -z, y], clip.joints_m[frame, k], atol=1e-6)
    assert not clip.valid.all()  # AMASS tells no hands
