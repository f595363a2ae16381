"""What the report says was seen is what was seen, whatever clocks the cameras have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from capture.keypoints import clean
from capture.markers import MarkerPoints
from capture.session import Session, View
from core.files import write_json, write_npz
from core.skeletons import COCO_17, HALPE_26, Skeleton
from motifs.coverage import coverage_of, coverage_section

RATE = 30.0
_NUM = 300  # ten seconds


def _view(session: Path, name: str, seen: np.ndarray, skeleton: Skeleton = COCO_17) -> View:
    """A room camera that sees (frames, people, joints), its clock at 0."""
    xy_px = np.full((*seen.shape, 2), 20.0)
    clean(xy_px, np.where(seen, 0.9, 0.1), skeleton).save(session / "02_keypoints" / f"{name}.npz")
    write_npz(session / "01_sync" / f"{name}.times.npz", {"t_local_s": np.arange(len(seen)) / RATE})
    return View(name, "room", (64, 48), num_frames=len(seen))


def _session(folder: Path, views: Sequence[View], offsets_s: Sequence[float]) -> Session:
    clocks = {view.id: {"offset_s": offset, "rate": 1.0} for view, offset in zip(views, offsets_s, strict=True)}
    write_json(folder / "01_sync" / "clocks.json", {"clocks": clocks})
    session = Session(folder, "s", "anna", tuple(views))
    session.save()
    return session


def test_shares_are_counted_on_the_session_clock(tmp_path: Path) -> None:
    everything = np.ones((_NUM, 1, 17), bool)
    half = everything.copy()
    half[:150] = False  # of its own clock: from 5 s on, which is 4 s on the session's
    views = [_view(tmp_path, "a", everything), _view(tmp_path, "b", half)]
    seen = coverage_of(_session(tmp_path, views, (0.0, -1.0)))
    assert seen is not None
    middle_s = (seen.edges_s[:-1] + seen.edges_s[1:]) / 2
    shares = seen.shares()
    np.testing.assert_allclose(shares.sum(axis=0), 1.0)
    assert (shares[2, (middle_s > 4.1) & (middle_s < 8.9)] == 1).all()  # both
    assert (shares[1, (middle_s > 0.1) & (middle_s < 3.9)] == 1).all()  # a alone
    assert (shares[1, middle_s > 9.1] == 1).all()  # b has ended
    assert (shares[0, middle_s < -0.1] == 1).all()  # b alone, which sees nobody
    assert np.isnan(seen.joints["b"][middle_s > 9.1]).all()


def test_the_person_of_whom_most_is_seen_counts(tmp_path: Path) -> None:
    seen = np.zeros((_NUM, 2, 17), bool)
    seen[:, 0, :3], seen[:, 1, 4:] = True, True
    found = coverage_of(_session(tmp_path, [_view(tmp_path, "a", seen)], (0.0,)))
    assert found is not None
    assert (found.joints["a"][:, 4:] == 1).all()
    assert (found.joints["a"][:, :4] == 0).all()


def test_a_view_that_detects_nobody_or_ends_early_is_shown(tmp_path: Path) -> None:
    nobody = np.zeros((_NUM, 0, 17), bool)
    views = [_view(tmp_path, "a", nobody), _view(tmp_path, "b", np.ones((30, 1, 17), bool))]
    found = coverage_of(_session(tmp_path, views, (0.0, 0.0)))
    assert found is not None
    assert (found.joints["a"] == 0).all()
    assert np.isfinite(found.joints["b"]).all(axis=1).sum() == 10  # columns of 0.1 s


def test_views_of_another_skeleton_are_left_to_their_stage_to_refuse(tmp_path: Path) -> None:
    views = [_view(tmp_path, "a", np.ones((30, 1, 17), bool))]
    views.append(_view(tmp_path, "b", np.ones((30, 1, 26), bool), HALPE_26))
    found = coverage_of(_session(tmp_path, views, (0.0, 0.0)))
    assert found is not None and set(found.joints) == {"a"}


def test_boards_show_when_they_were_read(tmp_path: Path) -> None:
    session = _session(tmp_path, [_view(tmp_path, "a", np.ones((_NUM, 1, 17), bool))], (0.0,))
    rows = np.array([60, 61, 61, 900], np.int32)  # the last one lies behind the video's end
    MarkerPoints(("m",), rows, rows * 0, rows * 0, np.zeros((4, 2), np.float32), np.ones(4, np.float32)).save(
        tmp_path / "02_keypoints" / "a.markers.npz"
    )
    found = coverage_of(session)
    assert found is not None
    at_s = found.edges_s[:-1][found.boards["a"]]
    assert len(at_s) == 2  # frames 60 and 61 lie in neighbouring columns
    np.testing.assert_allclose(at_s, (1.91, 2.01), atol=0.01)


def test_a_long_recording_is_gathered(tmp_path: Path) -> None:
    found = coverage_of(_session(tmp_path, [_view(tmp_path, "a", np.ones((20_000, 1, 17), bool))], (0.0,)))
    assert found is not None and len(found.edges_s) == 1001
    assert (found.joints["a"] == 1).all()


def test_the_section_tells_the_figures(tmp_path: Path) -> None:
    seen = np.ones((_NUM, 1, 17), bool)
    seen[:150] = False
    section = coverage_section(_session(tmp_path, [_view(tmp_path, "a$b", seen)], (0.0,)))
    assert section is not None and len(section.pictures) == 1
    ((view, in_view, joints),) = section.tables[0].rows
    assert view == "a$b"
    assert abs(float(in_view) - 50) < 1 and abs(float(joints) - 8.5) < 0.1  # columns do not end where the half does
    assert [row[0] for row in section.tables[1].rows] == ["no camera", "one", "two", "three or more"]


def test_nothing_is_said_before_there_are_keypoints(tmp_path: Path) -> None:
    assert coverage_section(Session(tmp_path, "s", "anna", (View("a", "room", (64, 48)),))) is None
