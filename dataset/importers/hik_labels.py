"""The 82 activities of Humans in Kitchens, and the single-label classes of the Action Motifs paper made of them.

Names and order are those of the data set's own code (Tanke et al., NeurIPS 2023), a trailing blank of one of them left
out. The regrouping follows the paper's appendix A.7: frames with a main activity of a class get the class; the class
goes on over neighbouring frames that hold one of its sub-activities; frames left that hold a transition get that; the
rest has no label.
"""

from __future__ import annotations

import numpy as np

from core.arrays import Bool, Int, UInt8

ACTIVITIES = (
    "carry cake", "carry cup", "carry plate", "carry whiteboard eraser", "carry whiteboard marker",
    "check water in coffee machine", "clean countertop", "clean dish", "close cupboard", "close dishwasher",
    "close drawer", "close fridge", "close window", "cut cake in pieces", "draw on whiteboard", "drink", "eat cake",
    "eat fruit", "empty cup in sink", "empty dishwasher", "empty ground from coffee machine",
    "empty water from coffee machine", "erase on whiteboard", "fill coffee beens", "fill water tank",
    "fill water to coffee machine", "fussball", "kneeling", "kneeling down", "leaning", "leaning down", "listening",
    "make coffee", "mark coffee", "open cupboard", "open dishwasher", "open drawer", "open fridge", "open window",
    "peal fruit", "phone call", "place cake on plate", "place cake on table", "place cup onto coffee machine",
    "place in dishwasher", "place sheet onto whiteboard", "place water tank in coffee machine", "pour kettle",
    "pour milk", "press coffee button", "put cake in fridge", "put cup in microwave", "put sugar in cup",
    "put teabag in cup", "put water in glass", "put water in kettle", "read paper", "remove sheet from whiteboard",
    "sitting", "sitting down", "squatting", "standing", "standing up", "start dishwasher", "start microwave",
    "steps", "take cake out of fridge", "take cup from coffee machine", "take cup out of microwave",
    "take dish out of cupboard", "take kettle", "take milk", "take piece of cake", "take teabag",
    "take water from sink", "take water tank from coffee machine", "talking", "throw in trash", "use laptop",
    "use smartphone", "walking", "washing hands",
)  # fmt: skip

# class: (main activities, sub-activities); where two classes have a main activity in one frame, the first here has it
_WATER = "take water from sink"
_CLASSES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "take dish out of cupboard": (("open cupboard", "take dish out of cupboard", "close cupboard"), ()),
    "drink": (("drink",), ("carry cup",)),
    "phone call": (("phone call",), ()),
    "use smartphone": (("use smartphone",), ()),
    "use laptop": (("use laptop",), ()),
    "fussball": (("fussball",), ()),
    "draw on whiteboard": (("draw on whiteboard",), ()),
    "erase on whiteboard": (("erase on whiteboard",), ()),
    "remove sheet from whiteboard": (("remove sheet from whiteboard",), ()),
    "eat fruit": (("eat fruit",), ()),
    "peal fruit": (("peal fruit",), ()),
    "read paper": (("read paper",), ()),
    "use dishwasher": (("open dishwasher", "place in dishwasher", "close dishwasher"), ()),
    "take cake out of fridge": (("open fridge", "take cake out of fridge", "put cake in fridge", "close fridge"), ()),
    "take something out of drawer": (("open drawer", "close drawer"), ()),
    "pour milk": (("pour milk", "take milk"), ("carry cup",)),
    "washing hands": (("washing hands",), (_WATER,)),
    "clean dish": (("clean dish",), (_WATER,)),
    "put cup in microwave": (("put cup in microwave",), ()),
    "take cup out of microwave": (("take cup out of microwave",), ()),
    "put teabag in cup": (("put teabag in cup", "take teabag"), ()),
    "put water in kettle": (("put water in kettle",), (_WATER, "take kettle")),
    "pour kettle": (("pour kettle",), ("take kettle",)),
    "make coffee": (("place cup onto coffee machine", "press coffee button"), ()),
    "take cup from coffee machine": (("take cup from coffee machine",), ()),
    "mark coffee": (("mark coffee",), ()),
    "prepare coffee machine": (
        (
            "check water in coffee machine",
            "take water tank from coffee machine",
            "empty water from coffee machine",
            "fill water to coffee machine",
            "fill water tank",
            "place water tank in coffee machine",
        ),
        (_WATER,),
    ),
    "cut cake": (("take piece of cake", "place cake on plate", "cut cake in pieces"), ()),
    "place cake on table": (("place cake on table",), ()),
    "eat cake": (("eat cake",), ()),
    "put water in glass": (("put water in glass",), (_WATER,)),
    "throw in trash": (("throw in trash",), ()),
}
_TRANSITIONS = ("sitting down", "standing up", "leaning down", "kneeling down")
CLASSES = (*_CLASSES, *_TRANSITIONS)
_NONE = -1


def regroup(activities: UInt8[np.ndarray, "frames 82"]) -> UInt8[np.ndarray, "frames 36"]:
    """One class or none for each frame, from the activities of one person in neighbouring frames."""
    label: Int[np.ndarray, "frames"] = np.full(len(activities), _NONE)
    for number, (main, _) in enumerate(_CLASSES.values()):
        label[(label == _NONE) & _any_of(activities, main)] = number
    sub_of = {number: sub for number, (_, sub) in enumerate(_CLASSES.values()) if sub}
    grown = label.copy()
    for number, sub in sub_of.items():
        reached = _runs_with(label == number, (label == _NONE) & _any_of(activities, sub))
        grown[reached & (grown == _NONE)] = number
    for number, name in enumerate(_TRANSITIONS, start=len(_CLASSES)):
        grown[(grown == _NONE) & _any_of(activities, (name,))] = number
    return (grown[:, None] == np.arange(len(CLASSES))).astype(np.uint8)


def _any_of(activities: np.ndarray, names: tuple[str, ...]) -> Bool[np.ndarray, "frames"]:
    return np.asarray(activities[:, [ACTIVITIES.index(name) for name in names]].any(axis=1))


def _runs_with(seeds: Bool[np.ndarray, "frames"], more: Bool[np.ndarray, "frames"]) -> Bool[np.ndarray, "frames"]:
    """Frames of `more` in those unbroken runs of either that hold a seed."""
    either = seeds | more
    run = np.cumsum(np.diff(either.astype(int), prepend=0) == 1)
    seeded = np.bincount(run, weights=seeds) > 0
    return np.asarray(more & seeded[run])
