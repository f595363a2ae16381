"""EasyMocap: `intri.yml` and `extri.yml`, `videos/CAM.mp4` or `images/CAM/`, `annots/CAM/*.json` or `openpose/CAM/`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from capture.detectors.stacking import MAX_FRAMES, stack_people
from capture.keypoints import Keypoints2d
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
    videos, images = videos_in(source / "videos"), folders_in(source / "images")
    images = {name: path for name, path in images.items() if name not in videos}
    joints = {name: _annots(path) for name, path in folders_in(source / "annots").items()}
    skeletons = {found.skeleton.name for found in joints.values()}
    if len(skeletons) > 1:
        raise InputError(str(source / "annots"), f"its views differ in joints: {skeletons}", "annotate them alike")
    folders = {} if joints else folders_in(source / "openpose")
    notes = () if joints or folders else ("it has no 2D joints: run `motifs detect` with a model",)
    return Project(
        videos, images, joints, folders, skeleton=next(iter(skeletons), BODY_25.name if folders else ""),
        calibration=source / "intri.yml", synchronised=True, notes=notes,
    )  # fmt: skip


def _annots(folder: Path) -> Keypoints2d:
    """EasyMocap's joints of a view: a file a frame, `annots: [{personID, keypoints: [[x, y, score], ...]}]`."""
    frames: dict[int, list[np.ndarray]] = {}
    for path in sorted(folder.glob("*.json")):
        number = re.search(r"(\d{1,12})$", path.stem)
        if number is None or int(number.group(1)) >= MAX_FRAMES:
            raise InputError(str(path), "its name holds no number of a frame", "name the files 000000.json and so on")
        data = read_json(path)
        try:
            people = [np.array(person["keypoints"], float) for person in data["annots"]]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(str(path), f"it is no annotation of EasyMocap ({error!r})", "export it again") from error
        frames[int(number.group(1))] = people
    sizes = {person.shape for people in frames.values() for person in people}
    if len(sizes) != 1 or (size := next(iter(sizes))) not in _SKELETONS:
        problem = f"its people have joints of shapes {sorted(sizes)}"
        raise InputError(str(folder), problem, "annotate with body25, coco17 or halpe26")
    return stack_people(frames, max(frames) + 1, _SKELETONS[size], str(folder))
