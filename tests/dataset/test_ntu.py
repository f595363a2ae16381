"""NTU skeleton text in: several bodies, missing frames, ids beyond a float's exactness, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import InputError
from dataset.build import build
from dataset.importers.ntu import ACTIONS, read_ntu, read_skeleton
from dataset.shards import AmdDataset
from fitting.smpl import BodyModel
from fitting.stand_in import stand_in_body

# SMPL's joints where Kinect's 25 are, roughly
_SMPL_OF_KINECT = [0, 6, 12, 15, 16, 18, 20, 22, 17, 19, 21, 23, 1, 4, 7, 10, 2, 5, 8, 11, 12, 22, 22, 23, 23]
# neighbouring tracking ids, the same number as floats
_IDS = ("72057594037931101", "72057594037931102")


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return stand_in_body()


def skeleton_text(bodies: dict[str, np.ndarray], states: int = 2) -> str:
    """The text of a file; frames in which a body is NaN lack it."""
    lines = [str(len(next(iter(bodies.values()))))]
    for frame in range(int(lines[0])):
        seen = {name: joints[frame] for name, joints in bodies.items() if np.isfinite(joints[frame]).all()}
        lines.append(str(len(seen)))
        for name, joints in seen.items():
            lines += [f"{name} 0 1 1 1 1 0 0.02 -0.1 2", "25"]
            lines += [
                f"{x:.7f} {y:.7f} {z:.7f} 250.1 200.2 1000.3 500.4 0.1 0.2 0.3 0.4 {states}" for x, y, z in joints
            ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def kinect(walker, body: BodyModel) -> np.ndarray:
    """A walk as Kinect would state it, y up, a camera 1 m above the floor."""
    walk = walker(90, 30.0)
    joints = body.with_shape(np.zeros(body.num_betas)).with_pose(walk["poses"], walk["pelvis"]).joints
    return joints[:, _SMPL_OF_KINECT][..., [0, 2, 1]] * [1.0, 1.0, -1.0] - [0.0, 1.0, -3.0]


def test_bodies_are_told_apart_and_missing_frames_are_nan(tmp_path: Path, kinect: np.ndarray) -> None:
    other = kinect + np.array([1.0, 0.0, 0.0])
    kinect[20:25], other[:40] = np.nan, np.nan
    (tmp_path / "x.skeleton").write_text(skeleton_text(dict(zip(_IDS, (kinect, other), strict=True))))
    people = read_skeleton(tmp_path / "x.skeleton")
    assert tuple(people) == _IDS
    for (joints, states), truth in zip(people.values(), (kinect, other), strict=True):
        np.testing.assert_allclose(joints, truth, atol=1e-6)
        assert ((states == 2).all(axis=1) == np.isfinite(truth).all(axis=(1, 2))).all()


def test_a_body_is_fitted_and_stands_on_the_floor(tmp_path: Path, kinect: np.ndarray, body: BodyModel) -> None:
    path = tmp_path / "S001C002P003R002A013.skeleton"
    path.write_text(skeleton_text({_IDS[0]: kinect}))
    (clip,) = read_ntu(path, "x", "somebody", body)
    assert clip.labels.subject == "P003" and clip.rate == 30
    assert clip.labels.action_names == ACTIONS and clip.actions is not None
    assert (clip.actions.argmax(axis=1) == 12).all() and (clip.actions.sum(axis=1) == 1).all()
    # joints that Kinect has none of are never called measured
    assert clip.valid[:, [0, 4, 15, 20]].all() and not clip.valid[:, [3, 9, 13, 14]].any()
    assert clip.labels.provenance["joint_error_mm"]["median"] < 50
    assert 0.0 < np.percentile(clip.joints_m[:, [10, 11], 2].min(axis=1), 2) < 0.1
    assert (clip.joints_m[:, 15, 2] > 1.0).all()


def test_guessed_joints_are_not_called_measured(tmp_path: Path, kinect: np.ndarray, body: BodyModel) -> None:
    (tmp_path / "x.skeleton").write_text(skeleton_text({"5": kinect}, states=1))
    (clip,) = read_ntu(tmp_path / "x.skeleton", "x", "anna", body)
    assert not clip.valid.any() and clip.frame_valid.all() and clip.actions is None
    assert clip.labels.subject == "anna"


def test_two_people_become_two_clips_of_one_split(tmp_path: Path, kinect: np.ndarray) -> None:
    kinect[60:] = np.nan
    text = skeleton_text({_IDS[0]: kinect, _IDS[1]: kinect + np.array([0.8, 0.0, 0.0])})
    (tmp_path / "S001C001P001R001A050.skeleton").write_text(text)
    build([tmp_path / "S001C001P001R001A050.skeleton"], tmp_path / "amd")
    dataset = AmdDataset(tmp_path / "amd")
    assert [clip.id.rsplit("-", 2)[1] for clip in dataset.clips] == ["body0", "body1"]
    assert [clip.num_frames for clip in dataset.clips] == [60, 60] and dataset.info.action_names == ACTIONS


DAMAGE = {
    "empty": lambda text: "",
    "cut off": lambda text: text[: len(text) // 2],
    "more than it says": lambda text: text + "1 2 3\n",
    "words": lambda text: text.replace("0.02", "many", 1).replace("250.1", "x", 1),
    "more frames than words": lambda text: "999999999999" + text[text.index("\n") :],
    "a crowd": lambda text: text.replace("\n1\n", "\n4000000\n", 1),
    "other joints": lambda text: text.replace("\n25\n", "\n20\n", 1),
    "nobody": lambda text: "3\n0\n0\n0\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_other_files_are_refused(tmp_path: Path, kinect: np.ndarray, body: BodyModel, damage: str) -> None:
    path = tmp_path / "x.skeleton"
    path.write_text(DAMAGE[damage](skeleton_text({"5": kinect[:3]})))
    with pytest.raises(InputError, match=r"x\.skeleton"):
        read_ntu(path, "x", "anna", body)


_NUMBERS = st.lists(st.integers(-2, 30), max_size=60).map(lambda numbers: " ".join(map(str, numbers)).encode())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | _NUMBERS)
def test_no_bytes_do_anything_but_a_refusal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.skeleton"
    path.write_bytes(content)
    try:
        people = read_skeleton(path)
    except InputError:
        return
    assert all(joints.shape[1:] == (25, 3) for joints, _ in people.values())
