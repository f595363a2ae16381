"""Every way in which a rig from targets is known to fail, each as a room with exact truth.

In each scene something declared is not so, or the targets were shown in a way that determines little. A calibration may
solve it, within what it states, or refuse it and name who is to blame; anything else is silently wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from calibration.rig_import import SeenPerson
from calibration.rig_targets import Sighting
from core.cameras import Camera, Rig
from core.skeletons import BODY_25
from core.transforms import SE3
from simulation.stick_person import walking_person
from simulation.target_scenes import (
    LONGER,
    RADTAN,
    Stage,
    TargetScene,
    carried_rig,
    charuco,
    film,
    film_all,
    joined,
    look_at,
    mirrored,
    room_stage,
    way_through_the_room,
)


@dataclass(frozen=True, eq=False)
class FailureScene:
    """A scene and who is to blame in it.

    Attributes:
        scene: the room; its rig is the truth for the videos under their names.
        blame: names of which a refusal must give one; empty where nothing is wrong.
        solvable: whether the data carry the right answer; else only a refusal is right.
        gravity: whether a world target tells the world; else it is a camera's.
        person: joints of one who walks through the room, where one does, seen by all cameras; only that can know
            some things.
        reference: a calibration file's cameras, for scenes of the other road: imported and refined on the person.
    """

    scene: TargetScene
    blame: tuple[str, ...] = ()
    solvable: bool = True
    gravity: bool = True
    person: SeenPerson | None = None
    reference: Rig | None = None


Maker = Callable[[np.random.Generator], FailureScene]


def _nothing_wrong(rng: np.random.Generator) -> FailureScene:
    return FailureScene(film_all(room_stage(), rng))


def _narrow_baseline(rng: np.random.Generator) -> FailureScene:
    """Two cameras a hand apart."""
    aim = np.array([0.0, 0.0, 1.2])
    centres = [np.array([2.4, y, 1.6]) for y in (-0.06, 0.06)]
    cameras = tuple(Camera(f"cam{k}", RADTAN, look_at(c, aim).inverse()) for k, c in enumerate(centres))
    return FailureScene(film_all(dataclasses.replace(room_stage(), rig=Rig(cameras)), rng), ("cam0", "cam1", "rig"))


def _planar_only(rng: np.random.Generator) -> FailureScene:
    """One flat board pushed about in one plane, square to two cameras that look straight at it."""
    board = charuco("board", "carried", square_m=0.06)
    upright = SE3.from_rotvec(np.array([-np.pi / 2, 0.0, 0.0]), np.zeros(3)).R

    def way(t_s: np.ndarray) -> SE3:
        place = np.stack([0.5 * np.cos(t_s), np.zeros_like(t_s), 1.2 + 0.3 * np.sin(1.7 * t_s)], axis=-1)
        return SE3(np.broadcast_to(upright, (len(t_s), 3, 3)), place)

    cameras = tuple(
        Camera(f"cam{k}", RADTAN, look_at(np.array([x, -2.5, 1.1]), np.array([x, 0.0, 1.1])).inverse())
        for k, x in enumerate((-0.3, 0.3))
    )
    stage = Stage(Rig(cameras), {"board": board}, {}, {"board": way})
    return FailureScene(film_all(stage, rng), ("cam0", "cam1", "rig"), gravity=False)


def _chain_linked(rng: np.random.Generator) -> FailureScene:
    """Six cameras along a corridor, each of which shares the carried rig with its neighbours alone."""
    cameras = [
        Camera(f"cam{k}", RADTAN, look_at(np.array([1.5 * k, -2.0, 1.5]), np.array([1.5 * k, 0.0, 1.1])).inverse())
        for k in range(6)
    ]
    base = room_stage()

    def way(t_s: np.ndarray) -> SE3:
        pose = way_through_the_room(2 * t_s)
        place = np.stack([0.6 * t_s - 0.6, 0.2 * np.sin(t_s), 1.2 + 0.2 * np.sin(2 * t_s)], axis=-1)
        return SE3(pose.R, place)

    floor = {"floor": base.targets["floor"], "rig": base.targets["rig"]}
    stage = Stage(Rig(tuple(cameras)), floor, {"floor": base.places["floor"]}, {"rig": way}, seconds=15.0)
    return FailureScene(film_all(stage, rng), tuple(c.id for c in cameras))


def _unconnected(rng: np.random.Generator) -> FailureScene:
    """Two cameras see the carried rig at first, two later; nobody for so long that its way is anybody's guess."""
    made = film_all(room_stage(), rng)
    cut = {}
    for k, (view, seen) in enumerate(made.sightings.items()):
        carried = seen.points.of_target("rig")
        t_s = _times(seen)[carried.frame_idx]
        cut[view] = dataclasses.replace(seen, points=carried.where(t_s < 2.5 if k < 2 else t_s > 3.5))
    scene = dataclasses.replace(made, sightings=cut, targets={"rig": made.targets["rig"]}, world_from_target={})
    return FailureScene(scene, ("cam0", "cam1", "cam2", "cam3"), solvable=False, gravity=False)


def _mirrored(*names: str) -> Maker:
    def make(rng: np.random.Generator) -> FailureScene:
        made = film_all(room_stage(), rng)
        sightings = dict(made.sightings)
        for view, seen in made.sightings.items():
            points = seen.points
            for name in names:
                points = mirrored(points, made.targets, name)
            sightings[view] = dataclasses.replace(seen, points=points)
        return FailureScene(dataclasses.replace(made, sightings=sightings), names, solvable="floor" not in names)

    return make


def _mirrored_board_alone(rng: np.random.Generator) -> FailureScene:
    """One flat board, carried, mirrored, and nothing else that could contradict it."""
    stage = _one_board()
    made = film_all(stage, rng)
    sightings = {
        view: dataclasses.replace(seen, points=mirrored(seen.points, made.targets, "board"))
        for view, seen in made.sightings.items()
    }
    return FailureScene(dataclasses.replace(made, sightings=sightings), ("board",), gravity=False)


def _one_board() -> Stage:
    board = charuco("board", "carried")
    return Stage(room_stage().rig, {"board": board}, {}, {"board": _waved}, seconds=8.0)


def _waved(t_s: np.ndarray) -> SE3:
    pose = way_through_the_room(t_s)
    up = SE3.from_rotvec(
        np.stack([0.9 * np.sin(2.1 * t_s), 0.9 * np.cos(1.3 * t_s), t_s], axis=-1), np.zeros_like(pose.t)
    )
    flat = SE3.from_rotvec(np.array([np.pi, 0.0, 0.0]), np.zeros(3)).R
    return SE3(up.R @ flat, pose.t * np.array([0.5, 0.5, 0.4]))


def _upside_down(rng: np.random.Generator) -> FailureScene:
    """The floor board's pose was declared with z up: as if it were printed on the room's underside."""
    made = film_all(room_stage(), rng)
    floor = made.targets["floor"]
    place = made.world_from_target["floor"]
    wrong = dataclasses.replace(floor, world_from_target=SE3(np.eye(3), place.t))
    scene = dataclasses.replace(made, targets={**made.targets, "floor": wrong})
    return FailureScene(scene, ("floor", "cam0", "cam1", "cam2", "cam3"), solvable=False)


def _wrong_size(name: str, factor: float) -> Maker:
    """One target was printed at another size than declared; others tell."""

    def make(rng: np.random.Generator) -> FailureScene:
        made = film_all(room_stage(), rng)
        target = made.targets[name]
        wrong = (
            carried_rig(0.06 * factor)
            if name == "rig"
            else dataclasses.replace(target, square_m=factor * target.square_m, marker_m=factor * target.marker_m)
        )
        return FailureScene(dataclasses.replace(made, targets={**made.targets, name: wrong}), (name,), solvable=False)

    return make


def _all_wrong_size(rng: np.random.Generator) -> FailureScene:
    """The only target was printed at half its size, so that the room seems twice as large: a person knows better."""
    made = film_all(_one_board(), rng)
    wrong = dataclasses.replace(made.targets["board"], square_m=0.2, marker_m=0.14)
    scene = dataclasses.replace(made, targets={"board": wrong})
    return FailureScene(scene, ("person",), solvable=False, gravity=False, person=see_walk(made.rig, rng))


def see_walk(rig: Rig, rng: np.random.Generator, seconds: float = 12.0, noise_px: float = 3.0) -> SeenPerson:
    """A walking person as a detector sees one: a few pixels of noise, one joint in ten missing."""
    t_s = np.arange(0, seconds, 1 / 20)
    joints = walking_person(t_s)
    px = rig.project(joints)
    px = px + noise_px * rng.standard_normal(px.shape)
    inside = np.stack([camera.lens.contains(np.nan_to_num(p, nan=-1e6)) for camera, p in zip(rig, px, strict=True)])
    seen = inside & (rng.random(inside.shape) > 0.1)
    return SeenPerson(np.where(seen[..., None], px, np.nan), np.where(seen, 0.8, 0.0), t_s, BODY_25, rig.ids[0])


def _imported(change: Callable[[Rig], Rig], blame: tuple[str, ...]) -> Maker:
    """A calibration file that says something else than the room, and a person who walks in it."""

    def make(rng: np.random.Generator) -> FailureScene:
        rig = room_stage().rig
        scene = TargetScene(rig, {}, {}, {})
        person = see_walk(rig, rng)
        return FailureScene(scene, blame, solvable=not blame, person=person, reference=change(rig))

    return make


def _exchanged(rig: Rig) -> Rig:
    """Two cameras bear each other's names."""
    a, b, *rest = rig.cameras
    return Rig((dataclasses.replace(b, id=a.id), dataclasses.replace(a, id=b.id), *rest))


def _larger(factor: float) -> Callable[[Rig], Rig]:
    """Another unit of length."""

    def change(rig: Rig) -> Rig:
        poses = [SE3(c.cam_from_world.R, factor * c.cam_from_world.t) for c in rig]
        return Rig(tuple(dataclasses.replace(c, cam_from_world=p) for c, p in zip(rig, poses, strict=True)))

    return change


def _turned_over(rig: Rig) -> Rig:
    """A world whose z points down."""
    over = SE3.from_rotvec(np.array([np.pi, 0.0, 0.0]), np.zeros(3))
    return Rig(tuple(dataclasses.replace(c, cam_from_world=c.cam_from_world @ over) for c in rig))


def _swapped(second_lens_differs: bool) -> Maker:
    """The videos of two cameras bear each other's names."""

    def make(rng: np.random.Generator) -> FailureScene:
        stage = room_stage()
        cameras = list(stage.rig)
        if second_lens_differs:
            cameras[1] = dataclasses.replace(cameras[1], lens=LONGER)
        made = film_all(dataclasses.replace(stage, rig=Rig(tuple(cameras))), rng)
        one, other = made.sightings["cam0"], made.sightings["cam1"]
        sightings = {
            **made.sightings,
            "cam0": dataclasses.replace(other, lens=one.lens),
            "cam1": dataclasses.replace(one, lens=other.lens),
        }
        truth = Rig(
            (
                dataclasses.replace(cameras[1], id="cam0"),
                dataclasses.replace(cameras[0], id="cam1"),
                *cameras[2:],
            )
        )
        scene = dataclasses.replace(made, rig=truth, sightings=sightings)
        return FailureScene(scene, ("cam0", "cam1") if second_lens_differs else (), solvable=not second_lens_differs)

    return make


def _camera_moved(num_cameras: int, metres: float, degrees: float) -> Maker:
    """A camera was pushed half-way."""

    def make(rng: np.random.Generator) -> FailureScene:
        stage = room_stage(num_cameras)
        axis, way = rng.standard_normal(3), rng.standard_normal(3)
        push = np.concatenate([np.radians(degrees) * axis / np.linalg.norm(axis), metres * way / np.linalg.norm(way)])
        camera = stage.rig.cameras[1]
        pushed = dataclasses.replace(camera, cam_from_world=camera.world_from_cam.retract(push).inverse())
        made = film_all(stage, rng)
        before = made.sightings["cam1"]
        after = dataclasses.replace(film(stage, pushed, rng), t_s=before.t_s)
        sightings = {**made.sightings, "cam1": joined(before, after, float(rng.uniform(2.5, 3.5)))}
        return FailureScene(dataclasses.replace(made, sightings=sightings), ("cam1",), solvable=False)

    return make


def _target_moved(rng: np.random.Generator) -> FailureScene:
    """A ceiling board came down on one side."""
    stage = room_stage()
    turned = stage.places["ceiling0"].retract(np.array([0.03, 0.0, 0.05, 0.0, 0.02, -0.03]))
    other = dataclasses.replace(stage, places={**stage.places, "ceiling0": turned})
    seed = int(rng.integers(1 << 30))
    made = film_all(stage, np.random.default_rng(seed))
    later = film_all(other, np.random.default_rng(seed))
    at_s = float(rng.uniform(2.0, 4.0))
    sightings = {view: joined(seen, later.sightings[view], at_s) for view, seen in made.sightings.items()}
    return FailureScene(dataclasses.replace(made, sightings=sightings), ("ceiling0",))


def _rig_bent(rng: np.random.Generator) -> FailureScene:
    """A panel of the carried rig was bent half-way, by 6 degrees about its edge."""
    stage = room_stage()
    whole = stage.targets["rig"]
    first, second, *rest = whole.placed_panels
    turned = second @ SE3.from_rotvec(np.array([0.0, np.radians(6.0), 0.0]), np.zeros(3))
    bent = dataclasses.replace(whole, target_from_panel=(first, turned, *rest))
    made = film_all(stage, rng)
    later = dataclasses.replace(stage, targets={**stage.targets, "rig": bent})
    sightings = {}
    for camera in stage.rig:
        before = made.sightings[camera.id]
        after = dataclasses.replace(film(later, camera, rng), t_s=before.t_s)
        sightings[camera.id] = joined(before, after, 3.0)
    return FailureScene(dataclasses.replace(made, sightings=sightings), ("rig",), solvable=False)


def _wrong_lens(focal: float) -> Maker:
    """One camera's lens was calibrated at another zoom."""

    def make(rng: np.random.Generator) -> FailureScene:
        made = film_all(room_stage(), rng)
        fx, fy = RADTAN.focal_px
        wrong = dataclasses.replace(RADTAN, focal_px=(focal * fx, focal * fy))
        sightings = {**made.sightings, "cam2": dataclasses.replace(made.sightings["cam2"], lens=wrong)}
        return FailureScene(dataclasses.replace(made, sightings=sightings), ("cam2",), solvable=False)

    return make


def _wrong_clock(seconds: float) -> Maker:
    """One camera's clock is off; a solver that refines clocks may mend it."""

    def make(rng: np.random.Generator) -> FailureScene:
        made = film_all(room_stage(), rng)
        late = made.sightings["cam2"]
        sightings = {**made.sightings, "cam2": dataclasses.replace(late, t_s=_times(late) + seconds)}
        return FailureScene(dataclasses.replace(made, sightings=sightings), ("cam2",))

    return make


def _webcams(declared: bool) -> Maker:
    """Frames that were stamped when a computer read them, each another while after its exposure."""

    def make(rng: np.random.Generator) -> FailureScene:
        made = film_all(dataclasses.replace(room_stage(), jitter_s=0.012), rng)
        if declared:
            sightings = {v: dataclasses.replace(s, jitter_sigma_s=0.005) for v, s in made.sightings.items()}
            made = dataclasses.replace(made, sightings=sightings)
        return FailureScene(made, () if declared else tuple(made.sightings))

    return make


def _weak_camera(rng: np.random.Generator) -> FailureScene:
    """One camera sees nothing but a palm-sized board far away, six times."""
    stage = room_stage()
    tag = charuco("tag", "static", first=700, square_m=0.012)
    place = SE3(look_at(np.zeros(3), np.array([-1.0, 1.0, -0.2])).R, np.array([-0.5, 0.6, 1.3]))
    stage = dataclasses.replace(
        stage, targets={**stage.targets, "tag": tag}, places={**stage.places, "tag": place}, still_every=20
    )
    made = film_all(stage, rng)
    last = made.sightings["cam3"]
    sightings = {**made.sightings, "cam3": dataclasses.replace(last, points=last.points.of_target("tag"))}
    return FailureScene(dataclasses.replace(made, sightings=sightings), ("cam3",))


def _times(sighting: Sighting) -> np.ndarray:
    assert sighting.t_s is not None  # films have times
    return sighting.t_s


FAILURES: Mapping[str, Maker] = {
    "nothing wrong": _nothing_wrong,
    "narrow baseline": _narrow_baseline,
    "planar only": _planar_only,
    "chain-linked": _chain_linked,
    "unconnected": _unconnected,
    "mirrored ceiling board": _mirrored("ceiling0"),
    "mirrored floor board": _mirrored("floor"),
    "all boards mirrored": _mirrored("floor", "ceiling0", "ceiling1"),
    "the only board mirrored": _mirrored_board_alone,
    "world upside down": _upside_down,
    "carried rig 10 % larger": _wrong_size("rig", 1.1),
    "floor board 10 % larger": _wrong_size("floor", 1.1),
    "ceiling board 3 % smaller": _wrong_size("ceiling1", 0.97),
    "the only board twice as large": _all_wrong_size,
    "swapped videos": _swapped(True),
    "swapped videos, same lens": _swapped(False),
    "camera moved 40 mm, 2 deg": _camera_moved(4, 0.04, 2.0),
    "camera moved 10 mm, 0.5 deg": _camera_moved(4, 0.01, 0.5),
    "one of three cameras moved": _camera_moved(3, 0.04, 2.0),
    "static board moved": _target_moved,
    "carried rig bent half-way": _rig_bent,
    "lens 10 % too long": _wrong_lens(1.1),
    "lens 3 % too short": _wrong_lens(0.97),
    "clock 80 ms off": _wrong_clock(0.08),
    "clock 600 ms off": _wrong_clock(0.6),
    "webcams": _webcams(True),
    "webcams, taken as regular": _webcams(False),
    "a camera that hardly sees": _weak_camera,
    "imported, two exchanged": _imported(_exchanged, ("cam0", "cam1")),
    "imported, in another unit": _imported(_larger(3.28), ("person", "cam", "rig")),
    "imported, upside down": _imported(_turned_over, ("cam",)),
    "imported, as it is": _imported(lambda rig: rig, ()),
}
