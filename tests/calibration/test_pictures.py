"""Pictures say what the arrays say: measured on the drawn artists, not on the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from random_rigs import FISHEYE, PINHOLE, RADTAN

from calibration.pictures import (
    Reading,
    Room,
    Way,
    camera_figure,
    clocks_figure,
    draw_rig,
    draw_track,
    lens_figure,
    png_bytes,
    rig_figure,
    scene_figure,
    ways_figure,
)
from calibration.pictures.canvas import ellipse, new_figure, nice_factor, place_labels
from core.cameras import Camera, Lens, Rig
from core.transforms import SE3

HOSTILE = r"$\frac{a}$ <b>_%"


def looking(centre: list[float], target: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> SE3:
    """`cam_from_world` of a camera at a place."""
    z = np.array(target) - centre
    z = z / np.linalg.norm(z)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x = x / np.linalg.norm(x)
    return SE3(np.stack([x, np.cross(z, x), z], axis=-1), np.array(centre)).inverse()


def ring(count: int, lens: Lens = PINHOLE) -> Rig:
    angle = 2 * np.pi * np.arange(count) / count + 0.1
    places = np.stack([3 * np.cos(angle), 2.5 * np.sin(angle), 1.0 + 1.2 * (np.arange(count) % 2)], axis=-1)
    return Rig(tuple(Camera(f"room{k:02d}", lens, looking(place.tolist())) for k, place in enumerate(places)))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_an_ellipse_holds_95_percent(rng: np.random.Generator) -> None:
    covariance = np.array([[4.0, 1.5], [1.5, 1.0]])
    points = rng.multivariate_normal([1.0, -2.0], covariance, 20000)
    rim = ellipse(np.array([1.0, -2.0]), covariance)
    from matplotlib.path import Path as Outline

    share = Outline(rim).contains_points(points).mean()
    assert abs(share - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 20000) + 1e-3  # a polygon of 64 sides is a little smaller
    larger = ellipse(np.array([1.0, -2.0]), covariance, 10.0)
    np.testing.assert_allclose(larger - [1.0, -2.0], 10 * (rim - [1.0, -2.0]), atol=1e-12)


@pytest.mark.parametrize(
    ("largest", "factor"), [(0.001, 100), (0.0021, 50), (0.09, 1), (0.3, 1), (0.0, 1), (5e-7, 2e5)]
)
def test_factors_are_round_and_stay_below_what_is_wanted(largest: float, factor: float) -> None:
    assert nice_factor(largest, 0.12) == pytest.approx(factor)


def test_labels_keep_clear_of_each_other(rng: np.random.Generator) -> None:
    figure = new_figure(8.0, 5.0)
    axes = figure.subplots()
    points = np.repeat(rng.uniform(0.05, 0.95, (12, 2)), 2, axis=0)  # pairs that lie on each other
    axes.set(xlim=(0, 1), ylim=(0, 1))
    place_labels(axes, points, [f"room{k:02d}" for k in range(24)], ["black"] * 24)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    overlaps = [(a, b) for a in range(24) for b in range(a) if boxes[a].overlaps(boxes[b])]
    assert not overlaps
    inside = axes.get_window_extent()
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)


def field(xy_px: np.ndarray) -> np.ndarray:
    return 0.001 * (xy_px - [320.0, 240.0])


def corners(rng: np.random.Generator, count: int = 4000) -> np.ndarray:
    return rng.uniform([0, 0], [639, 479], (count, 2))


def test_arrows_show_the_mean_residual_magnified_as_stated(rng: np.random.Generator) -> None:
    xy = corners(rng)
    residual = field(xy) + rng.normal(0, 0.02, xy.shape)
    rejected = np.arange(len(xy)) % 7 == 0
    residual[rejected] = 50.0  # what was rejected must not show
    residual[3] = np.nan
    axes = lens_figure("a", (640, 480), xy, residual, ~rejected).axes[1]
    (arrows,) = [artist for artist in axes.collections if type(artist).__name__ == "Quiver"]
    found = np.stack([arrows.U, arrows.V], axis=-1)
    # about 4000 * 6/7 corners over 108 bins: 5 standard deviations of a mean of 32
    np.testing.assert_allclose(found, field(np.asarray(arrows.XY)), rtol=0, atol=5 * 0.02 / np.sqrt(20) + 0.001 * 2)
    assert f"x{1 / arrows.scale:g}" in axes.get_title(loc="left")
    longest = np.quantile(np.linalg.norm(found, axis=1), 0.95) / arrows.scale
    assert 0.4 * 640 / 12 < longest <= 640 / 12  # as long as they can be without covering each other


def test_cells_without_corners_are_counted(rng: np.random.Generator) -> None:
    xy = corners(rng)
    left = xy[xy[:, 0] < 319.5]
    figure = lens_figure("a", (640, 480), left, np.zeros_like(left), np.ones(len(left), bool))
    assert "50% of the cells" in figure.axes[0].get_title(loc="left")


@pytest.mark.parametrize("count", [0, 1])
def test_a_lens_without_corners_or_uncertainty_is_drawn(count: int) -> None:
    xy = np.full((count, 2), 100.0)
    png_bytes(
        lens_figure("a", (640, 480), xy, np.full((count, 2), np.nan), np.ones(count, bool), np.full((3, 4), np.nan))
    )


def test_the_uncertainty_lies_where_it_belongs() -> None:
    sigma = np.arange(12.0).reshape(3, 4)
    figure = lens_figure("a", (640, 480), np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, bool), sigma)
    (image,) = figure.axes[2].images
    assert tuple(image.get_extent()) == (-0.5, 639.5, 479.5, -0.5)
    np.testing.assert_array_equal(np.asarray(image.get_array()), sigma)  # rows downwards, as the image's


def test_the_plan_shows_cameras_targets_and_ellipses_where_they_are() -> None:
    rig = ring(3)
    pose = SE3.from_rotvec(np.array([np.pi, 0.0, 0.0]), np.array([0.5, 0.6, 2.5]))
    sigma = np.diag([1e-4, 1e-4, 1e-4, 4e-6, 1e-6, 9e-6])
    cameras = dict.fromkeys(rig.ids, sigma)
    targets = {"board": np.diag([0.0, 0.0, 1e-4, 1e-6, 1e-6, 1e-6])}
    figure = rig_figure(Room(rig, {"board": pose}, {"board": (0.4, 0.2)}, cameras, targets))
    above, side = figure.axes
    assert sorted(set(texts(figure))) == ["board", "room00", "room01", "room02"]
    lines = {line.get_label(): line for line in above.lines}
    np.testing.assert_allclose(lines["cameras"].get_xydata(), rig.centres[:, :2], atol=1e-12)
    rim = lines["targets"].get_xydata()
    np.testing.assert_allclose(rim[[0, 1, 2]], [[0.5, 0.6], [0.9, 0.6], [0.9, 0.4]], atol=1e-12)
    factor = float(above.get_title(loc="left").split("drawn ")[1].split()[0])
    first = lines["camera, 95 %"].get_xydata() - rig.centres[0, :2]
    np.testing.assert_allclose(np.abs(first).max(axis=0), factor * np.sqrt(5.991) * np.array([2e-3, 1e-3]), rtol=1e-3)
    # turned about the print's normal by 0.01 rad, a middle 0.2 m and 0.1 m off moves sideways by that much
    board = lines["target, 95 %"].get_xydata() - [0.7, 0.5]
    spread = np.sqrt(1e-6 + 1e-4 * np.array([0.1, 0.2]) ** 2)
    np.testing.assert_allclose(np.abs(board).max(axis=0), factor * np.sqrt(5.991) * spread, rtol=1e-3)
    heights = next(line.get_ydata() for line in side.lines if line.get_label() == "cameras")
    np.testing.assert_allclose(heights, rig.centres[:, 2])


def test_a_cone_opens_along_the_view_and_as_wide_as_the_lens() -> None:
    lens = Lens("pinhole", (640, 480), (319.5, 319.5), (319.5, 239.5))  # 45 degrees to either side
    rig = Rig((Camera("a", lens, looking([-2.0, 0.0, 1.0], (0.0, 0.0, 1.0))),))
    above = rig_figure(Room(rig)).axes[0]
    (edge,) = [line.get_xydata() for line in above.lines if len(line.get_xydata()) == 3]
    np.testing.assert_allclose(edge[1], [-2, 0], atol=1e-12)
    directions = (edge[[0, 2]] - edge[1]) / np.linalg.norm(edge[[0, 2]] - edge[1], axis=1)[:, None]
    np.testing.assert_allclose(sorted(directions.tolist()), np.sqrt(0.5) * np.array([[1, -1], [1, 1]]), atol=1e-9)


@pytest.mark.parametrize(("count", "lens"), [(1, RADTAN), (24, FISHEYE)])
def test_rigs_of_any_size_and_lens_are_drawn(count: int, lens: Lens) -> None:
    targets = {f"{HOSTILE}{k}": SE3(np.eye(3), np.array([0.3 * k, 0.0, 2.5])) for k in range(3)}
    png_bytes(rig_figure(Room(ring(count, lens), targets)))


def test_names_are_text_and_no_formulas() -> None:
    rig = Rig((Camera(HOSTILE, PINHOLE, looking([1.0, 0.0, 2.0])),))
    covariance = {HOSTILE: 1e-6 * np.eye(6)}
    way = Way(np.arange(3.0), np.zeros((3, 3)), np.zeros(3, bool), np.ones(3, bool))
    figures = [
        rig_figure(Room(rig, {}, {}, covariance)),
        ways_figure(HOSTILE, {HOSTILE: way}, Room(rig)),
        clocks_figure({HOSTILE: 0.1}, {HOSTILE: 0.001}, [Reading(HOSTILE, HOSTILE, 0.0, 0.001)]),
        camera_figure([HOSTILE], [("px", {HOSTILE: 1.0}, None)]),
        lens_figure(HOSTILE, (640, 480), np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, bool)),
    ]
    for figure in figures:
        png_bytes(figure)  # a formula that is none would raise


def way_with_a_gap() -> Way:
    t_s = np.arange(100) / 30
    centre = np.stack([t_s, 0 * t_s, 0.1 + 0.05 * np.sin(6 * t_s)], axis=-1)
    valid, filled = np.ones(100, bool), np.zeros(100, bool)
    valid[40:60], filled[20:25] = False, True
    centre[~valid] = np.nan
    return Way(t_s, centre, filled, valid, np.full((100, 3), 0.002))


def test_gaps_are_gaps_and_filled_frames_are_marked() -> None:
    way = way_with_a_gap()
    above, height = ways_figure("feet", {"left_foot": way}).axes
    line = next(line for line in above.lines if str(line.get_label()).startswith("left_foot"))
    assert line.get_label() == "left_foot: 80% of the frames, 5% filled"
    assert np.isnan(line.get_xdata()[40:60]).all() and np.isfinite(line.get_xdata()[60:]).all()
    (dots,) = [other for other in height.lines if other.get_marker() == "."]
    np.testing.assert_allclose(dots.get_xdata(), way.t_s[20:25])
    band = height.collections[0].get_datalim(height.transData)
    assert band.height == pytest.approx(np.ptp(way.centre_m[way.valid, 2]) + 2 * 1.96 * 0.002, rel=1e-6)
    # the bar over the whole time: no pose, measured, filled
    spans = [collection.get_paths() for collection in height.collections[1:]]
    lengths = [sum(np.ptp(path.vertices[:, 0]) for path in paths) for paths in spans]
    np.testing.assert_allclose(lengths, np.array([20, 74, 5]) / 30, atol=1e-9)


def test_a_camera_that_was_never_placed_is_drawn() -> None:
    nothing = Way(
        np.arange(5.0), np.full((5, 3), np.nan), np.zeros(5, bool), np.zeros(5, bool), np.full((5, 3), np.nan)
    )
    figure = ways_figure("feet", {"left_foot": nothing, "right_foot": way_with_a_gap()}, Room(ring(4)))
    png_bytes(figure)
    png_bytes(ways_figure("feet", {"left_foot": nothing}))


def test_readings_lie_as_far_from_the_clock_as_they_say() -> None:
    readings = [Reading("a", "qr", 0.002, 0.001), Reading("b", "qr", -0.001, 0.0005), Reading("b", "sound", 0.0, 0.003)]
    axes = clocks_figure({"a": 1.0, "b": -0.5}, {"a": 0.0004}, readings).axes[0]
    points = {container.get_label(): container.lines[0].get_xdata() for container in axes.containers}
    np.testing.assert_allclose(points["qr"], [2.0, -1.0])
    np.testing.assert_allclose(points["sound"], [0.0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a  +1000.0 ms", "b  -500.0 ms"]


def test_cameras_over_a_limit_stand_out_and_missing_figures_are_left_out() -> None:
    figure = camera_figure(["a", "b", "c"], [("px", {"a": 0.5, "b": 3.0}, 2.0)])
    good, bad = [line for line in figure.axes[0].lines if line.get_marker() in ("o", "X")]
    np.testing.assert_array_equal(bad.get_xdata(), [3.0])
    assert np.array_equal(good.get_xdata(), [0.5, np.nan], equal_nan=True)


def test_strays_do_not_shrink_the_map(rng: np.random.Generator) -> None:
    points = rng.uniform([-3, -2, 0], [3, 2, 2.5], (1000, 3))
    points[:3] = 500.0
    above = scene_figure(points, np.full(1000, 0.01), Room(ring(4))).axes[0]
    assert np.ptp(above.get_xlim()) < 9
    png_bytes(scene_figure(np.zeros((0, 3)), np.zeros(0), Room(ring(2)), np.full((4, 3), np.nan)))


def test_the_same_picture_gives_the_same_bytes(tmp_path: Path) -> None:
    rig, way = ring(6), way_with_a_gap()
    for name in ("a", "b"):
        draw_rig(tmp_path / f"{name}.png", rig.subset(rig.ids[:2]), {}, {}, dict.fromkeys(rig.ids, 1e-6 * np.eye(6)))
        draw_track(tmp_path / f"{name}_way.png", "left_foot", way.t_s, way.centre_m, way.filled, way.valid, way.sigma_m)
    for end in ("", "_way"):
        content = (tmp_path / f"a{end}.png").read_bytes()
        assert content == (tmp_path / f"b{end}.png").read_bytes()
        assert b"tIME" not in content and b"Software" not in content
    assert not list(tmp_path.glob(".*"))
