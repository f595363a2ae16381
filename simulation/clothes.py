"""Clothes and hair over a simulated person's skin, for depth scans; they stand off it and never lie inside."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from core.arrays import Float
from core.skeletons import SMPL_24
from fitting.smpl import PosedBody
from fitting.surface import Surface

DRESSED = ("pelvis", "spine1", "spine2", "spine3", "left_collar", "right_collar", "left_shoulder", "right_shoulder",
           "left_hip", "right_hip")  # fmt: skip
"""Bones under clothes: trunk, upper arms and thighs."""

_FOLD_M = 0.2  # length over which the distance of cloth from the skin changes
_FOREHEAD_M = 0.06  # below the crown: where hair begins
_EDGE_M = 0.01  # over which hair reaches its thickness
_NUM_WAVES = 40


def clothed(
    posed: PosedBody, cloth_m: float, hair_m: float, rng: np.random.Generator
) -> Float[np.ndarray, "vertices 3"]:
    """The skin, with clothes and hair over it that stand off by anything from nothing to what is given."""
    body, rest, mesh = posed.shaped.body, posed.shaped.rest_vertices, posed.mesh()
    covered = body.weights[:, [SMPL_24.idx(name) for name in DRESSED]].sum(axis=1)
    off = cloth_m * covered * _field(rest, rng) + hair_m * _haired(posed) * _field(rest, rng)
    return mesh + off[:, None] * Surface(body).normals(mesh)


def _field(rest: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "vertices"]:
    """A smooth random field, even between 0 and 1."""
    waves = rng.normal(0, 1 / _FOLD_M, (_NUM_WAVES, 3))
    phase = rng.uniform(0, 2 * np.pi, _NUM_WAVES)
    return ndtr(np.sqrt(2 / _NUM_WAVES) * np.cos(rest @ waves.T + phase).sum(axis=1))


def _haired(posed: PosedBody) -> Float[np.ndarray, "vertices"]:
    """How much of the hair's thickness each vertex has: the head behind the ears and over the forehead."""
    body, rest = posed.shaped.body, posed.shaped.rest_vertices
    ids = body.kind.vertex_ids
    ears = rest[[ids["left_ear"], ids["right_ear"]]].mean(axis=0)
    forehead = rest[ids["head_top"], 1] - _FOREHEAD_M
    inward = np.maximum(rest[:, 1] - forehead, ears[2] - rest[:, 2]) / _EDGE_M
    inward = np.minimum(inward, (rest[:, 1] - ears[1] + 2 * _FOREHEAD_M) / _EDGE_M)
    return np.clip(inward, 0, 1) * body.weights[:, SMPL_24.idx("head")]
