"""COLMAP's incremental structure from motion (Schoenberger and Frahm 2016), in a process of its own.

This is the only module that imports pycolmap, and it does so only in the child: an abort inside C++ ends the child and
becomes an error here, and pycolmap's own copy of zlib, which would break compression where the system's is not loaded
before it, stays out of the parent. Child and parent exchange two `.npz` files in a temporary folder.

COLMAP's pixel centres lie at +0.5; nothing outside this module sees that.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.arrays import Bool, Float, Int
from core.cameras import Lens
from core.errors import StageError
from core.files import read_npz, write_npz
from core.transforms import SE3

_PROGRAM = (sys.executable, "-m", "calibration.colmap")
_SHIFT_PX = 0.5
_MIN_IMAGES = 3
# COLMAP's names, and how many zeros it wants after this project's coefficients
_MODELS: Mapping[str, tuple[str, int]] = {
    "pinhole": ("PINHOLE", 0),
    "radtan": ("FULL_OPENCV", 3),
    "rational": ("FULL_OPENCV", 0),
    "fisheye": ("OPENCV_FISHEYE", 0),
}


@dataclass(frozen=True, eq=False)
class Structure:
    """A reconstruction, in a world of its own: orientation, origin and scale are arbitrary.

    Attributes:
        world_from_cam: (images,) poses; NaN where not registered.
        registered: (images,) which images have a pose.
        points: (p, 3) points.
        point_idx: (o,) point of each observation, ascending.
        image_idx: (o,) image that saw it.
        feature_idx: (o,) which of that image's points.
    """

    world_from_cam: SE3
    registered: Bool[np.ndarray, "images"]
    points: Float[np.ndarray, "p 3"]
    point_idx: Int[np.ndarray, "o"]
    image_idx: Int[np.ndarray, "o"]
    feature_idx: Int[np.ndarray, "o"]


def reconstruct(
    lenses: Sequence[Lens],
    lens_idx: Int[np.ndarray, "images"],
    xy_px: Sequence[Float[np.ndarray, "_ 2"]],
    matches: Mapping[tuple[int, int], Int[np.ndarray, "_ 2"]],
    *,
    seed: int = 0,
    min_model_size: int = _MIN_IMAGES,
) -> Structure:
    """Structure from motion with known lenses, which are held; the largest connected model.

    One thread and a fixed seed: the same input gives the same bytes on one machine and version.

    Args:
        lenses: distinct lenses.
        lens_idx: lens of each image.
        xy_px: points of each image.
        matches: pairs of points of two images, before geometric verification; keys ascending.
        seed: of COLMAP's random choices.
        min_model_size: images below which a model is none.

    Raises:
        StageError: if COLMAP finds no model, or its process dies.
    """
    counts = np.array([len(points) for points in xy_px], np.int64)
    pairs = sorted(matches)
    request = {
        "models": np.array([_MODELS[lens.model][0] for lens in lenses]),
        "sizes": np.array([lens.size_px for lens in lenses]),
        "params": np.array([_params(lens) for lens in lenses]),
        "lens_idx": np.asarray(lens_idx, np.int64),
        "counts": counts,
        "xy_px": np.concatenate([*xy_px, np.zeros((0, 2))]).astype(np.float32),
        "pairs": np.array(pairs, np.int64).reshape(-1, 2),
        "match_counts": np.array([len(matches[pair]) for pair in pairs], np.int64),
        "matches": np.concatenate([*(matches[pair] for pair in pairs), np.zeros((0, 2), np.int64)]).astype(np.int64),
        "seed": np.array(seed),
        "min_model_size": np.array(min_model_size),
    }
    with tempfile.TemporaryDirectory(prefix="motifs-colmap-") as name:
        folder = Path(name)
        write_npz(folder / "request.npz", request)
        _run_child(folder)
        found = read_npz(folder / "result.npz")
    if not found["registered"].any():
        action = "walk slower, with more overlap and light, and let pictures share what they see"
        raise StageError("structure from motion", "the pictures do not join into one model", action)
    pose = SE3(found["R"], found["t"])
    return Structure(
        pose, found["registered"], found["points"], found["point_idx"], found["image_idx"], found["feature_idx"]
    )


def _params(lens: Lens) -> np.ndarray:
    """COLMAP's parameters, padded to 12."""
    fx, fy = lens.focal_px
    cx, cy = (c + _SHIFT_PX for c in lens.centre_px)
    values = [fx, fy, cx, cy, *lens.distortion, *([0.0] * _MODELS[lens.model][1])]
    return np.array(values + [np.nan] * (12 - len(values)))


def _run_child(folder: Path) -> None:
    """Runs this module as a program on a folder's request.

    Raises:
        StageError: if it does not end well.
    """
    done = subprocess.run([*_PROGRAM, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not (folder / "result.npz").is_file():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        ended = f"its process ended with status {done.returncode}: {last}"
        action = "install pycolmap 4.2 or later (`pip install action-motifs`), free memory, and run the stage again"
        raise StageError("COLMAP", ended, action)


def load_pycolmap() -> Any:
    """The library, its zlib kept from replacing the system's; for processes that may die of it."""
    import zlib  # noqa: F401 - before pycolmap

    import pycolmap

    return pycolmap


def _child(folder: Path) -> None:
    """What the child does: database, verification, mapping, result."""
    pycolmap = load_pycolmap()
    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    request = read_npz(folder / "request.npz")
    seed = int(request["seed"])
    pycolmap.set_random_seed(seed)
    _fill_database(pycolmap, folder / "database.db", request)
    (folder / "pairs.txt").write_text("\n".join(f"{a:06d} {b:06d}" for a, b in request["pairs"]))
    two_view = pycolmap.TwoViewGeometryOptions()
    two_view.ransac.random_seed = seed
    pycolmap.verify_matches(folder / "database.db", folder / "pairs.txt", options=two_view)
    options = _mapping_options(pycolmap, seed, int(request["min_model_size"]))
    models = pycolmap.incremental_mapping(folder / "database.db", folder, folder, options=options)
    best = max(models.values(), key=lambda model: model.num_reg_images(), default=None)
    write_npz(folder / "result.npz", _result_of(best, len(request["lens_idx"])))


def _fill_database(pycolmap: Any, path: Path, request: Mapping[str, np.ndarray]) -> None:
    ends, match_ends = np.cumsum(request["counts"]), np.cumsum(request["match_counts"])
    points = request["xy_px"] + np.float32(_SHIFT_PX)
    with pycolmap.Database.open(path) as database:
        for i, (model, size, params) in enumerate(
            zip(request["models"], request["sizes"], request["params"], strict=True), start=1
        ):
            values = params[np.isfinite(params)]
            camera = pycolmap.Camera(
                model=str(model), width=int(size[0]), height=int(size[1]), params=values, camera_id=i
            )
            camera.has_prior_focal_length = True
            database.write_camera(camera, use_camera_id=True)
            rig = pycolmap.Rig(rig_id=i)
            rig.add_ref_sensor(camera.sensor_id)
            database.write_rig(rig, use_rig_id=True)
        for i, (lens, end, count) in enumerate(zip(request["lens_idx"], ends, request["counts"], strict=True), start=1):
            image = pycolmap.Image(name=f"{i - 1:06d}", camera_id=int(lens) + 1, image_id=i)
            database.write_image(image, use_image_id=True)
            frame = pycolmap.Frame(frame_id=i, rig_id=int(lens) + 1)
            frame.add_data_id(image.data_id)
            database.write_frame(frame, use_frame_id=True)
            database.write_keypoints(i, points[end - count : end])
        for (a, b), end, count in zip(request["pairs"], match_ends, request["match_counts"], strict=True):
            rows = request["matches"][end - count : end].astype(np.uint32)
            database.write_matches(int(a) + 1, int(b) + 1, rows)


def _mapping_options(pycolmap: Any, seed: int, min_model_size: int) -> Any:
    """Known lenses held; one thread and a seed, so that a run can be repeated."""
    options = pycolmap.IncrementalPipelineOptions()
    options.ba_refine_focal_length = options.ba_refine_principal_point = options.ba_refine_extra_params = False
    options.mapper.abs_pose_refine_focal_length = options.mapper.abs_pose_refine_extra_params = False
    # a camera may only ever go ahead: then the angle of triangulation alone decides, and COLMAP halves it twice at need
    options.mapper.init_max_forward_motion, options.mapper.init_min_tri_angle = 1.0, 8.0
    options.extract_colors = False
    options.min_model_size = min_model_size
    options.max_num_models = 5
    options.num_threads = options.mapper.num_threads = 1
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
    return options


def _result_of(model: Any, num_images: int) -> dict[str, np.ndarray]:
    """Poses and tracks as arrays; empty without a model."""
    R, t = np.full((num_images, 3, 3), np.nan), np.full((num_images, 3), np.nan)
    points: list[np.ndarray] = []
    rows: list[tuple[int, int, int]] = []
    for image_id in sorted(model.reg_image_ids()) if model is not None else ():
        pose = model.images[image_id].cam_from_world().inverse()
        R[image_id - 1], t[image_id - 1] = pose.rotation.matrix(), pose.translation
    for point_id in sorted(model.points3D) if model is not None else ():
        point = model.points3D[point_id]
        rows += [(len(points), e.image_id - 1, e.point2D_idx) for e in point.track.elements]
        points.append(point.xyz)
    table = np.array(sorted(set(rows)), np.int64).reshape(-1, 3)
    return {
        "R": R,
        "t": t,
        "registered": np.isfinite(t[:, 0]),
        "points": np.array(points, float).reshape(-1, 3),
        "point_idx": table[:, 0],
        "image_idx": table[:, 1],
        "feature_idx": table[:, 2],
    }


if __name__ == "__main__":
    _child(Path(sys.argv[1]))
