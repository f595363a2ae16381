"""Closest points of a body's mesh, against all triangles one by one, and their derivatives, against the landmarks'."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from fitting.landmarks import Landmarks
from fitting.objective import FitState
from fitting.smpl import PosedBody
from fitting.stand_in import stand_in_body
from fitting.surface import Surface


@pytest.fixture
def posed(rng: np.random.Generator) -> PosedBody:
    body = stand_in_body()
    return body.with_shape(rng.normal(size=10)).with_pose(rng.normal(0, 0.3, (24, 3)), rng.normal(size=3))


def test_the_closest_of_all_triangles_is_found(posed: PosedBody, rng: np.random.Generator) -> None:
    vertices, faces = posed.mesh(), stand_in_body().faces
    points = vertices[rng.integers(0, len(vertices), 40)] + rng.normal(0, 0.015, (40, 3))
    found = Surface(stand_in_body()).match(vertices, points)
    triangles = vertices[faces]
    for k, point in enumerate(points):
        closest = trimesh.triangles.closest_point(triangles, np.broadcast_to(point, (len(faces), 3)))
        apart = np.linalg.norm(closest - point, axis=1)
        # the search is local: where two limbs are equally near it may take the other, never a wrong distance
        assert found.apart_m[k] >= apart.min() - 1e-12
        assert found.apart_m[k] <= apart.min() + 0.002
    np.testing.assert_allclose(found.share.sum(axis=1), 1.0)
    assert (found.share > -1e-9).all()


def test_the_distance_is_negative_inside_and_positive_outside(posed: PosedBody) -> None:
    surface, vertices = Surface(stand_in_body()), posed.mesh()
    normals = surface.normals(vertices)
    for off in (-0.003, 0.003):
        distance = surface.match(vertices, (vertices + off * normals)[::7]).distance_m
        assert np.median(distance) == pytest.approx(off, abs=2e-4)
        assert (np.sign(distance) == np.sign(off)).mean() > 0.98


def test_slopes_are_those_of_the_landmarks(posed: PosedBody, rng: np.random.Generator) -> None:
    surface, vertices = Surface(stand_in_body()), posed.mesh()
    found = surface.match(vertices, vertices[rng.integers(0, len(vertices), 30)] + rng.normal(0, 0.02, (30, 3)))
    by_turn, by_betas = surface.slopes(posed, found)
    corners = Landmarks.of_vertices(stand_in_body(), stand_in_body().faces[found.face_idx].ravel()).linearise(posed)
    for ours, theirs in ((by_turn, corners.by_pose), (by_betas, corners.by_betas)):
        wanted = np.einsum("nk,nc,nkct->nt", found.share, found.normal, theirs.reshape(30, 3, 3, -1))
        np.testing.assert_allclose(ours, wanted, atol=1e-12)


def test_slopes_are_those_of_differences(rng: np.random.Generator) -> None:
    body = stand_in_body()
    surface = Surface(body)
    state = FitState(
        body.with_shape(np.zeros(10)).with_pose(rng.normal(0, 0.3, (1, 24, 3))).rotations,
        rng.normal(size=(1, 3)),
        rng.normal(size=10),
    )
    mesh = state.posed(body).mesh()[0]
    found = surface.match(mesh, mesh[rng.integers(0, len(mesh), 20)])
    posed = body.with_shape(state.betas).with_rotations(state.R[0], state.transl[0])
    slopes = np.concatenate([found.normal, *surface.slopes(posed, found)], axis=1)
    for unknown in rng.integers(0, 85, 25):
        step = np.zeros(85)
        step[unknown] = 1e-6
        ahead, behind = (
            state.retract(sign * step[None, :75], sign * step[75:]).posed(body).mesh()[0] for sign in (1.0, -1.0)
        )
        moved = ((ahead - behind) / 2e-6)[body.faces[found.face_idx]]
        wanted = np.einsum("nk,nc,nkc->n", found.share, found.normal, moved)
        np.testing.assert_allclose(slopes[:, unknown], wanted, atol=1e-7)
