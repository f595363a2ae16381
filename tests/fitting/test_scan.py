"""Shape from simulated scans against the exact truth, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scanned import clouds, saved, simulated

from core.errors import GateError, InputError
from fitting.scan import ScanConfig, ScanShape, fit_clouds, shape_from_scans
from fitting.scan_files import PointCloud
from fitting.scan_objective import ScanLossConfig
from fitting.scan_picture import draw_scan
from fitting.stand_in import stand_in_body
from simulation.scans import SimulatedScan

CLOTHES = {"cloth_m": 0.03, "hair_m": 0.03, "num_holes": 10}
FAST = ScanConfig(scan_points=1000)


def skin_mm(found: ScanShape, made: SimulatedScan) -> float:
    """Mean distance of the rest body's vertices from the truth's."""
    mine, true = (stand_in_body().with_shape(b).rest_vertices for b in (found.fit.state.betas, made.betas))
    return 1000 * float(np.linalg.norm((mine - mine.mean(0)) - (true - true.mean(0)), axis=1).mean())


def nees(found: ScanShape, made: SimulatedScan) -> float:
    """Squared error over the stated covariance, per beta."""
    off = found.fit.state.betas - made.betas
    return float(off @ np.linalg.solve(found.fit.covariance, off)) / len(off)


def test_a_bare_person_is_found_to_millimetres(tmp_path: Path) -> None:
    made = simulated(1)
    found = shape_from_scans(saved(tmp_path, made), stand_in_body(), FAST)
    assert skin_mm(found, made) < 4.0
    assert nees(found, made) < 2.5
    assert [found.figures[f"dressed {part}"] < 0.5 for part in ("trunk", "thighs", "shins")] == [True] * 3
    draw_scan(tmp_path / "scan.png", stand_in_body(), found)
    assert (tmp_path / "scan.png").stat().st_size > 10_000


@pytest.mark.slow
def test_clothes_do_not_pass_for_the_body() -> None:
    made = simulated(2, **CLOTHES)
    found = fit_clouds(clouds(made), stand_in_body(), FAST)
    even = dataclasses.replace(FAST, loss=ScanLossConfig(one_sided=False))
    fooled = fit_clouds(clouds(made), stand_in_body(), even)
    assert skin_mm(found, made) < 0.6 * skin_mm(fooled, made)
    assert nees(found, made) < 2.5 < nees(fooled, made)
    assert found.figures["dressed trunk"] > 0.5
    assert "trunk" in str(found)


@pytest.mark.slow
def test_captures_in_poses_of_their_own_share_the_shape() -> None:
    made = simulated(3)
    # the second capture is the same person from the side, in another frame
    turned = [PointCloud("b.ply", c.points_m[:, [2, 0, 1]], None) for c in clouds(made)]
    both = [
        PointCloud("a.ply", np.concatenate(made.points_m), None),
        PointCloud("b.ply", np.concatenate([c.points_m for c in turned]), None),
    ]
    found = fit_clouds(both, stand_in_body(), dataclasses.replace(FAST, scan_poses="apart"))
    assert len(found.people) == 2
    assert skin_mm(found, made) < 5.0


@pytest.mark.slow
def test_a_model_with_other_betas_has_its_own() -> None:
    body = dataclasses.replace(stand_in_body(), shapedirs=stand_in_body().shapedirs[..., :4])
    found = fit_clouds(clouds(simulated(4)), body, FAST)
    assert found.fit.covariance.shape == (4, 4)


def without_floor(made: SimulatedScan) -> PointCloud:
    """All views in a frame with z up, and nothing but the person."""
    points = made.scan_from_world.inverse().apply(np.concatenate(made.points_m))
    return PointCloud("a.ply", points, None)


@pytest.mark.slow
def test_the_wrong_way_up_is_refused() -> None:
    cloud = without_floor(simulated(1, floor=False))
    with pytest.raises(GateError, match=r"fits better upside down.*--scan-up"):
        fit_clouds([cloud], stand_in_body(), dataclasses.replace(FAST, scan_up="-z"))
    found = fit_clouds([cloud], stand_in_body(), dataclasses.replace(FAST, scan_up="z"))
    assert not found.people[0].floor_seen


def test_normals_that_point_inwards_are_refused() -> None:
    inward = [dataclasses.replace(c, normals=-c.normals) for c in clouds(simulated(1))]
    with pytest.raises(GateError, match="mirrored or its normals point inwards"):
        fit_clouds(inward, stand_in_body(), FAST)


def test_half_a_person_is_refused() -> None:
    cloud = without_floor(simulated(1, floor=False))
    upper = PointCloud("a.ply", cloud.points_m[cloud.points_m[:, 2] > 1.0], None)
    with pytest.raises(InputError, match="nothing in it is as tall"):
        fit_clouds([upper], stand_in_body(), dataclasses.replace(FAST, scan_up="z"))


def test_what_is_no_person_is_refused(rng: np.random.Generator) -> None:
    """A cupboard on a floor."""
    floor = rng.uniform([-2, -2, 0], [2, 2, 0], (40_000, 3))
    side = rng.uniform(-1, 1, (20_000, 3))
    face = np.arange(len(side)) % 2
    side[np.arange(len(side)), face] = np.sign(side[np.arange(len(side)), face])
    cupboard = side * [0.4, 0.3, 0.9] + [0, 0, 0.9]
    cloud = PointCloud("a.ply", np.concatenate([floor, cupboard]) + rng.normal(0, 0.002, (60_000, 3)), None)
    with pytest.raises(GateError, match="check that it is one person"):
        fit_clouds([cloud], stand_in_body(), FAST)


def test_a_file_given_twice_is_refused(tmp_path: Path) -> None:
    paths = saved(tmp_path, simulated(1))
    with pytest.raises(InputError, match="given twice"):
        shape_from_scans([paths[0], *paths], stand_in_body(), FAST)


@pytest.mark.slow
def test_the_stated_uncertainty_holds() -> None:
    """Over six people in clothes: NEES is chi-squared of 60 degrees over 60, one in a thousand above 1.6."""
    errors = []
    for seed in range(1, 7):
        made = simulated(seed, **CLOTHES)
        errors.append(nees(fit_clouds(clouds(made), stand_in_body(), ScanConfig()), made))
    assert 0.4 < np.mean(errors) < 1.6
