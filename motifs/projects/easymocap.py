"""EasyMocap: `intri.yml` and `extri.yml`, `videos/CAM.mp4` or `images/CAM/`, `annots/CAM/*.json` or `openpose/CAM/`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from capture.detectors.stacking import MAX_FRAMES, first_number, stack_people
from capture.keypoints import Keypoints2d
from capture.stills import SUFFIXES, list_stills
from core.errors import InputError
from core.files import read_json
from core.skeletons import BODY_25, COCO_17, HALPE_26
from motifs.projects.contents import ImportConfig, Project, folders_in, videos_in

_SKELETONS = {(25, 3): BODY_25, (17, 3): COCO_17, (26, 3): HALPE_26}


def read_easymocap(source: Path, config: ImportConfig) -> Project:
    """A dataset whose views are synchronised, as EasyMocap takes them to be.

    Raises:
        InputError: if an annotation is damaged, or views differ in their joints.
    """
    videos, pictures = videos_in(source / "videos"), folders_in(source / "images")
    images = {name: path for name, path in pictures.items() if name not in videos}
    joints = _joints(source / "annots", images, pictures)
    skeletons = {found.skeleton.name for found in joints.values()}
    folders = {} if joints else folders_in(source / "openpose")
    notes = () if joints or folders else ("it has no 2D joints: run `motifs detect` with a model",)
    return Project(
        videos, images, joints, folders, skeleton=next(iter(skeletons), BODY_25.name if folders else ""),
        calibration=source / "intri.yml", synchronised=True, notes=notes,
    )  # fmt: skip


def _joints(folder: Path, images: Mapping[str, Path], pictures: Mapping[str, Path]) -> dict[str, Keypoints2d]:
    """Joints of all views; a view in which nobody ever is has the others' layout.

    Args:
        folder: of the annotations, a folder a view.
        images: folders of stills by view, where they are the view's frames.
        pictures: all such folders, also of views that have a video.
    """
    views = {name: _annots(path) for name, path in folders_in(folder).items()}
    shapes = {name: {p.shape for people in view.values() for p in people} for name, view in views.items()}
    for name, sizes in shapes.items():
        if len(sizes) > 1 or not sizes <= _SKELETONS.keys():
            problem = f"its people have joints of shapes {sorted(sizes)}"
            raise InputError(str(folder / name), problem, "annotate with body25, coco17 or halpe26")
    sizes = set().union(*shapes.values())
    if views and len(sizes) != 1:
        names = ", ".join(sorted(_SKELETONS[size].name for size in sizes))
        problem = f"its views differ in joints: {names}" if names else "nobody is in any of its views"
        raise InputError(str(folder), problem, "annotate them alike" if names else "annotate again, or remove it")
    numbered = [path for name, view in views.items() if name not in images for path in view]
    extracted = (path for name in views.keys() & pictures.keys() - images.keys() for path in pictures[name].iterdir())
    numbered += [path for path in extracted if path.suffix.lower() in SUFFIXES and path.stem.isdecimal()]
    # views share their numbers: where one counts from 0, another's first annotated frame is no other 0
    first = first_number(min(map(_number, numbered)), str(folder)) if numbered else 0
    found = {}
    for name, view in views.items():
        places = _places(view, images[name]) if name in images else {path: _number(path) - first for path in view}
        frames = {places[path]: people for path, people in view.items()}
        found[name] = stack_people(frames, max(frames) + 1, _SKELETONS[next(iter(sizes))], str(folder / name))
    return found


def _annots(folder: Path) -> dict[Path, list[np.ndarray]]:
    """EasyMocap's joints of a view: a file a frame, `annots: [{personID, keypoints: [[x, y, score], ...]}]`."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise InputError(str(folder), "it holds no annotations", "annotate the view, or remove the folder")
    people = {}
    for path in files:
        data = read_json(path)
        try:
            people[path] = [np.array(person["keypoints"], float) for person in data["annots"]]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(str(path), f"it is no annotation of EasyMocap ({error!r})", "export it again") from error
    return people


def _number(path: Path) -> int:
    """The number that a file's name ends in."""
    number = re.search(r"(\d{1,12})$", path.stem)
    if number is None or int(number.group(1)) >= MAX_FRAMES:
        raise InputError(str(path), "its name holds no number of a frame", "name the files 000000.json and so on")
    return int(number.group(1))


def _places(files: Iterable[Path], stills: Path) -> dict[Path, int]:
    """The frames of annotations: places of the pictures of the same names, whatever these count from."""
    places = {path.stem: place for place, path in enumerate(list_stills(stills))}
    for path in files:
        if path.stem not in places:
            problem = f"there is no picture of this name in {stills}"
            raise InputError(str(path), problem, "keep annotations of its pictures alone")
    return {path: places[path.stem] for path in files}
