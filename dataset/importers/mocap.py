"""Motion capture files (`.bvh`, `.amc` with its `.asf`) into the dataset, retargeted to SMPL.

Joints that the source does not have are not `valid`: hands where it has no fingers, and spine2 or spine3 where its
spine has a joint less; their rotations are their parents', and spine2's is half of what its neighbours differ by.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from core.errors import InputError
from core.files import sha256_of_file
from core.skeletons import SMPL_24
from core.transforms import so3_log
from dataset.importers.amass import contacts_from_joints
from dataset.importers.articulated import ArticulatedMotion
from dataset.importers.asf_amc import read_asf_amc
from dataset.importers.bvh import read_bvh
from dataset.importers.skeleton_maps import SkeletonMap, map_of
from dataset.importers.takes import Take
from dataset.retarget import Retargeted, retarget
from dataset.schema import NUM_JOINTS, Clip, ClipLabels
from fitting.smpl import BodyModel

SUFFIXES = (".bvh", ".amc")
_REST_DEG = 15.0  # added T-poses are up to 11 degrees from the rest pose, people further
_LIMBS = ("hip", "knee", "ankle", "foot", "shoulder", "elbow", "wrist")


def read_motion(path: Path, lead_in: int = 0) -> tuple[ArticulatedMotion, SkeletonMap, int]:
    """A file's motion without its lead-in (see `Take`), the map of its skeleton, and how many frames were left out.

    Raises:
        InputError: if the file is damaged or its skeleton is not known.
    """
    motion = read_bvh(path) if path.suffix.lower() == ".bvh" else read_asf_amc(path, skeleton_file(path))
    motion = dataclasses.replace(motion, names=tuple(name.rpartition(":")[2] for name in motion.names))
    skeleton = map_of(motion.names, str(path))
    dropped = lead_in if len(motion) > lead_in and _starts_at_rest(motion, skeleton) else 0
    return motion.from_frame(dropped), skeleton, dropped


def skeleton_file(amc: Path) -> Path:
    """The ASF file beside an AMC file: the one whose name begins the motion's, or the only one.

    Raises:
        InputError: if there is none.
    """
    found = sorted(path for path in amc.parent.iterdir() if path.suffix.lower() == ".asf")
    named = [path for path in found if amc.stem.startswith(path.stem)]
    if len(named) != 1 and len(found) != 1:
        raise InputError(str(amc), f"{len(found)} .asf files beside it, none of its name", "put its skeleton beside it")
    return named[0] if len(named) == 1 else found[0]


def read_take(path: Path, item: str, take: Take, body: BodyModel) -> Clip:
    """A whole take, not yet cut.

    Args:
        path: the file.
        item: id for the sequence, unique in the dataset.
        take: who moves, and what is said about it.
        body: model that is shaped and posed.

    Raises:
        InputError: if the file is damaged, or its skeleton not known or of no human size.
    """
    motion, skeleton, dropped = read_motion(path, take.lead_in)
    found = retarget(motion, skeleton, body, str(path))
    poses, trans, betas = (
        a.astype(np.float32) for a in (so3_log(found.posed.rotations), found.trans, found.posed.shaped.betas)
    )
    # the joints of the stored numbers, so that exporting and importing again changes nothing
    joints = body.with_shape(betas.astype(float)).with_pose(poses.astype(float), trans.astype(float)).joints
    labels = ClipLabels(
        rate=f"{motion.rate.numerator}/{motion.rate.denominator}",
        subject=take.subject,
        session=item,
        start_s=float(dropped / motion.rate),
        gender="neutral",
        body_model=body.name,
        body_model_sha256=body.sha256,
        action_names=take.vocabulary if take.action else (),
        provenance={"source": path.suffix[1:].lower(), **take.details, **_facts(path, skeleton, found)},
    )
    frames = len(motion)
    actions = np.tile(np.array([name == take.action for name in take.vocabulary], dtype=np.uint8), (frames, 1))
    return Clip(
        item,
        labels,
        poses=poses,
        trans=trans,
        betas=betas,
        joints_m=joints.astype(np.float32),
        joint_covariance=np.full((frames, NUM_JOINTS, 6), np.nan, dtype=np.float32),
        valid=np.tile(found.measured, (frames, 1)),
        reasons=np.zeros(frames, dtype=np.int32),
        contacts=contacts_from_joints(joints, float(motion.rate)),
        actions=actions if take.action else None,
    )


def limb_idx() -> list[int]:
    """Joints of arms and legs, which all skeletons mean alike."""
    return [SMPL_24.idx(f"{side}_{joint}") for joint in _LIMBS for side in ("left", "right")]


def _facts(path: Path, skeleton: SkeletonMap, found: Retargeted) -> Mapping[str, object]:
    """What the retargeting did, for the provenance."""
    errors = {"joints": found.error_m, "limbs": found.error_m[:, limb_idx()]}
    return {
        "file_sha256": sha256_of_file(path),
        "skeleton": skeleton.name,
        "scale": round(found.scale, 4),
        "floor_m": round(found.floor_m, 4),
        "error_mm": {name: round(1e3 * float(np.nanmean(error)), 1) for name, error in errors.items()},
    }


def _starts_at_rest(motion: ArticulatedMotion, skeleton: SkeletonMap) -> bool:
    """Whether all joints that count are near the rest pose in the first frame."""
    turns = [j for j in motion.idx(sorted(set(skeleton.turns.values()))).tolist() if motion.parents[j] >= 0]
    R = motion.rotations[0]
    local = np.swapaxes(R[motion.parents[turns]], -1, -2) @ R[turns]
    return bool(np.rad2deg(np.linalg.norm(so3_log(local), axis=-1)).max() < _REST_DEG)
