"""What a person who walks about tells of a rig: who is who in the views, where the floor is, and how large the room is.

Detectors list people in any order. One view's most prominent person is followed, and in the other views the person is
taken whose joints lie on the epipolar lines of that one's; of all views, that one leads whose choice most others share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.rig_keypoints import intersect_rays
from calibration.world_frame import Plane, fit_floor, require_vertical
from capture.keypoints import Keypoints2d, select_person
from core.arrays import Float, Int
from core.cameras import Camera, Rig
from core.clock import resample
from core.errors import GateError
from core.skeletons import Skeleton
from core.transforms import SE3

_MAX_FRAME_GAP = 1.5
_AGREE_PX = 60.0  # of 1000 px of focal length: what a rig that is 2 degrees and a few per cent off may be wrong by
_MIN_JOINTS = 4  # that must agree
# lengths of segments over stature: Drillis and Contini 1966, in Winter 2009, figure 4.1
_SEGMENTS = {("hip", "knee"): 0.245, ("knee", "ankle"): 0.246, ("shoulder", "elbow"): 0.186, ("elbow", "wrist"): 0.146}
_STATURE_SPREAD = 0.06  # of one person about these proportions, and of detectors' joints about anatomical ones
_SOLES = {"heel": 0.03, "big_toe": 0.02, "small_toe": 0.02, "ankle": 0.085}  # metres above the floor when standing
_STANDING_M_S = 0.15  # speed below which a foot stands


@dataclass(frozen=True)
class Stature:
    """How tall a person comes out.

    Attributes:
        metres: the median over the segments.
        sigma: standard deviation.
        segments: what each kind of segment says.
    """

    metres: float
    sigma: float
    segments: Mapping[str, float]


def same_person(
    rig: Rig, found: Sequence[Keypoints2d], t_s: Sequence[Float[np.ndarray, "_"]]
) -> tuple[str, list[Int[np.ndarray, "_"]]]:
    """Which of the people in each frame of each view is the one person that most views agree about.

    Args:
        rig: roughly known cameras, in the order of the views.
        found: people of each view.
        t_s: frame times of each view.

    Returns:
        the view that leads, and for each view the person in every frame; -1 where nobody fits.
    """
    best: tuple[int, str, list[np.ndarray]] = (-1, "", [])
    chosen = [select_person(k) for k in found]
    if all(k.num_people == 1 for k in found):
        return rig.ids[0], chosen
    for leader, person in enumerate(chosen):
        follow = [
            person if view == leader else _follow(rig, leader, view, found, person, t_s) for view in range(len(found))
        ]
        agreed = sum(int((f >= 0).sum()) for view, f in enumerate(follow) if view != leader)
        if agreed > best[0]:
            best = (agreed, rig.ids[leader], follow)
    return best[1], best[2]


def _follow(
    rig: Rig, leader: int, view: int, found: Sequence[Keypoints2d], person: np.ndarray, t_s: Sequence[np.ndarray]
) -> np.ndarray:
    """In every frame of a view, the person whose joints lie nearest to the epipolar lines of the leader's."""
    led = found[leader].person(person)
    gap = _MAX_FRAME_GAP * float(np.median(np.diff(t_s[leader])))
    n, m = min(led.num_frames, len(t_s[leader])), min(found[view].num_frames, len(t_s[view]))
    line = resample(led.xy_px[:n, 0].astype(float), t_s[leader][:n], t_s[view][:m], max_gap_s=gap)
    off = _epipolar_px(rig.cameras[leader], rig.cameras[view], line[:, None], found[view].xy_px[:m].astype(float))
    joints = np.isfinite(off).sum(axis=-1)
    off = np.where(joints[..., None] > 0, off, np.inf)
    error = np.where(joints >= _MIN_JOINTS, np.nanmedian(off, axis=-1), np.inf)
    index = np.full(found[view].num_frames, -1)
    nearest = error.argmin(axis=1)
    good = error[np.arange(m), nearest] < _AGREE_PX / 1000 * rig.cameras[view].lens.focal_px[0]
    index[:m] = np.where(good, nearest, -1)
    return index


def _epipolar_px(one: Camera, other: Camera, one_px: np.ndarray, other_px: np.ndarray) -> np.ndarray:
    """Distance of the other camera's points from the plane through both centres and the one's ray, in pixels."""
    base = other.centre - one.centre
    ray = one.lens.unproject(one_px) @ one.world_from_cam.R.T
    normal = np.cross(np.broadcast_to(base, ray.shape), ray)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    seen = other.lens.unproject(other_px) @ other.world_from_cam.R.T
    return np.abs((normal * seen).sum(axis=-1)) * other.lens.focal_px[0]


def person_points(
    rig: Rig,
    xy_px: Float[np.ndarray, "views instants joints 2"],
    score: Float[np.ndarray, "views instants joints"],
    *,
    min_score: float = 0.3,
    max_error_px: float = 20.0,
) -> Float[np.ndarray, "instants joints 3"]:
    """Joints that two cameras or more agree about, in the rig's frame; NaN elsewhere."""
    rays = np.stack([camera.lens.unproject(px.astype(float)) for camera, px in zip(rig, xy_px, strict=True)])
    with np.errstate(invalid="ignore"):
        good = np.isfinite(rays[..., 0]) & (score >= min_score)
    good &= good.sum(axis=0) >= 2
    shape = good.shape[1:]
    points = np.full((*shape, 3), np.nan)
    poses = SE3.stack([camera.world_from_cam for camera in rig])
    for _ in range(2):  # once with all, once without those that do not fit
        view, instant, joint = np.nonzero(good)
        flat, index = np.unique(instant * shape[1] + joint, return_inverse=True)
        if not len(flat):
            return points
        at = intersect_rays(poses, view, index, rays[view, instant, joint], len(flat))
        points = np.full((*shape, 3), np.nan)
        points.reshape(-1, 3)[flat] = at
        with np.errstate(invalid="ignore"):
            off = np.linalg.norm(rig.project(points) - xy_px, axis=-1)
            good &= off < max_error_px * np.array([c.lens.focal_px[0] / 1000 for c in rig])[:, None, None]
        good &= good.sum(axis=0) >= 2
    return np.where((good.sum(axis=0) >= 2)[..., None], points, np.nan)


def swapped_views(
    rig: Rig,
    xy_px: Float[np.ndarray, "views instants joints 2"],
    score: Float[np.ndarray, "views instants joints"],
    *,
    bad_px: float = 40.0,
) -> list[tuple[str, str]]:
    """Pairs of views that fit the person only if their cameras change places, the clearest first.

    Judged by the points that all other views agree about; with fewer than two others nobody can tell.
    """
    some = np.unique(np.linspace(0, xy_px.shape[1] - 1, 200).round().astype(int))
    xy_px, score = xy_px[:, some], score[:, some]
    pairs = []
    for a in range(len(rig)):
        for b in range(a + 1, len(rig)):
            others = [k for k in range(len(rig)) if k not in (a, b)]
            if len(others) < 2:
                continue
            points = person_points(Rig(tuple(rig.cameras[k] for k in others)), xy_px[others], score[others])
            error = {
                (view, place): float(np.nanmedian(off)) if np.isfinite(off).sum() > 50 else np.inf
                for view in (a, b)
                for place in (a, b)
                for off in [np.linalg.norm(rig.cameras[place].project(points) - xy_px[view], axis=-1)]
            }
            as_named, exchanged = max(error[a, a], error[b, b]), max(error[a, b], error[b, a])
            if np.isfinite(exchanged) and as_named > bad_px and exchanged < 0.3 * as_named:
                pairs.append((exchanged, (rig.ids[a], rig.ids[b])))
    return [names for _, names in sorted(pairs)]


def stature(points: Float[np.ndarray, "instants joints 3"], skeleton: Skeleton) -> Stature | None:
    """How tall the person is, from the lengths of arms and legs; None if too little of these was seen."""
    says: dict[str, float] = {}
    for (upper, lower), share in _SEGMENTS.items():
        lengths = []
        for side in ("left_", "right_"):
            if side + upper in skeleton.joints and side + lower in skeleton.joints:
                ends = points[:, [skeleton.idx(side + upper), skeleton.idx(side + lower)]]
                lengths.append(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1))
        known = np.concatenate(lengths or [np.zeros(0)])
        known = known[np.isfinite(known)]
        if len(known) >= 10:
            says[f"{upper} to {lower}"] = float(np.median(known)) / share
    if len(says) < 2:
        return None
    values = np.array(list(says.values()))
    spread = max(float(values.std(ddof=1)) / float(np.median(values)), _STATURE_SPREAD)
    metres = float(np.median(values))
    return Stature(metres, metres * spread / float(np.sqrt(len(values))), says)


def person_floor(
    points: Float[np.ndarray, "instants joints 3"], skeleton: Skeleton, t_s: Float[np.ndarray, "instants"]
) -> Plane:
    """The floor that the feet stand on: a plane through them wherever they do not move.

    Each joint of a foot keeps its own height above the floor, which is taken off along the plane's normal.

    Raises:
        GateError: if no foot stands anywhere, or all stand in one place or line.
    """
    kinds = {k: h for k, h in _SOLES.items() if f"left_{k}" in skeleton.joints}
    if len(kinds) > 1:
        kinds.pop("ankle", None)  # heels and toes know better
    joints = [(skeleton.idx(f"{side}_{kind}"), height) for kind, height in kinds.items() for side in ("left", "right")]
    if not joints:
        raise GateError("person", f"skeleton {skeleton.name} has no feet", "use a detector with ankles")
    feet = points[:, [j for j, _ in joints]]
    with np.errstate(invalid="ignore"):
        speed = np.linalg.norm(np.gradient(feet, t_s, axis=0), axis=-1)
        still = np.isfinite(feet[..., 0]) & (speed < _STANDING_M_S)
    height = np.broadcast_to(np.array([h for _, h in joints]), still.shape)[still]
    standing = feet[still]
    if len(standing) < 20:
        raise GateError("person", f"feet stand in only {len(standing)} instants", "let the person walk about and stop")
    above = np.nanmedian(points.reshape(-1, 3), axis=0)
    plane = fit_floor(standing, above, "person", sigma_m=0.01)
    for _ in range(2):  # soles lie below the joints, along a normal that this changes a little
        plane = fit_floor(standing - height[:, None] * plane.normal, above, "person", sigma_m=0.01)
    # steps, not frames, are independent: a foot that stands for a second errs in one way
    steps = max(_count_steps(still), 3)
    few = float(np.sqrt(len(standing) / steps))
    wider = dataclasses.replace(
        plane, tilt_sigma_rad=few * plane.tilt_sigma_rad, height_sigma_m=few * plane.height_sigma_m
    )
    return require_vertical(wider, "person")


def _count_steps(still: np.ndarray) -> int:
    """Stances of all feet together; joints of one foot count once."""
    begins = np.diff(still.astype(int), axis=0, prepend=0) > 0
    return int(begins.sum() / max(still.shape[1] / 2, 1))
