"""Small datasets of a stick person who repeats labelled gestures, written through the dataset's own writer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from core.files import write_json
from core.skeletons import SMPL_24
from dataset.features import FeatureStats
from dataset.parts import clip_info, feature_sums
from dataset.rotations import matrix_from_rotvec
from dataset.schema import SCHEMA, Clip, ClipLabels, DatasetInfo, ShardInfo
from dataset.shards import new_shard, write_clip

RATE_HZ = 30
GESTURES = ("stand", "raise", "wave", "squat")
_OFFSETS = {
    "left_hip": (0.09, -0.08, 0.0), "spine1": (0.0, 0.11, 0.0), "left_knee": (0.03, -0.38, 0.0),
    "spine2": (0.0, 0.13, 0.0), "left_ankle": (-0.01, -0.40, 0.0), "spine3": (0.0, 0.05, 0.0),
    "left_foot": (0.03, -0.06, 0.12), "neck": (0.0, 0.21, 0.0), "left_collar": (0.07, 0.12, 0.0),
    "head": (0.0, 0.09, 0.05), "left_shoulder": (0.12, 0.04, 0.0), "left_elbow": (0.26, 0.0, 0.0),
    "left_wrist": (0.25, 0.0, 0.0), "left_hand": (0.08, 0.0, 0.0),
}  # fmt: skip


def _offset(joint: str) -> np.ndarray:
    if joint.startswith("right_"):
        return np.array(_OFFSETS["left_" + joint.removeprefix("right_")]) * [-1, 1, 1]
    return np.array(_OFFSETS.get(joint, (0.0, 0.0, 0.0)))


def stick_joints(poses: np.ndarray, trans: np.ndarray) -> np.ndarray:
    """World joints of the stick person by forward kinematics."""
    local = matrix_from_rotvec(poses)
    world, joints = np.empty_like(local), np.empty(poses.shape)
    assert SMPL_24.parents is not None
    for j, parent in enumerate(SMPL_24.parents):
        world[:, j] = local[:, j] if parent < 0 else world[:, parent] @ local[:, j]
        joints[:, j] = trans if parent < 0 else joints[:, parent] + world[:, parent] @ _offset(SMPL_24.joints[j])
    return joints


def gesture_angles(name: str, share: np.ndarray) -> dict[str, np.ndarray]:
    """Joint angles (about z for arms, x for legs) over a gesture."""
    bump = np.sin(np.pi * share)
    if name == "raise":
        return {"left_shoulder": 1.4 * bump, "right_shoulder": -1.4 * bump}
    if name == "wave":
        return {"right_shoulder": -1.2 * bump, "right_elbow": 0.7 * np.sin(6 * np.pi * share) * bump}
    if name == "squat":
        return {"left_hip": -1.2 * bump, "right_hip": -1.2 * bump, "left_knee": 1.6 * bump, "right_knee": 1.6 * bump}
    return {}


def stick_clip(clip_id: str, subject: str, gestures: list[str], seed: int) -> Clip:
    """Gestures of 1 to 2 s, one after the other."""
    rng = np.random.default_rng(seed)
    poses, drop, actions = [], [], []
    for name in gestures:
        frames = int(rng.integers(RATE_HZ, 2 * RATE_HZ))
        share = np.arange(frames) / frames
        pose = np.zeros((frames, 24, 3))
        pose[:, 0, 0] = np.pi / 2  # the stick person is y up, the world z up
        for side, sign in (("left", -1), ("right", 1)):
            pose[:, SMPL_24.idx(f"{side}_shoulder"), 2] = 1.2 * sign
        for joint, angle in gesture_angles(name, share).items():
            pose[:, SMPL_24.idx(joint), 0 if "hip" in joint or "knee" in joint else 2] += angle
        poses.append(pose)
        drop.append(0.25 * np.sin(np.pi * share) * (name == "squat"))
        actions.append(np.tile(np.eye(len(GESTURES), dtype=np.uint8)[GESTURES.index(name)], (frames, 1)))
    pose = np.concatenate(poses) + 0.01 * rng.normal(size=(1, 24, 3))
    t_s = np.arange(len(pose)) / RATE_HZ
    trans = np.stack([0.2 * np.sin(0.5 * t_s), 0.3 * t_s, 0.95 - np.concatenate(drop)], axis=-1)
    joints = stick_joints(pose, trans)
    frames = len(pose)
    labels = ClipLabels("30/1", subject, clip_id, 2.5, "neutral", "stick", "", GESTURES)
    return Clip(
        clip_id, labels, pose.astype(np.float32), trans.astype(np.float32), np.zeros(10, np.float32),
        joints.astype(np.float32), np.full((frames, 24, 6), np.nan, np.float32), np.ones((frames, 24), dtype=bool),
        np.zeros(frames, np.int32), np.ones((frames, 4), np.float32), np.concatenate(actions),
    )  # fmt: skip


def write_dataset(path: Path, clips: list[tuple[Clip, str]]) -> Path:
    """A dataset folder of clips and the split of each."""
    infos, sums = [], []
    (path / "data").mkdir(parents=True)
    shard = path / "data" / "shard-00000.h5"
    with new_shard(shard) as file:
        for clip, split in clips:
            info = clip_info(clip, write_clip(file, clip, "gzip"))
            infos.append(dataclasses.replace(info, shard=shard.name, split=split))
            sums += [feature_sums(clip, info, 5.0)] if split == "train" else []
    count, rest = np.split(np.sum(sums, axis=0), [1])
    stats = FeatureStats.from_sums(5.0, int(count[0]), *np.split(rest, 2))
    counts = {s: sum(split == s for _, split in clips) for s in ("train", "val", "test")}
    info = DatasetInfo(
        len(clips), sum(len(c) for c, _ in clips), float(sum(i.duration_s for i in infos)),
        tuple(sorted({i.subject for i in infos})), "subject", counts, (), GESTURES,
        (ShardInfo(shard.name, shard.stat().st_size, "", len(clips)),), (), {},
    )  # fmt: skip
    write_json(path / "meta" / "clips.json", {"schema": SCHEMA, "clips": infos})
    write_json(path / "meta" / "stats.json", {"schema": SCHEMA, **dataclasses.asdict(stats)})
    write_json(path / "meta" / "info.json", info.to_json())
    return path


def gestures(number: int, seed: int) -> list[str]:
    """A sequence of gestures in which two often follow each other."""
    rng = np.random.default_rng(seed)
    chosen: list[str] = []
    while len(chosen) < number:
        chosen += ["raise", "squat"] if rng.random() < 0.5 else [str(rng.choice(GESTURES))]
    return chosen[:number]
