"""Simulated scans as point clouds and as PLY files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh

from fitting.scan_files import PointCloud
from fitting.stand_in import stand_in_body
from simulation.scans import ScanConfig, SimulatedScan, simulate_scan


def simulated(seed: int, **settings: float | bool) -> SimulatedScan:
    """A scan of the stand-in body."""
    return simulate_scan(stand_in_body(), ScanConfig(**settings), np.random.default_rng(seed))


def clouds(made: SimulatedScan) -> list[PointCloud]:
    """Its views as they come from files."""
    return [PointCloud(f"{k}.ply", *view) for k, view in enumerate(zip(made.points_m, made.normals, strict=True))]


def saved(folder: Path, made: SimulatedScan) -> list[Path]:
    """Its views as PLY files without normals."""
    paths = [folder / f"view{k}.ply" for k in range(len(made.points_m))]
    for path, points in zip(paths, made.points_m, strict=True):
        path.write_bytes(trimesh.PointCloud(points).export(file_type="ply"))
    return paths
