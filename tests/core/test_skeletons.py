from __future__ import annotations

import numpy as np
import pytest

from core.errors import InputError
from core.skeletons import (
    BODY_25,
    BODY_25B,
    COCO_17,
    HALPE_26,
    MEDIAPIPE_33,
    SKELETONS,
    SMPL_24,
    map_joints,
    skeleton_named,
)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_names_are_unique_and_bones_join_them(skeleton) -> None:  # type: ignore[no-untyped-def]
    assert len(set(skeleton.joints)) == len(skeleton.joints)
    assert skeleton.bones_idx.shape == (len(skeleton.bones), 2)
    assert (skeleton.swap_idx[skeleton.swap_idx] == np.arange(len(skeleton))).all()


def test_joint_counts_are_the_published_ones() -> None:
    assert {name: len(s) for name, s in SKELETONS.items()} == {
        "SMPL_24": 24, "COCO_17": 17, "BODY_25": 25, "BODY_25B": 25, "HALPE_26": 26,
    }  # fmt: skip


def test_maps_go_by_name() -> None:
    src, dst = map_joints(BODY_25, COCO_17)
    assert [BODY_25.joints[i] for i in src] == [COCO_17.joints[i] for i in dst] == list(COCO_17.joints)
    assert BODY_25.idx("left_heel") == 21
    assert BODY_25B.idx("left_heel") == 21
    assert HALPE_26.idx("left_heel") == 24


def test_smpl_tree_grows_from_the_pelvis() -> None:
    parents = np.array(SMPL_24.parents)
    assert parents[0] == -1
    assert (parents[1:] < np.arange(1, 24)).all()
    assert SMPL_24.joints[parents[SMPL_24.idx("left_wrist")]] == "left_elbow"


def test_unknown_names_are_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match="COCO_17"):
        skeleton_named("coco-18")
    assert skeleton_named("halpe-26") is HALPE_26


def test_mediapipe_joints_have_its_own_numbers() -> None:
    known = {"nose": 0, "left_eye": 2, "right_ear": 8, "left_shoulder": 11, "right_wrist": 16, "left_hip": 23}
    known |= {"right_ankle": 28, "left_heel": 29, "right_heel": 30, "left_big_toe": 31, "right_big_toe": 32}
    assert {name: MEDIAPIPE_33.idx(name) for name in known} == known
    assert len(MEDIAPIPE_33) == 33 and "MEDIAPIPE_33" not in SKELETONS
