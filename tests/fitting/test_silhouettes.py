"""The body against masks: exact ones cast by the simulation, and ones counted by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from fitted import sequence_of
from test_fit import STEP_S, room_rig, walk

from capture.masks import Mask
from capture.session import Session, View
from core.errors import InputError
from core.files import write_json, write_npz
from fitting.fit import FitConfig
from fitting.fit import _inputs as stage_inputs_of_fit
from fitting.playback import Playback
from fitting.silhouettes import MaskConfig, compare_with_masks, mask_iou, view_ious
from fitting.smpl import PosedBody
from fitting.stand_in import stand_in_body
from simulation.render import MeshScene, lens_samples

NUM_FRAMES, FIRST_S = 9, 7.0


def mask_of(person: list[str]) -> Mask:
    """From rows of `#` (person), `?` (ignored) and anything else."""
    rows = np.array([list(row) for row in person])
    return Mask(rows == "#", rows == "?")


def test_intersection_over_union_by_hand() -> None:
    drawn = mask_of(["##..", "##.."]).person
    assert mask_iou(drawn, mask_of(["##..", "##.."])) == 1.0
    assert mask_iou(drawn, mask_of([".##.", ".##."])) == pytest.approx(2 / 6)
    assert mask_iou(drawn, mask_of(["..##", "..##"])) == 0.0
    # the ignored column counts neither for the body nor against it
    assert mask_iou(drawn, mask_of(["#?..", "#?.."])) == 1.0
    assert mask_iou(drawn, mask_of(["#?#.", "#?.."])) == pytest.approx(2 / 3)
    assert np.isnan(mask_iou(np.zeros((2, 4), dtype=bool), mask_of(["....", "??.."])))
    assert mask_iou(np.zeros((2, 4), dtype=bool), mask_of(["#...", "...."])) == 0.0


def test_erosion_narrows_the_person_but_not_where_nothing_is_said() -> None:
    wide = np.zeros((20, 20), dtype=bool)
    wide[4:16, 3:17] = True
    narrow = np.zeros_like(wide)
    narrow[6:14, 5:15] = True
    cut = np.zeros_like(wide)
    assert mask_iou(narrow, Mask(wide, cut), erode_px=2) == pytest.approx(1.0, abs=0.06)  # a disc rounds corners
    assert mask_iou(narrow, Mask(wide, cut)) == pytest.approx(80 / 168)
    cut[10:] = True  # the lower half is hidden: the edge at row 10 is no edge of the person
    assert mask_iou(narrow, Mask(wide & ~cut, cut), erode_px=2) == pytest.approx(1.0, abs=0.06)


@pytest.fixture(scope="module")
def truth() -> PosedBody:
    return walk(stand_in_body(), NUM_FRAMES)


@pytest.fixture
def session(tmp_path: Path, truth: PosedBody) -> Session:
    """Two of the room's cameras; every second frame of the first has an exact mask."""
    rig = room_rig()
    views = (
        View("cam0", "room", (800, 600), masks="masks/cam0", num_frames=NUM_FRAMES),
        View("cam1", "room", (800, 600)),
    )
    meshes, camera = truth.mesh(), rig["cam0"]
    (tmp_path / "masks/cam0").mkdir(parents=True)
    for frame in range(0, NUM_FRAMES, 2):
        scene = MeshScene(meshes[frame], stand_in_body().faces, np.full((6890, 3), 200.0))
        layer = scene.look(lens_samples(camera.lens, 1), camera.world_from_cam)
        mask = np.isfinite(layer.distance_m).astype(np.uint8) * 255
        cv2.imwrite(str(tmp_path / f"masks/cam0/{frame:06d}.png"), mask)
    clock = {"offset_s": FIRST_S, "rate": 1.0, "offset_sigma_s": 0.0, "rate_sigma": 0.0, "measured_at_s": 0.0}
    write_json(tmp_path / "01_sync/clocks.json", {"clocks": {view.id: clock for view in views}})
    for view in views:
        write_npz(tmp_path / f"01_sync/{view.id}.times.npz", {"t_local_s": STEP_S * np.arange(NUM_FRAMES)})
    session = Session(tmp_path, "s", "anna", views)
    session.save()
    return Session.load(tmp_path)


def moved(truth: PosedBody, by_m: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Playback:
    sequence = sequence_of(truth, FIRST_S + STEP_S * np.arange(NUM_FRAMES))
    return Playback.of(dataclasses.replace(sequence, trans=sequence.trans + np.array(by_m)), stand_in_body())


def test_the_true_body_fills_its_masks_and_a_moved_one_does_not(session: Session, truth: PosedBody) -> None:
    found = compare_with_masks(session, room_rig(), moved(truth), MaskConfig())
    assert list(found) == ["cam0"], "views without masks are left out"
    figures = found["cam0"]
    assert figures["num_frames"] == 5
    # a few pixels of about 3,000 on the outline, where the rays' single precision decides
    assert figures["median"] > 0.995 and figures["p5"] > 0.99
    aside = compare_with_masks(session, room_rig(), moved(truth, (0.0, 0.0, 0.05)), MaskConfig())["cam0"]
    assert 0.5 < aside["median"] < 0.92


def test_masks_are_compared_where_the_fit_is_valid_and_as_many_as_asked(session: Session, truth: PosedBody) -> None:
    playback = moved(truth)
    view, camera = session["cam0"], room_rig()["cam0"]
    assert list(view_ious(session, view, camera, playback, MaskConfig(max_frames=2))) == [0, 8]
    reasons = np.zeros(NUM_FRAMES, dtype=np.int64)
    reasons[4] = 1
    partly = Playback(playback.shaped, dataclasses.replace(playback.sequence, reasons=reasons))
    assert list(view_ious(session, view, camera, partly, MaskConfig())) == [0, 2, 6, 8]
    nowhere = Playback(playback.shaped, dataclasses.replace(playback.sequence, reasons=reasons + 1))
    none = compare_with_masks(session, room_rig(), nowhere, MaskConfig())["cam0"]
    assert none == {"median": None, "p5": None, "num_frames": 0}
    assert compare_with_masks(session, room_rig(), playback, MaskConfig(max_frames=0)) == {}


def test_masks_of_another_size_are_refused(session: Session, truth: PosedBody) -> None:
    cv2.imwrite(str(session.folder / "masks/cam0/000004.png"), np.zeros((60, 80), np.uint8))
    with pytest.raises(InputError, match=r"000004.png: it is 80x60 px, the view's pictures are 800x600"):
        compare_with_masks(session, room_rig(), moved(truth), MaskConfig())


def test_masks_are_inputs_of_the_fit(session: Session) -> None:
    """New masks make a fit that was compared with the old ones stale."""
    (session.folder / "04_rig").mkdir()
    inputs = stage_inputs_of_fit(session, FitConfig())
    assert inputs["masks of cam0"] == session.folder / "masks/cam0"
    assert "masks of cam1" not in inputs
