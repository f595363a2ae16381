"""A real recording through the command line, held to what a laboratory would ask of it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fitting.sequence import load_smpl
from motifs import cli

ROOT = Path(__file__).resolve().parents[2]
VIEWS = ("cam01", "cam02", "cam03", "cam04")


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    """The recording's folder."""
    folder = shared / "data" / "pose2sim_single"
    if not folder.is_dir():
        pytest.skip(f"no recording at {folder}")
    return folder


@pytest.fixture(scope="module")
def benchmark() -> Any:
    """The benchmark's module: what it measures is what is asserted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("pose2sim_single")


@pytest.fixture(scope="module")
def session(data: Path, benchmark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording, ingested and annotated by `motifs ingest` and `motifs run`."""
    folder = tmp_path_factory.mktemp("pose2sim") / "session"
    benchmark.run_stages(data, folder)
    return folder


@pytest.mark.slow
def test_the_body_stands_on_the_person_where_another_tool_puts_the_joints(
    session: Path, data: Path, benchmark: Any
) -> None:
    found = benchmark.measure(session, data)
    assert set(found["reprojection_px"]) == set(VIEWS)
    # free 3D points reach 5 to 7 px; pictures are 1088 x 1920
    assert max(found["reprojection_px"].values()) <= 14.0
    assert found["trc_mm"] <= 60.0 and found["trc_smpl_joints_mm"] <= 60.0
    assert found["trc_aligned_mm"] <= 40.0  # without what the refined world moved


@pytest.mark.slow
def test_the_person_is_humanly_possible(session: Path, data: Path, benchmark: Any) -> None:
    found = benchmark.measure(session, data)
    # a man who walks upright on a beam; Pose2Sim's hips are at 0.90 to 1.0 m, the head's top at 1.7 to 1.8 m
    assert 0.85 < found["root_height_m"] < 1.1
    assert 1.6 < found["height_m"] < 1.9
    # Drillis and Contini's shares of the stature (thigh 0.245, shank 0.246, upper arm 0.186, forearm 0.146), +- 20 %
    shares = {"thigh": 0.245, "shank": 0.246, "upper_arm": 0.186, "forearm": 0.146}
    for limb, share in shares.items():
        assert found["limbs_m"][limb] == pytest.approx(share * found["height_m"], rel=0.2), limb
    sequence = load_smpl(session / "07_smpl" / "smpl.npz")
    assert len(sequence) == 100 and sequence.frame_valid.all() and np.isfinite(sequence.poses).all()


@pytest.mark.slow
def test_every_view_has_pictures_to_look_at(session: Path) -> None:
    pictures = [path.name for path in (session / "07_smpl" / "overlays").iterdir()]
    assert {name.split("_")[0] for name in pictures} == set(VIEWS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keypoints-skeleton", "BODY_25B"], "--picture-from-px cam01=SCALE,DX,DY"),
        (["--keypoints-skeleton", "COCO_17"], "25 joints a person, COCO_17 has 17"),
        (["--keypoints-skeleton", "BODY_25C"], "no such skeleton"),
        ([], "give --keypoints-skeleton"),
    ],
)
def test_what_was_forgotten_is_named_before_anything_is_written(
    data: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shifted = [] if "--picture" in message else ["--picture-from-px", "cam01=0.9926,0,7.3", "cam02=0.9926,0,7.3"]
    assert cli.run(["ingest", str(data), "--out", str(tmp_path / "session"), *options, *shifted]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "session").exists()


@pytest.mark.slow
def test_a_rig_takes_the_projects_cameras_and_needs_the_right_axis_up(
    session: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = str(data / "calibration" / "Calib_qualisys.toml")
    assert cli.run(["calibrate", "rig", str(session), "--redo"]) == 0  # those that `motifs ingest` has brought
    capsys.readouterr()
    assert cli.run(["calibrate", "rig", str(session), "--reference", reference, "--world-up", "y", "--redo"]) == 1
    assert "--world-up" in capsys.readouterr().err
    assert (session / "04_rig" / "rig.json").exists()  # a refused result replaces nothing
