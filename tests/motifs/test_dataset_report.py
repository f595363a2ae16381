"""The report of a dataset: what is counted is what the clips hold."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from test_export_clips import amass_file
from test_report import assert_own_script_alone

from core.errors import InputError
from core.files import write_npz, write_text
from dataset.schema import Clip
from dataset.shards import AmdDataset
from motifs import cli
from motifs.dataset_report import UNLABELLED, contents_of, write_dataset_report


@pytest.fixture
def swaying(tmp_path: Path) -> Path:
    """Two people who sway for two seconds each, without labels."""
    for name in ("anna", "bert"):
        amass_file(tmp_path / "in" / name / "sway.npz")
    assert cli.run(["build", str(tmp_path / "in"), "--out", str(tmp_path / "amd"), "--workers", "1"]) == 0
    return tmp_path / "amd"


def test_contents_are_what_clips_hold(swaying: Path) -> None:
    dataset = AmdDataset(swaying)
    contents = contents_of(dataset)
    by_person = {subject: seconds for (subject, action), seconds in contents.seconds.items() if action == UNLABELLED}
    assert by_person == pytest.approx({clip.subject: 2.0 for clip in dataset.clips})
    assert contents.reasons == {} and len(contents.speeds_m_s) == len(dataset)
    clip = dataset.read(dataset.clips[0].id)
    steps = np.linalg.norm(np.diff(clip.joints_m, axis=0), axis=-1)
    assert contents.speeds_m_s[0] == pytest.approx(np.nanmean(steps) * 30)


def test_time_with_several_actions_counts_for_each(swaying: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, read = AmdDataset(swaying), AmdDataset.read
    dataset.info = dataclasses.replace(dataset.info, action_names=("wave", "bow"))
    actions = np.zeros((60, 2), np.uint8)
    actions[15:45, 0], actions[30:, 1] = 1, 1

    def labelled(self: AmdDataset, clip_id: str) -> Clip:
        clip = read(self, clip_id)
        return dataclasses.replace(clip, actions=actions, reasons=np.where(np.arange(60) < 6, 2, 0))

    monkeypatch.setattr(AmdDataset, "read", labelled)
    contents = contents_of(dataset)
    for subject in dataset.info.subjects:
        assert contents.seconds[subject, "wave"] == pytest.approx(1.0)
        assert contents.seconds[subject, "bow"] == pytest.approx(1.0)
    assert contents.reasons == {"uncertain": pytest.approx(0.4)}


def test_the_page_tells_it_and_needs_nothing_beside_it(
    swaying: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "motifs"
    write_npz(found / "no_picture.npz", {"x": np.zeros(1)})
    with pytest.raises(InputError, match="no pictures of motifs"):
        write_dataset_report(swaying, found)
    assert not (swaying / "report.html").exists()
    text = write_dataset_report(swaying, None).read_text()
    assert "not labelled" in text and "No clip falls behind" in text
    assert not re.search(r"https?://|@import", text)
    assert_own_script_alone(text)
    cli.run(["verify", str(swaying)])  # the page is no part of the dataset, and none that is in the way
    assert "report.html" not in capsys.readouterr().err
    assert cli.run(["report", str(swaying)]) == 0


def test_usage_of_motifs_across_people_and_actions(swaying: Path, tmp_path: Path) -> None:
    from test_report import write_picture

    write_picture(tmp_path / "motifs/timeline.png", 7)
    head = "rank,type,name,occurrences,total_s,mean_s,people,actions"
    write_text(tmp_path / "motifs/types.csv", f"{head}\n1,4,<b>0-1,12,30.5,2.542,anna=7; bert=5,wave=0.750\n")
    text = write_dataset_report(swaying, tmp_path / "motifs").read_text()
    for cell in ("&lt;b&gt;0-1", "anna=7; bert=5", "wave=0.750", "30.5"):
        assert cell in text
    assert "<b>0-1" not in text
