"""The rasteriser: triangles whose pixels are counted by hand, and a body against rays cast through every pixel."""

from __future__ import annotations

import numpy as np
import pytest
from test_fit import room_rig, walk

from core.cameras import Camera, Lens
from core.transforms import SE3
from fitting.raster import Raster, rasterise, see
from fitting.stand_in import stand_in_body
from simulation.render import MeshScene, lens_samples

SIZE_PX = (8, 6)


def drawn(px: list[tuple[float, float]], faces: list[list[int]]) -> Raster:
    """A raster of triangles given in the picture, later ones over earlier ones."""
    return rasterise(np.array(px), np.array(faces), np.arange(len(faces)), SIZE_PX)


def test_a_pixel_belongs_to_the_triangle_that_covers_its_centre() -> None:
    square = drawn([(0.5, 0.5), (4.5, 0.5), (4.5, 3.5), (0.5, 3.5)], [[0, 1, 2], [0, 2, 3]])
    expected = np.zeros((6, 8), dtype=bool)
    expected[1:4, 1:5] = True
    np.testing.assert_array_equal(square.mask(SIZE_PX), expected)
    # the diagonal from (0.5, 0.5) to (4.5, 3.5): y = 0.5 + 0.75 (x - 0.5); the first triangle lies above it
    y, x = np.nonzero(expected)
    above = y < 0.5 + 0.75 * (x - 0.5)
    np.testing.assert_array_equal(square.face_idx[y - square.top, x - square.left], np.where(above, 0, 1))


def test_neighbours_share_every_pixel_between_them(rng: np.random.Generator) -> None:
    """A fan of slivers around a point covers its outline without a hole, though edges run through pixels' centres."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    rim = np.stack([3.0 + 9 * np.cos(angle), 3.0 + 9 * np.sin(angle)], axis=-1)
    faces = [[0, 1 + i, 1 + (i + 1) % 64] for i in range(64)]
    order = rng.permutation(64)
    fan = drawn([(3.0, 3.0), *map(tuple, rim)], [faces[i] for i in order])
    assert fan.mask(SIZE_PX).all()


def test_the_nearer_surface_hides_the_farther_one() -> None:
    lens = Lens("pinhole", (80, 60), (60.0, 60.0), (40.0, 30.0))
    square = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    vertices = np.concatenate([np.insert(square, 2, z, axis=1) for z in (4.0, 2.0, 3.0)])
    faces = np.concatenate([np.array([[0, 1, 2], [0, 2, 3]]) + 4 * i for i in range(3)])
    raster, _ = see(Camera("cam", lens, SE3.identity()), vertices, faces, lens.size_px)
    # the square at 2 m is the widest in the picture
    assert set(np.unique(raster.face_idx[raster.covered])) == {2, 3}


@pytest.mark.parametrize("picture_from_px", [(1.0, 0.0, 0.0), (0.5, -0.25, 10.75)])
def test_a_body_is_seen_where_its_rays_hit_it(picture_from_px: tuple[float, float, float]) -> None:
    posed = walk(stand_in_body(), 3)
    vertices, faces = posed.mesh()[2], stand_in_body().faces
    for camera in room_rig():
        scale, dx, dy = picture_from_px
        size_px = (round(800 * scale), round(600 * scale + 2 * max(dy, 0)))
        raster, _ = see(camera, vertices, faces, size_px, picture_from_px)
        lens = camera.lens
        focal, centre = (
            (lens.focal_px[0] * scale,) * 2,
            (lens.centre_px[0] * scale + dx, lens.centre_px[1] * scale + dy),
        )
        moved = Lens(lens.model, size_px, focal, centre, lens.distortion)
        layer = MeshScene(vertices, faces, np.full((len(vertices), 3), 200.0)).look(
            lens_samples(moved, 1), camera.world_from_cam
        )
        cast, mask = np.isfinite(layer.distance_m), raster.mask(size_px)
        assert cast.sum() > 1500
        # rays in single precision decide a few pixels on the outline otherwise
        assert (cast != mask).mean() < 2e-3 * cast.mean() + 1e-6


def test_nothing_is_seen_behind_a_camera_or_beside_the_picture() -> None:
    lens = Lens("pinhole", (80, 60), (60.0, 60.0), (40.0, 30.0))
    triangle = np.array([[0.0, 0.0, 2.0], [0.0, 0.5, 2.0], [0.5, 0.0, 2.0]])
    faces = np.array([[0, 1, 2]])
    camera = Camera("cam", lens, SE3.identity())
    raster, facing = see(camera, triangle, faces, lens.size_px)
    assert raster.covered.sum() > 100 and facing[0] == pytest.approx(2 / np.sqrt(4 + 2 / 36))
    for elsewhere in (np.array([0.0, 0.0, -4.0]), np.array([9.0, 0.0, 0.0])):
        assert not see(camera, triangle + elsewhere, faces, lens.size_px)[0].covered.any()
    assert not see(camera, triangle, faces[:, ::-1], lens.size_px)[0].covered.any(), "seen from behind"


def test_what_lies_behind_a_fisheye_is_not_spread_over_its_picture() -> None:
    """The shoe below a foot camera: its corners surround the point behind the lens, so straight edges enclose all."""
    lens = Lens("fisheye", (512, 512), (197.0, 197.0), (255.5, 255.5), (0.0, 0.0, 0.0, 0.0))
    angle = np.array([0.0, 2.0, 4.0])
    below = np.stack([0.01 * np.cos(angle), 0.01 * np.sin(angle), np.full(3, -0.04)], axis=-1)
    camera, faces = Camera("foot", lens, SE3.identity()), np.array([[0, 1, 2], [0, 2, 1]])
    assert np.isfinite(lens.project(below)).all()
    assert not see(camera, below, faces, lens.size_px)[0].covered.any()
