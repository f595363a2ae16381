from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_scenes import room_cameras

from calibration.align import align_poses, pose_errors, rig_poses
from calibration.formats import read_calibration
from calibration.rig_keypoints import KeypointRefinement, intersect_rays, refine_on_keypoints
from core.cameras import Camera, Rig
from core.errors import GateError
from core.transforms import SE3


def test_a_disturbed_rig_is_mended_by_a_moving_person(rng: np.random.Generator) -> None:
    truth = room_cameras(4)
    poses = rig_poses(truth)
    wrong_poses = poses.retract(np.repeat([np.radians(1.0), 0.02], 3) * rng.standard_normal((4, 6)))
    wrong = Rig(tuple(Camera(c.id, c.lens, wrong_poses[k].inverse()) for k, c in enumerate(truth)))
    points = np.array([0.0, 0.0, 1.0]) + rng.uniform(-0.6, 0.6, (30, 17, 3))
    px = truth.project(points) + 2.0 * rng.standard_normal((4, 30, 17, 2))
    refined = refine_on_keypoints(wrong, px, np.ones(px.shape[:3]), KeypointRefinement(sigma_px=2.0))
    assert (refined.after_px < 4.0).all() and refined.before_px.max() > 5.0

    def error(rig: Rig) -> float:
        ours = rig_poses(rig)
        world, scale = align_poses(ours, poses, with_scale=True)
        scaled = SE3(world.R @ ours.R, scale * ours.t @ world.R.T + world.t)
        return float(np.degrees(pose_errors(scaled, poses).rotation_rad).max())

    assert error(refined.rig) < 0.3 * error(wrong)


def test_too_few_common_joints_are_refused() -> None:
    rig = room_cameras(4)
    px = np.full((4, 10, 17, 2), np.nan)
    with pytest.raises(GateError, match="only 0 joints"):
        refine_on_keypoints(rig, px, np.zeros((4, 10, 17)))


def test_rays_meet_where_the_points_are(rng: np.random.Generator) -> None:
    rig, points = room_cameras(3), rng.uniform(-0.5, 0.5, (5, 3)) + np.array([0, 0, 1.0])
    image, point = (a.ravel() for a in np.meshgrid(range(3), range(5), indexing="ij"))
    rays = np.stack(
        [
            rig.cameras[i].lens.unproject(rig.cameras[i].project(points[p])[None])[0]
            for i, p in zip(image, point, strict=True)
        ]
    )
    np.testing.assert_allclose(intersect_rays(rig_poses(rig), image, point, rays, 5), points, atol=1e-9)


@pytest.mark.slow
def test_a_real_imported_rig_fits_its_person_after_refinement(shared: Path) -> None:
    folder = shared / "data" / "pose2sim_single"
    rig = read_calibration(folder / "calibration" / "Calib.qca.txt")
    views = sorted({path.parent for path in (folder / "pose2d_body25b_associated").rglob("*.json")})
    tables = np.stack([np.stack([read_person(path) for path in sorted(view.glob("*.json"))]) for view in views])
    score = tables[..., 2]
    refined = refine_on_keypoints(rig, np.where(score[..., None] > 0, tables[..., :2], np.nan), score)
    assert refined.before_px.max() > 15
    assert (refined.after_px < 8).all()
    # the reference is off by about a degree and 2 % of the baselines, no more
    assert refined.moved_deg.max() < 2 and refined.moved_m.max() < 0.15


def read_person(path: Path) -> np.ndarray:
    people = json.loads(path.read_text())["people"]
    if not people or "pose_keypoints_2d" not in people[0]:
        return np.zeros((25, 3))
    return np.array(people[0]["pose_keypoints_2d"], float).reshape(25, 3)
