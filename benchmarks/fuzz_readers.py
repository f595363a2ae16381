"""The readers of foreign files that `fuzz.py` feeds, each with sound files to begin from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

ASF = ":version 1.10\n:name s\n:units\n mass 1.0\n length 0.45\n angle deg\n:root\n order TX TY TZ RX RY RZ\n axis XYZ\n position 0 0 0\n orientation 0 0 0\n:bonedata\n begin\n id 1\n name a\n direction 0 1 0\n length 1\n axis 0 0 0 XYZ\n dof rx\n limits (-1 1)\n end\n:hierarchy\n begin\n root a\n end\n"  # noqa: E501


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        suffix: of its files.
        seeds: writes sound files into a folder.
        read: reads one.
    """

    suffix: str
    seeds: Callable[[Path], None]
    read: Callable[[Path], object]


def _written(name: str, text: str | bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)

    return write


def _npz(folder: Path) -> None:
    poses = np.zeros((4, 156))
    arrays = {"poses": poses, "trans": np.zeros((4, 3)), "betas": np.zeros(16), "mocap_framerate": np.array(30.0)}
    np.savez(folder / "motion.npz", **arrays, gender=np.array("neutral"))  # type: ignore[arg-type]


def _bvh(folder: Path) -> None:
    joint = "{n} {name}\n{{\nOFFSET 0 10 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n"
    text = "HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\n"
    text += "CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation\n"
    text += joint.format(n="JOINT", name="Spine") + "End Site\n{\nOFFSET 0 5 0\n}\n}\n}\n"
    text += "MOTION\nFrames: 2\nFrame Time: 0.0333\n" + "0 90 0 1 2 3 4 5 6\n" * 2
    (folder / "a.bvh").write_text(text)


def _skeleton(folder: Path) -> None:
    from simulation.kinect import skeleton_text

    (folder / "S001C001P001R001A001.skeleton").write_text(skeleton_text([np.ones((2, 25, 3))]))


def _video(folder: Path) -> None:
    from capture.video import VideoWriter

    with VideoWriter(folder / "a.mp4", (32, 24), Fraction(30)) as writer:
        for _ in range(5):
            writer.write(np.zeros((24, 32), np.uint8))


def _rigs(tool: str, suffix: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from calibration.formats import write_calibration
        from core.cameras import Camera, Lens, Rig
        from core.transforms import SE3

        lens = Lens("radtan", (640, 480), (500.0, 500.0), (320.0, 240.0), (0.1, 0.0, 0.0, 0.0, 0.0))
        made = folder.parent / "made"
        made.mkdir(exist_ok=True)
        write_calibration(made, Rig((Camera("cam1", lens, SE3.identity()),)), tool)  # type: ignore[arg-type]
        for path in made.rglob(f"*{suffix}"):
            (folder / path.name).write_bytes(path.read_bytes())

    return write


def _checkpoint(folder: Path) -> None:
    import torch

    torch.save({"schema": "x", "model": {"w": torch.zeros(2)}, "step": 1}, folder / "checkpoint.pt")


def _pickle(folder: Path) -> None:
    import pickle

    data = {"v_template": np.zeros((3, 3)), "f": np.zeros((1, 3), np.uint32), "weights": np.zeros((3, 24))}
    (folder / "body.pkl").write_bytes(pickle.dumps(data, protocol=2))
    (folder / "bad.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")


def _safetensors(folder: Path) -> None:
    from fitting.safetensors import write_safetensors

    write_safetensors(folder / "a.safetensors", {"w": np.zeros((2, 3), np.float32)})


def _shard(folder: Path) -> None:
    from dataset.schema import FIELDS, Clip, ClipLabels
    from dataset.shards import new_shard, write_clip

    sizes = {"T": 2, "B": 10, "A": 1}
    arrays = {n: np.zeros([sizes.get(k, k) for k in shape], kind) for n, (shape, kind, _) in FIELDS.items()}  # type: ignore[arg-type]
    labels = ClipLabels("30/1", "s", "r", 0.0, "neutral", "sticks", "", ("walk",))
    with new_shard(folder / "a.h5") as file:
        write_clip(file, Clip("a", labels, **arrays), "auto")


def _ply(folder: Path) -> None:
    import trimesh

    trimesh.creation.box().export(folder / "scan.ply")


def _session(path: Path) -> object:
    from capture.session import Session

    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    (folder / "session.json").write_bytes(path.read_bytes())
    return Session.load(folder)


def _clip(path: Path) -> object:
    import h5py

    from core.errors import InputError
    from dataset.hdf5 import DAMAGE, require_sound_heaps
    from dataset.packing import read_clip

    try:
        require_sound_heaps(path)  # as `motifs verify` does
        with h5py.File(path, "r") as file:
            return read_clip(file, "a", 0, None)
    except DAMAGE as error:  # as `AmdDataset` does
        raise InputError(str(path), str(error), "") from error


def _annotations(path: Path) -> object:
    from motifs.projects.easymocap import _annots

    folder = path.with_suffix("")
    folder.mkdir(exist_ok=True)
    (folder / "000000.json").write_bytes(path.read_bytes())
    return _annots(folder)


def _member(suffix: str, name: str, write: Callable[[Path], object], read: Callable[[Path], object]) -> Target:
    """A reader of a folder, one file of which is changed.

    Args:
        suffix: of that file.
        name: of that file, in a folder that `write` fills.
        write: fills it with sound files.
        read: reads the folder.
    """

    def seeds(folder: Path) -> None:
        made = folder.parent / "made"
        made.mkdir(exist_ok=True)
        write(made)
        (folder / name).write_bytes((made / name).read_bytes())

    def changed(path: Path) -> object:
        folder = path.with_suffix("")
        if not folder.is_dir():
            folder.mkdir()
            write(folder)
        (folder / name).write_bytes(path.read_bytes())
        return read(folder)

    return Target(suffix, seeds, changed)


def _colmap(folder: Path, *, binary: bool) -> None:
    from calibration.formats.colmap import write_colmap
    from core.cameras import Camera, Lens, Rig
    from core.transforms import SE3

    lens = Lens("radtan", (640, 480), (500.0, 500.0), (320.0, 240.0), (0.1, 0.0, 0.0, 0.0, 0.0))
    write_colmap(folder, Rig((Camera("cam1", lens, SE3.identity()),)), binary=binary)


def _easymocap(folder: Path) -> None:
    matrix = "!!opencv-matrix\n  rows: {}\n  cols: {}\n  dt: d\n  data: [{}]\n"
    head = '%YAML:1.0\n---\nnames:\n  - "1"\n'
    intrinsic = f"K_1: {matrix.format(3, 3, '500., 0., 320., 0., 500., 240., 0., 0., 1.')}"
    intrinsic += f"dist_1: {matrix.format(1, 5, '0., 0., 0., 0., 0.')}H_1: 480\nW_1: 640\n"
    extrinsic = f"R_1: {matrix.format(3, 1, '0., 0., 0.')}T_1: {matrix.format(3, 1, '0., 0., 1.')}"
    (folder / "intri.yml").write_text(head + intrinsic)
    (folder / "extri.yml").write_text(head + extrinsic)


def _acclaim(folder: Path) -> None:
    (folder / "a.asf").write_text(ASF)
    frame = "{}\nroot 0 0 0 0 0 0\na 10\n"
    (folder / "a.amc").write_text(":FULLY-SPECIFIED\n:DEGREES\n" + frame.format(1) + frame.format(2))


def _openpose(folder: Path) -> None:
    joints = ", ".join(["1, 2, 0.5"] * 25)
    (folder / "a_000000000000_keypoints.json").write_text(f'{{"people": [{{"pose_keypoints_2d": [{joints}]}}]}}')


def targets() -> Mapping[str, Target]:
    """All readers of foreign files, by name."""
    return {**_recordings(), **_motions()}


def _recordings() -> Mapping[str, Target]:
    """Readers of recordings, detections and calibrations."""
    from calibration.formats import read_file
    from capture.april_grid import read_kalibr_target
    from capture.detectors import coco, mmpose, openpose
    from capture.exif import read_exposure
    from capture.frame_times import read_frame_times
    from capture.stills import read_still
    from capture.targets import load_targets
    from capture.video import probe, read_audio
    from core.files import read_json
    from core.skeletons import BODY_25, COCO_17
    from motifs.projects.caliscope import _caliscope_joints
    from motifs.projects.contents import ImportConfig
    from motifs.projects.freemocap import _freemocap_joints, _on_ground
    from motifs.projects.pose2sim import read_pose2sim

    board = "target_type: 'aprilgrid'\ntagCols: 6\ntagRows: 6\ntagSize: 0.088\ntagSpacing: 0.3\n"
    target = '{"schema": "action-motifs/targets/1", "targets": [{"id": "a", "kind": "marker", "mounting": "static", "marker_id": 1, "size_m": 0.2, "dictionary": "DICT_4X4_250"}]}'  # noqa: E501
    session = '{"schema": "action-motifs/session/1", "id": "s", "subject": "a", "views": [{"id": "c", "role": "room", "size_px": [8, 8], "video": "videos/c.mp4"}]}'  # noqa: E501
    qca = '<calibration source="x"><cameras><camera serial="1" viewrotation="0"><fov_video left="0" top="0" right="1" bottom="1"/><transform x="0" y="0" z="0" r11="1" r12="0" r13="0" r21="0" r22="1" r23="0" r31="0" r32="0" r33="1"/><intrinsic focallength="1" sensorMinU="0" sensorMaxU="1" sensorMinV="0" sensorMaxV="1" focalLengthU="1" focalLengthV="1" centerPointU="1" centerPointV="1" skew="0" radialDistortion1="0" radialDistortion2="0" radialDistortion3="0" tangentalDistortion1="0" tangentalDistortion2="0"/></camera></cameras></calibration>'  # noqa: E501
    coco_text = '[{"image_id": 0, "category_id": 1, "keypoints": [JOINTS], "score": 1}]'.replace(
        "JOINTS", ", ".join(["1, 2, 0.5"] * 17)
    )
    instance = {"keypoints": [[1, 2]] * 17, "keypoint_scores": [0.5] * 17}
    mmpose_text = json.dumps({"instance_info": [{"frame_id": 1, "instances": [instance]}]})
    annots = '{"annots": [{"personID": 0, "keypoints": [JOINTS]}]}'.replace("JOINTS", ", ".join(["[1, 2, 0.5]"] * 25))
    points = "cam_id,frame_index,point_id,img_loc_x,img_loc_y\n0,0,3,1.5,2.5\n1,1,4,2,3\n"
    still = np.zeros((8, 8, 3), np.uint8)
    return {
        "video metadata": Target(".mp4", _video, probe),
        "video sound": Target(".mp4", _video, read_audio),
        "stills": Target(".png", lambda f: _image(f / "a.png", still), read_still),
        "EXIF": Target(".jpg", lambda f: _image(f / "a.jpg", still), read_exposure),
        "frame times": Target(".csv", _written("t.csv", "0.0\n0.1\n0.2\n"), lambda p: read_frame_times(p, "cam1", 3)),
        "JSON": Target(".json", _written("a.json", '{"a": [1, 2.5, null, "x"]}'), read_json),
        "session.json": Target(".json", _written("session.json", session), _session),
        "targets.json": Target(".json", _written("t.json", target), load_targets),
        "Kalibr board (YAML)": Target(
            ".yaml", _written("b.yaml", board), lambda p: read_kalibr_target(p, "a", "static")
        ),
        "COCO joints": Target(".json", _written("c.json", coco_text), lambda p: coco.read(p, COCO_17)),
        "MMPose joints": Target(".json", _written("m.json", mmpose_text), lambda p: mmpose.read(p, COCO_17)),
        "OpenPose joints": _member(
            ".json", "a_000000000000_keypoints.json", _openpose, lambda f: openpose.read(f, BODY_25)
        ),
        "EasyMocap joints": Target(".json", _written("000000.json", annots), _annotations),
        "caliscope joints (CSV)": Target(".csv", _written("xy.csv", points), _caliscope_joints),
        "cameras (TOML)": Target(".toml", _rigs("pose2sim", ".toml"), read_file),
        "cameras (YAML)": Target(".yaml", _rigs("kalibr", ".yaml"), read_file),
        "cameras (OpenCV)": Target(".yml", _rigs("opencv", ".yml"), read_file),
        "cameras (JSON)": Target(".json", _rigs("project", ".json"), read_file),
        "cameras (XML)": Target(".xml", _written("a.xml", qca), read_file),
        "cameras (EasyMocap intri)": _member(".yml", "intri.yml", _easymocap, read_file),
        "cameras (EasyMocap extri)": _member(".yml", "extri.yml", _easymocap, read_file),
        **{
            f"cameras (COLMAP {name})": _member(
                Path(name).suffix, name, partial(_colmap, binary=name.endswith(".bin")), read_file
            )
            for name in ("cameras.txt", "images.txt", "cameras.bin", "images.bin")
        },
        "FreeMoCap joints": Target(
            ".npy", lambda f: np.save(f / "a.npy", np.ones((1, 3, 33, 3))), lambda p: _freemocap_joints(p, ["a"])
        ),
        "FreeMoCap cameras (TOML)": Target(
            ".toml", _written("a.toml", "[metadata]\ngroundplane_calibration = true\n"), _on_ground
        ),
        "Pose2Sim Config.toml": _member(
            ".toml",
            "Config.toml",
            _written("Config.toml", "[pose]\npose_model = 'Body_with_feet'\n"),
            lambda f: read_pose2sim(f, ImportConfig()),
        ),
    }


def _motions() -> Mapping[str, Target]:
    """Readers of motions, bodies and datasets."""
    from core.files import read_npz
    from dataset.importers.amass import read_amass
    from dataset.importers.asf_amc import read_asf, read_asf_amc
    from dataset.importers.bvh import read_bvh
    from dataset.importers.foreign import read_bounded_npz, read_npy
    from dataset.kinect.pku import read_pku_labels, read_pku_skeleton
    from dataset.kinect.skeleton_files import read_skeleton
    from fitting.body_files import read_body_file
    from fitting.safetensors import read_safetensors
    from fitting.scan_files import read_ply
    from fitting.stand_in import stand_in_body
    from fitting.unpickle import read_pickle_arrays
    from model.checkpoint import load_checkpoint

    return {
        "AMC": _member(".amc", "a.amc", _acclaim, lambda f: read_asf_amc(f / "a.amc", f / "a.asf")),
        "BVH": Target(".bvh", _bvh, read_bvh),
        "ASF": Target(".asf", _written("a.asf", ASF), read_asf),
        "NTU .skeleton": Target(".skeleton", _skeleton, read_skeleton),
        "PKU-MMD skeleton": Target(".txt", _written("a.txt", " ".join(["0.5"] * 150) + "\n"), read_pku_skeleton),
        "PKU-MMD labels": Target(".txt", _written("a.txt", "1,10,20,2\n"), read_pku_labels),
        "npz": Target(".npz", _npz, read_npz),
        "AMASS npz": Target(".npz", _npz, lambda p: read_bounded_npz(p, ("poses", "trans", "betas"))),
        "AMASS motion": Target(".npz", _npz, lambda p: read_amass(p, "a", "s", stand_in_body())),
        "npy": Target(".npy", lambda f: np.save(f / "a.npy", np.zeros((3, 22, 3))), read_npy),
        "body pickle": Target(".pkl", _pickle, read_pickle_arrays),
        "body file": Target(".npz", _npz, lambda p: read_body_file(p, 10, 0)),
        "safetensors": Target(".safetensors", _safetensors, read_safetensors),
        "scan PLY": Target(".ply", _ply, lambda p: read_ply(p, "m")),
        "HDF5 shard": Target(".h5", _shard, _clip),
        "checkpoint": Target(".pt", _checkpoint, load_checkpoint),
    }


def _image(path: Path, pixels: np.ndarray) -> None:
    import cv2

    cv2.imwrite(str(path), pixels)
