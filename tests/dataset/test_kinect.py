"""NTU RGB+D and PKU-MMD in: published splits, main actors, one file of clips, and files that are none."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import InputError
from core.files import sha256_of_file
from dataset.kinect.actors import main_actors
from dataset.kinect.benchmarks import (
    BENCHMARKS,
    TRAIN_SUBJECTS_60,
    TRAIN_SUBJECTS_120,
    NtuName,
    benchmark_named,
    missing_samples,
    read_video_split,
)
from dataset.kinect.cache import open_clips
from dataset.kinect.clips import ClipFile
from dataset.kinect.pku import read_pku_labels, read_pku_skeleton
from dataset.kinect.skeleton_files import read_skeleton
from simulation.kinect import moving_person, skeleton_text, write_ntu_files

# samples for training and testing before the missing ones are left out, as the dataset's paper has them for 60; of 120
# what 60 more classes in 3 cameras, done twice, can add up to
_ALL_SAMPLES = {
    "ntu60-xsub": (40320, 16560),
    "ntu60-xview": (37920, 18960),
    "ntu120-xsub": (63360, 51120),
    "ntu120-xset": (54720, 59760),
}


def test_the_published_list_has_the_published_counts() -> None:
    listed = missing_samples()
    names = [NtuName.parse(name) for name in listed]
    assert len(listed) == 535 and sum(name.setup <= 17 for name in names) == 302
    for benchmark, (train, test) in _ALL_SAMPLES.items():
        parts = Counter(BENCHMARKS[benchmark].part_of_ntu(name) for name in names)
        assert (train - parts["train"], test - parts["test"]) == BENCHMARKS[benchmark].complete


def test_splits_are_by_subject_camera_and_setup() -> None:
    assert (len(TRAIN_SUBJECTS_60), len(TRAIN_SUBJECTS_120)) == (20, 53)
    name = NtuName.parse("S001C002P003R002A013")
    assert name == NtuName(1, 2, 3, 2, 13) and str(name) == "S001C002P003R002A013"
    told = {b: BENCHMARKS[b].part_of_ntu(name) for b in _ALL_SAMPLES}
    assert told == {"ntu60-xsub": "test", "ntu60-xview": "train", "ntu120-xsub": "test", "ntu120-xset": "test"}
    later = NtuName.parse("S018C001P045R001A061")
    told = {b: BENCHMARKS[b].part_of_ntu(later) for b in _ALL_SAMPLES}
    assert told == {"ntu60-xsub": None, "ntu60-xview": None, "ntu120-xsub": "train", "ntu120-xset": "train"}
    for odd in ("S001C002P003R002", "S001C002P003R002A013.x", "../S001C002P003R002A013", ""):
        with pytest.raises(InputError):
            NtuName.parse(odd)
    with pytest.raises(InputError, match="no such benchmark"):
        benchmark_named("ntu60")


def test_ones_own_list_is_read_with_its_heading(tmp_path: Path) -> None:
    path = tmp_path / "missing.txt"
    path.write_text(
        '302 of the captured samples in the "NTU RGB+D" dataset\n\nS001C002P005R002A008\nS001C002P006R001A008\n'
    )
    assert missing_samples(path) == {"S001C002P005R002A008", "S001C002P006R001A008"}
    path.write_text("S001C002P005R002A008\nand others\n")
    with pytest.raises(InputError, match=r"line 2 is 'and others'"):
        missing_samples(path)
    path.write_text("nothing\n")
    with pytest.raises(InputError, match="has no names"):
        missing_samples(path)


def body(frames: int, seed: int, action: int = 0, x_m: float = 0.0) -> np.ndarray:
    person = moving_person(action, frames, np.random.default_rng(seed))
    return person * [1.0, 1.0, -1.0] + [x_m, -1.0, 3.0]


def test_the_liveliest_body_is_the_first_actor() -> None:
    still, lively = np.tile(body(1, 0), (60, 1, 1)), body(60, 1)
    actors = main_actors([still, lively])
    assert actors.joints_m.shape == (2, 60, 25, 3) and actors.left_out == 0 and actors.exists.all()
    assert np.array_equal(actors.joints_m[0], lively) and np.array_equal(actors.joints_m[1], still)


def test_furniture_and_passers_by_are_no_actors() -> None:
    person, table = body(60, 0), body(60, 1)
    table = table * [4.0, 0.2, 1.0]  # wide and flat, and moving most
    passing = np.full_like(person, np.nan)
    passing[10:21] = body(11, 2, x_m=2.0)
    actors = main_actors([table, person, passing])
    assert actors.joints_m.shape[0] == 1 and actors.left_out == 2
    assert np.array_equal(actors.joints_m[0], person)
    assert len(main_actors([table]).exists) == 1  # whoever is alone stays


def test_a_track_that_broke_is_one_actor_and_empty_frames_go() -> None:
    whole = body(90, 0)
    first, second = whole.copy(), whole.copy()
    first[40:], second[:45] = np.nan, np.nan
    actors = main_actors([first, second])
    # nobody is there in frames 40 to 44
    assert actors.joints_m.shape == (1, 85, 25, 3) and actors.exists.all()
    assert np.array_equal(actors.joints_m[0], np.delete(whole, slice(40, 45), axis=0))
    assert main_actors([]).exists.shape == (0, 0) and main_actors([np.zeros((20, 25, 3))]).exists.shape == (0, 0)


def test_who_is_not_there_is_nan_and_not_zero() -> None:
    one, other = body(60, 0), body(60, 1, x_m=1.0)
    other[:20] = 0.0
    actors = main_actors([one, other])
    late = int(np.argmin(actors.exists.sum(axis=1)))
    assert not actors.exists[late, :20].any() and np.isnan(actors.joints_m[late, :20]).all()
    assert np.isfinite(actors.joints_m[actors.exists]).all()


@pytest.fixture(scope="module")
def ntu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty-eight files: four subjects, three cameras, two setups, two actions, of which one is of two people."""
    folder = tmp_path_factory.mktemp("ntu") / "skeletons"
    write_ntu_files(folder, 0, actions=(1, 50), pairs=(50,), frames=(20, 30))
    return folder


def test_files_are_read_once_into_one_file(ntu: Path, tmp_path: Path) -> None:
    cache = tmp_path / "clips.h5"
    clips = open_clips(ntu, "ntu", cache)
    assert len(clips) == 48 and list(clips.names) == sorted(clips.names) and not clips.skipped
    idx = clips.names.index("S001C001P001R001A050")
    joints = clips.joints(idx)
    assert joints.shape == (2, clips.frames[idx], 25, 3) and clips.labels[idx] == 50 and joints.dtype == np.float32
    # z is up: a head is above its pelvis, and nobody is above 2 m over their feet
    assert (joints[..., 3, 2] > joints[..., 0, 2] + 0.4).all()
    written = sha256_of_file(cache)
    assert open_clips(ntu, "ntu", cache).content_sha256 == clips.content_sha256
    assert sha256_of_file(cache) == written  # not written again
    again = open_clips(ntu, "ntu", tmp_path / "by_two.h5", workers=2)
    assert again.content_sha256 == clips.content_sha256 and again.files_sha256 == clips.files_sha256
    parts = clips.parts(BENCHMARKS["ntu60-xsub"])
    assert (len(parts.train), len(parts.test)) == (24, 24) and not parts.left_out
    assert {NtuName.parse(clips.names[i]).subject for i in parts.train} == {1, 2}
    assert len(clips.parts(BENCHMARKS["ntu60-xview"]).train) == 32


def test_what_cannot_be_used_is_listed_with_its_reason(ntu: Path, tmp_path: Path) -> None:
    folder = tmp_path / "skeletons"
    shutil.copytree(ntu, folder)
    text = (folder / "S001C001P001R001A001.skeleton").read_text()
    (folder / "S001C001P001R001A001.skeleton").write_text(text[: len(text) // 2])
    (folder / "S001C001P001R001A050.skeleton").write_text("2\n0\n0\n")
    (folder / "S001C002P005R002A008.skeleton").write_text(text)  # on the authors' list
    (folder / "walking.skeleton").write_text(text)
    (folder / "more").mkdir()
    (folder / "more" / "S002C001P001R001A001.skeleton").write_text(text)
    (tmp_path / "elsewhere.skeleton").write_text(text)
    (folder / "S001C001P009R001A001.skeleton").symlink_to(tmp_path / "elsewhere.skeleton")
    clips = open_clips(folder, "ntu")
    assert clips.path == tmp_path / "skeletons.ntu.h5" and len(clips) == 46
    reasons = {
        "S001C001P001R001A001": "cut off",
        "S001C001P001R001A050": "nobody is seen whole",
        "S001C002P005R002A008": "its authors list it",
        "walking": "not a name such as",
        "S002C001P001R001A001 in more": "the same name was there before",
        "S001C001P009R001A001": "leaves its folder",
    }
    assert clips.skipped.keys() == reasons.keys()
    assert all(reason in clips.skipped[name] for name, reason in reasons.items())
    # another file: the folder is read again
    (folder / "walking.skeleton").unlink()
    assert "walking" not in open_clips(folder, "ntu").skipped
    mine = tmp_path / "mine.txt"
    mine.write_text("S001C003P001R001A001\n")
    listed = open_clips(folder, "ntu", missing=mine)
    assert "S001C003P001R001A001" in listed.skipped and "S001C002P005R002A008" in listed.names


def test_folders_and_files_that_are_none_are_refused(ntu: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        open_clips(tmp_path / "nowhere", "ntu")
    with pytest.raises(InputError, match=r"has no \*\.skeleton files"):
        open_clips(tmp_path, "ntu")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "S001C001P001R001A001.skeleton").write_text("none")
    with pytest.raises(InputError, match="none of 1 files can be read"):
        open_clips(tmp_path / "bad", "ntu")
    assert not list(tmp_path.glob("*.h5")) and not list(tmp_path.glob(".*part*"))
    clips = open_clips(ntu, "ntu", tmp_path / "clips.h5")
    with pytest.raises(InputError, match="holds ntu, and pku1-xsub is on pku1"):
        clips.parts(BENCHMARKS["pku1-xsub"])
    with pytest.raises(InputError, match="12 clips to train on and 0 to test on"):
        _alone(tmp_path, ntu).parts(BENCHMARKS["ntu60-xsub"])


def _alone(tmp_path: Path, ntu: Path) -> ClipFile:
    """Clips of one subject."""
    folder = tmp_path / "alone"
    folder.mkdir()
    for path in ntu.glob("*P001*"):
        shutil.copy(path, folder)
    return open_clips(folder, "ntu")


@pytest.mark.parametrize("damage", ["text", "schema", "rows", "frames", "kind", "missing"])
def test_a_damaged_file_of_clips_is_refused_or_read_again(ntu: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "clips.h5"
    good = open_clips(ntu, "ntu", cache).content_sha256
    if damage == "text":
        cache.write_text("no HDF5")
    else:
        with h5py.File(cache, "r+") as file:
            if damage == "schema":
                file.attrs["schema"] = "action-motifs/kinect-clips/0"
            elif damage == "rows":
                file["clips/first_row"][3] = 10**12
            elif damage == "frames":
                file["clips/frames"][3] = -5
            elif damage == "kind":
                del file["joints_m"]
                file["joints_m"] = np.zeros((10**4, 2))
            else:
                del file["skipped"]
    with pytest.raises(InputError, match="not a readable file of clips"):
        ClipFile(cache)
    if damage == "text":  # nothing says that it is not somebody else's
        with pytest.raises(InputError, match="not a readable file of clips"):
            open_clips(ntu, "ntu", cache)
        assert cache.read_text() == "no HDF5"
        return
    assert open_clips(ntu, "ntu", cache).content_sha256 == good


def pku_text(first: np.ndarray, second: np.ndarray) -> str:
    rows = np.concatenate([first, second], axis=1).reshape(len(first), -1)
    return "\n".join(" ".join(f"{x:.5f}" for x in row) for row in rows) + "\n"


def write_pku(folder: Path, videos: list[str], test: list[str], suffix: str = "") -> None:
    """Videos of three actions each; the last is of two people, and ends after the video does."""
    for kind in ("skeleton", "label"):
        (folder / kind).mkdir(parents=True)
    for number, video in enumerate(videos):
        first, second = body(120, number), body(120, number + 100, x_m=1.0)
        second[:80] = 0.0
        (folder / "skeleton" / f"{video}.txt").write_text(pku_text(first, second))
        (folder / "label" / f"{video}.txt").write_text("3,10,40,1\n51,50,70,2\n12,85,130,1\n")
    train = ", ".join(v for v in videos if v not in test)
    split = f"Training videos: \n{train}, \n\nValidataion videos: \n{', '.join(test)}, \n"
    (folder / f"cross-subject{suffix}.txt").write_text(split)


@pytest.mark.parametrize(
    ("source", "videos", "suffix"),
    [("pku1", ["0002-L", "0002-M", "0003-R"], ""), ("pku2", ["A01N01-L", "A01N02-M", "A20N01-R"], "_v2")],
)
def test_long_videos_are_cut_into_their_actions(tmp_path: Path, source: str, videos: list[str], suffix: str) -> None:
    write_pku(tmp_path / "pku", videos, videos[2:], suffix)
    clips = open_clips(tmp_path / "pku", source)  # type: ignore[arg-type]
    assert clips.names == tuple(f"{video}#{k}" for video in videos for k in range(3)) and not clips.skipped
    assert clips.labels[:3].tolist() == [3, 51, 12] and clips.frames[:3].tolist() == [30, 20, 35]
    assert clips.people[:3].tolist() == [1, 1, 2]
    want = read_pku_skeleton(tmp_path / "pku" / "skeleton" / f"{videos[0]}.txt")[0, 10:40]
    np.testing.assert_allclose(clips.joints(0)[0], want[..., [0, 2, 1]] * [1.0, -1.0, 1.0], atol=1e-6)
    parts = clips.parts(BENCHMARKS[f"{source}-xsub"])
    assert parts.train.tolist() == list(range(6)) and parts.test.tolist() == [6, 7, 8]
    with pytest.raises(InputError, match="without a split file for xview"):
        clips.parts(BENCHMARKS[f"{source}-xview"])


def test_videos_of_no_actions_are_listed_and_none_at_all_are_refused(tmp_path: Path) -> None:
    write_pku(tmp_path / "pku", ["0002-L", "0003-L"], ["0003-L"])
    (tmp_path / "pku" / "label" / "0002-L.txt").write_text("")
    (tmp_path / "pku" / "more").mkdir()
    shutil.copytree(tmp_path / "pku" / "skeleton", tmp_path / "pku" / "more" / "skeleton")
    clips = open_clips(tmp_path / "pku", "pku1")
    assert len(clips) == 3 and clips.skipped["0002-L"] == "has no labelled action"
    assert sum("the same name was there before" in reason for reason in clips.skipped.values()) == 2
    (tmp_path / "pku" / "label" / "0003-L.txt").write_text("")
    with pytest.raises(InputError, match="none of 2 files can be read"):
        open_clips(tmp_path / "pku", "pku1", tmp_path / "none.h5")


def test_a_small_file_cannot_fill_the_memory(tmp_path: Path) -> None:
    path, joints = tmp_path / "S001C001P001R001A001.skeleton", "25 " + " 0" * 300
    path.write_text("3000 " + " ".join(f"1 {k} {'0 ' * 9}{joints}" for k in range(100)) + " 0" * 2900)
    with pytest.raises(InputError, match="3000 frames of 100 bodies"):
        read_skeleton(path)


def test_videos_without_labels_and_actions_without_people_are_listed(tmp_path: Path) -> None:
    write_pku(tmp_path / "pku", ["0002-L", "0003-L", "0004-L"], ["0003-L"])
    (tmp_path / "pku" / "label" / "0004-L.txt").unlink()
    (tmp_path / "pku" / "label" / "0003-L.txt").write_text("1,300,400,2\n2,5,9,1\n")
    with (tmp_path / "pku" / "cross-subject.txt").open("a") as file:
        file.write("0009-L, \n")
    clips = open_clips(tmp_path / "pku", "pku1")
    assert dict(clips.skipped) == {"0004-L": "has no label file", "0003-L#0": "begins in frame 300 of 120"}
    assert clips.names[-1] == "0003-L#1"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1,2\n", "line 1 is '1,2'"), ("1,x,5,1\n", "line 1"), ("0,1,5,1\n", "class 0"), ("52,1,5,1\n", "class 52"),
        ("1,9,5,1\n", "from frame 9 to 5"), ("1,-3,5,1\n", "from frame -3"), ("1,nan,5,1\n", "line 1"),
        ("1,1e400,5,1\n", "line 1"),
    ],
)  # fmt: skip
def test_labels_that_are_none_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "0002-L.txt").write_text(text)
    with pytest.raises(InputError, match=problem):
        read_pku_labels(tmp_path / "0002-L.txt")


@pytest.mark.parametrize(
    ("text", "problem"),
    [("1 2 3\n", "line 1 has 3 numbers"), ("", "no frames"), (" ".join(["x"] * 150), "no numbers")],
)
def test_skeletons_that_are_none_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "0002-L.txt").write_text(text)
    with pytest.raises(InputError, match=problem):
        read_pku_skeleton(tmp_path / "0002-L.txt")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Training videos:\n0002-L, ../../etc/passwd\nValidataion videos:\n0003-L\n", "etc/passwd"),
        ("0002-L\n", "0002-L"), ("Training videos:\n0002-L\n", "0 for validation"),
        ("Training videos:\n0002-L\nValidation videos:\n0002-L\n", "1 in both"),
    ],
)  # fmt: skip
def test_split_files_that_are_none_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "cross-subject.txt").write_text(text)
    with pytest.raises(InputError, match=problem):
        read_video_split(tmp_path / "cross-subject.txt")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_a_refusal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "0002-L.txt"
    path.write_bytes(content)
    for read in (read_pku_skeleton, read_pku_labels, read_video_split, missing_samples, ClipFile):
        try:
            read(path)
        except InputError:
            continue


def test_the_made_files_are_files_of_ntu(tmp_path: Path) -> None:
    person = body(20, 0)
    person[5] = np.nan
    (tmp_path / "S001C001P001R001A001.skeleton").write_text(skeleton_text([person]))
    clips = open_clips(tmp_path, "ntu", tmp_path / "clips.h5")
    assert clips.frames.tolist() == [19]


def test_names_that_are_no_text_are_listed_too(ntu: Path, tmp_path: Path) -> None:
    folder = tmp_path / "skeletons"
    shutil.copytree(ntu, folder)
    (folder / b"\xff\xfe.skeleton".decode(errors="surrogateescape")).write_text("none")
    clips = open_clips(folder, "ntu")
    assert list(clips.skipped) == ["??"] and len(clips) == 48
