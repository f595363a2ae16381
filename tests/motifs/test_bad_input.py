"""Bad input through the front door: status 1, one line that names the item, the value and the cure, nothing left."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from tiny_session import NUM_FRAMES, SIZE_PX, edit, write_joints

from capture.markers import MarkerPoints
from capture.targets import SCHEMA, load_targets
from core.cameras import Camera, Lens, Rig
from core.files import write_json, write_npz
from core.transforms import SE3
from model.recipes import debug_cpu
from model.run import CHECKPOINT, CONFIG
from motifs import cli

Refused = Callable[..., str]
PINHOLE = Lens("pinhole", SIZE_PX, (40.0, 40.0), (31.5, 23.5))
HAND = ("--sync.method", "none", "--workers", "1")


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def without_frames(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = *SIZE_PX, "yuv420p"
        container.start_encoding()


VIDEOS = {
    "missing": (Path.unlink, "cam1.mp4"),
    "cut in the middle": (lambda path: cut(path, 0.5), "cannot be read as a video"),
    "cut near its end": (lambda path: cut(path, 0.9), "Next: "),
    "no frames": (without_frames, "it holds no "),
    "no bytes": (lambda path: path.write_bytes(b""), "the file is empty"),
    "a text": (lambda path: path.write_text("no video at all\n" * 99), "cannot be read as a video"),
}


@pytest.mark.parametrize("damage", VIDEOS)
def test_a_bad_video_is_named_by_every_command_that_reads_it(
    damage: str, session: Path, tmp_path: Path, refused: Refused
) -> None:
    spoil, says = VIDEOS[damage]
    spoil(session / "videos/cam1.mp4")
    refused("run", session, *HAND, says=("cam1.mp4", says))
    refused("sync", session, "--method", "qr", "--workers", "1", says=("cam1.mp4", says))
    if damage != "missing":
        (session / "session.json").unlink()
        refused("ingest", session, "--out", tmp_path / "new", "--keypoints-skeleton", "COCO_17", says=says)


def test_a_repaired_video_is_tried_again(session: Path, refused: Refused) -> None:
    whole = (session / "videos/cam1.mp4").read_bytes()
    cut(session / "videos/cam1.mp4", 0.5)
    refused("sync", session, "--method", "none", "--workers", "1")
    (session / "videos/cam1.mp4").write_bytes(whole)
    assert cli.run(["sync", str(session), "--method", "none", "--workers", "1"]) == 0


def first_person(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "frame_000000000003_keypoints.json", lambda d: change(d["people"][0]))


JOINTS = {
    "another skeleton": (first_person(lambda p: p.update(pose_keypoints_2d=[1.0] * 75)), "it has 25 joints a person"),
    "half a joint": (first_person(lambda p: p.update(pose_keypoints_2d=[1.0] * 50)), "joints a person"),
    "words": (first_person(lambda p: p.update(pose_keypoints_2d=["x"] * 51)), "not a list of numbers"),
    "cut off": (lambda folder: cut(folder / "frame_000000000003_keypoints.json", 0.5), "not a JSON file"),
    "another recording": (lambda folder: write_joints(folder, 3 * NUM_FRAMES), "its keypoints have 36 frames"),
    "no files": (lambda folder: [path.unlink() for path in folder.iterdir()], "it holds no JSON files"),
}


@pytest.mark.parametrize("damage", JOINTS)
def test_bad_keypoints_are_named(damage: str, session: Path, refused: Refused) -> None:
    spoil, says = JOINTS[damage]
    assert cli.run(["sync", str(session), "--method", "none", "--workers", "1"]) == 0
    spoil(session / "keypoints/cam1")
    refused("detect", session, "--workers", "1", says=("cam1", says))


def view(**changes: Any) -> Callable[[Any], None]:
    return lambda data: data["views"][0].update(changes)


DESCRIPTIONS = {
    "a path that climbs": (view(video="../../etc/passwd"), "the path leaves its folder"),
    "an absolute path": (view(keypoints="/etc"), "the path leaves its folder"),
    "targets that climb": (lambda d: d.update(targets="../t.json"), "the path leaves its folder"),
    "a view that climbs": (view(id="../cam1"), "no file name"),
    "a view that is hidden": (view(id=".cam1"), "no file name"),
    "views that repeat": (view(id="cam2"), "view ids repeat"),
    "no views": (lambda d: d.update(views=[]), "no views"),
    "no view list": (lambda d: d.pop("views") and None, "'views'"),
    "a number for a name": (lambda d: d.update(id=5), "id is 5"),
    "an unknown role": (view(role="ceiling"), "role 'ceiling'"),
    "an unknown lens": (view(lens_model="magic"), "lens_model 'magic'"),
    "an unknown skeleton": (view(keypoints_skeleton="OCTOPUS"), "OCTOPUS"),
    "an unknown layout": (view(keypoints_format="zip"), "keypoints_format 'zip'"),
    "an unknown field": (lambda d: d.update(colour="red"), "colour"),
    "no size": (view(size_px=[0, 48]), "size_px (0, 48)"),
    "an endless picture": (view(size_px=[float("inf"), 8]), "size_px (inf, 8)"),
    "a huge picture": (view(size_px=[8, 10**9]), "size_px (8, 1000000000)"),
    "a huge number of frames": (view(num_frames=10**12), "num_frames 1000000000000"),
    "a rate of endless digits": (view(frame_rate="1e999999999"), "1e999999999: not a frame rate"),
    "frames in words": (view(num_frames="many"), "num_frames 'many'"),
    "a rolling room camera": (view(row_time_s=1e-5), "row_time_s 1e-05"),
    "no frame rate": (view(frame_rate="fast"), "fast: not a frame rate"),
    "a rate of zero": (lambda d: d.update(rate="0"), "must be positive"),
    "a span backwards": (lambda d: d.update(spans_s={"motion": [5, 1]}), "span motion"),
    "another schema": (lambda d: d.update(schema="x/1"), "schema is 'x/1'"),
    "another kind of JSON": (lambda d: [1], "schema is 'list'"),
}


@pytest.mark.parametrize("damage", DESCRIPTIONS)
def test_a_damaged_session_is_refused_before_any_stage(damage: str, session: Path, refused: Refused) -> None:
    change, says = DESCRIPTIONS[damage]
    edit(session / "session.json", change)
    refused("run", session, *HAND, says=says)
    refused("status", session, says=says)


@pytest.mark.parametrize("text", [b"", b'{"schema": "action-mo', b"\xff\xfe\x00"])
def test_a_session_file_that_is_no_json_is_named(text: bytes, session: Path, refused: Refused) -> None:
    (session / "session.json").write_bytes(text)
    refused("run", session, says=("session.json", "not a JSON file"))


LENS = {"id": "lens", "kind": "checkerboard", "mounting": "lens", "corners": [4, 3], "square_m": 0.03}
FLOOR = {
    "id": "floor", "kind": "charuco", "mounting": "world", "squares": [5, 4], "square_m": 0.2, "marker_m": 0.15,
    "dictionary": "DICT_4X4_250", "first_marker": 0, "world_from_target": {"rotvec": [np.pi, 0, 0], "t_m": [0, 0, 0]},
}  # fmt: skip
CEILING = {**FLOOR, "id": "ceiling", "mounting": "static", "first_marker": 20, "world_from_target": None}
TARGETS = {
    "cut off": (None, "not a JSON file"),
    "an unknown kind": ({"kind": "blob"}, "unknown kind 'blob'"),
    "a negative size": ({"square_m": -1}, "square_m is -1.0"),
    "a board of a billion": ({"squares": [5, 10**9]}, "is no board"),
    "an unknown dictionary": ({"dictionary": "DICT_NOPE"}, "DICT_NOPE"),
    "markers that are not there": ({"first_marker": 245}, "are not in DICT_4X4_250"),
    "half a pose": ({"world_from_target": {"rotvec": [0, 0]}}, "a pose is"),
}


def give_targets(session: Path, *targets: dict[str, Any]) -> Path:
    edit(session / "session.json", lambda data: data.update(targets="targets.json"))
    write_json(session / "targets.json", {"schema": SCHEMA, "targets": targets})
    return session / "targets.json"


@pytest.mark.parametrize("damage", TARGETS)
def test_damaged_targets_are_refused_before_any_stage(damage: str, session: Path, refused: Refused) -> None:
    change, says = TARGETS[damage]
    path = give_targets(session, LENS, {**FLOOR, **(change or {})})
    if change is None:
        cut(path, 0.5)
    refused("run", session, *HAND, says=says)


REFERENCES: dict[str, tuple[bytes | None, str]] = {
    "missing.toml": (None, "there is no such file"),
    "text.toml": (b"= hello", "not TOML"),
    "empty.toml": (b"x = 1", "no table in it holds a camera"),
    "numbers.toml": (b"[cam1]\nmatrix = [1]\nsize = [2]\nrotation = [0]\ntranslation = [0]", "of the wrong kind"),
    "nan.toml": (
        b"[cam1]\nmatrix = [[nan,0,1],[0,5,1],[0,0,1]]\nsize = [64,48]\nrotation = [0,0,0]\ntranslation = [0,0,0]",
        "not finite",
    ),
    "list.json": (b"[]", "not a rig of this project"),
    "half.xml": (b"<a", "not XML"),
    "bomb.xml": (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "document type"),
    "bytes.yml": (b"\x00\x01", "not YAML"),
    "picture.png": (b"\x89PNG", "not a calibration format"),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_reference_that_is_none_is_refused_before_any_stage(
    name: str, session: Path, tmp_path: Path, refused: Refused
) -> None:
    text, says = REFERENCES[name]
    if text is not None:
        (tmp_path / name).write_bytes(text)
    refused("run", session, *HAND, "--rig.reference", tmp_path / name, says=says)
    refused("calibrate", "lens", session, "--lenses-from", tmp_path / name, "--workers", "1", says=says)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_the_marker_of_the_evil_pickle_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


BODIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "none.npz": (lambda path: None, "there is no such file"),
    "other.npz": (lambda path: np.savez(path, a=np.zeros(3)), "no entry 'kintree_table', and none of the others"),
    "shape.npz": (lambda path: np.savez(path, v_template=np.zeros((5, 3))), "not a body model"),
    "text.npz": (lambda path: path.write_text("hello"), "not an .npz file"),
    "evil.npz": (
        lambda path: np.savez(path, v_template=np.array([Evil(path.parent / "ran")], dtype=object)),
        "not a readable .npz",
    ),
    "text.pkl": (lambda path: path.write_text("hello"), "not a readable pickle"),
    "cut.pkl": (lambda path: path.write_bytes(pickle.dumps({"v": np.zeros(999)})[:500]), "not a readable pickle"),
    "list.pkl": (lambda path: path.write_bytes(pickle.dumps([1])), "holds a list, not a dict"),
    "evil.pkl": (
        lambda path: path.write_bytes(pickle.dumps({"v": Evil(path.parent / "ran")})),
        "nothing in it was run",
    ),
    "model.obj": (lambda path: path.write_text("v 0 0 0"), "a body model is .npz, .pkl or .safetensors"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_model_that_is_none_is_refused_before_any_stage_and_not_run(
    name: str, session: Path, tmp_path: Path, refused: Refused
) -> None:
    write, says = BODIES[name]
    write(tmp_path / name)
    for command in (["run", session, *HAND, "--fit.body-model"], ["fit", session, "--body-model"]):
        refused(*command, tmp_path / name, says=(name, says))
    assert not (tmp_path / "ran").exists()


def look(position: tuple[float, float, float], at: tuple[float, float, float]) -> SE3:
    """`cam_from_world` of a camera that looks at a point."""
    forward = np.subtract(at, position) / np.linalg.norm(np.subtract(at, position))
    right = np.cross(forward, [0.1, 0.2, 1.0])
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(forward, right), forward])
    return SE3(R, -R @ np.array(position))


def finish_stages_before_rig(session: Path) -> None:
    """What the stages before the rig leave: clocks, times, lenses."""
    clocks = {name: {"offset_s": 0.0, "rate": 1.0} for name in ("cam1", "cam2")}
    write_json(session / "01_sync/clocks.json", {"clocks": clocks})
    for name in clocks:
        write_npz(session / f"01_sync/{name}.times.npz", {"t_local_s": np.arange(NUM_FRAMES) / 30})
    write_json(session / "03_lenses/lenses.json", {"lenses": dict.fromkeys(clocks, PINHOLE.to_json())})


def test_cameras_that_share_no_target_are_named_in_their_groups(session: Path, refused: Refused) -> None:
    targets = load_targets(give_targets(session, FLOOR, CEILING))
    finish_stages_before_rig(session)
    board_from_world = {"floor": targets["floor"].world_from_target, "ceiling": SE3(np.eye(3), np.array([0, 0, 2.5]))}
    poses = {"cam1": look((0.5, -1.5, 2), (0.5, -0.4, 0)), "cam2": look((0.5, -1, 0.5), (0.5, 0.4, 2.5))}
    for index, (name, target_id) in enumerate({"cam1": "floor", "cam2": "ceiling"}.items()):
        points_m = targets[target_id].points_m
        world_from_target = board_from_world[target_id]
        assert world_from_target is not None
        xy_px = PINHOLE.project(poses[name].apply(world_from_target.apply(points_m))).astype(np.float32)
        n = len(points_m)
        zero = np.zeros(n, np.int32)
        sigma = np.full(n, 0.1, np.float32)
        table = MarkerPoints(("floor", "ceiling"), zero, zero + index, np.arange(n, dtype=np.int32), xy_px, sigma)
        table.save(session / f"02_keypoints/{name}.markers.npz")
    refused("calibrate", "rig", session, says="share no target with each other: cam1 | cam2")


def test_cameras_that_share_no_time_are_refused(session: Path, refused: Refused) -> None:
    for command in ("sync", "detect"):
        more = ["--method", "given", "--given", "cam1=0", "cam2=100"] if command == "sync" else []
        assert cli.run([command, str(session), "--workers", "1", *more]) == 0
    rig = Rig(
        (Camera("cam1", PINHOLE, look((2, 0, 2), (0, 0, 1))), Camera("cam2", PINHOLE, look((0, 2, 2), (0, 0, 1))))
    )
    write_json(session / "04_rig/rig.json", rig.to_json())
    refused("triangulate", session, says=("s: ", "the views share no time"))


@pytest.mark.parametrize(
    "command",
    ["verify DATA", "export DATA --out OUT", "train DATA --out OUT --recipe debug_cpu", "build DATA --out OUT"],
)
@pytest.mark.parametrize("kind", ["missing", "empty", "file", "damaged"])
def test_a_dataset_that_is_none_is_named(command: str, kind: str, tmp_path: Path, refused: Refused) -> None:
    data = tmp_path / "data"
    if kind == "file":
        data.write_text("x")
    elif kind != "missing":
        data.mkdir()
    if kind == "damaged":
        write_json(data / "meta/info.json", {"schema": 7})
    words = {"DATA": data, "OUT": tmp_path / "out"}
    refused(*(words.get(word, word) for word in command.split()), says=str(data))


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A training run but for its checkpoint."""
    write_json(tmp_path / "run" / CONFIG, {"recipe": debug_cpu()})
    return tmp_path / "run"


CHECKPOINTS: dict[str, Callable[[Path, Path], object]] = {
    "evil": lambda path, ran: torch.save({"format": Evil(ran)}, path),
    "evil pickle": lambda path, ran: path.write_bytes(pickle.dumps(Evil(ran))),
    "text": lambda path, ran: path.write_text("hello"),
    "empty": lambda path, ran: path.write_bytes(b""),
    "other": lambda path, ran: torch.save({"format": "other"}, path),
    "hollow": lambda path, ran: torch.save({"format": "action-motifs/checkpoint/1"}, path),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("command", ["discover", "evaluate"])
def test_a_checkpoint_that_is_none_is_named_and_not_run(
    command: str, kind: str, run_folder: Path, tmp_path: Path, refused: Refused
) -> None:
    CHECKPOINTS[kind](run_folder / CHECKPOINT, tmp_path / "ran")
    refused(command, run_folder, tmp_path, "--out", tmp_path / "out", "--device", "cpu", says=CHECKPOINT)
    assert not (tmp_path / "ran").exists()


def test_a_device_that_is_not_there_is_named(tmp_path: Path, refused: Refused) -> None:
    refused("train", tmp_path, "--out", tmp_path / "out", "--recipe", "debug_cpu", "--device", "zork", says="zork")


def test_an_output_that_cannot_be_made_is_named(session: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "file").write_text("x")
    shutil.rmtree(session / "keypoints")
    (session / "session.json").unlink()
    refused("ingest", session, "--out", tmp_path / "file", says="file: it exists already")
    refused("ingest", session, "--out", tmp_path / "file/below", says="file")
