"""Start values for what is carried: when its pose becomes an unknown, and where it is then.

Frames of all cameras within a few hundredths of a second share a knot of the trajectory. Where a recording is too long
to take all of it, short arcs of it are taken, spread over the whole, in which most cameras see the target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree

from calibration.initial import find_pairs, place_targets
from calibration.scene import Observations
from calibration.trajectory import Trajectory
from capture.markers import MarkerPoints
from core.arrays import Bool, Float, Int
from core.clock import resample
from core.transforms import SE3

KNOT_S = 1 / 15  # a cubic over this time is off by 0.1 mm where a hand trembles by 1 mm at 4 Hz
MAX_LINK_S = 0.5  # beyond it a hand has forgotten where it went
_ARC = 4  # knots that are taken together
_MIN_POINTS = 4  # that fix a pose
_BEST_VIEWS = 4  # of a knot, which its first pose is taken from
_MAX_FRAME_GAP = 1.5  # usual distances of frames over which a track may be interpolated
_LEAST_JOINT = 4  # instants at which two views that hang together through few are both taken
_LOST_RAD = 0.02  # median error above which a first pose is no start


@dataclass(frozen=True, eq=False)
class CarriedPoints:
    """What all cameras saw of one carried target, flat, ordered by time.

    Attributes:
        camera_idx: (n,) camera.
        frame_idx: (n,) frame of its video.
        point_idx: (n,) point of the target.
        xy_px: (n, 2) where it was seen.
        sigma_px: (n,) standard deviation of each coordinate.
        given_s: (n,) time of the frame's first row by the clock that was given.
        t_s: (n,) when the point was exposed, as far as is known.
    """

    camera_idx: Int[np.ndarray, "n"]
    frame_idx: Int[np.ndarray, "n"]
    point_idx: Int[np.ndarray, "n"]
    xy_px: Float[np.ndarray, "n 2"]
    sigma_px: Float[np.ndarray, "n"]
    given_s: Float[np.ndarray, "n"]
    t_s: Float[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.t_s)

    def __getitem__(self, rows: Int[np.ndarray, "m"] | Bool[np.ndarray, "n"]) -> CarriedPoints:
        return CarriedPoints(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))

    @staticmethod
    def gather(tables: Mapping[int, tuple[MarkerPoints, Float[np.ndarray, "frames"]]]) -> CarriedPoints:
        """From each camera's table of the target and its frames' times; frames with too few points are left out."""
        columns: list[tuple[np.ndarray, ...]] = [(np.zeros(0, int),) * 3 + (np.zeros((0, 2)), *(np.zeros(0),) * 3)]
        for camera, (table, t_s) in tables.items():
            inside = table.where(table.frame_idx < len(t_s))
            count = np.bincount(inside.frame_idx, minlength=len(t_s))
            seen = inside.where(count[inside.frame_idx] >= _MIN_POINTS)
            frame, point = seen.frame_idx.astype(int), seen.point_idx.astype(int)
            xy, sigma = seen.xy_px.astype(float), seen.sigma_px.astype(float)
            columns.append((np.full(len(seen), camera), frame, point, xy, sigma, t_s[frame], t_s[frame]))
        flat = CarriedPoints(*(np.concatenate(column) for column in zip(*columns, strict=True)))
        return flat[np.argsort(flat.t_s, kind="stable")]

    def retimed(self, t_s: Float[np.ndarray, "n"]) -> CarriedPoints:
        """The same points at other times of exposure."""
        return dataclasses.replace(self, t_s=t_s)[np.argsort(t_s, kind="stable")]

    @property
    def image_idx(self) -> Int[np.ndarray, "n"]:
        """(n,) contiguous index of the picture (camera and frame) that each row is of."""
        key = self.camera_idx * (int(self.frame_idx.max(initial=0)) + 1) + self.frame_idx
        return np.unique(key, return_inverse=True)[1]


def clusters(t_s: Float[np.ndarray, "n"]) -> tuple[Float[np.ndarray, "k"], Int[np.ndarray, "n"]]:
    """Instants near which something was seen, and which of them each time is of.

    They are multiples of `KNOT_S` on the session clock, so that a camera whose clock is off moves none of them.
    """
    number, place = np.unique(np.round(t_s / KNOT_S), return_inverse=True)
    return KNOT_S * number, place


def chosen_clusters(seen: CarriedPoints, cluster: Int[np.ndarray, "n"], max_knots: int) -> Int[np.ndarray, "k"]:
    """The clusters whose knots are solved for: all, or arcs of the best seen, spread over the recording."""
    count = int(cluster.max(initial=-1)) + 1
    if count <= max_knots:
        return np.arange(count)
    arc = cluster // _ARC
    counts = np.zeros((int(seen.camera_idx.max()) + 1, int(arc.max()) + 1), int)
    np.add.at(counts, (seen.camera_idx, arc), 1)
    best = choose_instants(counts, max_knots // _ARC)
    return np.flatnonzero(np.isin(np.arange(count) // _ARC, best))


def choose_instants(counts: Int[np.ndarray, "views n"], max_instants: int) -> Int[np.ndarray, "m"]:
    """Of (views, instants) point counts, some `max_instants` instants spread in time: each the best of its stretch.

    An instant is better the more views see the target, and then the more points. What hangs together through any
    instants must do so through those chosen: pairs of views that few instants join get some of these beside.
    """
    views = (counts > 0).sum(axis=0)
    score = views + counts.sum(axis=0) / (counts.sum(axis=0).max(initial=0) + 1.0)
    useful = np.flatnonzero(views >= 2)
    stretches = np.array_split(useful, min(max_instants, len(useful))) if len(useful) else []
    chosen = np.array([stretch[score[stretch].argmax()] for stretch in stretches], int)
    seen = counts > 0
    shared = np.triu((seen[:, useful].astype(int) @ seen[:, useful].T.astype(int)), 1)
    for one, other in zip(*minimum_spanning_tree(csr_array(-shared)).nonzero(), strict=True):
        both = useful[seen[one, useful] & seen[other, useful]]
        missing = min(_LEAST_JOINT, len(both)) - int((seen[one, chosen] & seen[other, chosen]).sum())
        if missing > 0:
            more = np.setdiff1d(both, chosen)
            chosen = np.append(chosen, more[np.argsort(-score[more], kind="stable")[:missing]])
    return np.sort(chosen)


def at_knots(seen: CarriedPoints, knot_s: Float[np.ndarray, "k"], num_points: int) -> tuple[np.ndarray, ...]:
    """Every camera's tracks at the knots' times, as if frozen then: knot, camera, point (n,) and pixels (n, 2).

    A point's track is interpolated between neighbouring frames; a camera without neighbours gives its nearest frame of
    the knot's own cluster. Good enough to start from.
    """
    found: list[tuple[np.ndarray, ...]] = []
    for camera in np.unique(seen.camera_idx):
        own = seen[seen.camera_idx == camera]
        frames, place = np.unique(own.frame_idx, return_inverse=True)
        t_s = np.zeros(len(frames))
        t_s[place] = own.t_s
        xy = np.full((len(frames), num_points, 2), np.nan)
        xy[place, own.point_idx] = own.xy_px
        gap = min(_MAX_FRAME_GAP * float(np.median(np.diff(t_s))), MAX_LINK_S) if len(t_s) > 1 else KNOT_S
        at = resample(xy, t_s, knot_s, max_gap_s=gap)
        nearest = np.abs(t_s[:, None] - knot_s).argmin(axis=0)
        close = np.abs(t_s[nearest] - knot_s) <= KNOT_S / 2
        few = np.isfinite(at[..., 0]).sum(axis=1) < _MIN_POINTS
        at = np.where((few & close)[:, None, None], xy[nearest], at)
        enough = np.isfinite(at[..., 0]).sum(axis=1) >= _MIN_POINTS
        knot, point = np.nonzero(np.isfinite(at[..., 0]) & enough[:, None])
        found.append((knot, np.full(len(knot), camera), point, at[knot, point]))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def follow(
    frozen: Observations, rays: Float[np.ndarray, "n 3"], world_from_cam: SE3, num_knots: int
) -> tuple[Int[np.ndarray, "m"], SE3]:
    """The knots that known cameras place, and `world_from_target` (m,) at these.

    Args:
        frozen: the target at the knots (`target_idx`), by cameras (`image_idx`).
        rays: their unit rays.
        world_from_cam: known cameras; NaN where unknown.
        num_knots: number of knots.
    """
    rows = _of_best_views(frozen, np.isfinite(world_from_cam.t[:, 0]))
    pairs = find_pairs(frozen[rows], rays[rows])
    start, error = place_targets(frozen[rows], rays[rows], pairs, world_from_cam, num_knots)
    with np.errstate(invalid="ignore"):
        placed = np.flatnonzero(error < _LOST_RAD)
    return placed, start[placed]


def _of_best_views(frozen: Observations, known: Bool[np.ndarray, "images"]) -> Int[np.ndarray, "m"]:
    """Rows of the few known cameras that see most of the target at each knot."""
    o = frozen
    images = len(known)
    count = np.zeros((int(o.target_idx.max(initial=-1)) + 1, images), int)
    np.add.at(count, (o.target_idx, o.image_idx), known[o.image_idx].astype(int))
    rank = np.argsort(np.argsort(-count, axis=1, kind="stable"), axis=1)
    good = (rank < _BEST_VIEWS) & (count > 0)
    return np.flatnonzero(good[o.target_idx, o.image_idx])


@dataclass(frozen=True, eq=False)
class CarriedWay:
    """Where a carried target was.

    Attributes:
        trajectory: of its middle, with the target's axes.
        middle_m: (3,) the middle in the target's frame.
    """

    trajectory: Trajectory
    middle_m: Float[np.ndarray, "3"]

    def at(self, t_s: Float[np.ndarray, "n"]) -> SE3:
        """`world_from_target` (n,); NaN where the target was not followed."""
        known = self.trajectory.near(t_s, KNOT_S)
        pose = self.trajectory.at(t_s) @ SE3(np.eye(3), -self.middle_m)
        return SE3(np.where(known[:, None, None], pose.R, np.nan), np.where(known[:, None], pose.t, np.nan))
