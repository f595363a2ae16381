"""Points that can be found again: where they are, which belong together, and which pictures are worth having."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.features import FeatureConfig, Features, find_features, match_features, unit_descriptors
from calibration.scene_pictures import PictureConfig, choose_frames, person_mask, still_picture
from calibration.scene_points import SceneMap, few_descriptors, read_scene_map
from core.errors import InputError
from core.files import write_npz
from core.skeletons import skeleton_named

CONFIG = FeatureConfig(max_features=400)


def texture(rng: np.random.Generator, height: int = 240, width: int = 320) -> np.ndarray:
    """A gray picture with blobs of many sizes."""
    image = np.full((height, width), 110.0)
    for step in (6, 14, 32):
        grid = rng.standard_normal((height // step + 2, width // step + 2))
        image += 22 * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


def test_points_lie_where_the_blobs_are_without_bias(rng: np.random.Generator) -> None:
    off = []
    y, x = np.mgrid[:120, :140]
    for sigma in (1.5, 2.5, 4.0):
        for _ in range(8):
            centre = np.array([70.0, 60.0]) + rng.uniform(-0.5, 0.5, 2)
            blob = 60 + 150 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
            found = find_features(blob.round().astype(np.uint8), CONFIG)
            off.append(found.xy_px[np.linalg.norm(found.xy_px - centre, axis=1).argmin()] - centre)
    # a quarter of a pixel is what OpenCV's default is off by, which at 3 m in a foot camera is 4 mm
    assert np.abs(np.mean(off, axis=0)).max() < 0.02


def test_matches_follow_the_motion_and_masks_hold(rng: np.random.Generator) -> None:
    image = texture(rng)
    turn = cv2.getRotationMatrix2D((160, 120), 20, 0.9)
    a, b = find_features(image, CONFIG), find_features(cv2.warpAffine(image, turn, (320, 240)), CONFIG)
    pairs = match_features(a.unit, b.unit)
    expected = a.xy_px[pairs[:, 0]] @ turn[:, :2].T + turn[:, 2]
    error = np.linalg.norm(b.xy_px[pairs[:, 1]] - expected, axis=1)
    assert len(pairs) > 60 and np.median(error) < 0.5 and (error < 3).mean() > 0.9
    left = np.zeros(image.shape, bool)
    left[:, :150] = True
    masked = find_features(image, CONFIG, mask=left)
    assert len(masked) > 20 and (masked.xy_px[:, 0] < 151).all()


def test_a_plain_picture_has_no_points_and_matches_nothing() -> None:
    none = find_features(np.full((60, 80), 90, np.uint8), CONFIG)
    assert len(none) == 0 and len(match_features(none.unit, none.unit)) == 0


def test_points_are_spread_over_the_picture(rng: np.random.Generator) -> None:
    image = np.full((240, 320), 110.0)
    image[:, :160] = texture(rng)[:, :160]
    image[:, 160:] += 0.25 * (texture(rng)[:, 160:].astype(float) - 110)
    found = find_features(image.astype(np.uint8), FeatureConfig(max_features=120))
    assert (found.xy_px[:, 0] > 165).mean() > 0.3  # the faint half has its share


def test_repeated_things_are_left_out(rng: np.random.Generator) -> None:
    tile = texture(rng, 80, 80)
    image = np.tile(tile, (3, 4))
    found = find_features(image, FeatureConfig(max_features=600))
    inner = found.where((np.abs(found.xy_px - [160, 120]) < 90).all(axis=1))
    assert len(match_features(inner.unit, found.unit)) < 0.3 * len(inner)


def test_few_descriptors_keep_every_point_and_what_differs() -> None:
    looks = np.zeros((5, 128), np.uint8)
    looks[[0, 1, 2], [0, 0, 5]] = 200
    looks[[3, 4], 9] = 200
    kept, owner = few_descriptors(looks, np.array([0, 0, 0, 2, 2]), 2)
    assert owner.tolist() == [0, 0, 2, 2] and sorted(np.argmax(kept[:2], axis=1).tolist()) == [0, 5]
    np.testing.assert_allclose(np.linalg.norm(unit_descriptors(kept), axis=1), 1, atol=1e-6)


def test_people_vanish_from_still_pictures(rng: np.random.Generator) -> None:
    room = texture(rng)
    pictures, people = [], []
    skeleton = skeleton_named("COCO_17")
    for k in range(9):
        shift = np.array([0.0, 0.0]) if k < 6 else np.array([150.0, 10.0])
        joints = np.full((17, 2), np.nan)
        body = [[110, 70], [100, 90], [120, 90], [103, 135], [118, 135], [104, 165], [117, 165], [104, 200], [117, 200]]
        joints[[0, 5, 6, 11, 12, 13, 14, 15, 16]] = np.array(body) + shift
        mask = person_mask(joints[None], skeleton, (320, 240))
        picture = room.copy()
        left, top = (np.array([98, 60]) + shift).astype(int)
        picture[top : top + 145, left : left + 24] = 10
        pictures.append(picture)
        people.append(mask)
    still, known = still_picture(pictures, people)
    assert known.mean() > 0.9
    assert np.abs(still[known].astype(int) - room[known]).max() <= 1
    blind, sure = still_picture(pictures, [None] * 9)
    assert blind[110, 110] == 10 and sure[110, 110]  # without joints, who stays becomes furniture


def test_what_flickers_is_no_part_of_the_room(rng: np.random.Generator) -> None:
    room = texture(rng)
    pictures = [room.copy() for _ in range(8)]
    for k, picture in enumerate(pictures):
        picture[:60, :60] = 30 if k % 2 else 220
    _, known = still_picture(pictures, [None] * 8)
    assert not known[10:50, 10:50].any() and known[100:, 100:].all()


def test_frames_are_chosen_by_motion_and_sharpness(rng: np.random.Generator) -> None:
    wide = texture(rng, 240, 1400)
    x = np.concatenate([np.linspace(0, 600, 41), np.full(20, 600), np.linspace(600, 1000, 27)]).round().astype(int)
    pictures = [wide[:, a : a + 320].copy() for a in x]
    for k in (4, 5, 9, 30, 70):
        pictures[k] = cv2.GaussianBlur(pictures[k], (0, 0), 3)
    chosen = choose_frames(iter(enumerate(pictures)), PictureConfig(step=0.1))
    assert not {4, 5, 9, 30, 70} & set(chosen.tolist())
    assert 20 <= len(chosen) <= 40 and (np.diff(x[chosen]) <= 2.2 * 32).all()
    assert ((chosen > 41) & (chosen < 60)).sum() <= 1  # standing still adds nothing
    few = choose_frames(iter(enumerate(pictures)), PictureConfig(step=0.1, max_frames=8))
    assert 6 <= len(few) <= 8
    assert choose_frames(iter([]), PictureConfig()).tolist() == []


@pytest.mark.parametrize("damage", ["missing", "shape", "owner"])
def test_a_damaged_map_is_refused(tmp_path: Path, damage: str) -> None:
    scene = SceneMap(
        np.zeros((2, 3)), np.zeros((2, 3, 3)), np.ones(2), np.ones(2), np.ones((3, 128), np.uint8), np.array([0, 1, 1])
    )
    scene.save(tmp_path / "scene.npz")
    assert len(read_scene_map(tmp_path / "scene.npz")) == 2
    arrays = {name: getattr(scene, name) for name in vars(scene)}
    if damage == "missing":
        del arrays["own_sigma_m"]
    elif damage == "shape":
        arrays["covariance"] = np.zeros((2, 3))
    else:
        arrays["descriptor_point"] = np.array([0, 0, 7])
    write_npz(tmp_path / "scene.npz", arrays)
    with pytest.raises(InputError, match="calibrate scene"):
        read_scene_map(tmp_path / "scene.npz")


def test_features_can_be_picked() -> None:
    features = Features(np.arange(6.0).reshape(3, 2), np.ones(3), np.zeros((3, 128), np.uint8))
    assert features.where(np.array([True, False, True])).xy_px.tolist() == [[0, 1], [4, 5]]


def test_compression_works_after_pycolmap_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys, calibration.colmap as c\n"
        "assert 'pycolmap' not in sys.modules\n"
        "pycolmap = c.load_pycolmap()\n"
        "import numpy as np, cv2\n"
        f"np.savez_compressed({str(tmp_path / 'a.npz')!r}, a=np.arange(100000))\n"
        f"assert cv2.imwrite({str(tmp_path / 'a.png')!r}, np.arange(60000, dtype=np.uint8).reshape(200, 300))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(np.load(tmp_path / "a.npz")["a"]) == 100000
