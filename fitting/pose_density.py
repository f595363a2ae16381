"""How likely poses are, where more is known than each joint's spread about rest: how joints move together.

Three kinds, all with the derivatives that Gauss-Newton asks for: one normal distribution (of open motion, which comes
with the project), SMPLify's mixture of them (Bogo et al., ECCV 2016), and VPoser's encoder (Pavlakos et al., CVPR
2019). The latter two are licensed: users who have them name the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from core.arrays import Float
from core.transforms import right_jacobian_inverse, so3_log

_LEAKY_SLOPE = 0.01  # torch's default, which VPoser keeps


@dataclass(frozen=True, eq=False)
class PoseTerm:
    """A cost of whole poses: value, gradient (frames, n) and Hessian (frames, n, n) by the joints' increments."""

    cost: float
    gradient: np.ndarray
    hessian: np.ndarray


@runtime_checkable
class PoseDensity(Protocol):
    """Minus the logarithm of how likely poses are, but for a constant."""

    @property
    def sigma(self) -> Float[np.ndarray, "n"]:
        """Spread of each component of the joints' rotation vectors, joint after joint from SMPL's first, radians."""
        ...

    def term(self, R: Float[np.ndarray, "frames joints 3 3"], share: Float[np.ndarray, "m"]) -> PoseTerm:
        """The cost of poses.

        Args:
            R: rotations of joints 1 and on, as many as are solved for.
            share: by how much the deviation of each component counts, 1 for a pose by itself.
        """
        ...


@dataclass(frozen=True, eq=False)
class GaussianDensity:
    """One normal distribution of rotation vectors.

    Attributes:
        mean: radians.
        covariance: radians squared.
    """

    mean: Float[np.ndarray, "n"]
    covariance: Float[np.ndarray, "n n"]

    @property
    def sigma(self) -> Float[np.ndarray, "n"]:
        """Spread of each component."""
        return np.sqrt(np.diagonal(self.covariance))

    def term(self, R: Float[np.ndarray, "frames joints 3 3"], share: Float[np.ndarray, "m"]) -> PoseTerm:
        """Half the squared Mahalanobis distance; joints that are not solved for are marginalised out."""
        vector, J = _vectors(R)
        precision = _precision(self.covariance, share)
        return _quadratic(vector - self.mean[: vector.shape[1]], J, precision[None], np.zeros(len(vector), int), 0.0)


@dataclass(frozen=True, eq=False)
class MixtureDensity:
    """A mixture of normal distributions, of which the likeliest counts (Olson and Agarwal 2013), as in SMPLify.

    Attributes:
        weights: they add up to 1.
        means: radians.
        covariances: radians squared.
    """

    weights: Float[np.ndarray, "k"]
    means: Float[np.ndarray, "k n"]
    covariances: Float[np.ndarray, "k n n"]

    @cached_property
    def sigma(self) -> Float[np.ndarray, "n"]:
        """Spread of each component, of the whole mixture."""
        mean = self.weights @ self.means
        second = self.weights @ (np.diagonal(self.covariances, axis1=1, axis2=2) + self.means**2)
        return np.sqrt(second - mean**2)

    def term(self, R: Float[np.ndarray, "frames joints 3 3"], share: Float[np.ndarray, "m"]) -> PoseTerm:
        """The least over the parts of their distance, and of how much rarer and wider they are than the likeliest."""
        vector, J = _vectors(R)
        n = vector.shape[1]
        precision = np.stack([_precision(covariance, share) for covariance in self.covariances])
        off = vector[:, None] - self.means[None, :, :n]
        distance = 0.5 * np.einsum("tki,kij,tkj->tk", off, precision, off, optimize=True)
        widths = np.linalg.slogdet(self.covariances[:, :n, :n])[1]
        rarity = 0.5 * widths - np.log(np.maximum(self.weights, 1e-12))
        rarity = (rarity - rarity.min()) * np.mean(share**2)
        best = (distance + rarity).argmin(axis=1)
        return _quadratic(off[np.arange(len(off)), best], J, precision, best, float(rarity[best].sum()))


@dataclass(frozen=True, eq=False)
class EncodedDensity:
    """VPoser: half the squared length of a pose's code, whose prior is a standard normal distribution.

    The encoder is two linear layers with one kink between them, so its derivative is the product of two matrices with
    the kink's slopes in the middle.

    Attributes:
        first: from the rotation vectors of SMPL's 21 body joints to before the kink, with `first_bias`.
        second: from after the kink to the code, with `second_bias`.
        sigma: spread of each component of the rotation vectors, of poses that the encoder was trained on.
    """

    first: Float[np.ndarray, "hidden n"]
    first_bias: Float[np.ndarray, "hidden"]
    second: Float[np.ndarray, "code hidden"]
    second_bias: Float[np.ndarray, "code"]
    sigma: Float[np.ndarray, "n"]

    def encoded(self, vector: Float[np.ndarray, "frames n"]) -> tuple[np.ndarray, np.ndarray]:
        """Codes (frames, code) of rotation vectors, and their derivatives (frames, code, n)."""
        before = vector @ self.first.T + self.first_bias
        slope = np.where(before > 0, 1.0, _LEAKY_SLOPE)
        code = (before * slope) @ self.second.T + self.second_bias
        return code, (slope[:, None] * self.second) @ self.first

    def term(self, R: Float[np.ndarray, "frames joints 3 3"], share: Float[np.ndarray, "m"]) -> PoseTerm:
        """Joints after the 21st, which VPoser does not know, cost nothing."""
        vector, J = _vectors(R)
        count = len(self.sigma)
        code, by_vector = self.encoded(vector[:, :count])
        scale = float(np.sqrt(np.mean(share**2)))
        by_turn = np.zeros((len(code), code.shape[1], vector.shape[1]))
        blocks = by_vector.reshape(*by_vector.shape[:2], -1, 3)
        by_turn[..., :count] = np.einsum("tcjk,tjki->tcji", blocks, J[:, : count // 3]).reshape(by_vector.shape)
        code, by_turn = code * scale, by_turn * scale
        hessian = np.swapaxes(by_turn, 1, 2) @ by_turn
        return PoseTerm(0.5 * float((code**2).sum()), np.einsum("tci,tc->ti", by_turn, code), hessian)


def _vectors(R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation vectors (frames, 3 joints) and each one's derivative by its joint's increment (frames, joints, 3, 3)."""
    vector = so3_log(R)
    return vector.reshape(len(R), -1), right_jacobian_inverse(vector)


def _precision(covariance: np.ndarray, share: np.ndarray) -> np.ndarray:
    n = len(share)
    return np.asarray(np.linalg.inv(covariance[:n, :n]) * np.outer(share, share))


def _quadratic(off: np.ndarray, J: np.ndarray, precision: np.ndarray, which: np.ndarray, cost: float) -> PoseTerm:
    """Half of off^T P off of the chosen precisions, pulled back to increments."""
    T, n = off.shape
    pull, hessian = np.empty_like(off), np.zeros((T, n, n))
    for k in np.unique(which):
        own = np.flatnonzero(which == k)
        pull[own] = off[own] @ precision[k]
        hessian[own] = _pulled_back(precision[k], J[own])
    gradient = np.einsum("tjca,tjc->tja", J, pull.reshape(T, -1, 3)).reshape(T, n)
    return PoseTerm(cost + 0.5 * float((off * pull).sum()), gradient, hessian)


def _pulled_back(precision: Float[np.ndarray, "n n"], J: Float[np.ndarray, "T joints 3 3"]) -> np.ndarray:
    """J^T P J, (T, n, n). J is block diagonal, and so is P but for the joints that go together."""
    T, joints = J.shape[:2]
    blocks = precision.reshape(joints, 3, joints, 3)
    joint = np.arange(joints)
    hessian = np.zeros((T, joints, 3, joints, 3))
    # advanced indices lead: (joints, T, 3, 3)
    hessian[:, joint, :, joint] = (np.swapaxes(J, -1, -2) @ blocks[joint, :, joint] @ J).swapaxes(0, 1)
    tied = np.flatnonzero((np.abs(blocks).max(axis=(1, 3)) > 0).sum(axis=1) > 1)
    if len(tied):
        m = 3 * len(tied)
        own = blocks[tied][:, :, tied].reshape(m, -1, 3)
        right = np.einsum("ajc,tjcd->tajd", own, J[:, tied], optimize=True).reshape(T, -1, 3, m)
        both = np.einsum("tjca,tjcn->tjan", J[:, tied], right, optimize=True).reshape(T, -1, 3, len(tied), 3)
        hessian[:, tied[:, None], :, tied] = both.transpose(1, 3, 0, 2, 4)
    return hessian.reshape(T, 3 * joints, -1)
