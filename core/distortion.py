"""What the lens models of `core.cameras` do to a point: distortion, its derivatives and its inverse.

Coefficients `k` and their order are OpenCV's. Points are in the camera frame; distorted coordinates are pixels less the
principal point over the focal length.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

Coefficients = tuple[float, ...]

_NEAR = 1e-6  # metres; a point closer to the camera plane has no direction
_REACHED = 1e-12  # squared distance of distorted coordinates
_HALVINGS = 40
_NOTHING = 1e-30  # of the largest coefficient: it bends nothing before the horizon
_UNPROJECT_STEPS = 12  # Newton converges quadratically; 12 covers the strongest lens in the tests


@lru_cache(maxsize=1024)  # solvers ask for the same lens hundreds of times
def radial_limit(model: str, k: Coefficients) -> float:
    """Largest undistorted radius (perspective) or angle (fisheye) up to which the radial mapping still rises."""
    if model == "pinhole":
        return np.inf
    if model == "fisheye":
        slope = np.array([9 * k[3], 7 * k[2], 5 * k[1], 3 * k[0], 1.0])
        ceiling = np.pi
    else:
        numerator = np.array([k[4], k[1], k[0], 1.0])
        denominator = np.array([k[7], k[6], k[5], 1.0]) if model == "rational" else np.array([1.0])
        # d/dr [r N(r2)/D(r2)] has the sign of (N + 2 s N') D - 2 s N D', s = r2
        s = np.array([1.0, 0.0])
        grow = np.polyadd(numerator, 2 * np.polymul(s, np.polyder(numerator)))
        slope = np.polysub(
            np.polymul(grow, denominator), 2 * np.polymul(np.polymul(s, numerator), np.polyder(denominator))
        )
        # past a pole the radius comes back from the other side of the picture
        slope = np.polymul(slope, denominator)
        ceiling = np.inf
    slope = np.where(np.abs(slope) > _NOTHING * np.abs(slope).max(), slope, 0.0)  # roots are over the leading one
    roots = np.roots(np.trim_zeros(slope, "f"))
    real = roots[(np.abs(roots.imag) < 1e-9) & (roots.real > 1e-9)].real
    return float(min(np.sqrt(real.min()) if len(real) else np.inf, ceiling))


def distort(
    model: str, k: Coefficients, points: np.ndarray, *, jacobians: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distorted coordinates (*n, 2); if asked for, derivatives by point (*n, 2, 3) and coefficients (*n, 2, q)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if model == "fisheye":
            return _distort_fisheye(k, points, jacobians)
        return _distort_perspective(model, k, points, jacobians)


def _distort_perspective(
    model: str, k: Coefficients, points: np.ndarray, jacobians: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z = np.where(points[..., 2] > _NEAR, points[..., 2], np.nan)
    x, y = np.asarray(points[..., 0] / z), np.asarray(points[..., 1] / z)
    x = np.where(x * x + y * y < radial_limit(model, k) ** 2, x, np.nan)
    distorted, by_xy, by_distortion = _perspective_polynomial(k, x, y, jacobians)
    if not jacobians:
        return distorted, np.empty(0), np.empty(0)
    xy_by_point = np.zeros((*x.shape, 2, 3))
    xy_by_point[..., 0, 0] = xy_by_point[..., 1, 1] = 1 / z
    xy_by_point[..., 0, 2], xy_by_point[..., 1, 2] = -x / z, -y / z
    return distorted, by_xy @ xy_by_point, by_distortion


def _perspective_polynomial(
    k: Coefficients, x: np.ndarray, y: np.ndarray, jacobians: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """OpenCV's polynomial on normalised coordinates: values, derivatives by (x, y) and by the coefficients."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*k, *[0.0] * 8)[:8]
    r2 = x * x + y * y
    N = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    D = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    g = N / D
    xd = x * g + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    yd = y * g + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    distorted = np.stack([xd, yd], axis=-1)
    if not jacobians:
        return distorted, np.empty(0), np.empty(0)
    dN = k1 + r2 * (2 * k2 + 3 * k3 * r2)
    dD = k4 + r2 * (2 * k5 + 3 * k6 * r2)
    dg = 2 * (dN * D - N * dD) / (D * D)  # times x or y gives dg/dx, dg/dy
    by_xy = np.empty((*x.shape, 2, 2))
    by_xy[..., 0, 0] = g + x * x * dg + 2 * p1 * y + 6 * p2 * x
    by_xy[..., 0, 1] = by_xy[..., 1, 0] = x * y * dg + 2 * p1 * x + 2 * p2 * y
    by_xy[..., 1, 1] = g + y * y * dg + 6 * p1 * y + 2 * p2 * x
    q = len(k)
    by_distortion = np.zeros((*x.shape, 2, q))
    if q:
        xy = np.stack([x, y], axis=-1)
        powers = np.stack([r2, r2**2, r2**3], axis=-1)
        radial = xy[..., :, None] * (powers / D[..., None])[..., None, :]
        by_distortion[..., [0, 1, 4]] = radial
        by_distortion[..., 0, 2], by_distortion[..., 1, 2] = 2 * x * y, r2 + 2 * y * y
        by_distortion[..., 0, 3], by_distortion[..., 1, 3] = r2 + 2 * x * x, 2 * x * y
        if q == 8:
            by_distortion[..., 5:8] = -g[..., None, None] * radial
    return distorted, by_xy, by_distortion


def _distort_fisheye(
    coefficients: Coefficients, points: np.ndarray, jacobians: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    rho2 = x * x + y * y
    rho = np.sqrt(rho2)
    theta = np.arctan2(rho, z)
    theta = np.where(theta < radial_limit("fisheye", coefficients), theta, np.nan)
    k = np.array(coefficients)
    t2 = theta**2
    bend = 1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3])))
    on_axis = rho < 1e-9 * z  # before the lens only: on the axis behind it there is no direction to bend to
    safe_rho = np.where(on_axis, 1.0, rho)
    scale = np.where(on_axis, 1 / np.where(on_axis, z, 1.0), theta * bend / safe_rho)
    xy = points[..., :2]
    distorted = xy * scale[..., None]
    if not jacobians:
        return distorted, np.empty(0), np.empty(0)
    slope = 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + t2 * 9 * k[3])))
    norm2 = rho2 + z * z
    # scale = r(theta) / rho: d(theta)/d(rho) = z / norm2, d(theta)/dz = -rho / norm2
    by_rho = np.where(on_axis, 0.0, (slope * z / norm2 - scale) / np.where(on_axis, 1.0, rho2))
    by_point = np.empty((*x.shape, 2, 3))
    by_point[..., :2] = xy[..., :, None] * (xy * by_rho[..., None])[..., None, :] + scale[..., None, None] * np.eye(2)
    by_point[..., 2] = -xy * (slope / norm2)[..., None]
    odd = np.stack([theta ** (2 * i + 3) for i in range(4)], axis=-1)
    direction = np.where(on_axis[..., None], 0.0, xy / safe_rho[..., None])
    return distorted, by_point, direction[..., :, None] * odd[..., None, :]


def straighten_perspective(
    model: str, k: Coefficients, u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Undistorted x, y of distorted coordinates u, v (each (*n,)), NaN where there are none, and du/dx, dv/dy there."""
    if not k:
        return u, v, np.ones_like(u), np.ones_like(v)
    limit = 0.999 * radial_limit(model, k)
    x, y = _newton(k, u, v, u, v, limit)
    at_u, at_v, ux, _, vy = _bent(k, x, y)
    with np.errstate(invalid="ignore"):
        reached = (at_u - u) ** 2 + (at_v - v) ** 2 < _REACHED
    if not reached.all() and (left := ~reached & np.isfinite(u) & np.isfinite(v)).any():
        # before a pole the slope is so steep that Newton creeps: begin where the radial part alone is right
        inward = _radial_share(k, np.hypot(u[left], v[left]), limit)
        x, y = np.array(x), np.array(y)
        x[left], y[left] = _newton(k, u[left], v[left], inward * u[left], inward * v[left], limit)
        at_u, at_v, ux, _, vy = _bent(k, x, y)
        with np.errstate(invalid="ignore"):
            reached = (at_u - u) ** 2 + (at_v - v) ** 2 < _REACHED
    return np.where(reached, x, np.nan), np.where(reached, y, np.nan), ux, vy


def _newton(
    k: Coefficients, u: np.ndarray, v: np.ndarray, x: np.ndarray, y: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Undistorted coordinates whose distorted ones come near u, v, from x, y on."""
    for _ in range(_UNPROJECT_STEPS):
        at_u, at_v, ux, uy, vy = _bent(k, x, y)
        determinant = ux * vy - uy * uy
        determinant = np.where(np.abs(determinant) > 1e-9, determinant, np.nan)
        du, dv = at_u - u, at_v - v
        dx, dy = (vy * du - uy * dv) / determinant, (ux * dv - uy * du) / determinant
        x, y = x - dx, y - dy
        if np.isfinite(limit):  # Newton may overshoot past the turning point of the polynomial: come back inside
            back = np.fmin(1.0, limit / np.maximum(np.sqrt(x * x + y * y), 1e-12))
            x, y = x * back, y * back
        if not (np.fmax(np.abs(dx), np.abs(dy)) > 1e-9).any():  # the next step would be 1e-18: it is quadratic
            break
    return x, y


def _radial_share(k: Coefficients, distorted: np.ndarray, limit: float) -> np.ndarray:
    """Undistorted over distorted radius by bisection, for lenses that do not decentre."""
    k1, k2, _, _, k3, k4, k5, k6 = (*k, *[0.0] * 8)[:8]
    low, high = np.zeros_like(distorted), np.full_like(distorted, min(limit, 1e3))
    for _ in range(_HALVINGS):
        r = (low + high) / 2
        r2 = r * r
        bent = r * (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        low, high = np.where(bent < distorted, r, low), np.where(bent < distorted, high, r)
    return np.asarray((low + high) / 2 / np.maximum(distorted, 1e-12))


def _bent(k: Coefficients, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Distorted u, v and du/dx, du/dy = dv/dx, dv/dy; `_perspective_polynomial` for coordinates that lie apart."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*k, *[0.0] * 8)[:8]
    xx, yy, xy = x * x, y * y, x * y
    r2 = xx + yy
    N = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    dN = k1 + r2 * (2 * k2 + 3 * k3 * r2)
    if k4 or k5 or k6:
        D = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        g = N / D
        dg = 2 * (dN - g * (k4 + r2 * (2 * k5 + 3 * k6 * r2))) / D
    else:
        g, dg = N, 2 * dN
    u = x * g + 2 * p1 * xy + p2 * (r2 + 2 * xx)
    v = y * g + p1 * (r2 + 2 * yy) + 2 * p2 * xy
    tilt_x, tilt_y = 2 * p2 * x, 2 * p1 * y
    ux = g + xx * dg + tilt_y + 3 * tilt_x
    uy = xy * dg + 2 * p1 * x + 2 * p2 * y
    vy = g + yy * dg + 3 * tilt_y + tilt_x
    return u, v, ux, uy, vy


def straighten_fisheye(coefficients: Coefficients, d: np.ndarray) -> np.ndarray:
    """Rays (*n, 3), not normalised, of distorted coordinates (*n, 2) of a fisheye; NaN where there is none."""
    k = np.array(coefficients)
    radius = np.linalg.norm(d, axis=-1)
    limit = min(radial_limit("fisheye", coefficients), np.pi)
    theta = np.minimum(radius, limit)
    for _ in range(_UNPROJECT_STEPS):
        t2 = theta**2
        value = theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))
        slope = 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + t2 * 9 * k[3])))
        theta = np.clip(theta - (value - radius) / np.maximum(slope, 1e-6), 0, limit)
    t2 = theta**2
    value = theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))
    with np.errstate(invalid="ignore"):
        theta = np.where(np.abs(value - radius) < 1e-6, theta, np.nan)
    safe = np.where(radius > 1e-12, radius, 1.0)
    sine = np.where(radius > 1e-12, np.sin(theta) / safe, 1.0)
    return np.concatenate([d * sine[..., None], np.cos(theta)[..., None]], axis=-1)
