"""Drawing a body over a picture: pictures a second of the rasteriser and of OpenCV's fill, triangle by triangle.

`python benchmarks/overlay.py`; the last line is JSON. A walking stand-in body (13,776 triangles) fills about three
quarters of the picture's height. Skinning the body is counted in neither. How much wider than the body each method
draws it is its share of pixels whose centres no ray to the body passes. The last row is the whole of `motifs film` on
one core: decoding 800x600 pictures, skinning, drawing, text and H.264.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from capture.session import Session, View
from capture.video import VideoWriter
from core.cameras import Camera, Lens
from core.transforms import SE3
from fitting.film import Shot, write_video
from fitting.overlay import draw_body
from fitting.playback import Playback
from fitting.smpl import PosedBody
from fitting.stand_in import stand_in_body
from simulation.person import make_person
from simulation.render import MeshScene, lens_samples

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fitting"))
from fitted import sequence_of

SIZES_PX = ((800, 600), (1920, 1080), (3840, 2160))
NUM_FRAMES, NUM_FILMED, REPEATS = 12, 120, 7

Draw = Callable[[np.ndarray, Camera, np.ndarray, np.ndarray], np.ndarray]


def fill_by_triangle(image: np.ndarray, camera: Camera, vertices_m: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The painter's algorithm: the nearest triangles last, each filled by OpenCV."""
    in_cam = camera.cam_from_world.apply(vertices_m)
    px, corners = camera.lens.project(in_cam), in_cam[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    centre = corners.mean(axis=1)
    length = np.linalg.norm(normal, axis=-1) * np.linalg.norm(centre, axis=-1)
    facing = -(normal * centre).sum(axis=-1) / np.maximum(length, 1e-12)
    shown = np.flatnonzero((facing > 0) & np.isfinite(px[faces]).all(axis=(1, 2)))
    shown = shown[np.argsort(-centre[shown, 2], kind="stable")]
    layer = image.copy()
    shades = (np.array([235.0, 170.0, 110.0]) * (0.35 + 0.65 * facing[shown, None])).round()
    triangles = np.clip(px[faces[shown]] * 16, -1e6, 1e6).round().astype(np.int32)
    for triangle, shade in zip(triangles, shades.tolist(), strict=True):
        cv2.fillConvexPoly(layer, triangle, shade, lineType=cv2.LINE_8, shift=4)
    return np.asarray(cv2.addWeighted(layer, 0.6, image, 0.4, 0.0))


def camera_of(size_px: tuple[int, int], at_m: np.ndarray) -> Camera:
    """A camera three metres from a person, the person upright in the middle."""
    focal = 1.15 * size_px[1]
    z = np.array([-1.0, 0.0, -0.3]) / np.hypot(1.0, 0.3)
    x = np.cross(z, [0.0, 0.0, 1.0]) / np.hypot(1.0, 0.0)
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    lens = Lens("radtan", size_px, (focal, focal), (size_px[0] / 2, size_px[1] / 2), (-0.1, 0.02, 0.0, 0.0, 0.0))
    return Camera("cam", lens, SE3(R, -R @ (at_m - 2.6 * z)))


def pictures_a_second(methods: Sequence[Draw], image: np.ndarray, camera: Camera, meshes: np.ndarray) -> list[float]:
    """Of each method, by the best of several tries at each frame; methods take turns, so that load hits them alike."""
    faces = stand_in_body().faces
    best_s = np.full((len(methods), len(meshes)), np.inf)
    for _ in range(REPEATS):
        for frame, vertices in enumerate(meshes):
            for i, draw in enumerate(methods):
                start = time.perf_counter()
                draw(image, camera, vertices, faces)
                best_s[i, frame] = min(best_s[i, frame], time.perf_counter() - start)
    return [float(len(meshes) / total) for total in best_s.sum(axis=1)]


def too_wide(drawn: np.ndarray, background: int, cast: np.ndarray) -> float:
    """Share of a silhouette's pixels by which a drawn body is larger than the rays that hit it."""
    painted = (drawn != background).any(axis=-1)
    return float(painted.sum() / cast.sum() - 1)


def films_a_second(posed: PosedBody, camera: Camera) -> float:
    """Frames a second of a whole video."""
    t_s, size_px = np.arange(NUM_FILMED) / 30, camera.lens.size_px
    noise = np.random.default_rng(0).integers(60, 180, (size_px[1] // 8, size_px[0] // 8, 3)).astype(np.uint8)
    picture = cv2.resize(noise, size_px, interpolation=cv2.INTER_CUBIC)
    with tempfile.TemporaryDirectory() as folder:
        with VideoWriter(Path(folder) / "cam.mp4", size_px, Fraction(30)) as writer:
            for i in range(NUM_FILMED):
                writer.write(np.roll(picture, i, axis=1))
        view = View("cam", "room", size_px, "cam.mp4", num_frames=NUM_FILMED)
        session = Session(Path(folder), "s", "anna", (view,))
        playback = Playback.of(sequence_of(posed, t_s), posed.shaped.body)
        shot = Shot(session, view, playback, t_s, lambda frame: camera, np.zeros(NUM_FILMED, dtype=bool))
        start = time.perf_counter()
        write_video(Path(folder) / "drawn.mp4", shot)
        return NUM_FILMED / (time.perf_counter() - start)


def main() -> None:
    """Prints a table and one line of JSON."""
    cv2.setNumThreads(1)
    person, faces = make_person(np.random.default_rng(0)), stand_in_body().faces
    posed = person.posed_at(9 + np.arange(NUM_FILMED) / 30)
    meshes = person.mesh_at(9 + np.arange(NUM_FRAMES) / 3)
    result: dict[str, dict[str, float]] = {}
    print(f"{'picture':<12} {'by triangle':>14} {'rasteriser':>14} {'faster':>8} {'too wide: old':>15} {'new':>8}")
    for size_px in SIZES_PX:
        camera = camera_of(size_px, meshes[0].mean(axis=0))
        image = np.full((size_px[1], size_px[0], 3), 7, np.uint8)
        old, new = pictures_a_second((fill_by_triangle, draw_body), image, camera, meshes)
        scene = MeshScene(meshes[0], faces, np.full((len(meshes[0]), 3), 200.0))
        cast = np.isfinite(scene.look(lens_samples(camera.lens, 1), camera.world_from_cam).distance_m)
        wider = [too_wide(draw(image, camera, meshes[0], faces), 7, cast) for draw in (fill_by_triangle, draw_body)]
        name = f"{size_px[0]}x{size_px[1]}"
        print(f"{name:<12} {old:>12.0f}/s {new:>12.0f}/s {new / old:>7.1f}x {wider[0]:>14.1%} {wider[1]:>8.1%}")
        result[name] = {"old_per_s": old, "new_per_s": new, "old_too_wide": wider[0], "new_too_wide": wider[1]}
    result["film"] = {"new_per_s": films_a_second(posed, camera_of(SIZES_PX[0], meshes[0].mean(axis=0)))}
    print(f"{'whole video':<12} {'':>14} {result['film']['new_per_s']:>12.0f}/s")
    print(json.dumps({name: {k: round(v, 4) for k, v in row.items()} for name, row in result.items()}))


if __name__ == "__main__":
    main()
