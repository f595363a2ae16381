"""Parts of the body that are dressed or bare as a whole."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from core.arrays import Bool, Int
from core.skeletons import SMPL_24
from fitting.smpl import BodyModel

BARE = "bare"
_BONES: dict[str, tuple[str, ...]] = {
    BARE: ("elbow", "wrist", "hand"), "head": ("head",), "trunk": ("pelvis", "spine", "collar", "neck"),
    "upper arms": ("shoulder",), "thighs": ("hip",), "shins": ("knee",), "feet": ("ankle", "foot"),
}  # fmt: skip
PARTS = tuple(_BONES)
"""Lower arms, hands and face come first: skin that is expected to be bare. What is left of the head may have hair."""

_HAIRLINE_M = 0.07  # below the crown, along the face


@lru_cache(maxsize=4)
def part_of_vertex(body: BodyModel) -> Int[np.ndarray, "vertices"]:
    """Number of the part that each vertex belongs to, by its main bone."""
    names = [name.removeprefix("left_").removeprefix("right_").rstrip("123") for name in SMPL_24.joints]
    part_of_bone = np.array([next(k for k, part in enumerate(PARTS) if name in _BONES[part]) for name in names])
    return np.where(_face(body), 0, part_of_bone[body.weights.argmax(axis=1)])


def _face(body: BodyModel) -> Bool[np.ndarray, "vertices"]:
    """The head before the ears and below the hairline."""
    ids, rest = body.kind.vertex_ids, body.v_template
    ears = rest[[ids["left_ear"], ids["right_ear"]], 2].mean()
    hairline = rest[ids["head_top"], 1] - _HAIRLINE_M
    on_head = body.weights.argmax(axis=1) == SMPL_24.idx("head")
    return on_head & (rest[:, 2] > ears) & (rest[:, 1] < hairline)
