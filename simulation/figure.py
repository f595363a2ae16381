"""What the person looks like: clothes, skin and hair, on a lighter mesh than the body's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import Float, Int
from core.skeletons import SMPL_24
from fitting.smpl import ShapedBody

# BGR of each garment and the joints whose vertices wear it
_SHOES, _TROUSERS, _SHIRT, _SKIN, _HAIR = range(5)
_COLOURS = np.array([(48, 46, 52), (128, 84, 52), (70, 96, 206), (142, 172, 224), (34, 48, 70)], float)
_SHIRT_JOINTS = ("spine1", "spine2", "spine3", "left_collar", "right_collar", "left_shoulder", "right_shoulder")
_SKIN_JOINTS = ("neck", "head", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand")
_SHOE_ABOVE_ANKLE_M, _HAIR_ABOVE_HEAD_M = 0.035, 0.10


@dataclass(frozen=True, eq=False)
class Figure:
    """A choice of the body's vertices with faces between them.

    Attributes:
        vertex_idx: the vertices kept (k,).
        faces: triangles of kept vertices, by their position in `vertex_idx` (f, 3).
        colours: BGR of each (k, 3).
    """

    vertex_idx: Int[np.ndarray, "k"]
    faces: Int[np.ndarray, "f 3"]
    colours: Float[np.ndarray, "k 3"]


def figure_of(rng: np.random.Generator, shaped: ShapedBody, cell_m: float = 0.024) -> Figure:
    """Dresses a body and thins its mesh: one vertex for all those of a garment within a cell of a grid.

    Args:
        rng: weave of the cloth.
        shaped: the body.
        cell_m: side of a cell.
    """
    rest, faces = shaped.rest_vertices, shaped.body.faces
    garment = _garments(shaped)
    cells = np.floor((rest - rest.min(axis=0)) / cell_m).astype(np.int64)
    _, cluster = np.unique(np.column_stack([cells, garment]), axis=0, return_inverse=True)
    cluster = cluster.ravel()
    order = np.lexsort((_off_centre(rest, cluster), cluster))
    kept = order[np.r_[True, np.diff(cluster[order]) > 0]]
    thin = cluster[faces]
    flat = (thin[:, 0] == thin[:, 1]) | (thin[:, 1] == thin[:, 2]) | (thin[:, 2] == thin[:, 0])
    colours = _COLOURS[garment[kept]] * (1 + 0.05 * rng.standard_normal((len(kept), 1)))
    return Figure(kept, thin[~flat], np.clip(colours, 0, 255))


def _off_centre(points: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Distance of points to the mean of their cluster."""
    count = np.bincount(cluster)
    mean = np.stack([np.bincount(cluster, points[:, k]) / count for k in range(3)], axis=-1)
    return np.linalg.norm(points - mean[cluster], axis=-1)


def _garments(shaped: ShapedBody) -> np.ndarray:
    """What each vertex wears."""
    rest, joints = shaped.rest_vertices, shaped.rest_joints
    main = shaped.body.weights.argmax(axis=1)
    garment = np.full(len(rest), _TROUSERS)
    garment[np.isin(main, [SMPL_24.idx(name) for name in _SHIRT_JOINTS])] = _SHIRT
    garment[np.isin(main, [SMPL_24.idx(name) for name in _SKIN_JOINTS])] = _SKIN
    head = joints[SMPL_24.idx("head")]
    above = rest[:, 1] - head[1]
    behind = head[2] - rest[:, 2]
    is_hair = (main == SMPL_24.idx("head")) & ((above > _HAIR_ABOVE_HEAD_M) | ((behind > 0.02) & (above > -0.02)))
    garment[is_hair] = _HAIR
    # arms and trunk are far above in the rest pose
    garment[rest[:, 1] < joints[SMPL_24.idx("left_ankle"), 1] + _SHOE_ABOVE_ANKLE_M] = _SHOES
    return garment
