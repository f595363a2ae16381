"""What the cameras of a session saw along time: the person's joints, the boards, and how many cameras share a joint.

Cameras do not expose together: their frames are gathered into columns of equal length on the session clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibration.clocks import load_times
from calibration.pictures.canvas import BLUE, ORANGE, RED, SKY, SMALL, literal, new_figure, plain, png_bytes
from capture.keypoints import Keypoints2d, load_keypoints
from capture.markers import load_markers
from capture.session import Session
from core.arrays import Bool, Float
from motifs.page import Picture, Section, Table
from motifs.status import result_of, said_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STAGE = "02_keypoints"
_COLUMNS = 1000
_LEAST_S = 0.1  # no column is shorter: frames of two cameras must meet in it
_SURE = 0.3  # score of a joint that was found
_NOT_RECORDED = "#E3E6E9"
_SHARES = ((RED, "no camera"), (ORANGE, "one"), (SKY, "two"), (BLUE, "three or more"))
_LOOK_FOR = (
    "Every camera should see the person most of the time; a row that stays dark is a camera to move, or one without "
    "keypoints. What no two cameras see is told by the motion before and after alone. A board that is carried should "
    "show in the row of every camera that is calibrated on it."
)


@dataclass(frozen=True, eq=False)
class Coverage:
    """What was seen, by column of time.

    Attributes:
        edges_s: (columns + 1,) on the session clock.
        joints: for each room view (columns, joints) share of its frames in which each joint was found, NaN where it
            recorded none.
        boards: for each view with boards (columns,) whether it saw one.
    """

    edges_s: Float[np.ndarray, "edges"]
    joints: Mapping[str, Float[np.ndarray, "columns joints"]]
    boards: Mapping[str, Bool[np.ndarray, "columns"]]

    def shares(self) -> Float[np.ndarray, "4 columns"]:
        """Share of the joints that no camera, one, two, and three or more see more often than not."""
        seeing = sum((np.nan_to_num(found) > 0.5).astype(int) for found in self.joints.values())
        count = np.minimum(np.asarray(seeing), len(_SHARES) - 1)
        return np.stack([(count == k).mean(axis=1) for k in range(len(_SHARES))])


def coverage_section(session: Session) -> Section | None:
    """The section on what was seen; None before clocks and keypoints are there."""
    seen = coverage_of(session)
    if seen is None:
        return None
    views = tuple((view, *_figures(found)) for view, found in seen.joints.items())
    shares = seen.shares().mean(axis=1).tolist()
    whole = tuple((label, f"{100 * share:.1f}") for (_, label), share in zip(_SHARES, shares, strict=True))
    return Section(
        "Coverage",
        said_of(result_of(session, _STAGE)),
        tables=(
            Table(("view", "time with the person in view, %", "joints found, mean"), views, (1, 2)),
            Table(("joints are found at a time by", "%"), whole, (1,)),
        ),
        pictures=(Picture.of(png_bytes(coverage_figure(seen)), _LOOK_FOR),),
        wide=True,
    )


def _figures(found: np.ndarray) -> tuple[str, str]:
    recorded = found[np.isfinite(found).all(axis=1)]
    if not len(recorded):
        return "", ""
    return f"{100 * (recorded.max(axis=1) > 0.5).mean():.1f}", f"{recorded.sum(axis=1).mean():.1f}"


def coverage_of(session: Session) -> Coverage | None:
    """Gathers what the views of a session saw; None before clocks and keypoints are there.

    Raises:
        InputError: if a file of these stages is damaged.
    """
    folder, clocks = result_of(session, _STAGE), session.stage("01_sync")
    if not (folder.is_dir() and (clocks / "clocks.json").is_file()):
        return None
    timed = [view.id for view in session.views if (clocks / f"{view.id}.times.npz").is_file()]
    times = {view_id: load_times(session.folder, view_id) for view_id in timed}
    paths = {view.id: folder / f"{view.id}.npz" for view in session.of_role("room") if view.id in times}
    found = {view: load_keypoints(path) for view, path in paths.items() if path.is_file() and len(times[view])}
    skeletons = [keypoints.skeleton.name for keypoints in found.values()]
    room = [view for view, keypoints in found.items() if keypoints.skeleton.name == skeletons[0]]
    if not room:
        return None
    first_s, last_s = min(times[view][0] for view in room), max(times[view][-1] for view in room)
    columns = int(np.clip((last_s - first_s) / _LEAST_S, 1, _COLUMNS))
    edges_s = np.linspace(first_s, np.nextafter(last_s, np.inf), columns + 1)
    joints = {view: _joints(found[view], times[view], edges_s) for view in room}
    boards = {}
    for view, t_s in times.items():
        path = folder / f"{view}.markers.npz"
        if path.is_file():
            rows = load_markers(path).frame_idx
            boards[view] = np.histogram(t_s[np.unique(rows[rows < len(t_s)])], edges_s)[0] > 0
    return Coverage(edges_s, joints, boards)


def _joints(found: Keypoints2d, t_s: np.ndarray, edges_s: np.ndarray) -> Float[np.ndarray, "columns joints"]:
    """Share of the frames of each column in which each joint was found, of the person of whom most were."""
    frames = min(len(t_s), found.num_frames)
    sure = found.score[:frames] > _SURE
    people = np.concatenate([sure, np.zeros((frames, 1, sure.shape[2]), bool)], axis=1)  # where there is nobody
    own = np.take_along_axis(people, people.sum(axis=2).argmax(axis=1)[:, None, None], axis=1)[:, 0]
    total = np.concatenate([np.zeros((1, own.shape[1])), np.cumsum(own, axis=0)])
    starts = np.searchsorted(t_s[:frames], edges_s)
    count = np.diff(starts)
    return np.diff(total[starts], axis=0) / np.where(count > 0, count, np.nan)[:, None]


def coverage_figure(seen: Coverage) -> Figure:
    """How many joints each camera finds, when it sees boards, and how many cameras share a joint, along time."""
    views, boards = list(seen.joints), [view for view, held in seen.boards.items() if held.any()]
    heights = [0.5 + 0.16 * len(views), 1.3, *([0.5 + 0.16 * len(boards)] if boards else [])]
    figure = new_figure(10.0, sum(heights) + 0.6)
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _joint_rows(axes[0], seen)
    _shares(axes[1], seen)
    if boards:
        _board_rows(axes[2], seen, boards)
    axes[-1].set_xlabel("session time, s", fontsize=SMALL)
    axes[0].set_xlim(seen.edges_s[0], seen.edges_s[-1])
    return figure


def _joint_rows(axes: Axes, seen: Coverage) -> None:
    found = np.stack([joints.sum(axis=1) for joints in seen.joints.values()])
    num_joints = next(iter(seen.joints.values())).shape[1]
    axes.set_facecolor(_NOT_RECORDED)
    image = axes.imshow(
        found, aspect="auto", cmap="cividis", vmin=0, vmax=num_joints, interpolation="nearest",
        extent=(seen.edges_s[0], seen.edges_s[-1], len(found) - 0.5, -0.5),
    )  # fmt: skip
    plain(axes, f"joints that each camera finds, of {num_joints} (gray: not recorded)")
    axes.set_yticks(range(len(found)), [literal(view) for view in seen.joints])
    axes.grid(visible=False)
    axes.figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03).ax.tick_params(labelsize=SMALL)


def _shares(axes: Axes, seen: Coverage) -> None:
    """Bands from the bottom: what no camera sees, what one does, and so on."""
    shares = seen.shares()
    axes.stackplot(
        seen.edges_s, np.concatenate([shares, shares[:, -1:]], axis=1), colors=[colour for colour, _ in _SHARES],
        labels=[label for _, label in _SHARES], step="post", linewidth=0,
    )  # fmt: skip
    plain(axes, "share of the joints found by so many cameras at a time")
    axes.set_ylim(0, 1)
    axes.legend(fontsize=SMALL, ncols=len(_SHARES), frameon=False, loc="lower right", bbox_to_anchor=(1.0, 0.98))


def _board_rows(axes: Axes, seen: Coverage, boards: list[str]) -> None:
    for row, view in enumerate(boards):
        axes.imshow(
            np.where(seen.boards[view], 1.0, np.nan)[None], aspect="auto", cmap="gray", vmin=1, vmax=2,
            interpolation="nearest", extent=(seen.edges_s[0], seen.edges_s[-1], row + 0.4, row - 0.4),
        )  # fmt: skip
    plain(axes, "times at which a board or marker was read")
    axes.set_yticks(range(len(boards)), [literal(view) for view in boards])
    axes.set_ylim(len(boards) - 0.5, -0.5)
    axes.grid(visible=False)
