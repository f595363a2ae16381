"""A whole clip at another frame rate: what `dataset.resample` does for features, for every field of a clip."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np

from core.arrays import Float
from dataset.resample import neighbours, num_instants
from dataset.rotations import slerp
from dataset.schema import Clip


def clip_at_rate(clip: Clip, rate: Fraction) -> Clip:
    """The clip at `rate`, from its first frame on.

    Positions go in straight lines, rotations along SO(3). A joint is measured, and a frame valid, where both frames
    around it are; a frame's reasons are those of both. Covariances are mixed by the weights, which is at least that of
    the mixed joint however the errors of both frames go together. Labels are those of the nearest frame.
    """
    if rate == clip.rate:
        return clip
    place = np.arange(num_instants(len(clip), clip.rate, float(rate))) * float(clip.rate / rate)
    left, right, weight = neighbours(place, len(clip))

    def mixed(array: Float[np.ndarray, "frames *rest"]) -> Float[np.ndarray, "instants *rest"]:
        w = weight.reshape(-1, *(1,) * (array.ndim - 1))
        return np.where(w == 0, array[left], (1 - w) * array[left] + w * array[right]).astype(np.float32)

    poses = slerp(clip.poses[left].astype(np.float64), clip.poses[right].astype(np.float64), weight[:, None])
    nearest = np.where(weight < 0.5, left, right)
    return dataclasses.replace(
        clip,
        labels=dataclasses.replace(clip.labels, rate=f"{rate.numerator}/{rate.denominator}"),
        poses=np.where((left == right)[:, None, None], clip.poses[left], poses).astype(np.float32),
        trans=mixed(clip.trans),
        joints_m=mixed(clip.joints_m),
        joint_covariance=mixed(clip.joint_covariance),
        valid=clip.valid[left] & clip.valid[right],
        reasons=clip.reasons[left] | clip.reasons[right],
        contacts=mixed(clip.contacts),
        actions=None if clip.actions is None else clip.actions[nearest],
    )
