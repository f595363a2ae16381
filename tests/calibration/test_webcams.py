"""A rig of webcams by the command's own road: frames stamped when a computer read them, and read out row by row."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from calibration.align import pose_errors, rig_poses
from calibration.lens import LensConfig
from calibration.lens import run as lens_stage
from calibration.rig import RigConfig
from calibration.rig import run as rig_stage
from calibration.rig_health import RigLimits, rig_health
from calibration.rig_solution import solve_from_targets
from capture.detect import run as detect
from capture.ingest import ingest
from capture.sync import SyncConfig
from capture.sync import run as sync
from core.files import read_json
from simulation.target_scenes import TargetScene, film_all, room_stage

SHARED = Path(os.environ.get("MOTIFS_SHARED", Path(__file__).resolve().parents[3] / "shared"))
JITTER_S = 0.012


def webcams(rng: np.random.Generator, *, declared: bool) -> TargetScene:
    made = film_all(dataclasses.replace(room_stage(seconds=4.0), jitter_s=JITTER_S), rng)
    start_s = 0.004 if declared else 0.0
    sightings = {name: dataclasses.replace(s, jitter_sigma_s=start_s) for name, s in made.sightings.items()}
    return dataclasses.replace(made, sightings=sightings)


@pytest.mark.slow
def test_frames_that_jitter_are_solved_for(rng: np.random.Generator) -> None:
    made = webcams(rng, declared=True)
    solution = solve_from_targets(made.sightings, made.targets)
    assert not solution.facts["contradictions"]
    # eighty frames tell a standard deviation to a tenth
    np.testing.assert_allclose(list(solution.facts["jitter_ms"].values()), 1e3 * JITTER_S, rtol=0.4)
    errors = pose_errors(rig_poses(solution.rig.subset(made.rig.ids)), rig_poses(made.rig))
    sigma_m = [np.sqrt(np.linalg.eigvalsh(solution.covariance[name][3:, 3:])[-1]) for name in made.rig.ids]
    assert (errors.centre_m < 4 * np.array(sigma_m) + 1e-4).all()


@pytest.mark.slow
def test_frames_that_jitter_and_pass_for_regular_are_refused_by_name(rng: np.random.Generator) -> None:
    made = webcams(rng, declared=False)
    solution = solve_from_targets(made.sightings, made.targets)
    found = solution.facts["contradictions"]
    assert found and found[0]["name"] == "jitter_ms" and found[0]["item"] in made.sightings
    refused = [h for h in solution.health(RigLimits(), "targets") if not h.ok]
    assert "irregular times" in str(refused[0].item) and "timestamps.csv" in refused[0].action


def test_a_readout_that_no_sensor_has_is_refused() -> None:
    facts = {"height_m": {}, "reprojection_px": {}, "position_sigma_mm": {"a": 0.0, "b": 1.0}, "baseline_m": 2.0}
    facts |= {"rotation_sigma_deg": {"a": 0.0, "b": 0.1}}
    for readout_ms, fits in ((33.0, True), (0.0, True), (134.0, False), (-20.0, False)):
        health = rig_health(RigLimits(), {**facts, "readout_ms": {"a": 30.0, "b": readout_ms}}, "targets")
        figures = [h for h in health if h.name == "readout_ms"]
        assert all(h.ok for h in figures) == fits
        assert fits or any(h.item == "b" and not h.ok for h in figures)


def test_nothing_jitters_in_a_room_of_locked_cameras(rng: np.random.Generator) -> None:
    made = film_all(room_stage(seconds=3.0), rng)
    solution = solve_from_targets(made.sightings, made.targets)
    assert not [f for f in solution.facts["contradictions"] if f["name"] == "jitter_ms"]
    assert solution.facts["jitter_ms"] == {}


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="reference recordings are not here (MOTIFS_SHARED)")
def test_four_real_webcams_from_their_videos_to_a_rig(tmp_path: Path) -> None:
    data = SHARED / "data/caliscope_charuco_4cam"
    (tmp_path / "recording/videos").mkdir(parents=True)
    for video in (data / "calibration/extrinsic").glob("cam_*.mp4"):
        shutil.copyfile(video, tmp_path / "recording/videos" / video.name)
    shutil.copyfile(data / "calibration/extrinsic/timestamps.csv", tmp_path / "recording/timestamps.csv")
    board = {"id": "board", "kind": "charuco", "mounting": "carried", "squares": [4, 5], "square_m": 0.054}
    board |= {"marker_m": 0.0405, "dictionary": "DICT_4X4_1000", "inverted": True}
    targets = {"schema": "action-motifs/targets/1", "targets": [board]}
    (tmp_path / "recording/targets.json").write_text(json.dumps(targets))
    folder = ingest(tmp_path / "recording", tmp_path / "session").folder
    sync(folder, SyncConfig(method="none", locked_sigma_ms=100.0, check=False))
    detect(folder)
    lens_stage(folder, LensConfig(lenses_from=data / "camera_array.toml"))
    rig_stage(folder, RigConfig(world="first_camera"))
    figures = read_json(folder / "04_rig/manifest.json")["metrics"]
    assert max(figures["reprojection_px"].values()) < 0.1
    # webcams of one kind: their sensors take a thirtieth of a second to read, and each is told by itself
    assert all(25 < readout_ms < 50 for readout_ms in figures["readout_ms"].values())
    # one of them was read with a buffer that held frames back, in turns of three
    assert figures["jitter_ms"]["cam_1"] == max(figures["jitter_ms"].values()) > 25
