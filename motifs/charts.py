"""Charts of the report: plain, labelled, with units, in colours that the colour-blind tell apart (Okabe and Ito)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from calibration.pictures.canvas import BLACK, BLUE, GREEN, ORANGE, PINK, RED, SKY, png_bytes
from core.skeletons import SMPL_24

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "CONTACTS", "annotation_chart", "new_chart", "png_bytes", "shade_rejected"]

COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK)
CONTACTS = ("left heel", "left toe", "right heel", "right toe")


def new_chart(rows: int = 1, height: float = 2.4) -> tuple[Figure, list[Axes]]:
    """A figure with stacked panels that share the time axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, height * rows), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def annotation_chart(smpl: Mapping[str, np.ndarray]) -> Figure:
    """Joint uncertainty, contacts and rejected frames of a fitted sequence along time.

    Args:
        smpl: arrays of `smpl.npz` (CONVENTIONS.md).
    """
    t_s = smpl["t_s"]
    sigma_mm = 1e3 * np.sqrt(np.trace(smpl["joint_covariance"], axis1=-2, axis2=-1))
    sigma_mm = np.where(smpl["joint_valid"], sigma_mm, np.nan)
    figure, (above, below) = new_chart(2)
    groups = {"pelvis": ["pelvis"], "wrists": ["left_wrist", "right_wrist"], "ankles": ["left_ankle", "right_ankle"]}
    for colour, (name, joints) in zip(COLOURS, groups.items(), strict=False):
        values = sigma_mm[:, [SMPL_24.idx(joint) for joint in joints]]
        above.plot(t_s, values.max(axis=1), color=colour, label=name)
    shade_rejected(above, t_s, smpl["frame_valid"])
    above.set_ylabel("standard deviation, mm")
    above.legend(loc="upper right", ncols=4, frameon=False)
    below.imshow(
        smpl["contacts"].T, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest",
        extent=(t_s[0], t_s[-1], 3.5, -0.5),
    )  # fmt: skip
    below.set_yticks(range(4), CONTACTS)
    below.set_ylabel("ground contact")
    below.set_xlabel("session time, s")
    below.grid(visible=False)
    return figure


def shade_rejected(axis: Axes, t_s: np.ndarray, valid: np.ndarray) -> None:
    """Marks stretches of rejected frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], valid.astype(bool), [True]]).astype(int)))
    for number, (start, stop) in enumerate(edges.reshape(-1, 2)):
        label = "rejected" if number == 0 else None
        axis.axvspan(t_s[start], t_s[min(stop, len(t_s) - 1)], color="#bbbbbb", alpha=0.5, label=label)
