"""Which camera of a calibration file films which view: by name, by the last number in both names, or by order.

Tools name the same camera `cam1`, `int_cam1_img`, `1`; sorted as text, or as the file has them, `cam10` stands
elsewhere. So order tells nothing where names hold numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from core.errors import InputError


def match_cameras(views: Sequence[str], cameras: Sequence[str], item: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The camera of each view, in the order of the views; a file may hold more cameras.

    Args:
        views: names of views.
        cameras: names of the file's cameras, in its order.
        item: the file, as its user knows it.

    Returns:
        the camera by view, and what people should know of how it was told: nothing where names are the same.

    Raises:
        InputError: if names do not tell.
    """
    if views and set(views) <= set(cameras):
        return {view: view for view in views}, ()
    of_view, of_camera = _by_last_number(views), _by_last_number(cameras)
    if of_view and of_view.keys() <= of_camera.keys():
        pairs = {view: of_camera[number] for number, view in of_view.items()}
        return pairs, (f"cameras are told by their numbers: {_listed(pairs)}",)
    numbered = any(re.search(r"\d", name) for name in (*views, *cameras))
    if not numbered and len(views) == len(cameras) and not set(views) & set(cameras):
        pairs = dict(zip(views, cameras, strict=True))
        return pairs, (f"no name tells the cameras, so they are taken in their order: {_listed(pairs)}",)
    raise InputError(
        item,
        f"its cameras {', '.join(cameras)} are not the session's {', '.join(views)}",
        "name the cameras in the file as the views, or with the same numbers",
    )


def _by_last_number(names: Sequence[str]) -> dict[int, str]:
    """Names by the last number in each; none where one has no number, or two share one."""
    numbers = [re.findall(r"\d+", name) for name in names]
    found = {int(number[-1]): name for number, name in zip(numbers, names, strict=True) if number}
    return found if len(found) == len(names) else {}


def _listed(pairs: dict[str, str]) -> str:
    return ", ".join(f"{camera} is {view}" for view, camera in pairs.items() if camera != view)
