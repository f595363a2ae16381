"""Where the files of a recording lie: the folder layouts that `motifs ingest` understands.

| layout   | videos       | lens pictures                                 | 2D joints                     |
|----------|--------------|-----------------------------------------------|-------------------------------|
| flat     | videos/V.mp4 | calibration/lens/V/*.jpg (or a video V.mp4)   | keypoints/V/*.json, or V.json |
| pose2sim | videos/V.mp4 | calibration/intrinsics/V/*.jpg (or int_V_img) | <pose folder>/V_json/*.json   |

Frame times that a computer wrote down lie in `timestamps/V.txt` (or `.csv`), or in one `timestamps.csv` of all cameras.
V is the view's id; `left_foot` and `right_foot` are the foot cameras. A camera that writes pictures instead of a video
has them in `images/V/`, in the order of their names; hand-held photographs lie in `photos/`. The video (or pictures) of
a walk through the empty room is called `walkthrough`. Silhouettes of the subject lie in `masks/V/` (`capture.masks`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.errors import InputError

LayoutName = Literal["auto", "flat", "pose2sim"]
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".mpg", ".mpeg"})
PHOTOS = "photos"
POSE_SYNC = "pose-sync"  # Pose2Sim's joints as it synchronised them
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class FoundView:
    """What a recording holds of one view.

    Attributes:
        id: name of the view.
        video: its video.
        images: folder of stills: frames of a camera, or hand-held photographs (the view `photos`).
        frame_times: file of frame times that a computer wrote down.
        lens_images: folder of pictures, or a video, of the lens board.
        keypoints: file or folder of another tool's 2D joints.
        masks: folder of another tool's silhouettes of the subject.
    """

    id: str
    video: Path | None = None
    images: Path | None = None
    frame_times: Path | None = None
    lens_images: Path | None = None
    keypoints: Path | None = None
    masks: Path | None = None


def find_views(source: Path, layout: LayoutName, pose_folder: str = "") -> list[FoundView]:
    """The views of a recording, sorted by id.

    Args:
        source: folder of the recording.
        layout: how it is arranged; `auto` looks.
        pose_folder: name of the folder of 2D joints, where it is not the layout's usual one.

    Raises:
        InputError: if the folder is missing, holds no views, or two files claim one view.
    """
    if not source.is_dir():
        raise InputError(str(source), "there is no such folder", "give the folder of the recording")
    name = _guess(source) if layout == "auto" else layout
    videos, sequences = _videos(source), _sequences(source)
    if twice := sorted(videos.keys() & sequences.keys()):
        both = f"{videos[twice[0]]} and {sequences[twice[0]]} are both its pictures"
        raise InputError(twice[0], both, "keep one of them")
    poses = _pose2sim_poses(source, pose_folder) if name == "pose2sim" else _flat_poses(source, pose_folder)
    views = [
        FoundView(
            view,
            videos.get(view),
            sequences.get(view),
            _frame_times(source, view),
            _lens_images(source, name, view),
            poses.get(view),
            source / "masks" / view if (source / "masks" / view).is_dir() else None,
        )
        for view in sorted(videos.keys() | sequences.keys() | poses.keys())
    ]
    if (source / PHOTOS).is_dir():
        views.append(FoundView(PHOTOS, images=source / PHOTOS, lens_images=_lens_images(source, name, PHOTOS)))
    if not views:
        action = "put them in videos/, images/, keypoints/ and photos/"
        raise InputError(str(source), "it holds no videos, pictures or 2D joints", action)
    return views


def _guess(source: Path) -> Literal["flat", "pose2sim"]:
    foreign = (source / "calibration/intrinsics").is_dir() or any(source.glob("pose*/*_json"))
    return "pose2sim" if foreign else "flat"


def _videos(source: Path) -> dict[str, Path]:
    """Videos by view, from `videos/` or, without it, from the folder itself."""
    folder = source / "videos" if (source / "videos").is_dir() else source
    files = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith(".")]
    return _by_view((path.stem, path) for path in files)


def _sequences(source: Path) -> dict[str, Path]:
    """Folders of stills by view, from `images/`."""
    entries = sorted((source / "images").iterdir()) if (source / "images").is_dir() else []
    return _by_view((path.name, path) for path in entries if path.is_dir() and path.name != PHOTOS)


def _flat_poses(source: Path, pose_folder: str) -> dict[str, Path]:
    folder = _pose_folder(source, pose_folder, ("keypoints",))
    entries = sorted(folder.iterdir()) if folder else []
    kept = [p for p in entries if not p.name.startswith(".") and (p.is_dir() or p.suffix == ".json")]
    return _by_view((path.stem, path) for path in kept)


def _pose2sim_poses(source: Path, pose_folder: str) -> dict[str, Path]:
    # joints of the person of interest come before those of everybody in the picture
    folder = _pose_folder(source, pose_folder, ("pose-associated", "pose*_associated", "pose", "pose2d*"))
    if folder and (why := _renumbered(source, folder)):
        if pose_folder or not (source / "pose").is_dir():
            action = "bring pose/, as it was before synchronisation: `motifs sync` finds the offsets itself"
            raise InputError(str(folder), why, action)
        folder = source / "pose"
    entries = sorted(folder.glob("*_json")) if folder else []
    return _by_view((path.name.removesuffix("_json"), path) for path in entries)


def _renumbered(source: Path, folder: Path) -> str:
    """Why numbers of a folder of Pose2Sim's joints are not the videos' frames; empty if nothing says so.

    Its synchronisation writes `pose-sync/`: frames of `pose/` under numbers less the camera's offset, none below 1.
    `pose-associated/` is made of that, and may leave out frames that `Config.toml` excludes.
    """
    if (source / POSE_SYNC).is_dir() and (folder.name == POSE_SYNC or "associated" in folder.name):
        return f"its frames are numbered as Pose2Sim synchronised them ({POSE_SYNC}/), not as the videos"
    for own in sorted(folder.glob("*_json")):
        first, whole = _lowest_number(own), _lowest_number(source / "pose" / own.name)
        if first is not None and whole is not None and first != whole:
            return f"frames of {own.name} begin at {first}, in pose/ at {whole}"
    return ""


def _lowest_number(folder: Path) -> int | None:
    """The lowest number that names of a folder's JSON files end in; None without any."""
    numbers = (re.findall(r"\d+", path.stem) for path in folder.glob("*.json"))
    return min((int(found[-1]) for found in numbers if found), default=None)


def _pose_folder(source: Path, given: str, usual: tuple[str, ...]) -> Path | None:
    if given:
        if not (source / given).is_dir():
            raise InputError(str(source / given), "there is no such folder of 2D joints", "check --keypoints")
        return source / given
    found = (path for pattern in usual for path in sorted(source.glob(pattern)) if path.is_dir())
    return next(found, None)


def _frame_times(source: Path, view: str) -> Path | None:
    names = (f"timestamps/{view}.txt", f"timestamps/{view}.csv", "timestamps.csv")
    return next((source / name for name in names if (source / name).is_file()), None)


def _lens_images(source: Path, layout: str, view: str) -> Path | None:
    folders = ("calibration/intrinsics",) if layout == "pose2sim" else ("calibration/lens", "lens")
    names = (view, f"int_{view}_img") if layout == "pose2sim" else (view,)
    for folder in folders:
        for name in names:
            if (source / folder / name).is_dir():
                return source / folder / name
            for path in sorted((source / folder).glob(f"{name}.*")):
                if path.suffix.lower() in VIDEO_SUFFIXES:
                    return path
    return None


def _by_view(entries: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Files by view id; refuses ids that cannot name files, and two files for one id."""
    found: dict[str, Path] = {}
    for view, path in entries:
        if not _ID.fullmatch(view):
            raise InputError(str(path), f"{view!r} cannot be a view's id", "use letters, digits, - and _ in its name")
        if view in found:
            raise InputError(str(path), f"{found[view].name} is of view {view} too", "keep one of them")
        found[view] = path
    return found
