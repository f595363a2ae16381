"""Where the pictures of a moving camera see points of the scene map, frame by frame.

Every frame stands alone, so a lost one loses no other: its points are matched with the whole map, the pose that most of
them agree on is found by LO-RANSAC (Chum, Matas and Kittler 2003) over rays of the true lens with minimal sets of three
points (Gao et al. 2003), and with that pose the map's points are looked for again, each only where it must be, which
brings back what the ratio test had to give up. The wearer's own legs, other people and moved things match nothing that
agrees. A rolling shutter is solved for, so that the rows of a fast frame agree with each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from calibration.features import FeatureConfig, Features, find_features
from calibration.resection import PointRays, RollingShutter, ray_errors, refine_poses
from calibration.robust import variance_factor
from calibration.scene_points import SceneMap
from core.arrays import Float, Int, UInt8
from core.cameras import Lens
from core.threads import one_blas_thread
from core.transforms import SE3

_MAX_ANGLE_RAD = np.radians(80.0)  # of rays in minimal sets, which need a plane before the camera
_MOTION_SIGMA = np.array([8.0, 8.0, 8.0, 2.5, 2.5, 2.5])  # of a foot: rad/s and m/s
_SURE = 0.999  # probability of at least one clean set
_LEAST_SIMILAR = 0.6  # of a pair's descriptors, as a cosine


@dataclass(frozen=True)
class MatchConfig:
    """Settings of the search for map points in pictures.

    Attributes:
        features: points of a picture.
        ratio: of the nearest to the second nearest map point's distance, at most.
        guided_ratio: the same, among the map points that should be near.
        guided_px: how far from its predicted place a point may be.
        max_error_px: distance at which a match still agrees with a pose.
        min_inliers: matches that must agree for a frame to count.
        trials: minimal sets tried at most.
        sigma_px: standard deviation of a point's place; larger points are as much less certain as they are larger.
        seed: of the trials.
    """

    features: FeatureConfig = field(default_factory=lambda: FeatureConfig(max_features=900, contrast=0.012))
    ratio: float = 0.85
    guided_ratio: float = 0.92
    guided_px: float = 6.0
    max_error_px: float = 3.0
    min_inliers: int = 12
    trials: int = 300
    sigma_px: float = 0.6
    seed: int = 0


@one_blas_thread
def match_frames(
    scene: SceneMap,
    lens: Lens,
    frames: Iterable[tuple[int, UInt8[np.ndarray, "h w"]]],
    config: MatchConfig | None = None,
    *,
    row_time_s: float = 0.0,
    picture_from_px: tuple[float, float, float] = (1.0, 0.0, 0.0),
) -> tuple[PointRays, Float[np.ndarray, "n"]]:
    """Map points seen in pictures of one camera.

    Args:
        scene: the map.
        lens: the camera's lens.
        frames: frame numbers, ascending, and gray pictures.
        config: settings.
        row_time_s: rolling shutter: readout time of one row.
        picture_from_px: scale and shift from the lens's pixels to the pictures' own (`View.picture_from_px`).

    Returns:
        the points by frame (`pose_idx` is the frame's number), in the world; and the standard deviation of each one's
        place. What neighbouring map points have wrong in common does not average out over the points of a frame, so
        that part is counted by the root of their number.
    """
    config = config or MatchConfig()
    matcher = _Matcher(scene, lens, config, row_time_s, picture_from_px)
    parts = [(idx, found) for idx, gray in frames if (found := matcher.frame(idx, gray)) is not None]
    counts = np.array([len(found[0]) for _, found in parts], np.int64)
    pose_idx = np.repeat(np.array([idx for idx, _ in parts], np.int64), counts)
    point = np.concatenate([*(found[0] for _, found in parts), np.zeros(0, np.int64)])
    xy = np.concatenate([*(found[1] for _, found in parts), np.zeros((0, 2))])
    sigma = np.concatenate([*(found[2] for _, found in parts), np.zeros(0)])
    together = np.repeat(counts, counts)
    place = np.sqrt(scene.own_sigma_m[point] ** 2 + together * scene.shared_sigma_m[point] ** 2)
    return PointRays(pose_idx, scene.xyz_m[point], xy, sigma), place


class _Matcher:
    """The map made ready for one camera."""

    def __init__(
        self,
        scene: SceneMap,
        lens: Lens,
        config: MatchConfig,
        row_time_s: float,
        picture_from_px: tuple[float, float, float],
    ) -> None:
        self.scene, self.lens, self.config, self.row_time_s = scene, lens, config, row_time_s
        self.zoom, self.shift_px = picture_from_px[0], np.array(picture_from_px[1:])
        # descriptors by their rank among those of their point: first one of every point, then second ones, and so on
        first = np.searchsorted(scene.descriptor_point, np.arange(len(scene)))
        rank = np.arange(len(scene.descriptor_point)) - first[scene.descriptor_point]
        by_rank = [np.flatnonzero(rank == k) for k in range(rank.max(initial=0) + 1)]
        self.ranks = [(scene.descriptor_point[rows], scene.unit_descriptors[rows]) for rows in by_rank]
        self.focal = float(np.mean(lens.focal_px))

    def frame(self, idx: int, gray: UInt8[np.ndarray, "h w"]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Points, places and their standard deviations in one picture; None where no pose is agreed on."""
        found = find_features(gray, self.config.features)
        features = Features((found.xy_px - self.shift_px) / self.zoom, found.scale_px / self.zoom, found.descriptors)
        if len(features) < self.config.min_inliers:
            return None
        rays = self.lens.unproject(features.xy_px)
        features, rays = features.where(np.isfinite(rays[:, 0])), rays[np.isfinite(rays[:, 0])]
        similar = self._similar(features)
        rows, points = _distinct(similar, self.config.ratio)
        start = self._ransac(rays[rows], self.scene.xyz_m[points], np.random.default_rng([self.config.seed, idx]))
        if start is None:
            return None
        pose, motion = self._refined(start, features, rows, points, self.config.max_error_px * 3)
        rows, points = self._guided(similar, features, pose, motion)
        pose, motion = self._refined(pose, features, rows, points, self.config.max_error_px * 2, motion)
        rows, points = self._guided(similar, features, pose, motion)
        residual = self._predict(pose, motion, points, features.xy_px[rows])[0] - features.xy_px[rows]
        good = np.linalg.norm(residual, axis=-1) < self.config.max_error_px
        if good.sum() < self.config.min_inliers:
            return None
        rows, points = rows[good], points[good]
        return points, features.xy_px[rows], self._sigma(features.where(rows), residual[good])

    def _similar(self, features: Features) -> np.ndarray:
        """Cosines of map points (rows, each by its most similar descriptor) and features."""
        looks = features.unit.T
        similar = self.ranks[0][1] @ looks
        for points, unit in self.ranks[1:]:
            similar[points] = np.maximum(similar[points], unit @ looks)
        return similar

    def _ransac(self, rays: np.ndarray, points_m: np.ndarray, rng: np.random.Generator) -> SE3 | None:
        """`world_from_cam` that most matches agree on, within a rolling shutter's leeway."""
        import cv2

        ahead = np.flatnonzero(rays[:, 2] > np.cos(_MAX_ANGLE_RAD)) if len(rays) else np.zeros(0, np.int64)
        if len(ahead) < max(4, self.config.min_inliers // 2):
            return None
        limit = 2 * self.config.max_error_px / self.focal
        xy = rays[:, :2] / np.maximum(rays[:, 2:], 1e-6)
        best, lowest, needed, trial = None, np.inf, self.config.trials, 0
        while trial < min(needed, self.config.trials):
            three = rng.choice(ahead, 3, replace=False)
            trial += 1
            found, rotvecs, ts = cv2.solveP3P(points_m[three], xy[three], np.eye(3), None, flags=cv2.SOLVEPNP_P3P)
            for w, t in zip(rotvecs, ts, strict=True) if found else ():
                cam_from_world = SE3.from_rotvec(w[:, 0], t[:, 0])
                error = ray_errors(cam_from_world.apply(points_m), rays)
                cost = float(np.minimum(error / limit, 1.0).sum())
                if cost < lowest:
                    best, lowest = cam_from_world, cost
                    clean = max(float((error[ahead] < limit).mean()) ** 3, 1e-4)
                    needed = int(np.log(1 - _SURE) / np.log(1 - min(clean, 0.999))) + 5
        if best is None:
            return None
        agree = ray_errors(best.apply(points_m), rays) < limit
        return best.inverse() if agree.sum() >= self.config.min_inliers // 2 else None

    def _refined(
        self,
        pose: SE3,
        features: Features,
        rows: np.ndarray,
        points: np.ndarray,
        limit_px: float,
        motion: np.ndarray | None = None,
    ) -> tuple[SE3, np.ndarray]:
        """Local optimisation on the matches near a pose; pose at the middle row, and velocities."""
        motion = np.zeros(6) if motion is None else motion
        xy = features.xy_px[rows]
        error = np.linalg.norm(self._predict(pose, motion, points, xy)[0] - xy, axis=-1)
        near = np.flatnonzero(error < limit_px)
        data = PointRays(np.zeros(len(near), np.int64), self.scene.xyz_m[points[near]], xy[near], np.ones(len(near)))
        shutter = None
        if self.row_time_s > 0:
            still = np.zeros((1, 6))
            shutter = RollingShutter(self._late(xy[near]), still, np.broadcast_to(_MOTION_SIGMA, (1, 6)), still)
        solved = refine_poses(self.lens, SE3(pose.R[None], pose.t[None]), data, shutter=shutter, loss_sigmas=2.0)
        return solved.world_from_cam[0], solved.motion[0]

    def _late(self, xy_px: np.ndarray) -> np.ndarray:
        """Time of pixels' rows after the middle row's."""
        return (xy_px[:, 1] - self.lens.size_px[1] / 2) * self.row_time_s

    def _predict(
        self, pose: SE3, motion: np.ndarray, points: np.ndarray, xy_px: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of map points exposed with the rows of `xy_px`, and their distances."""
        late = self._late(xy_px)[:, None]
        turn = SE3.from_rotvec(motion[:3] * late, motion[3:] * late)
        R, t = pose.R @ turn.R, pose.t + turn.t
        in_cam = (np.swapaxes(R, -1, -2) @ (self.scene.xyz_m[points] - t)[..., None])[..., 0]
        return self.lens.project(in_cam), np.linalg.norm(in_cam, axis=-1)

    def _guided(
        self, similar: np.ndarray, features: Features, pose: SE3, motion: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Matches again, among pairs that the pose allows."""
        px = self.lens.project(pose.inverse().apply(self.scene.xyz_m))
        visible = np.flatnonzero(self.lens.contains(px))
        reach = self.config.guided_px
        if self.row_time_s > 0:  # the coarse gate has leeway for the rows, the fine one has none
            reach += 0.5 * self.lens.size_px[1] * self.row_time_s * self.focal * float(np.linalg.norm(motion[:3]))
        near = cKDTree(features.xy_px).sparse_distance_matrix(cKDTree(px[visible]), reach, output_type="ndarray")
        row, point = near["i"], visible[near["j"]]
        error = np.linalg.norm(
            self._predict(pose, motion, point, features.xy_px[row])[0] - features.xy_px[row], axis=-1
        )
        row, point = row[error < self.config.guided_px], point[error < self.config.guided_px]
        return _distinct_pairs(row, point, similar[point, row], self.config.guided_ratio)

    def _sigma(self, features: Features, residual_px: np.ndarray) -> np.ndarray:
        """Standard deviations: as stated, or as the frame's own residuals show where those are larger."""
        stated = self.config.sigma_px * np.maximum(features.scale_px / 5.0, 1.0) ** 0.5
        found = variance_factor(residual_px / stated[:, None], np.ones(len(stated)))
        return stated * np.sqrt(max(found, 1.0))


def _distinct(similar: Float[np.ndarray, "p n"], ratio: float) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "k"]]:
    """Features (columns) and map points (rows) that are each other's best, and clearly better than the second."""
    columns = np.arange(similar.shape[1])
    best = similar.argmax(axis=0)
    top = similar[best, columns].copy()
    mutual = similar.argmax(axis=1)[best] == columns
    similar[best, columns] = -1.0
    second = similar.max(axis=0)
    similar[best, columns] = top
    kept = np.flatnonzero(mutual & (top > _LEAST_SIMILAR) & (1 - top <= ratio**2 * (1 - second)))
    return kept, best[kept]


def _distinct_pairs(
    row: Int[np.ndarray, "q"], point: Int[np.ndarray, "q"], similar: Float[np.ndarray, "q"], ratio: float
) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "k"]]:
    """The same among a few pairs alone; a feature's only pair has no second."""
    order = np.lexsort((point, -similar, row))
    row, point, similar = row[order], point[order], similar[order]
    first = np.flatnonzero(np.diff(row, prepend=-1))
    has_second = np.append(row[1:] == row[:-1], False)[first]
    second = np.where(has_second, similar[np.minimum(first + 1, len(row) - 1)], -1.0)
    top = similar[first]
    clear = (top > _LEAST_SIMILAR) & (1 - top <= ratio**2 * (1 - second))
    first = first[clear]
    # of the features that claim one point, the most similar
    by_point = first[np.lexsort((row[first], -similar[first], point[first]))]
    kept = by_point[np.flatnonzero(np.diff(point[by_point], prepend=-1))]
    kept.sort()
    return row[kept], point[kept]
