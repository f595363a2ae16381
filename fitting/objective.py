"""The fitting objective of a sequence: the terms of `residuals` pulled back to SMPL's parameters as one arrow system.

Unknowns of a frame, in slots of three: translation, then right-multiplied rotation increments of the joints, 24 of SMPL
and 22 of bodies whose fingers are held.
Globals: the betas, then six numbers for each foot camera's mount.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.arrays import Float
from core.transforms import SE3, so3_log
from fitting.assembly import add_anchors, add_chain, add_joints, add_links, add_seat, add_time, add_whole
from fitting.backend import CPU
from fitting.fit_model import FitModel
from fitting.foot_mount import FOOT_SCALE, FootObservation, foot_term
from fitting.held import with_held
from fitting.mount_geometry import FootShape, MountGeometryConfig, mount_term
from fitting.own_view import own_view_term
from fitting.prior import acceleration_sigma, pose_prior
from fitting.rays import Rays
from fitting.residuals import (
    PointTerm,
    TimeTerm,
    acceleration_term,
    floor_term,
    limit_term,
    point_term,
    reprojection_term,
    rest_term,
    velocity_term,
)
from fitting.smpl import BodyModel, PosedBody, rodrigues
from fitting.solver import ArrowSystem
from fitting.standing import StandingConfig, standing_term

_FIXED_SIGMA = 1e-3  # spread of betas that are known


@dataclass(frozen=True)
class Weights:
    """How much each term is believed.

    Attributes:
        keypoint_sigma_px: noise of a good keypoint's coordinate.
        keypoint_scale_px: error at which a keypoint has lost three quarters of its pull.
        point_sigma_m: noise of a triangulated point, for the first stage.
        point_scale_m: error at which a triangulated point has lost three quarters of its pull.
        floor_sigma_m: how far soles may sink below the floor.
        rest_scale: the spread of joints about rest, times the table's.
        limit_sigma_rad: how far a joint may leave its range.
        acceleration_scale: the spread of accelerations, times the table's.
        velocity_scale: spread of velocities: so many times the distance that the acceleration spread covers in a frame.
            Small terms that keep what nothing else determines from drifting.
        betas_sigma: spread of the betas.
        offset_sigma_m: how far a detector's joints lie from the model's, by what they mean by a joint; more where
            the keypoints show more.
    """

    keypoint_sigma_px: float = 3.0
    keypoint_scale_px: float = 12.0
    point_sigma_m: float = 0.01
    point_scale_m: float = 0.1
    floor_sigma_m: float = 0.005
    rest_scale: float = 0.75
    limit_sigma_rad: float = 0.05
    acceleration_scale: float = 1.0
    velocity_scale: float = 20.0
    betas_sigma: float = 1.0
    offset_sigma_m: float = 0.004


@dataclass(frozen=True, eq=False)
class FitState:
    """What is solved for.

    Attributes:
        R: parent_from_joint of the joints that are solved, the root's in the world, (frames, joints, 3, 3).
        transl: SMPL's translation, (frames, 3).
        betas: (betas,).
        mounts: `ankle_from_cam` by foot view.
        offsets: of the keypoints from the model's (`Landmarks.shifted`), (keypoints, 3), where they are solved for.
    """

    R: np.ndarray
    transl: np.ndarray
    betas: np.ndarray
    mounts: Mapping[str, SE3] = dataclasses.field(default_factory=dict)
    offsets: np.ndarray | None = None

    def frames(self, index: np.ndarray | slice) -> FitState:
        """The same in some of the frames."""
        return dataclasses.replace(self, R=self.R[index], transl=self.transl[index])

    @property
    def globals_of(self) -> tuple[slice, slice, slice]:
        """Where betas, offsets and mounts lie among the globals."""
        B, K, M = len(self.betas), 0 if self.offsets is None else self.offsets.size, 6 * len(self.mounts)
        return slice(0, B), slice(B, B + K), slice(B + K, B + K + M)

    @property
    def num_unknowns(self) -> int:
        """How many of a frame."""
        return 3 + 3 * self.R.shape[1]

    def posed(self, body: BodyModel) -> PosedBody:
        """The body in this state; joints that are not solved are held."""
        return body.with_shape(self.betas).with_rotations(with_held(body, self.R), self.transl)

    def off(self, other: FitState) -> tuple[Float[np.ndarray, "frames 3"], Float[np.ndarray, "frames joints 3"]]:
        """How poses differ from others: shift in metres, rotation vectors that turn the others into these."""
        return self.transl - other.transl, so3_log(np.swapaxes(other.R, -1, -2) @ self.R)

    def retract(self, step: np.ndarray, step_global: np.ndarray) -> FitState:
        """Moves by (frames, unknowns) and (globals,); without globals, shape and mounts stay."""
        turn = rodrigues(step[:, 3:].reshape(*self.R.shape[:2], 3))
        if not len(step_global):
            return dataclasses.replace(self, R=self.R @ turn, transl=self.transl + step[:, :3])
        betas, offsets, mounts = (step_global[part] for part in self.globals_of)
        moved = {view: X.retract(d) for (view, X), d in zip(self.mounts.items(), mounts.reshape(-1, 6), strict=True)}
        return FitState(
            self.R @ turn,
            self.transl + step[:, :3],
            self.betas + betas,
            moved,
            None if self.offsets is None else self.offsets + offsets.reshape(-1, 3),
        )


@dataclass(frozen=True, eq=False)
class Objective:
    """Everything measured, and how much it is believed.

    Attributes:
        model: the body and its landmarks.
        step_s: time between frames; None where they do not follow each other.
        weights: of the terms.
        rays: keypoints; None leaves them out.
        points_m: triangulated points (frames, keypoints, 3); None leaves them out.
        feet: what the foot cameras measured, by view.
        foot_scale: scale of their robust loss, in standard deviations.
        floor: whether the world has a floor at z = 0.
        limits: whether joints have limits.
        fixed: the shape, where it is known; None solves for it.
        free: whether shape and mounts are solved for; else they stay as they are.
        anchors: poses that some frames are held at, by frame.
        resting: which soles rest from a frame to the next, (frames - 1, soles); None holds none.
        standing: how firmly they do.
        ridden: feet whose cameras' seat is known before any frame, by view.
        geometry: how well it is known.
        device: where the normal equations are added up and solved (`fitting.backend`).
    """

    model: FitModel
    step_s: float | None
    weights: Weights
    rays: Rays | None = None
    points_m: np.ndarray | None = None
    feet: Mapping[str, FootObservation] = dataclasses.field(default_factory=dict)
    foot_scale: float = FOOT_SCALE
    floor: bool = True
    limits: bool = True
    fixed: np.ndarray | None = None
    free: bool = True
    anchors: tuple[np.ndarray, FitState] | None = None
    resting: np.ndarray | None = None
    standing: StandingConfig = dataclasses.field(default_factory=StandingConfig)
    ridden: Mapping[str, FootShape] = dataclasses.field(default_factory=dict)
    geometry: MountGeometryConfig = dataclasses.field(default_factory=MountGeometryConfig)
    device: str = CPU

    def frames(self, index: np.ndarray, num_frames: int) -> Objective:
        """The same for some of the frames, which no longer follow each other."""
        rays = self.rays
        if rays is not None:
            num = rays.seen.shape[1] // num_frames
            rays = rays.points((index[:, None] * num + np.arange(num)).ravel())
        points_m = None if self.points_m is None else self.points_m[index]
        feet = {view: foot.frames(index) for view, foot in self.feet.items()}
        return dataclasses.replace(
            self, step_s=None, rays=rays, points_m=points_m, feet=feet, anchors=None, resting=None
        )

    def linearise(self, state: FitState) -> ArrowSystem:
        """Cost and normal equations at a state."""
        model = self.model if state.offsets is None else self.model.with_offsets(state.offsets)
        body, landmarks = model.body, model.landmarks
        posed = state.posed(body)
        carried = landmarks.carried(posed)
        term, coupling = self._on_points(landmarks.summed(carried, axis=1))
        num_globals = state.globals_of[-1].stop if self.free else 0
        linked = coupling is not None
        tied = linked or self.step_s is not None
        system = ArrowSystem.zeros(len(state.R), state.num_unknowns, num_globals, linked, self.device, tied)
        by_betas, by_offsets = (np.zeros((*term.gradient.shape, 0)) for _ in range(2))
        if self.free:
            by_betas = landmarks.by_betas(posed)
            if state.offsets is not None:
                by_offsets = landmarks.by_offsets(posed)[:, : model.num_keypoints]
        for chain in model.chains:
            by_pose = chain.by_pose(landmarks, posed, carried)
            add_chain(system, chain, term, by_pose, by_betas, by_offsets)
            if coupling is not None:
                add_links(system, chain, coupling, by_pose)
        cost = term.cost + self._add_pose(system, state)
        for time_term in self._on_time(state):
            cost += add_time(system, time_term)
        for i, (view, mount) in enumerate(state.mounts.items()):
            column = state.globals_of[2].start + 6 * i if self.free else None
            cost += foot_term(system, body, posed, mount, self.feet[view], column, self.foot_scale)
            if column is not None and view in self.ridden:
                cost += add_seat(system, column, mount_term(mount, self.ridden[view], self.geometry))
        if self.anchors is not None:
            frames, held = self.anchors
            cost += add_anchors(system, frames, *state.frames(frames).off(held))
        if self.free:
            cost += self._add_shape(system, state)
        return dataclasses.replace(system, cost=cost)

    def prior_alone(self, state: FitState) -> Float[np.ndarray, "frames D D"]:
        """What is known of every frame's unknowns without any measurement and any other frame."""
        system = ArrowSystem.zeros(len(state.R), state.num_unknowns, 0)
        self._add_pose(system, state)
        return system.diagonal

    def _add_shape(self, system: ArrowSystem, state: FitState) -> float:
        """Priors of the shape and of the keypoints' offsets; returns their cost.

        A detector's joints differ from the model's by constants that no number of frames averages out. Without offsets
        that take them, the shape's prior counts once for every frame, as in AMD's and SMPLify's objectives: counted
        once it would drown, and the betas would grow to ten standard deviations to explain those constants.
        """
        w, cost = self.weights, 0.0
        parts = [(state.globals_of[0], state.betas if self.fixed is None else state.betas - self.fixed)]
        count = 1 if state.offsets is not None else len(system.gradient)
        precisions = [count / (w.betas_sigma if self.fixed is None else _FIXED_SIGMA) ** 2]
        if state.offsets is not None:
            parts.append((state.globals_of[1], state.offsets.ravel()))
            precisions.append(1 / w.offset_sigma_m**2)
        for (where, off), precision in zip(parts, precisions, strict=True):
            axis = np.arange(where.start, where.stop)
            system.corner[axis, axis] += precision
            system.gradient_global[axis] += system.beside(precision * off)
            cost += 0.5 * precision * float(off @ off)
        return cost

    def _on_points(self, positions: np.ndarray) -> tuple[PointTerm, np.ndarray | None]:
        """All terms on landmarks, and how strongly each is tied to itself one frame on, (frames - 1, landmarks)."""
        T, L, _ = positions.shape
        w, K = self.weights, self.model.num_keypoints
        gradient, hessian, cost = np.zeros((T, L, 3)), np.zeros((T, L, 3, 3)), 0.0
        parts: list[tuple[slice | np.ndarray, PointTerm]] = []
        if self.rays is not None:
            term = reprojection_term(self.rays, positions[:, :K], w.keypoint_sigma_px, w.keypoint_scale_px)
            parts.append((slice(0, K), term))
        if self.points_m is not None:
            term = point_term(positions[:, :K], self.points_m, w.point_sigma_m, w.point_scale_m)
            parts.append((slice(0, K), term))
        for foot in self.feet.values():
            if foot.own is not None:
                term = own_view_term(
                    foot.own, foot.world_from_cam, positions[:, :K], w.keypoint_sigma_px, w.keypoint_scale_px
                )
                parts.append((slice(0, K), term))
        if self.floor:
            soles = self.model.sole_idx
            parts.append((soles, floor_term(positions[:, soles], w.floor_sigma_m)))
        for where, term in parts:
            cost += term.cost
            gradient[:, where] += term.gradient
            hessian[:, where] += term.hessian
        coupling = None
        if self.resting is not None and self.step_s is not None:
            soles, sigma_m = self.model.sole_idx, self.standing.step_sigma_m(self.step_s)
            stand = standing_term(positions[:, soles], self.resting, sigma_m, self.standing.scale)
            cost += stand.cost
            gradient[:, soles] += stand.gradient
            hessian[:, soles] += stand.own[..., None, None] * np.eye(3)
            coupling = np.zeros((T - 1, L))
            coupling[:, soles] = stand.coupling
        return PointTerm(cost, gradient, hessian), coupling

    def _add_pose(self, system: ArrowSystem, state: FitState) -> float:
        """What is known of poses before any picture: how joints are spread, or how likely they are together; limits."""
        R, prior, cost = state.R[:, 1:], pose_prior(), 0.0
        told = 0  # joints that a density of whole poses tells of
        if (density := self.model.density) is not None:
            told = min(len(density.sigma) // 3, R.shape[1])
            sigma = self.weights.rest_scale * density.sigma[: 3 * told].reshape(-1, 3)
            share = density.sigma[: 3 * told] / self._lasting(sigma, slice(1, 1 + told)).ravel()
            cost += add_whole(system, density.term(R[:, :told], share))
        alone = slice(1 + told, state.R.shape[1])
        spread = self._lasting(prior.sigma[alone] * self.weights.rest_scale, alone)
        cost += add_joints(system, rest_term(R[:, told:], np.zeros(spread.shape), spread), 1 + told)
        if self.limits:
            low, high = (bound[1 : state.R.shape[1]] for bound in (prior.low, prior.high))
            cost += add_joints(system, limit_term(R, low, high, self.weights.limit_sigma_rad), 1)
        return cost

    def _lasting(self, sigma: np.ndarray, joints: slice) -> np.ndarray:
        """What each frame of a smooth motion may say of its pose so that all together say what one alone would.

        Neighbouring frames hardly differ, and a prior that counted for each of them would hold a limb that nobody sees
        for seconds at rest, and state it certain. White acceleration a under a potential of spread p has the spectrum
        1 / (1/p^2 + w^4/a^2) and so the variance p^2 sqrt(a/p) / sqrt(8); this is the p that makes it sigma^2.
        """
        if self.step_s is None:
            return sigma
        acceleration = acceleration_sigma(self.step_s)[1:][joints, None] * self.weights.acceleration_scale
        return np.asarray(np.maximum(sigma, 2 * sigma ** (4 / 3) * acceleration ** (-1 / 3)))

    def _acceleration_sigma(self, state: FitState) -> np.ndarray:
        assert self.step_s is not None
        return acceleration_sigma(self.step_s)[: 1 + state.R.shape[1]] * self.weights.acceleration_scale

    def _on_time(self, state: FitState) -> list[TimeTerm]:
        if self.step_s is None:
            return []
        sigma = self._acceleration_sigma(state)
        terms = []
        if len(state.R) >= 2:
            terms.append(velocity_term(state.R, state.transl, sigma * self.weights.velocity_scale))
        if len(state.R) >= 3:
            terms.append(acceleration_term(state.R, state.transl, sigma))
        return terms
