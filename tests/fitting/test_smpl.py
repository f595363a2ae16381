"""The steps of the body model against smplx, on the stand-in and on the benchmark's body."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import smplx
import torch
from scipy.spatial.transform import Rotation
from smplx.utils import Struct

from fitting.smpl import BodyModel, rodrigues
from fitting.stand_in import stand_in_body


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return stand_in_body()


def _reference(body: BodyModel, betas: np.ndarray, poses: np.ndarray, transl: np.ndarray) -> tuple[np.ndarray, ...]:
    model = smplx.SMPL("", data_struct=Struct(**body.arrays()), dtype=torch.float64)
    given = [torch.tensor(a) for a in (np.broadcast_to(betas, (len(poses), 10)), poses[:, 0], transl)]
    output = model(
        betas=given[0], global_orient=given[1], body_pose=torch.tensor(poses[:, 1:].reshape(len(poses), 69)),
        transl=given[2],
    )  # fmt: skip
    return output.vertices.detach().numpy(), output.joints[:, :24].detach().numpy()


# smplx works in float64 here, but adds 1e-8 to every axis-angle before taking its length
TOLERANCE_M = 1e-6


def test_vertices_and_joints_equal_smplx_on_the_stand_in(body: BodyModel, rng: np.random.Generator) -> None:
    betas, poses, transl = rng.normal(size=10), 0.5 * rng.normal(size=(3, 24, 3)), rng.normal(size=(3, 3))
    posed = body.with_shape(betas).with_pose(poses, transl)
    vertices, joints = _reference(body, betas, poses, transl)
    np.testing.assert_allclose(posed.mesh(), vertices, atol=TOLERANCE_M)
    np.testing.assert_allclose(posed.joints, joints, atol=TOLERANCE_M)


def test_vertices_equal_smplx_on_the_benchmark_body(shared: Path, rng: np.random.Generator) -> None:
    body = BodyModel.load(shared / "bench" / "smpl_body.npz")
    betas, poses, transl = rng.normal(size=10), 0.5 * rng.normal(size=(2, 24, 3)), rng.normal(size=(2, 3))
    vertices, joints = _reference(body, betas, poses, transl)
    posed = body.with_shape(betas).with_pose(poses, transl)
    np.testing.assert_allclose(posed.mesh(), vertices, atol=TOLERANCE_M)
    np.testing.assert_allclose(posed.joints, joints, atol=TOLERANCE_M)


def test_pose_blend_shapes_matter(body: BodyModel) -> None:
    poses = np.zeros((24, 3))
    poses[18, 1] = -1.5  # a bent left elbow
    posed = body.with_shape(np.zeros(10)).with_pose(poses)
    plain = dataclasses.replace(body, posedirs=np.zeros_like(body.posedirs)).with_shape(np.zeros(10)).with_pose(poses)
    lift = np.linalg.norm(posed.mesh() - plain.mesh(), axis=1).max()
    assert 0.001 < lift < 0.015


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_any_batch_shape(body: BodyModel, rng: np.random.Generator, batch: tuple[int, ...]) -> None:
    poses, transl = 0.3 * rng.normal(size=(*batch, 24, 3)), rng.normal(size=(*batch, 3))
    posed = body.with_shape(np.ones(10)).with_pose(poses, transl)
    assert posed.joints.shape == (*batch, 24, 3)
    assert posed.mesh().shape == (*batch, 6890, 3)
    one = body.with_shape(np.ones(10)).with_pose(poses.reshape(-1, 24, 3)[-1], transl.reshape(-1, 3)[-1])
    np.testing.assert_allclose(posed.joints.reshape(-1, 24, 3)[-1], one.joints, atol=1e-12)


def test_betas_may_differ_by_frame(body: BodyModel, rng: np.random.Generator) -> None:
    betas, poses = rng.normal(size=(2, 10)), 0.3 * rng.normal(size=(2, 24, 3))
    together = body.with_shape(betas).with_pose(poses)
    for k in range(2):
        alone = body.with_shape(betas[k]).with_pose(poses[k])
        np.testing.assert_allclose(together.mesh()[k], alone.mesh(), atol=1e-12)


def test_the_root_and_transl_convert_both_ways(body: BodyModel, rng: np.random.Generator) -> None:
    shaped, root = body.with_shape(2 * rng.normal(size=10)), rng.normal(size=(4, 3))
    posed = shaped.with_pose(rng.normal(size=(4, 24, 3)), shaped.transl_from_root(root))
    np.testing.assert_allclose(posed.root.t, root, atol=1e-12)


def test_rodrigues_equals_scipy_down_to_no_rotation(rng: np.random.Generator) -> None:
    w = rng.normal(size=(200, 3)) * np.logspace(-9, 0.4, 200)[:, None]
    np.testing.assert_allclose(rodrigues(w), Rotation.from_rotvec(w).as_matrix(), atol=1e-12)
    np.testing.assert_array_equal(rodrigues(np.zeros((1, 3)))[0], np.eye(3))
