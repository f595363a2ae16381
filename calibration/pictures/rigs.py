"""The rig in the room, from above and from the side; and how well each camera is placed and fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from calibration.pictures.canvas import (
    BLUE,
    CHI2_95,
    GRAY,
    GREEN,
    ORANGE,
    PLAIN,
    RED,
    SMALL,
    ellipse,
    literal,
    new_figure,
    nice_factor,
    place_labels,
    plain,
)
from core.arrays import Float
from core.cameras import Camera, Rig
from core.transforms import SE3, hat

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CONE = 0.22  # length of a viewing cone over the extent of the room
_VISIBLE = 0.05  # half axis over the extent of the room that the median ellipse is magnified to
_LARGEST = 0.15  # and that no ellipse may exceed by being magnified


@dataclass(frozen=True, eq=False)
class Room:
    """What stands in the room.

    Attributes:
        rig: fixed cameras.
        targets: `world_from_target` of boards and markers that do not move.
        sizes_m: width and height of their prints, where they are flat.
        camera_covariance: (6, 6) of each camera's `world_from_cam`, (rotation, translation).
        target_covariance: the same of targets.
    """

    rig: Rig
    targets: Mapping[str, SE3] = field(default_factory=dict)
    sizes_m: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    camera_covariance: Mapping[str, Float[np.ndarray, "6 6"]] = field(default_factory=dict)
    target_covariance: Mapping[str, Float[np.ndarray, "6 6"]] = field(default_factory=dict)

    def outline(self, name: str) -> Float[np.ndarray, "5 3"]:
        """Rim of a target's print in the world; a point, five times, where its size is not known."""
        width, height = self.sizes_m.get(name, (0.0, 0.0))
        corners = np.array([[0, 0, 0], [width, 0, 0], [width, height, 0], [0, height, 0], [0, 0, 0.0]])
        return self.targets[name].apply(corners)

    @property
    def extent_m(self) -> float:
        """Longest side of the room as far as it is known, metres."""
        points = np.concatenate([self.rig.centres, *[self.outline(name) for name in self.targets]])
        return float(max(1.0, np.ptp(points, axis=0).max()))


def rig_figure(room: Room) -> Figure:
    """The room from above (x to the right, y up) and from the side (x to the right, z up), to one scale."""
    figure, above, side = plan_and_side(*_bounds(room))
    factor = _magnification(room)
    draw_room(above, room, (0, 1), factor)
    draw_room(side, room, (0, 2), factor)
    above.set_title(f"from above{_ellipses_text(room, factor)}", fontsize=PLAIN, loc="left")
    figure.legend(
        *above.get_legend_handles_labels(), fontsize=SMALL, loc="outside lower center", ncols=4, frameon=False
    )
    label_room(above, room, (0, 1))
    label_room(side, room, (0, 2), targets=False)
    return figure


def plan_and_side(low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"]) -> tuple[Figure, Axes, Axes]:
    """A figure with a plan and a side view of a box in the world, to one scale and with one x axis."""
    sides = np.maximum(high - low, 0.3 * (high[0] - low[0]))
    # tall enough that the width limits both panels, which so stay aligned
    figure = new_figure(8.0, 7.4 * (sides[1] + sides[2]) / sides[0] + 1.4)
    above, side = figure.subplots(2, 1, height_ratios=sides[1:], sharex=True)
    for axes, j in ((above, 1), (side, 2)):
        axes.set(xlim=(low[0], high[0]), ylim=(low[j], high[j]))
        axes.set_aspect("equal", anchor="N")
    plain(above, "from above", "", "y, m")
    plain(side, "from the side", "x, m", "z, height, m")
    side.axhline(0, color=GRAY, linewidth=1, zorder=0)
    return figure, above, side


def _bounds(room: Room) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Lowest and highest corner of what is drawn, the floor included."""
    cones = [_cone(camera, _CONE * room.extent_m) for camera in room.rig]
    points = np.concatenate([*cones, *[room.outline(name) for name in room.targets], room.rig.centres * [1, 1, 0]])
    pad = 0.04 * np.ptp(points, axis=0).max()
    return points.min(axis=0) - pad, points.max(axis=0) + pad


def _magnification(room: Room) -> float:
    """The factor by which ellipses are drawn larger: the middle one can be seen, and the largest hides nothing."""
    sigma = [np.sqrt(max(np.linalg.eigvalsh(c)[-1], 0.0)) for _, c, _, _ in _places(room) if np.isfinite(c).all()]
    axis = np.sqrt(CHI2_95) * np.array([value for value in sigma if value > 0])
    if not len(axis):
        return 1.0
    limits = ((np.median(axis), _VISIBLE), (axis.max(), _LARGEST))
    return min(nice_factor(float(value), share * room.extent_m) for value, share in limits)


def _ellipses_text(room: Room, factor: float) -> str:
    if not (room.camera_covariance or room.target_covariance):
        return ""
    return f"; ellipses hold 95 %, drawn {factor:g} times as large" if factor != 1 else "; ellipses hold 95 %"


def draw_room(axes: Axes, room: Room, plane: tuple[int, int], magnified: float, *, faint: bool = False) -> None:
    """Cameras with their viewing cones, targets with their rims, and ellipses, projected on two axes of the world."""
    i, j = plane
    strength = 0.35 if faint else 1.0
    for number, name in enumerate(room.targets):
        rim = room.outline(name)[:, [i, j]]
        label = "targets" if number == 0 else None
        axes.plot(*rim.T, color=ORANGE, linewidth=1.0, alpha=strength, label=label, zorder=2)
        axes.fill(*rim.T, color=ORANGE, alpha=0.10 * strength, linewidth=0, zorder=1)
    for camera in room.rig:
        cone = _cone(camera, _CONE * room.extent_m)[:, [i, j]]
        apex, rim = cone[0], cone[1:]
        # the two opposite sides of the picture that lie farther apart in this view
        across = rim[::2] if np.linalg.norm(rim[2] - rim[0]) > np.linalg.norm(rim[3] - rim[1]) else rim[1::2]
        wedge = np.stack([apex, across[0], rim.mean(axis=0), across[1]])
        axes.fill(*wedge.T, color=BLUE, alpha=0.13 * strength, linewidth=0, zorder=1)
        axes.plot(*wedge[[1, 0, 3]].T, color=BLUE, linewidth=0.6, alpha=0.7 * strength, zorder=2)
    axes.plot(*room.rig.centres[:, [i, j]].T, "o", color=BLUE, markersize=4, alpha=strength, label="cameras", zorder=4)
    if not faint:
        _draw_ellipses(axes, room, plane, magnified)


def _draw_ellipses(axes: Axes, room: Room, plane: tuple[int, int], magnified: float) -> None:
    labelled = set()
    for centre, covariance, colour, label in _places(room):
        if np.isfinite(covariance).all() and np.trace(covariance) > 0:
            rim = ellipse(centre[list(plane)], covariance[np.ix_(plane, plane)], magnified)
            axes.plot(*rim.T, color=colour, linewidth=1.2, zorder=5, label=None if label in labelled else label)
            labelled.add(label)


def _places(room: Room) -> Iterator[tuple[np.ndarray, np.ndarray, str, str]]:
    """Where cameras and the middles of targets are, with the covariance (3, 3) of that."""
    for name, covariance in room.camera_covariance.items():
        if name in room.rig.ids:
            yield room.rig[name].centre, covariance[3:, 3:], RED, "camera, 95 %"
    for name, covariance in room.target_covariance.items():
        if name in room.targets:
            pose, middle = room.targets[name], np.append(np.array(room.sizes_m.get(name, (0.0, 0.0))) / 2, 0.0)
            by_pose = np.concatenate([-pose.R @ hat(middle), np.eye(3)], axis=1)  # of R exp(w) x + t + v
            yield pose.apply(middle), by_pose @ covariance @ by_pose.T, GREEN, "target, 95 %"


def _cone(camera: Camera, reach_m: float) -> Float[np.ndarray, "5 3"]:
    """Apex of a camera's field of view, and the middles of its left, upper, right and lower rim `reach_m` away."""
    width, height = camera.lens.size_px
    x, y = np.array([0.0, 0.5, 1.0, 0.5]), np.array([0.5, 0.0, 0.5, 1.0])
    rays = camera.lens.unproject(np.stack([x * (width - 1), y * (height - 1)], axis=-1))
    # a fisheye's picture may end within the image: the axis stands in for what lies outside
    rays = np.where(np.isfinite(rays), rays, np.array([0.0, 0.0, 1.0]))
    return camera.world_from_cam.apply(reach_m * np.concatenate([np.zeros((1, 3)), rays]))


def label_room(axes: Axes, room: Room, plane: tuple[int, int], *, targets: bool = True) -> None:
    """Names of the cameras and, if wanted, of the targets."""
    names, points = list(room.rig.ids), [camera.centre[list(plane)] for camera in room.rig]
    colours = [BLUE] * len(names)
    if targets:
        names += list(room.targets)
        points += [room.outline(name)[:4].mean(axis=0)[list(plane)] for name in room.targets]
        colours += ["#8A6100"] * len(room.targets)  # the targets' orange, dark enough to read
    place_labels(axes, np.array(points).reshape(-1, 2), names, colours, size=SMALL)


def camera_figure(cameras: Sequence[str], panels: Sequence[tuple[str, Mapping[str, float], float | None]]) -> Figure:
    """Figures of each camera, a panel each: (axis label with unit, value by camera, limit or None)."""
    figure = new_figure(2.6 * len(panels) + 1.2, 0.19 * len(cameras) + 1.0)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    rows = np.arange(len(cameras))
    for panel, (label, values, limit) in zip(axes, panels, strict=True):
        value = np.array([values.get(name) or np.nan for name in cameras], float)
        panel.hlines(rows, 0, value, color=GRAY, linewidth=1)
        over = value > limit if limit is not None else np.zeros(len(value), bool)
        panel.plot(value[~over], rows[~over], "o", color=BLUE, markersize=4.5)
        panel.plot(value[over], rows[over], "X", color=RED, markersize=6)
        if limit is not None and np.nanmax(value, initial=0.0) > 0.4 * limit:
            panel.axvline(limit, color=RED, linewidth=1, linestyle="--")
        plain(panel, "", label, "")
        panel.set_xlim(left=0)
        panel.xaxis.label.set_fontsize(PLAIN)
    axes[0].set_yticks(rows, [literal(name) for name in cameras])
    axes[0].set_ylim(len(cameras) - 0.5, -0.5)
    return figure
