"""Pose2Sim's single-person recording, from its folder to SMPL: pixels, and millimetres from Pose2Sim's own joints.

`python benchmarks/pose2sim_single.py` runs the stages in a temporary folder; `--session` measures a session made by
`examples/pose2sim_single.sh`. The last line is JSON.

Pose2Sim triangulates the same 2D joints under another calibration (Qualisys, not refined), so its joints are no ground
truth. Its own figures stand beside ours: distances as they are, and after a rigid alignment of the two worlds, which
takes out that refinement on the person leaves the world free by a few centimetres. `left out` is the error of each
view's keypoints from the body that the other views alone were fitted to.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from capture.session import Session
from core.arrays import Float
from core.files import read_json
from core.skeletons import BODY_25B, SMPL_24
from core.transforms import align_points
from fitting.fit import OUT as FIT
from fitting.fit import STAND_IN, FitConfig, density_of, load_body, load_measured, load_smpl
from fitting.landmarks import Landmarks
from fitting.points import triangulate_points
from fitting.windows import estimate_body

ROOT = Path(__file__).resolve().parents[1]
TRC = "pose3d_trc/S00_P00_T01_BalancingTrial_0-100.trc"
# the joints of the body's chains; toes, heels and the nose are named too, but on the outline, where detectors differ
MAIN = tuple(
    f"{side}_{part}" for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist") for side in ("left", "right")
)
OUTLINE = (*(f"{side}_{part}" for part in ("heel", "big_toe", "small_toe") for side in ("left", "right")), "nose")
LIMBS = {
    "thigh": ("hip", "knee"),
    "shank": ("knee", "ankle"),
    "upper_arm": ("shoulder", "elbow"),
    "forearm": ("elbow", "wrist"),
}


@dataclass(frozen=True, eq=False)
class Body:
    """What was fitted, by joint name.

    Attributes:
        landmarks_m: where the body has the detector's joints, (frames, 25, 3).
        joints_m: SMPL's joints, (frames, 24, 3).
    """

    landmarks_m: np.ndarray
    joints_m: np.ndarray

    def named(self, name: str) -> Float[np.ndarray, "frames 3"]:
        """A joint as the detector defines it, which is how Pose2Sim's is defined."""
        return np.asarray(self.landmarks_m[:, BODY_25B.idx(name)])

    def limbs_m(self) -> dict[str, float]:
        """Lengths of SMPL's limbs, the mean of both sides."""
        return {
            limb: float(np.mean([self._length(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right")]))
            for limb, (a, b) in LIMBS.items()
        }

    def _length(self, a: str, b: str) -> float:
        bones = self.joints_m[:, SMPL_24.idx(a)] - self.joints_m[:, SMPL_24.idx(b)]
        return float(np.median(np.linalg.norm(bones, axis=-1)))


def run_stages(data: Path, session: Path, body_model: str = STAND_IN, workers: int = 1) -> None:
    """Takes the recording to SMPL through the command line's own functions, as the example does.

    Raises:
        SystemExit: if a command fails; it has said why.
    """
    from motifs.cli import run

    shifted = [f"{view}=0.9926,0,7.3" for view in ("cam01", "cam02")]
    targets = ROOT / "examples" / "pose2sim_single_targets.json"
    reference = data / "calibration" / "Calib_qualisys.toml"
    for command in (
        ["ingest", str(data), "--out", str(session), "--keypoints-skeleton", "BODY_25B", "--targets", str(targets),
         "--picture-from-px", *shifted],
        ["run", str(session), "--workers", str(workers), "--sync.method", "none", "--rig.method", "keypoints",
         "--rig.reference", str(reference), "--fit.body-model", body_model],
    ):  # fmt: skip
        if status := run(command):
            sys.exit(status)


def fitted_body(session: Path, body_model: str = STAND_IN) -> Body:
    """The fitted body of a session."""
    sequence = load_smpl(session / FIT / "smpl.npz")
    body = load_body(body_model)
    if body.sha256 != sequence.body_sha256:
        sys.exit(f"{session} was fitted with {sequence.body_model}: name that file by --body-model")
    posed = body.with_shape(sequence.betas).with_pose(sequence.poses.reshape(-1, 24, 3), sequence.trans)
    return Body(Landmarks.of(body, BODY_25B).positions(posed), sequence.joints_m)


def read_trc(path: Path) -> dict[str, np.ndarray]:
    """Joints of a TRC file (metres, y up) in the calibration's world (z up), by this project's names, (frames, 3)."""
    lines = path.read_text(encoding="utf-8").splitlines()
    names = lines[3].split("\t")[2:]
    rows = [[float(cell) if cell else np.nan for cell in line.split("\t")] for line in lines[5:] if line.strip()]
    numbers = np.array(rows)
    columns = {name: 2 + i for i, name in enumerate(names) if name}
    return {joint_name(name): numbers[:, [at + 2, at, at + 1]] for name, at in columns.items()}


def joint_name(name: str) -> str:
    """`RBigToe` -> `right_big_toe`."""
    side = re.fullmatch(r"([LR])([A-Z].*)", name)
    if not side:
        return name.lower()
    words = re.findall(r"[A-Z][a-z]*", side[2])
    return "_".join([{"L": "left", "R": "right"}[side[1]], *words]).lower()


def distances(body: Body, trc: dict[str, np.ndarray], names: Sequence[str]) -> tuple[dict[str, float], ...]:
    """Median distance of each joint in mm: as they are, and with the worlds aligned rigidly by all these joints."""
    ours = np.stack([body.named(name) for name in names])
    theirs = np.stack([trc[name] for name in names])
    if ours.shape != theirs.shape:
        sys.exit(f"{ours.shape[1]} frames were fitted, the TRC file has {theirs.shape[1]}: is it of this recording?")
    known = np.isfinite(theirs).all(axis=-1)
    theirs_from_ours, _ = align_points(ours[known], theirs[known])
    apart = (ours - theirs, theirs_from_ours.apply(ours) - theirs)
    error_mm = [np.where(known, 1000 * np.linalg.norm(d, axis=-1), np.nan) for d in apart]
    return tuple({"all": float(np.nanmedian(e)), **_by_joint(e, names)} for e in error_mm)


def _by_joint(error_mm: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    return dict(zip(names, np.nanmedian(error_mm, axis=1).tolist(), strict=True))


def smpl_distance(body: Body, trc: dict[str, np.ndarray]) -> float:
    """The same as they are, mm, with SMPL's own joint centres in place of the detector's points on the body."""
    errors = [np.linalg.norm(body.joints_m[:, SMPL_24.idx(name)] - trc[name], axis=-1) for name in MAIN]
    return 1000 * float(np.nanmedian(errors))


def measure(session: Path, data: Path, body_model: str = STAND_IN) -> dict[str, Any]:
    """All figures of a session, and a table of the joints on standard output."""
    facts = read_json(session / FIT / "manifest.json")["metrics"]
    rig = read_json(session / "04_rig" / "manifest.json")["metrics"]
    body, trc = fitted_body(session, body_model), read_trc(data / TRC)
    plain, aligned = distances(body, trc, MAIN)
    outline, _ = distances(body, trc, OUTLINE)
    print(f"{'median distance to Pose2Sim, mm':34}{'as is':>8}{'aligned':>9}")
    for name in ("all", *MAIN):
        print(f"{name:34}{plain[name]:8.1f}{aligned[name]:9.1f}")
    print(f"{'heels, toes, nose':34}{outline['all']:8.1f}")
    left_out = left_out_px(session, body_model)
    print(f"\n{'median reprojection, px':34}{'imported':>9}{'refined':>9}{'SMPL':>7}{'left out':>9}")
    for view in Session.load(session).of_role("room"):
        points = [rig.get(key, {}).get(view.id, np.nan) for key in ("before_px", "reprojection_px")]
        print(
            f"{view.id:34}{points[0]:9.1f}{points[1]:9.1f}{facts['reprojection_px'][view.id]:7.1f}{left_out[view.id]:9.1f}"
        )
    return {
        "reprojection_px": facts["reprojection_px"],
        "left_out_px": left_out,
        "trc_mm": plain["all"],
        "trc_aligned_mm": aligned["all"],
        "trc_smpl_joints_mm": smpl_distance(body, trc),
        "trc_outline_mm": outline["all"],
        "root_height_m": facts["root_height_m"],
        "height_m": facts["height_m"],
        "limbs_m": body.limbs_m(),
    }


def left_out_px(session: Path, body_model: str = STAND_IN) -> dict[str, float]:
    """Median distance in pixels of each view's keypoints from the body that the other views were fitted to."""
    config = FitConfig(body_model=body_model)
    body, landmarks, measured, seen = load_measured(Session.load(session), config)
    found = {}
    for v, view in enumerate(seen.view_ids):
        score = np.where(np.arange(len(seen.view_ids))[:, None, None] == v, 0.0, seen.score)
        points = triangulate_points(measured.rig, seen.xy_px, score, seen.skeleton)
        others = dataclasses.replace(measured, score=score, points_m=points.xyz_m)
        fitted = estimate_body(body, landmarks, others, config.estimate, density=density_of(config.pose_prior))
        joints = landmarks.shifted(fitted.subject.offsets).positions(fitted.state.posed(body))
        error = np.linalg.norm(measured.rig[view].project(joints) - seen.xy_px[v], axis=-1)
        found[view] = float(np.nanmedian(np.where(seen.score[v] >= config.estimate.min_score, error, np.nan)))
    return found


def rounded(value: Any) -> Any:
    """Numbers to four digits, in nested tables too."""
    return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else round(value, 4)


def main() -> None:
    """Prints tables and one line of JSON."""
    shared = Path(os.environ.get("MOTIFS_SHARED", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=shared / "data" / "pose2sim_single", help="the recording's folder")
    parser.add_argument("--session", type=Path, help="a session made already")
    parser.add_argument("--body-model", default=STAND_IN, help="SMPL model file of the fit; the stand-in without it")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        session = given.session or Path(folder) / "session"
        if given.session is None:
            run_stages(given.data, session, given.body_model, given.workers)
        result = measure(session, given.data, given.body_model)
    print(json.dumps(rounded(result)))


if __name__ == "__main__":
    main()
