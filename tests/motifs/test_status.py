"""Where a session stands: every state is told apart, and the next action is the one to take."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capture.session import Session
from capture.targets import Target, save_targets
from core.files import read_json, sha256_of_file, write_json
from core.stage import Health
from motifs import cli
from motifs.pipeline import steps_of
from motifs.status import describe, next_action, session_status, step_status

DRIFT = Health("drift_px", 3.0, 2.0, "max", "mount cam2 firmly", "cam2")


def finish_stage(folder: Path, *health: Health, failed: dict[str, Any] | None = None) -> None:
    """A stage's folder with a manifest as the stage runner writes it."""
    figures = [{**vars(h), "ok": h.ok} for h in health]
    timing = {"started": "", "seconds": 2.5}
    data = {"fingerprint": "f", "stage": folder.name, "health": figures, "failed": failed or {}, "timing": timing}
    data |= {"outputs": {}, "metrics": {}}
    write_json(folder / "manifest.json", data)


def states(session: Path) -> dict[str, str]:
    return {status.step.folder: status.state for status in session_status(session)}


def test_every_state_is_told_apart(session: Path) -> None:
    finish_stage(session / "01_sync")
    finish_stage(session / "02_keypoints.refused", DRIFT)
    (session / ".03_lenses.partial").mkdir()
    assert states(session) == {
        "01_sync": "done",
        "02_keypoints": "refused",
        "03_lenses": "interrupted",
        "04_rig": "waiting",
        "06_points3d": "waiting",
        "07_smpl": "waiting",
    }


def test_a_folder_without_a_manifest_is_no_result(session: Path) -> None:
    (session / "01_sync").mkdir()
    assert states(session)["01_sync"] == "waiting"


def test_a_refusal_is_newer_than_the_result_beside_it(session: Path) -> None:
    # a stage that succeeds removes what was refused before
    finish_stage(session / "01_sync")
    finish_stage(session / "01_sync.refused", DRIFT)
    assert states(session)["01_sync"] == "refused"


def test_a_result_of_something_that_has_changed_is_stale(session: Path) -> None:
    rig = session / "04_rig" / "rig.json"
    for step in steps_of(Session.load(session)):
        finish_stage(session / step.folder)
    write_json(rig, {})
    manifest = session / "07_smpl" / "manifest.json"
    made = {"inputs": {"rig": sha256_of_file(rig)}, "made_from": {"rig": "04_rig/rig.json"}}
    write_json(manifest, {**read_json(manifest), **made})
    assert states(session)["07_smpl"] == "done"
    write_json(rig, {"moved": True})
    assert states(session)["07_smpl"] == "stale"
    advice = next_action(session, session_status(session), reported=True)
    assert advice == f"motifs fit {session} --redo (04_rig changed since)"


def test_foot_cameras_bring_their_stage(session: Path) -> None:
    described = Session.load(session)
    foot = replace(described.views[0], id="left_foot", role="left_foot")
    replace(described, views=(*described.views, foot)).save()
    assert "05_egomotion" in states(session)


def test_the_next_action_follows_the_first_stage_that_is_not_done(session: Path) -> None:
    assert next_action(session, session_status(session), reported=False) == f"motifs run {session}"
    finish_stage(session / "01_sync.refused", DRIFT, Health("late_s", 0.5, 1.0, "max", "no matter"))
    advice = next_action(session, session_status(session), reported=False)
    assert advice == f"cam2: mount cam2 firmly (see {session / '01_sync'}.refused)"
    shutil.rmtree(session / "01_sync.refused")
    for step in steps_of(Session.load(session)):
        finish_stage(session / step.folder)
    done = session_status(session)
    assert next_action(session, done, reported=False) == f"motifs report {session}"
    assert next_action(session, done, reported=True).startswith(f"motifs build {session}")


def test_health_is_one_line_a_figure_with_its_worst_item(session: Path) -> None:
    finish_stage(
        session / "01_sync",
        Health("drift_px", 1.0, 2.0, "max", "a", "cam1"),
        Health("drift_px", 1.9, 2.0, "max", "a", "cam2"),
        Health("height_m", 1.2, 0.0, "min", "a", "cam1"),
        Health("height_m", 1.2, 10.0, "max", "a", "cam1"),
        Health("found", float("nan"), 0.5, "min", "a"),
        failed={"cam3": {"item": "cam3", "problem": "no frames", "action": "a"}},
    )
    status = step_status(Session.load(session), steps_of(Session.load(session))[0])
    assert status.seconds == 2.5
    assert describe(status) == [
        "drift_px (cam2, worst of 2) 1.9, at most 2",
        "height_m cam1 1.2, 0 to 10",
        "found missing, at least 0.5 - does not hold",
        "cam3 failed: no frames",
    ]


def test_the_command_prints_states_and_the_next_action(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_stage(session / "01_sync")
    (session / ".02_keypoints.partial").mkdir()
    assert cli.run(["status", str(session)]) == 0
    printed = capsys.readouterr().out
    assert "done" in printed and "interrupted" in printed and "next: motifs run" in printed
    assert cli.run(["run", str(session), "--dry-run"]) == 0
    assert capsys.readouterr().out.count("waiting") == 4


@pytest.mark.parametrize("text", ["", "{", "[]", '{"fingerprint": "f"}'])
def test_a_damaged_manifest_is_named(text: str, session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (session / "01_sync").mkdir()
    (session / "01_sync/manifest.json").write_text(text)
    assert cli.run(["status", str(session)]) == 1
    error = capsys.readouterr().err
    assert "manifest.json" in error and "Next:" in error and "Traceback" not in error


def test_targets_in_the_room_bring_the_marker_map(session: Path) -> None:
    assert "04_markers" not in states(session)
    targets = session / "targets.json"
    save_targets(targets, [Target("door", "marker", "static", marker_m=0.2, dictionary="DICT_4X4_250")])
    replace(Session.load(session), targets="targets.json").save()
    assert "04_markers" in states(session)
    targets.write_text("not JSON")  # for the stage to refuse, not for the status
    assert "04_markers" in states(session)


def test_what_a_stage_notes_is_shown(session: Path) -> None:
    finish_stage(session / "01_sync")
    manifest = session / "01_sync" / "manifest.json"
    write_json(manifest, {**read_json(manifest), "metrics": {"notes": ["cam1 is late"]}})
    status = next(s for s in session_status(session) if s.step.folder == "01_sync")
    assert describe(status) == ["cam1 is late"]
