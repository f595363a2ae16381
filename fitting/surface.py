"""Points on a posed body's surface: which are closest to points of a scan, and how those distances change.

A scan's point p lies `d = n . (p - s)` before the surface, s being the closest point of the mesh and n the outward
normal there. A small step of pose and shape moves s by its triangle's corners, and d by minus the normal's part of
that: sliding along the skin changes nothing to first order. A corner is carried by its bones, so with x_k the part of
it that bone k carries, of weight w_k, the turn R_j exp(hat(e)) moves it by (G_j e) x m, where m sums x_k - w_k p_j over
the bones below j (`fitting.landmarks`), and n . ((G_j e) x m) = (G_j^T (m x n)) . e: the derivative needs no matrix for
a vertex. Only corners of matched triangles are ever touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import KDTree

from core.arrays import Float, Int
from core.transforms import hat
from fitting.smpl import BodyModel, PosedBody

_NEAR_VERTICES = 2  # whose triangles are searched; SMPL's triangles are so even that the closest is nearly always there


@dataclass(frozen=True, eq=False)
class Matches:
    """Points of a scan and their places on a body.

    Attributes:
        face_idx: triangle that is closest to each point.
        share: barycentric coordinates of the closest point in it.
        normal: of the surface there, outwards, interpolated between the vertices.
        distance_m: of the point before the surface; negative inside.
        apart_m: distance to the closest point, along any direction.
    """

    face_idx: Int[np.ndarray, "n"]
    share: Float[np.ndarray, "n 3"]
    normal: Float[np.ndarray, "n 3"]
    distance_m: Float[np.ndarray, "n"]
    apart_m: Float[np.ndarray, "n"]


@dataclass(frozen=True, eq=False)
class Surface:
    """The mesh of a body model as something to be close to.

    Attributes:
        body: the model.
    """

    body: BodyModel

    @cached_property
    def _around(self) -> Int[np.ndarray, "vertices most"]:
        """Triangles at every vertex, the first repeated to the length of the longest row."""
        corners = self.body.faces.ravel()
        order = np.argsort(corners, kind="stable")
        counts = np.bincount(corners, minlength=len(self.body.v_template))
        first = np.cumsum(counts) - counts
        column = np.arange(counts.max())
        inside = np.where(column < counts[:, None], column, 0)
        return order[np.minimum(first[:, None] + inside, len(order) - 1)] // 3

    def normals(self, vertices_m: Float[np.ndarray, "vertices 3"]) -> Float[np.ndarray, "vertices 3"]:
        """Outward unit normals of the vertices, triangles weighted by area."""
        corner = vertices_m[self.body.faces]
        area = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        flat = self.body.faces.T.ravel()
        total = [np.bincount(flat, np.tile(area[:, c], 3), minlength=len(vertices_m)) for c in range(3)]
        normals = np.stack(total, axis=-1)
        return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)

    def match(self, vertices_m: Float[np.ndarray, "vertices 3"], points_m: Float[np.ndarray, "n 3"]) -> Matches:
        """The closest points of the mesh to points of a scan."""
        _, near = KDTree(vertices_m).query(points_m, k=_NEAR_VERTICES)
        candidates = self._around[near].reshape(len(points_m), -1)
        closest, share = _closest(vertices_m[self.body.faces[candidates]], points_m[:, None])
        best = np.square(points_m[:, None] - closest).sum(axis=-1).argmin(axis=1)
        row = np.arange(len(points_m))
        face_idx, share, to_point = candidates[row, best], share[row, best], points_m - closest[row, best]
        corner_normals = self.normals(vertices_m)[self.body.faces[face_idx]]
        normal = np.einsum("nk,nkc->nc", share, corner_normals)
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
        distance = np.einsum("nc,nc->n", normal, to_point)
        return Matches(face_idx, share, normal, distance, np.linalg.norm(to_point, axis=-1))

    def slopes(
        self, posed: PosedBody, matches: Matches
    ) -> tuple[Float[np.ndarray, "n turns"], Float[np.ndarray, "n betas"]]:
        """Derivatives of `normal . s` by the increments of every joint's rotation, R_j exp(hat(d_j)), and by the betas.

        By the translation it is the normal.

        Args:
            posed: the body in one pose, without a batch.
            matches: of that pose.
        """
        body, kind = self.body, self.body.kind
        G, p = posed.world_rotations, posed.joints
        used, corner = np.unique(body.faces[matches.face_idx], return_inverse=True)
        corner = corner.reshape(-1, 3)
        weights = body.weights[used]
        blend = body.posedirs[used] @ posed.pose_features
        local = (posed.shaped.rest_vertices[used] + blend)[:, None] - posed.shaped.rest_joints
        arms = weights[..., None] * (np.einsum("jab,vjb->vja", G, local) + p)
        arms, mass = (np.einsum("nk,nk...->n...", matches.share, a[corner]) for a in (arms, weights[..., None]))
        kind.add_children(arms)
        kind.add_children(mass)
        by_turn = np.einsum("jab,nja->njb", G, np.cross(arms - mass * p, matches.normal[:, None]))
        # what each bone makes of the normal, for all that is fixed in the bones' frames
        blended = np.einsum("vj,jab->vab", weights, G)
        in_rest = np.einsum("nkab,na->nkb", blended[corner], matches.normal) * matches.share[..., None]
        by_turn[:, 1:] += self._by_blending(posed, used, corner, in_rest)
        return by_turn.reshape(len(by_turn), -1), self._by_betas(posed, matches, used, corner, in_rest)

    def _by_blending(self, posed: PosedBody, used: np.ndarray, corner: np.ndarray, in_rest: np.ndarray) -> np.ndarray:
        """Derivative (n, joints but the first, 3) by way of the pose blend shapes."""
        dirs = self.body.posedirs[used]
        by_feature = sum(np.einsum("nc,ncf->nf", in_rest[:, k], dirs[corner[:, k]]) for k in range(3))
        turn = np.einsum("jmk,ckn->jmnc", posed.rotations[1:], hat(np.eye(3))).reshape(-1, 9, 3)
        return np.einsum("njf,jfc->njc", np.reshape(by_feature, (len(corner), -1, 9)), turn, optimize=True)

    def _by_betas(
        self, posed: PosedBody, matches: Matches, used: np.ndarray, corner: np.ndarray, in_rest: np.ndarray
    ) -> np.ndarray:
        """Derivative (n, betas): the skin's own and that of the joints it hangs on."""
        body, G = self.body, posed.world_rotations
        num_betas = posed.shaped.betas.shape[-1]
        rest = body.joint_shapedirs[..., :num_betas]
        moved = rest.copy()
        for j, parent in enumerate(body.parents[1:].tolist(), start=1):
            moved[j] = moved[parent] + G[parent] @ (rest[j] - rest[parent])
        carried = moved - G @ rest
        own = body.shapedirs[used][..., :num_betas]
        skin = sum(np.einsum("nc,ncb->nb", in_rest[:, k], own[corner[:, k]]) for k in range(3))
        weights = np.einsum("nk,nkj->nj", matches.share, body.weights[used][corner])
        return skin + np.einsum("nj,jab,na->nb", weights, carried, matches.normal, optimize=True)


def _closest(triangles: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Closest points (..., 3) of triangles (..., 3, 3) to points, and their barycentric coordinates.

    Inside the triangle's prism it is the foot of the perpendicular, else the closest of the feet on the three edges.
    """
    a, b, c = (triangles[..., k, :] for k in range(3))
    ab, ac, ap = b - a, c - a, points - a
    dot = lambda u, v: np.einsum("...c,...c->...", u, v)  # noqa: E731
    uu, uv, vv, pu, pv = dot(ab, ab), dot(ab, ac), dot(ac, ac), dot(ap, ab), dot(ap, ac)
    det = np.maximum(uu * vv - uv * uv, 1e-30)
    s, t = (vv * pu - uv * pv) / det, (uu * pv - uv * pu) / det
    share = np.stack([1 - s - t, s, t], axis=-1)
    outside = np.any(share < 0, axis=-1, keepdims=True)
    edges = []
    for k, (start, along) in enumerate(((a, ab), (b, c - b), (c, a - c))):
        at = np.clip(dot(points - start, along) / np.maximum(dot(along, along), 1e-30), 0.0, 1.0)
        on_edge = np.zeros(share.shape)
        on_edge[..., k], on_edge[..., (k + 1) % 3] = 1 - at, at
        edges.append((np.square(points - start - at[..., None] * along).sum(axis=-1), on_edge))
    nearest = np.argmin([d for d, _ in edges], axis=0)
    on_edges = np.take_along_axis(np.stack([e for _, e in edges]), nearest[None, ..., None], axis=0)[0]
    share = np.where(outside, on_edges, share)
    return np.einsum("...k,...kc->...c", share, triangles), share
