from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic_scenes import charuco

from calibration import lens
from calibration.formats import read_calibration, write_rig
from capture.prints import target_image
from capture.session import Session, View
from capture.targets import Target, save_targets
from core.cameras import Camera, Lens, Rig
from core.errors import GateError, InputError, StageError
from core.files import read_npz
from core.transforms import SE3

TRUTH = Lens("pinhole", (640, 480), (520.0, 520.0), (322.0, 236.0))
BOARD = charuco("lensboard", "lens", square_m=0.06)


def write_session(
    folder: Path,
    num: int,
    *,
    tilt: float = 0.4,
    reach_m: float = 0.15,
    stretch: float = 1.0,
    shown: Target = BOARD,
    at_m: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """Pictures of a charuco board by a camera without distortion: exact homographies of its print."""
    rng = np.random.default_rng(3)
    px_per_m = 1500.0
    print_ = target_image(shown, px_per_m, margin_m=0.03)
    board_from_print = np.array(
        [[1 / px_per_m, 0, 0.5 / px_per_m - 0.03], [0, 1 / px_per_m, 0.5 / px_per_m - 0.03], [0, 0, 1]]
    )
    (folder / "board").mkdir(parents=True)
    for k in range(num):
        turn = tilt * np.array([*rng.standard_normal(2), 1.0])
        middle = SE3(np.eye(3), np.array([-0.18, -0.15, 0.0]))
        place = np.array([*rng.uniform(-reach_m, reach_m, 2), rng.uniform(0.55, 0.8)])
        pose = SE3.from_rotvec(turn, place + np.array(at_m)) @ middle
        H = TRUTH.K @ np.stack([stretch * pose.R[:, 0], pose.R[:, 1], pose.t], axis=-1) @ board_from_print
        picture = cv2.warpPerspective(print_, H, TRUTH.size_px, flags=cv2.INTER_AREA, borderValue=128)
        cv2.imwrite(str(folder / "board" / f"{k:02d}.png"), cv2.GaussianBlur(picture, (3, 3), 0))
    save_targets(folder / "targets.json", [BOARD])
    view = View("cam", "room", TRUTH.size_px, lens_images="board", lens_model="pinhole")
    Session(folder, "s", "anna", (view,), targets="targets.json").save()


def test_a_lens_from_pictures_of_a_board(tmp_path: Path) -> None:
    write_session(tmp_path, 8)
    manifest = lens.run(tmp_path)
    found = lens.load_lenses(tmp_path)["cam"]
    assert found.focal_px[0] == pytest.approx(TRUTH.focal_px[0], rel=0.004)
    assert np.linalg.norm(np.subtract(found.centre_px, TRUTH.centre_px)) < 2.0
    quality = manifest.metrics["views"]["cam"]
    assert quality["rms_px"] < 0.3 and quality["num_views"] >= 7
    assert (tmp_path / "03_lenses" / "cam.coverage.png").stat().st_size > 5000
    drawn = read_npz(tmp_path / "03_lenses" / "cam.residuals.npz")
    assert len(drawn["xy_px"]) == len(drawn["residual_px"]) == len(drawn["picture"]) == len(drawn["weight"]) > 100
    assert drawn["picture_names"].tolist() == [f"{k:02d}.png" for k in range(8)]
    assert drawn["corner_counts"].sum() <= len(drawn["xy_px"])
    assert np.isfinite(drawn["projection_sigma_px"]).all()
    sigma = np.sqrt(np.diag(lens.load_lens_covariances(tmp_path)["cam"]))
    assert (np.abs(found.params - TRUTH.params) < 4 * sigma + 0.1).all()


def test_one_picture_is_refused_by_name(tmp_path: Path) -> None:
    write_session(tmp_path, 2)
    (tmp_path / "board" / "00.png").unlink()
    with pytest.raises(StageError, match=r"cam: only 1 of 1 pictures.*tilted"):
        lens.run(tmp_path)


def test_too_little_coverage_is_refused_and_kept_aside(tmp_path: Path) -> None:
    write_session(tmp_path, 4)
    with pytest.raises(GateError, match=r"cam: coverage"):
        lens.run(tmp_path, lens.LensConfig(min_coverage=0.99))
    assert (tmp_path / "03_lenses.refused" / "cam.coverage.png").exists()


def test_without_pictures_and_without_a_file_nothing_can_be_done(tmp_path: Path) -> None:
    Session(tmp_path, "s", "anna", (View("cam", "room", (640, 480)),)).save()
    with pytest.raises(InputError, match="--lenses-from"):
        lens.run(tmp_path)


def test_lenses_are_imported_by_number_where_no_name_fits(tmp_path: Path) -> None:
    lenses = {f"cam{k:02d}": dataclasses.replace(TRUTH, focal_px=(600.0 + k, 600.0)) for k in (3, 1, 2)}
    path = tmp_path / "lenses.json"
    write_rig(path, Rig(tuple(Camera(name, one, SE3.identity()) for name, one in lenses.items())))
    Session(tmp_path, "s", "anna", tuple(View(name, "room", TRUTH.size_px) for name in ("v2", "v3"))).save()
    manifest = lens.run(tmp_path, lens.LensConfig(lenses_from=path))
    assert lens.load_lenses(tmp_path) == {"v2": lenses["cam02"], "v3": lenses["cam03"]}
    assert manifest.metrics["import_notes"] == ["cameras are told by their numbers: cam02 is v2, cam03 is v3"]
    Session(tmp_path, "s", "anna", tuple(View(name, "room", TRUTH.size_px) for name in "abc")).save()
    with pytest.raises(InputError, match=r"cam03, cam01, cam02 are not the session's a, b, c"):
        lens.run(tmp_path, lens.LensConfig(lenses_from=path))


def test_a_lens_for_pictures_of_another_size_is_refused(tmp_path: Path) -> None:
    camera = Camera("cam", TRUTH, SE3.identity())
    write_rig(tmp_path / "lenses.json", Rig((camera,)))
    Session(tmp_path, "s", "anna", (View("cam", "room", (1280, 960)),)).save()
    with pytest.raises(InputError, match=r"cam: camera cam of .* is for 640x480 px, its frames are 1280x960"):
        lens.run(tmp_path, lens.LensConfig(lenses_from=tmp_path / "lenses.json"))


@pytest.mark.slow
@pytest.mark.parametrize(("camera", "boards"), [("cam01", 7), ("cam02", 6), ("cam03", 7), ("cam04", 7)])
def test_real_checkerboard_pictures(tmp_path: Path, shared: Path, camera: str, boards: int) -> None:
    folder = shared / "data" / "pose2sim_single" / "calibration"
    shutil.copytree(folder / "intrinsics" / camera, tmp_path / "board")
    save_targets(tmp_path / "targets.json", [Target("board", "checkerboard", "lens", (4, 7), 0.06)])
    view = View(camera, "room", (1088, 1920), lens_images="board")
    Session(tmp_path, "s", "anna", (view,), targets="targets.json").save()
    quality = lens.run(tmp_path).metrics["views"][camera]
    reference = read_calibration(folder / "Calib.qca.txt")[camera].lens
    assert lens.load_lenses(tmp_path)[camera].focal_px[0] == pytest.approx(reference.focal_px[0], rel=0.015)
    assert quality["num_views"] == boards  # one picture of cam02 shows none
    assert quality["rms_px"] < 0.15


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"tilt": 0.0}, r"cam: tilt_deg 0\.\d+ < 10.*the boards span 0 deg"),
        ({"stretch": 1.03}, r"cam: board_stretch 0.0\d+ > 0.005.*measure the print"),
    ],
)
def test_degenerate_sets_are_refused_with_the_reason(tmp_path: Path, how: dict[str, float], reason: str) -> None:
    write_session(tmp_path, 8, **how)  # type: ignore[arg-type]
    with pytest.raises(GateError, match=reason):
        lens.run(tmp_path)


def test_pictures_in_one_corner_are_refused(tmp_path: Path) -> None:
    write_session(tmp_path, 5, reach_m=0.0)
    with pytest.raises(GateError, match=r"cam: coverage .* in every part of the image"):
        lens.run(tmp_path, lens.LensConfig(min_coverage=0.9))


@pytest.mark.parametrize("at_m", [(-0.45, -0.33, 0.75), (0.0, 0.0, 0.95)], ids=["a quarter", "the middle"])
def test_boards_in_one_part_of_the_image_are_refused(tmp_path: Path, at_m: tuple[float, float, float]) -> None:
    write_session(tmp_path, 12, reach_m=0.06, at_m=at_m)
    with pytest.raises(GateError, match=r"cam: (span|coverage) .* in every part of the image"):
        lens.run(tmp_path)


def test_pictures_of_mixed_sizes_are_refused_by_name(tmp_path: Path) -> None:
    write_session(tmp_path, 4)
    picture = cv2.imread(str(tmp_path / "board" / "02.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(tmp_path / "board" / "02.png"), cv2.resize(picture, (320, 240)))
    with pytest.raises(StageError, match=r"cam: its lens picture 02.png is 320x240 px, its frames are 640x480"):
        lens.run(tmp_path)


def test_a_board_of_the_other_pattern_is_refused_with_that_hint(tmp_path: Path) -> None:
    write_session(tmp_path, 4, shown=dataclasses.replace(BOARD, grid=(5, 6)))
    with pytest.raises(StageError, match=r"describe it with squares \[5, 6\]"):
        lens.run(tmp_path)


def test_a_board_of_other_markers_is_named(tmp_path: Path) -> None:
    write_session(tmp_path, 3, shown=dataclasses.replace(BOARD, inverted=True))
    with pytest.raises(
        StageError, match=r"none of 3 pictures shows the board lensboard, .*DICT_5X5_1000, inverted, numb"
    ):
        lens.run(tmp_path)
