"""PLY files in, whatever their encoding; refused where damaged, hostile or of another unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from fitting.scan_files import read_ply


def cloud(rng: np.random.Generator, num: int = 2000) -> np.ndarray:
    return rng.uniform([-0.5, 0, -0.2], [0.5, 1.8, 0.2], (num, 3)).astype("<f4")


def write(path: Path, points: np.ndarray, *, ascii: bool = False, header: str = "", count: int | None = None) -> Path:
    kind = "ascii" if ascii else "binary_little_endian"
    head = f"ply\nformat {kind} 1.0\n{header}element vertex {len(points) if count is None else count}\n"
    head += "".join(f"property float {name}\n" for name in ("x", "y", "z", "nx", "ny", "nz")[: points.shape[1]])
    head += "end_header\n"
    body = "".join(" ".join(map(repr, row)) + "\n" for row in points.tolist()).encode() if ascii else points.tobytes()
    path.write_bytes(head.encode() + body)
    return path


@pytest.mark.parametrize("ascii", [True, False])
def test_points_and_normals_come_back(ascii: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    points = cloud(rng)
    normals = np.tile(np.array([[0, 0, 2]], "<f4"), (len(points), 1))
    found = read_ply(write(tmp_path / "a.ply", np.hstack([points, normals]), ascii=ascii), "m")
    np.testing.assert_allclose(found.points_m, points, rtol=1e-6)
    assert found.normals is not None
    np.testing.assert_allclose(found.normals, [[0, 0, 1]] * len(points))
    assert read_ply(write(tmp_path / "b.ply", points, ascii=ascii), "m").normals is None


def test_pixels_without_depth_are_left_out(tmp_path: Path, rng: np.random.Generator) -> None:
    points = cloud(rng)
    points[::4], points[1::4, 1] = 0.0, np.nan
    assert len(read_ply(write(tmp_path / "a.ply", points), "m").points_m) == 1000


def test_another_unit_is_named_and_not_guessed(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write(tmp_path / "a.ply", 1000 * cloud(rng))
    with pytest.raises(InputError, match=r"in m it spans 1\d\d\d m.*--scan-unit mm"):
        read_ply(path, "m")
    np.testing.assert_allclose(np.ptp(read_ply(path, "mm").points_m[:, 1]), 1.8, atol=0.01)


def test_hostile_files_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    points, path = cloud(rng), tmp_path / "a.ply"
    for content, message in (
        (b"solid cube\n", "not a PLY file"),
        (b"ply\nformat ascii 1.0\n" + b"comment x\n" * 20_000, "not a PLY file"),
        (b"ply\nformat binary_little_endian 1.0\nproperty float x\nend_header\n", "counts vertices 0 times"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_ply(path, "m")
    with pytest.raises(InputError, match="it says to have 900000000 points"):
        read_ply(write(path, points, count=900_000_000), "m")
    with pytest.raises(InputError, match="not a readable PLY"):
        read_ply(write(path, points, count=len(points) + 5), "m")
    with pytest.raises(InputError, match="it says to have 20 points"):
        read_ply(write(path, points[:20]), "m")
    whole = write(path, points).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a readable PLY"):
        read_ply(path, "m")
    with pytest.raises(InputError, match="no such file"):
        read_ply(tmp_path / "none.ply", "m")


def test_a_texture_named_in_the_header_is_not_opened(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write(tmp_path / "a.ply", cloud(rng), header="comment TextureFile ../../secret.png\n")
    assert len(read_ply(path, "m").points_m) == 2000


def test_single_wild_points_are_left_out(tmp_path: Path, rng: np.random.Generator) -> None:
    points = cloud(rng)
    points[5] = 1e30
    assert len(read_ply(write(tmp_path / "a.ply", points), "m").points_m) == 1999
