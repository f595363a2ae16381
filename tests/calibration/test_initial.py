from __future__ import annotations

import numpy as np
import pytest
from synthetic_scenes import FISHEYE, RADTAN, charuco, look_at

from calibration.align import rig_errors
from calibration.boards import solve_boards
from calibration.initial import connected_groups, find_pairs, observed_rays
from calibration.resection import PointRays, pose_candidates, refine_poses
from calibration.scene import Observations
from core.cameras import Camera, Lens, Rig
from core.errors import GateError
from core.transforms import SE3, geodesic

BOARD = charuco("b", "carried", square_m=0.04).points_m - np.array([0.12, 0.1, 0.0])


@pytest.mark.parametrize("lens", [RADTAN, FISHEYE], ids=lambda lens: lens.model)
def test_candidates_hold_the_true_pose(lens: Lens, rng: np.random.Generator) -> None:
    for _ in range(20):
        cam_from_board = SE3.from_rotvec(0.5 * rng.standard_normal(3), np.array([0.1, -0.1, 1.0]))
        rays = lens.unproject(lens.project(cam_from_board.apply(BOARD)))
        found = pose_candidates(BOARD, rays)
        assert len(found) <= 2
        assert min(np.abs(cam_from_board.local(pose)).max() for pose in found) < 1e-4


def test_points_in_a_line_fix_no_pose() -> None:
    line = np.stack([np.arange(6) * 0.1, np.zeros(6), np.ones(6)], axis=-1)
    assert pose_candidates(line, line / np.linalg.norm(line, axis=-1, keepdims=True)) == []


def test_refinement_reaches_the_optimum_of_every_pose_at_once(rng: np.random.Generator) -> None:
    truth = SE3.stack([look_at(np.array([x, 0.2, -1.0]), np.zeros(3)) for x in (-0.4, 0.0, 0.5)])
    px = [RADTAN.project(truth[k].inverse().apply(BOARD)) + 0.2 * rng.standard_normal((20, 2)) for k in range(3)]
    data = PointRays(np.repeat(np.arange(3), 20), np.tile(BOARD, (3, 1)), np.concatenate(px), np.full(60, 0.2))
    result = refine_poses(RADTAN, truth.retract(0.02 * rng.standard_normal((3, 6))), data)
    sigma = np.sqrt(np.einsum("nii->ni", result.covariance))
    assert (np.abs(truth.local(result.world_from_cam)) < 4.5 * sigma).all()
    assert result.rms_px.max() < 0.3


def small_distant_boards(rng: np.random.Generator, noise_px: float) -> tuple[Rig, np.ndarray]:
    """Boards so small in the picture that many of their planar poses flip."""
    centres = [np.array([2.5 * np.cos(a), 2.5 * np.sin(a), 0.5]) for a in (0.0, 0.7, 1.4, 2.1)]
    rig = Rig(tuple(Camera(f"c{k}", RADTAN, look_at(c, np.zeros(3)).inverse()) for k, c in enumerate(centres)))
    turns = SE3.from_rotvec(0.6 * rng.standard_normal((30, 3)), 0.4 * rng.standard_normal((30, 3)))
    facing = look_at(np.zeros(3), np.array([-np.cos(1.05), -np.sin(1.05), 0.0]))  # its z points away from the cameras
    boards = turns @ facing
    world = np.einsum("bij,pj->bpi", boards.R, BOARD) + boards.t[:, None]
    px = rig.project(world)
    return rig, px + noise_px * rng.standard_normal(px.shape)


def test_the_graph_decides_planar_flips(rng: np.random.Generator) -> None:
    rig, px = small_distant_boards(rng, 0.5)
    view, board, point = np.nonzero(np.isfinite(px[..., 0]))
    seen = Observations(view, board, BOARD[point], px[view, board, point], np.full(len(view), 0.5))
    rays = observed_rays((RADTAN,) * 4, np.arange(4), seen)
    true_R = {}
    pairs = find_pairs(seen, rays)
    first = next(pair for pair in pairs if pair.image == 0)
    assert len(first.cam_from_target) == 2
    for pair in pairs:  # relative rotations of camera 0 and 1 from each board's best candidate alone
        true_R.setdefault(pair.target, {})[pair.image] = pair.cam_from_target[0].R
    relative = np.array([p[0] @ p[1].T for p in true_R.values() if {0, 1} <= p.keys()])
    truth = rig.cameras[0].cam_from_world.R @ rig.cameras[1].cam_from_world.R.T
    wrong = np.degrees(geodesic(relative, np.broadcast_to(truth, relative.shape))) > 20
    assert wrong.any(), "the scene is too easy to test the choice"
    solved = solve_boards(rig.ids, (RADTAN,) * 4, px, BOARD, sigma_px=0.5).rig
    errors = rig_errors(solved, rig, align=True)
    # 0.5 px at 437 px is 1.1 mrad a corner; 30 boards of 20 corners average it by an order
    assert errors.centre_m.max() < 0.02
    assert np.degrees(errors.rotation_rad.max()) < 0.5


def test_cameras_that_share_nothing_are_named_as_groups(rng: np.random.Generator) -> None:
    rig, px = small_distant_boards(rng, 0.2)
    px[:2, 15:] = np.nan
    px[2:, :15] = np.nan
    with pytest.raises(GateError, match=r"c0, c1 \| c2, c3"):
        solve_boards(rig.ids, (RADTAN,) * 4, px, BOARD)


def test_groups_join_through_any_chain() -> None:
    seen = Observations(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0))
    assert find_pairs(seen, np.zeros((0, 3))) == []
    assert connected_groups([], 2) == [[0], [1]]
