"""The skin of the stand-in body: an implicit human figure and one closed, mirror-symmetric mesh on it.

The figure is a smooth union of tapered capsules, measured after an average adult of 1.70 m in SMPL's rest pose. The
mesh is made for the left half (x >= 0) by surface nets (Gibson 1998) and mirrored, so it is one watertight surface
without handles: 6,890 vertices then mean 13,776 triangles, SMPL's own counts (F = 2V - 4).
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Callable

import numpy as np
from scipy.interpolate import PchipInterpolator

from core.arrays import Float, Int

Distance = Callable[[np.ndarray], np.ndarray]

SOLE_Y = -1.165  # the ground under the rest pose, metres
_BLEND_M = 0.011  # radius of the fillets between parts
_GRID_M = 0.021  # cell of the first mesh: some 5,300 vertices; head, hands and feet get the rest
_RELAX_STEPS = 10

# The trunk is a loft of stadium-shaped slices: height, half width of the flat part, radius, depth of the middle.
_TRUNK = np.array([
    (-0.300, 0.058, 0.098, 0.000), (-0.250, 0.064, 0.108, 0.004), (-0.190, 0.056, 0.110, 0.008),
    (-0.120, 0.046, 0.103, 0.012), (-0.040, 0.044, 0.098, 0.010), (0.040, 0.052, 0.102, 0.008),
    (0.110, 0.062, 0.108, 0.006), (0.160, 0.076, 0.102, 0.000), (0.205, 0.088, 0.078, -0.012),
    (0.235, 0.096, 0.050, -0.020),
])  # fmt: skip
# Limbs and other parts of the left half are chains of tapered capsules: points (x, y, z) with their radii, and how the
# cross-section is squashed along x, y, z.
_ROUND = (1.0, 1.0, 1.0)
_CHAINS: tuple[tuple[tuple[tuple[float, float, float, float], ...], tuple[float, float, float]], ...] = (
    # shoulder girdle, arm, mitten, thumb
    (((0.000, 0.280, -0.028, 0.044), (0.120, 0.245, -0.022, 0.040)), _ROUND),
    (
        ((0.150, 0.214, -0.016, 0.056), (0.195, 0.224, -0.020, 0.051), (0.280, 0.220, -0.028, 0.046),
         (0.360, 0.216, -0.036, 0.042), (0.432, 0.213, -0.042, 0.038), (0.500, 0.216, -0.042, 0.040),
         (0.590, 0.220, -0.043, 0.034), (0.681, 0.222, -0.043, 0.026), (0.715, 0.220, -0.044, 0.026)),
        _ROUND,
    ),
    (((0.705, 0.219, -0.046, 0.032), (0.770, 0.215, -0.051, 0.040), (0.850, 0.211, -0.056, 0.033)), (1.0, 0.46, 1.0)),
    (((0.702, 0.214, -0.022, 0.016), (0.760, 0.206, 0.028, 0.013)), _ROUND),
    # neck and head: skull, jaw, nose, ear
    (((0.000, 0.235, -0.022, 0.058), (0.000, 0.360, 0.006, 0.052)), _ROUND),
    (((0.000, 0.454, -0.004, 0.077), (0.000, 0.446, 0.030, 0.074)), (0.95, 1.14, 1.0)),
    (((0.000, 0.368, 0.058, 0.038), (0.022, 0.372, 0.052, 0.038)), _ROUND),
    (((0.000, 0.436, 0.098, 0.009), (0.000, 0.404, 0.114, 0.014)), _ROUND),
    (((0.078, 0.440, 0.008, 0.020), (0.075, 0.404, 0.014, 0.013)), (0.55, 1.0, 1.0)),
    # buttock, leg, calf
    (((0.064, -0.290, -0.028, 0.084), (0.076, -0.335, -0.026, 0.080)), _ROUND),
    (
        ((0.080, -0.310, 0.006, 0.087), (0.090, -0.420, 0.012, 0.080), (0.097, -0.540, 0.016, 0.068),
         (0.101, -0.690, 0.016, 0.055), (0.101, -0.760, 0.008, 0.050), (0.097, -0.900, -0.008, 0.045),
         (0.089, -1.040, -0.024, 0.034), (0.088, -1.110, -0.032, 0.036)),
        _ROUND,
    ),
    (((0.102, -0.760, -0.012, 0.044), (0.099, -0.830, -0.022, 0.046), (0.094, -0.930, -0.026, 0.038)), _ROUND),
    # foot: heel, instep, sole, ball, big toe, small toes; the ground cuts it flat
    (((0.087, -1.128, -0.052, 0.034), (0.088, -1.136, -0.035, 0.036)), _ROUND),
    (((0.089, -1.098, -0.014, 0.036), (0.106, -1.136, 0.078, 0.030)), _ROUND),
    (((0.090, -1.138, -0.040, 0.032), (0.112, -1.144, 0.075, 0.031)), _ROUND),
    (((0.096, -1.143, 0.076, 0.025), (0.136, -1.147, 0.062, 0.021)), _ROUND),
    (((0.096, -1.143, 0.085, 0.025), (0.100, -1.148, 0.152, 0.020)), _ROUND),
    (((0.117, -1.145, 0.080, 0.021), (0.124, -1.150, 0.134, 0.017)), _ROUND),
    (((0.138, -1.147, 0.065, 0.019), (0.143, -1.151, 0.108, 0.015)), _ROUND),
)  # fmt: skip


_REACH_M = 0.06  # a part is felt this far from its box; its fillet has died away there


def half_distance(points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
    """Approximate signed distance to the figure near its surface, metres, negative inside; meant for x >= 0."""
    flat = points.reshape(-1, 3)
    total = np.exp(-np.full(len(flat), _REACH_M) / _BLEND_M)
    for low, high, distance in _PARTS:
        near = np.flatnonzero(((flat > low) & (flat < high)).all(axis=1))
        total[near] += np.exp(-distance(flat[near]) / _BLEND_M)
    return np.maximum(-_BLEND_M * np.log(total), SOLE_Y - flat[:, 1]).reshape(points.shape[:-1])


_TRUNK_SHAPE = PchipInterpolator(_TRUNK[:, 0], _TRUNK[:, 1:])  # cubic without overshoot


def _trunk_distance(points: np.ndarray) -> np.ndarray:
    height = np.clip(points[:, 1], _TRUNK[0, 0], _TRUNK[-1, 0])
    width, radius, depth = _TRUNK_SHAPE(height).T
    x, z, above = np.maximum(points[:, 0] - width, 0), points[:, 2] - depth, points[:, 1] - height
    return np.sqrt(x * x + z * z + above * above) - radius


def _chain_distance(
    chain: tuple[tuple[float, float, float, float], ...], squash: tuple[float, float, float], points: np.ndarray
) -> np.ndarray:
    scaled, scale = points / squash, min(squash)
    nearest = np.full(points.shape[:-1], np.inf)
    for (*a, radius_a), (*b, radius_b) in itertools.pairwise(chain):
        start, axis = np.array(a) / squash, (np.array(b) - a) / squash
        p = scaled - start
        along = np.clip(p @ axis / (axis @ axis), 0, 1)
        gap = p - along[..., None] * axis
        np.minimum(nearest, np.sqrt((gap * gap).sum(axis=-1)) - radius_a - (radius_b - radius_a) * along, out=nearest)
    return nearest * scale


def _boxed(knots: np.ndarray, distance: Distance) -> tuple[np.ndarray, np.ndarray, Distance]:
    """A part with the box outside which it is not felt; `knots` are points and radii."""
    reach = knots[:, 3:] + _REACH_M
    return (knots[:, :3] - reach).min(axis=0), (knots[:, :3] + reach).max(axis=0), distance


_PARTS = [
    _boxed(np.insert(_TRUNK[:, [0, 3, 2]] + [0, 0, 0.1], 0, 0.0, axis=1), _trunk_distance),
    *(_boxed(np.array(chain), functools.partial(_chain_distance, chain, squash)) for chain, squash in _CHAINS),
]


def mirrored_mesh(num_vertices: int) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "f 3"], Int[np.ndarray, "v"]]:
    """The whole skin: vertices (metres), triangles (outward), and the mirror image of every vertex."""
    points, faces = _surface_net(_GRID_M)
    points = _relax(points, faces, _RELAX_STEPS)
    points, faces = _split_to(points, faces, num_vertices)
    points = _relax(points, faces, _RELAX_STEPS)
    points[:, 1] = np.where(points[:, 1] < SOLE_Y + 0.003, SOLE_Y, points[:, 1])
    return _mirror(points, faces)


def _surface_net(cell_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Left half of the surface: one vertex in every cell that the surface crosses, one quad for every crossed edge."""
    low, high = np.array([-0.5 * cell_m, SOLE_Y - 1.7 * cell_m, -0.165]), np.array([0.94, 0.60, 0.24])
    axes = [np.arange(a, b, cell_m) for a, b in zip(low, high, strict=True)]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    nodes_abs = nodes.copy()
    nodes_abs[..., 0] = np.abs(nodes_abs[..., 0])
    inside = half_distance(nodes_abs) < 0
    quads = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        change = np.diff(inside.astype(np.int8), axis=axis)
        node = np.argwhere(change != 0)
        node = node[node[:, 0] >= 1]  # the plane x = 0 runs through the middle of the first cells
        corner = np.stack([node, node, node, node], axis=1)
        corner[:, [0, 3], u] -= 1
        corner[:, [0, 1], v] -= 1
        rising = change[tuple(node.T)] > 0
        corner[rising] = corner[rising][:, ::-1]  # outside on the low side: turn the quad over
        quads.append(corner)
    cells = np.concatenate(quads)
    flat = np.ravel_multi_index(tuple(np.moveaxis(cells, -1, 0)), inside.shape)
    used, quad = np.unique(flat, return_inverse=True)
    quad = quad.reshape(flat.shape)
    cell = np.stack(np.unravel_index(used, inside.shape), axis=-1)
    points = low + (cell + 0.5) * cell_m
    points[cell[:, 0] == 0, 0] = 0.0
    return points, np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])


def _relax(points: np.ndarray, faces: np.ndarray, steps: int) -> np.ndarray:
    """Evens the triangles out along the surface; vertices on the mirror plane stay on it."""
    on_plane = points[:, 0] == 0.0
    edges = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    sides = np.concatenate([edges, edges[:, ::-1]])
    # a vertex on the mirror plane has its other neighbours in the mirror image: they count twice there
    weight = np.where(on_plane[sides[:, 0]] & ~on_plane[sides[:, 1]], 2.0, 1.0)
    count = np.bincount(sides[:, 0], weight, len(points))
    points = _project(points, on_plane, 4)
    for _ in range(steps):
        mean = np.stack(
            [np.bincount(sides[:, 0], weight * points[sides[:, 1], c], len(points)) / count for c in range(3)], axis=-1
        )
        points = _project(points + 0.6 * (mean - points), on_plane, 1)
    return _project(points, on_plane, 3)


def _project(points: np.ndarray, on_plane: np.ndarray, steps: int) -> np.ndarray:
    """Newton steps onto the surface along its gradient."""
    h = 5e-4
    for _ in range(steps):
        probes = points[:, None] + h * np.concatenate([np.zeros((1, 3)), np.eye(3)])
        values = half_distance(probes)
        gradient = (values[:, 1:] - values[:, :1]) / h
        gradient[on_plane, 0] = 0.0
        squared = np.maximum((gradient**2).sum(axis=1), 0.05)
        step = gradient * (values[:, 0] / squared)[:, None]
        length = np.linalg.norm(step, axis=1, keepdims=True)
        points = points - step * np.minimum(1.0, 0.02 / np.maximum(length, 1e-12))
        points[:, 0] = np.where(on_plane, 0.0, np.maximum(points[:, 0], 1e-3))
    return points


def _detail(middle: np.ndarray) -> float:
    """How much finer than the trunk the mesh should be at a place: face, hands and feet."""
    x, y, z = middle
    if y > 0.34:
        return 1.9 if z > 0.05 else 1.3
    return 2.0 if x > 0.67 or y < -1.05 else 1.0


class _Splitter:
    """A half mesh whose edges can be halved, longest first."""

    def __init__(self, points: np.ndarray, faces: np.ndarray) -> None:
        self.points = list(points)
        self.faces: list[tuple[int, int, int]] = [(a, b, c) for a, b, c in faces.tolist()]
        self.owners: dict[tuple[int, int], set[int]] = {}
        self.queue: list[tuple[float, int, int]] = []
        for index in range(len(self.faces)):
            self._attach(index)
        for edge in self.owners:
            self._enqueue(edge)

    def _attach(self, index: int) -> None:
        a, b, c = self.faces[index]
        for edge in (_key(a, b), _key(b, c), _key(c, a)):
            self.owners.setdefault(edge, set()).add(index)

    def _enqueue(self, edge: tuple[int, int]) -> None:
        a, b = (self.points[i] for i in edge)
        heapq.heappush(self.queue, (-float(np.linalg.norm(a - b)) * _detail((a + b) / 2), *edge))

    def halve_longest(self, most: int) -> int:
        """Halves one edge; how many vertices that adds to the mirrored mesh, at most `most` (none if skipped)."""
        _, a, b = heapq.heappop(self.queue)
        on_plane = self.points[a][0] == 0.0 and self.points[b][0] == 0.0
        # an edge on the mirror plane bounds one triangle of this half and adds one vertex; any other two and two
        added = 1 if on_plane else 2
        if added > most or len(self.owners.get((a, b), ())) != added:
            return 0
        middle = len(self.points)
        self.points.append((self.points[a] + self.points[b]) / 2)
        fresh = {_key(a, middle), _key(b, middle)}
        for index in sorted(self.owners.pop((a, b))):
            corners = self.faces[index]
            turn = next(i for i in range(3) if {corners[i], corners[(i + 1) % 3]} == {a, b})
            p, q, r = corners[turn], corners[(turn + 1) % 3], corners[(turn + 2) % 3]
            self.owners[_key(q, r)].discard(index)
            self.faces[index] = (p, middle, r)
            self.faces.append((middle, q, r))
            self._attach(index)
            self._attach(len(self.faces) - 1)
            fresh.add(_key(middle, r))
        for edge in sorted(fresh):
            self._enqueue(edge)
        return added


def _key(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def _split_to(points: np.ndarray, faces: np.ndarray, num_vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Halves the longest edges until the mirrored mesh has exactly `num_vertices`."""
    mesh = _Splitter(points, faces)
    missing = num_vertices - int(2 * len(points) - np.sum(points[:, 0] == 0.0))
    while missing > 0:
        missing -= mesh.halve_longest(missing)
    return np.array(mesh.points), np.array(mesh.faces)


def _mirror(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Adds the right half: vertices, triangles, and each vertex's mirror image."""
    num = len(points)
    off_plane = np.flatnonzero(points[:, 0] != 0.0)
    image = np.arange(num)
    image[off_plane] = num + np.arange(len(off_plane))
    whole = np.concatenate([points, points[off_plane] * [-1, 1, 1]])
    return whole, np.concatenate([faces, image[faces][:, ::-1]]), np.concatenate([image, off_plane])
