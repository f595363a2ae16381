"""Figures of a shape from scans, and when it is refused."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from core.arrays import Float
from core.errors import GateError
from fitting.scan_fit import ScanFit, start_of
from fitting.scan_objective import ScanLossConfig
from fitting.scan_parts import PARTS
from fitting.scan_person import PersonCloud
from fitting.smpl import BodyModel
from fitting.surface import Surface

_SUPPORT_M = 0.03  # a vertex has support where a point is so near


@dataclass(frozen=True)
class ScanGates:
    """When a shape from scans is refused.

    Attributes:
        height_m: smallest and largest height of the fitted body.
        max_misfit_m: largest median distance of the points on face, lower arms and hands.
        max_stray: largest share of points that are on nothing of the person.
        min_seen: least share of the body's surface with points.
        min_facing: least mean cosine between the file's normals and the body's.
    """

    height_m: tuple[float, float] = (1.2, 2.2)
    max_misfit_m: float = 0.008
    max_stray: float = 0.05
    min_seen: float = 0.25
    min_facing: float = 0.5


def scan_figures(body: BodyModel, fit: ScanFit, people: tuple[PersonCloud, ...]) -> dict[str, float]:
    """Figures over all captures; those of the one that fits worst where one can be worse than another."""
    distance = [m.distance_m for m in fit.matches]
    bare = [np.abs(d[part == 0]) for d, part in zip(distance, fit.parts, strict=True)]
    return {
        "height_m": height(body, fit.state.betas),
        "height_sigma_m": height_sigma(body, fit.covariance),
        "misfit_m": max(float(np.median(b)) if len(b) else 0.0 for b in bare),
        "stray": max(float(loss.stray.mean()) for loss in fit.loss),
        "inside_m": max(float(-np.quantile(d, 0.02)) for d in distance),
        "seen": float(np.mean([_seen(mesh, p.points_m) for mesh, p in zip(_meshes(body, fit), people, strict=True)])),
        "facing": min(_facing(m.normal, person.normals) for m, person in zip(fit.matches, people, strict=True)),
        "points_as_one": fit.together,
        **{f"dressed {part}": float(share) for part, share in zip(PARTS, fit.dressed, strict=True)},
    }


def height(body: BodyModel, betas: Float[np.ndarray, "betas"]) -> float:
    """From the soles to the crown of the body at rest, metres."""
    return float(np.ptp(body.with_shape(betas).rest_vertices[:, 1]))


def height_sigma(body: BodyModel, covariance: Float[np.ndarray, "b b"]) -> float:
    """Standard deviation of the height, metres."""
    crown, heel = body.kind.vertex_ids["head_top"], body.kind.vertex_ids["left_heel"]
    slope = body.shapedirs[crown, 1, : len(covariance)] - body.shapedirs[heel, 1, : len(covariance)]
    return float(np.sqrt(slope @ covariance @ slope))


def _meshes(body: BodyModel, fit: ScanFit) -> Float[np.ndarray, "captures vertices 3"]:
    return fit.state.posed(body).mesh()


def _seen(mesh: np.ndarray, points: np.ndarray) -> float:
    """Share of the vertices that have a point nearby; clothes count where they are within 3 cm."""
    return float(np.isfinite(KDTree(points).query(mesh, distance_upper_bound=_SUPPORT_M)[0]).mean())


def _facing(of_body: np.ndarray, of_file: np.ndarray | None) -> float:
    return 1.0 if of_file is None else float(np.nanmean(np.einsum("nc,nc->n", of_body, of_file)))


def refuse(
    item: str,
    body: BodyModel,
    people: tuple[PersonCloud, ...],
    figures: dict[str, float],
    loss: ScanLossConfig,
    gates: ScanGates,
) -> None:
    """Stops at the first figure past its threshold.

    Raises:
        GateError: if there is one.
    """
    f, (low, high) = figures, gates.height_m
    if turned := _upside_down(body, people, loss):
        raise GateError(item, f"the person fits better upside down ({turned})", "give the other --scan-up axis")
    if f["facing"] < gates.min_facing:
        problem = f"its normals are not the body's (mean cosine {f['facing']:.2f})"
        action = "the scan is mirrored or its normals point inwards: mend that, or leave them out"
        raise GateError(item, problem, action)
    if f["stray"] > gates.max_stray or f["misfit_m"] > gates.max_misfit_m:
        problem = f"{100 * f['stray']:.0f} % of the points lie on nothing of the body, and face, lower arms and hands"
        problem += f" are off by {1000 * f['misfit_m']:.1f} mm"
        action = "check that it is one person in an A-pose and that views fit each other; give --scan-poses apart for"
        raise GateError(item, problem, f"{action} several captures")
    if f["seen"] < gates.min_seen:
        problem = f"only {100 * f['seen']:.0f} % of the body's surface was scanned"
        raise GateError(item, problem, "scan the whole person, from more sides")
    if not low <= f["height_m"] <= high:
        raise GateError(item, f"the body is {f['height_m']:.2f} m tall", "check --scan-unit, and who was scanned")


def _upside_down(body: BodyModel, people: tuple[PersonCloud, ...], loss: ScanLossConfig) -> str:
    """How much better a person fits the other way round; empty if not. Somebody on a floor stands on their feet."""
    surface = Surface(body)
    for person in people:
        if person.floor_seen:
            continue
        points = person.points_m * [1.0, -1.0, -1.0] + [0.0, 0.0, np.ptp(person.points_m[:, 2])]
        flipped = dataclasses.replace(person, points_m=points)
        costs = [start_of(surface, p, loss).costs[-1] for p in (person, flipped)]
        if costs[1] < costs[0]:
            return f"cost {costs[1]:.0f} instead of {costs[0]:.0f}"
    return ""
