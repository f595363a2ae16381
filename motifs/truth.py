"""Results of a simulated session beside its exact truth. Nothing is aligned first: the world's floor board is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibration.align import PoseErrors, pose_errors, rig_errors
from calibration.egomotion import load_egomotion
from calibration.lens import load_lenses
from calibration.marker_map import load_marker_map, load_marker_sigma
from calibration.rig import load_rig
from capture.session import Session
from capture.sync import load_clocks
from core.arrays import Bool, Float
from core.cameras import Rig
from core.clock import Clock, resample
from core.files import read_json, read_npz
from core.transforms import SE3
from motifs.charts import COLOURS, new_chart, shade_rejected

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRUTH = "truth"


@dataclass(frozen=True, eq=False)
class TruthErrors:
    """Errors of a finished session.

    Attributes:
        rig: of each room camera.
        feet: of each foot view, at its valid frames.
        feet_t_s: their times.
        t_s: instants of the annotation.
        joints_mm: error of each SMPL joint, NaN in rejected frames.
        frame_valid: whether a frame was accepted.
        feet_valid: share of each foot view's frames in the annotated span that have a pose.
    """

    rig: PoseErrors
    feet: dict[str, PoseErrors]
    feet_t_s: dict[str, Float[np.ndarray, "_"]]
    t_s: Float[np.ndarray, "frames"]
    joints_mm: Float[np.ndarray, "frames 24"]
    frame_valid: Bool[np.ndarray, "frames"]
    feet_valid: dict[str, float]

    def summary(self) -> dict[str, float]:
        """Medians over cameras, frames and joints, and the shares of frames they speak of."""
        found = {
            "room_camera_mm": self.rig.median_mm,
            "room_camera_deg": self.rig.median_deg,
            "joints_mm": float(np.nanmedian(self.joints_mm)),
            "frames_valid": float(self.frame_valid.mean()),
        }
        if self.feet:
            feet_mm = np.concatenate([1e3 * errors.centre_m for errors in self.feet.values()])
            feet_deg = np.concatenate([np.rad2deg(errors.rotation_rad) for errors in self.feet.values()])
            found["foot_camera_mm"] = float(np.median(feet_mm))
            found["foot_camera_deg"] = float(np.median(feet_deg))
            found["foot_frames_valid"] = float(np.mean(list(self.feet_valid.values())))
        return found

    def joint_medians_mm(self) -> Float[np.ndarray, "24"]:
        """Median error of each joint."""
        return np.asarray(np.nanmedian(self.joints_mm, axis=0))

    def chart(self) -> Figure:
        """Joint and foot-camera errors along time."""
        figure, panels = new_chart(2 if self.feet else 1)
        joints, feet = panels[0], panels[-1]
        quantiles = np.nanquantile(self.joints_mm[self.frame_valid], [0.5, 0.9], axis=1)
        for colour, name, values in zip(COLOURS, ("median joint", "90 % of joints"), quantiles, strict=False):
            joints.plot(self.t_s[self.frame_valid], values, color=colour, label=name)
        shade_rejected(joints, self.t_s, self.frame_valid)
        joints.set_ylabel("joint error, mm")
        joints.legend(loc="upper right", ncols=3, frameon=False)
        for colour, (view, errors) in zip(COLOURS, self.feet.items(), strict=False):
            feet.plot(self.feet_t_s[view], 1e3 * errors.centre_m, color=colour, label=view.replace("_", " "))
        feet.set_xlabel("session time, s")
        if self.feet:
            feet.set_ylabel("foot camera error, mm")
            feet.legend(loc="upper right", ncols=2, frameon=False)
        return figure


def has_truth(session: Session) -> bool:
    """Whether the session was simulated."""
    return (session.folder / TRUTH / "smpl.npz").is_file()


def compare_with_truth(folder: Path) -> TruthErrors:
    """Errors of a finished simulated session."""
    session = Session.load(folder)
    tracked = [v.id for v in session.views if v.is_foot and (session.stage("05_egomotion") / f"{v.id}.npz").is_file()]
    feet = {view_id: foot_errors(session, view_id) for view_id in tracked}
    t_s, joints_mm, frame_valid = joint_errors(session)
    return TruthErrors(
        rig=room_errors(session),
        feet={view: errors for view, (_, errors) in feet.items()},
        feet_t_s={view: t_s for view, (t_s, _) in feet.items()},
        t_s=t_s,
        joints_mm=joints_mm,
        frame_valid=frame_valid,
        feet_valid={view: _share_of_span(session, view) for view in feet},
    )


def _share_of_span(session: Session, view_id: str) -> float:
    """Share of a foot view's frames in the annotated span that have a pose."""
    ego = load_egomotion(session.folder, view_id)
    first, last = session.spans_s.get("motion", (-np.inf, np.inf))
    return float(ego.valid[(ego.t_s >= first) & (ego.t_s <= last)].mean())


def room_errors(session: Session) -> PoseErrors:
    """Errors of the room cameras."""
    truth = Rig.from_json(read_json(session.folder / TRUTH / "rig.json"))
    return rig_errors(load_rig(session.folder), truth)


def marker_errors(session: Session) -> PoseErrors:
    """Errors of the targets that do not move, but for the one that defines the world."""
    poses = read_json(session.folder / TRUTH / "markers.json")["world_from_target"]
    truth = {name: SE3.from_rotvec(np.array(p["rotvec"]), np.array(p["t_m"])) for name, p in poses.items()}
    sigma = load_marker_sigma(session.folder)
    found = {name: pose for name, pose in load_marker_map(session.folder).items() if sigma[name] > 0}
    return pose_errors(SE3.stack(list(found.values())), SE3.stack([truth[name] for name in found]))


def foot_errors(session: Session, view_id: str) -> tuple[Float[np.ndarray, "n"], PoseErrors]:
    """Times and errors of a foot camera in its valid frames, filled ones included."""
    ego = load_egomotion(session.folder, view_id)
    truth = read_npz(session.folder / TRUTH / f"{view_id}.npz")
    true_pose = SE3(truth["world_from_cam_R"], truth["world_from_cam_t_m"])
    # both are given frame by frame: the found time of a frame may be wrong by the clock's error, which then shows
    return ego.t_s[ego.valid], pose_errors(ego.world_from_cam[ego.valid], true_pose[ego.valid])


def joint_errors(
    session: Session,
) -> tuple[Float[np.ndarray, "frames"], Float[np.ndarray, "frames 24"], Bool[np.ndarray, "frames"]]:
    """Instants, joint errors (mm, NaN where the frame was rejected) and validity of the fit."""
    found = read_npz(session.stage("07_smpl") / "smpl.npz")
    truth = read_npz(session.folder / TRUTH / "smpl.npz")
    true_joints = resample(truth["joints_m"], truth["t_s"], found["t_s"], max_gap_s=0.1)
    valid = found["frame_valid"].astype(bool)
    errors_mm = 1e3 * np.linalg.norm(found["joints_m"] - true_joints, axis=-1)
    return found["t_s"], np.where(valid[:, None], errors_mm, np.nan), valid


def stage_errors(folder: Path, stage: str) -> str:
    """Error of one annotation stage against the truth, in words."""
    session = Session.load(folder)
    describe = {
        "01_sync": _clock_errors,
        "03_lenses": _lens_errors,
        "04_rig": lambda s: f"room cameras off by {_describe(room_errors(s))}",
        "04_markers": _map_errors,
        "05_egomotion": _feet_errors,
        "06_points3d": _point_errors,
        "07_smpl": lambda s: f"joints off by {np.nanmedian(joint_errors(s)[1]):.1f} mm",
    }
    return describe[stage](session) if stage in describe else ""


def _describe(errors: PoseErrors) -> str:
    return f"{errors.median_mm:.2f} mm, {errors.median_deg:.3f} deg"


def _clock_errors(session: Session) -> str:
    truth = read_json(session.folder / TRUTH / "clocks.json")["clocks"]
    local = np.linspace(0.0, max(view.num_frames / float(view.rate) for view in session.views if view.video), 50)
    worst = [
        np.abs(clock.to_session(local) - Clock.from_json(truth[view]).to_session(local)).max()
        for view, clock in load_clocks(session.folder).items()
    ]
    return f"clocks off by {1e3 * np.median(worst):.2f} ms, at most {1e3 * max(worst):.2f} ms"


def _lens_errors(session: Session) -> str:
    truth = read_json(session.folder / TRUTH / "lenses.json")["lenses"]
    found = load_lenses(session.folder)
    error = [abs(lens.focal_px[0] / truth[view]["focal_px"][0] - 1) for view, lens in found.items()]
    return f"focal lengths off by {100 * np.median(error):.3f} %"


def _map_errors(session: Session) -> str:
    located = sum(sigma > 0 for sigma in load_marker_sigma(session.folder).values())
    return f"{located} targets off by {_describe(marker_errors(session))}" if located else "no target located"


def _feet_errors(session: Session) -> str:
    parts = []
    for view in session.views:
        if view.is_foot:
            _, errors = foot_errors(session, view.id)
            share = 100 * _share_of_span(session, view.id)
            parts.append(f"{view.id} {_describe(errors)} ({share:.0f} % of frames)")
    return ", ".join(parts)


def _point_errors(session: Session) -> str:
    found = read_npz(session.stage("06_points3d") / "points3d.npz")
    truth = read_npz(session.folder / TRUTH / "landmarks.npz")
    true_points = resample(truth["xyz_m"], truth["t_s"], found["t_s"], max_gap_s=0.1)
    error = np.linalg.norm(found["xyz_m"] - true_points, axis=-1)[found["valid"].astype(bool)]
    return f"points off by {1e3 * np.nanmedian(error):.1f} mm"
