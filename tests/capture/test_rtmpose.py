"""RTMPose: a network made here, whose answer is known, is run through the whole adapter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from capture.detectors.rtmpose import RtmPose
from core.errors import InputError
from core.skeletons import BODY_25, COCO_17

WIDTH, HEIGHT, JOINTS = 48, 64, 17


def brightest_point_network(path: Path, *, outputs: tuple[str, str] = ("simcc_x", "simcc_y")) -> Path:
    """Every joint is the brightest column and row of the red channel, at two bins a pixel (SimCC's split ratio)."""
    axis_of = {outputs[0]: (2, WIDTH), outputs[1]: (3, HEIGHT)}
    nodes, infos = [helper.make_node("Slice", ["image", "zero", "one", "channel"], ["red"])], []
    constants = [
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("channel", TensorProto.INT64, [1], [1]),
        helper.make_tensor("scales", TensorProto.FLOAT, [3], [1.0, 1.0, 2.0]),
    ]
    for name, (axis, size) in axis_of.items():
        nodes += [
            helper.make_node("ReduceMax", ["red", f"axis_{name}"], [f"line_{name}"], keepdims=0),
            helper.make_node("Resize", [f"line_{name}", "", "scales"], [f"bins_{name}"], mode="nearest"),
            helper.make_node("Expand", [f"bins_{name}", f"shape_{name}"], [name]),
        ]
        constants += [
            helper.make_tensor(f"axis_{name}", TensorProto.INT64, [1], [axis]),
            helper.make_tensor(f"shape_{name}", TensorProto.INT64, [3], [1, JOINTS, 2 * size]),
        ]
        infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, JOINTS, 2 * size]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])
    graph = helper.make_graph(nodes, "brightest", [image], infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return brightest_point_network(tmp_path_factory.mktemp("net") / "net.onnx")


def spot(x: int, y: int) -> np.ndarray:
    image = np.zeros((240, 320, 3), np.uint8)
    image[y - 10 : y + 11, x - 10 : x + 11] = 255
    return image


@pytest.mark.parametrize("box", [None, [100.0, 60.0, 200.0, 200.0], [120.0, 100.0, 160.0, 120.0]])
def test_a_spot_is_found_in_picture_coordinates(network: Path, box: list[float] | None) -> None:
    joints = RtmPose(network, COCO_17).detect(spot(140, 110), None if box is None else np.array(box))
    width, height = (320, 240) if box is None else (box[2] - box[0], box[3] - box[1])
    cell_px = 1.25 * max(width / WIDTH, height / HEIGHT)  # picture pixels of one pixel of the network's input
    # the spot is 21 px wide and its brightest cell is anywhere on it
    assert np.abs(joints[:, :2] - [140, 110]).max() <= 10.5 + cell_px
    assert (joints[:, 2] > 1).all()


def test_a_sequence_takes_the_boxes_it_is_given(network: Path) -> None:
    boxes = np.array([[90.0, 60, 190, 160], [np.nan] * 4])
    found = RtmPose(network, COCO_17).detect_sequence([spot(140, 110)] * 3, boxes)
    assert found.xy_px.shape == (3, 1, 17, 2)
    assert found.valid[0].all()
    assert not found.valid[1:].any()
    assert found.score.max() == 1.0


def test_a_sequence_without_boxes_looks_where_the_person_was(network: Path) -> None:
    net = RtmPose(network, COCO_17)
    found = net.detect_sequence([spot(140, 110), spot(140, 110)])
    coarse, fine = np.abs(found.xy_px[:, 0] - [140, 110]).max(axis=(1, 2))
    assert max(coarse, fine) <= 10.5 + 1.25 * 320 / WIDTH
    assert fine <= 10.5 + 1  # the second look is at the spot alone, in the finest grid
    assert net.detect_sequence([]).xy_px.shape == (0, 1, 17, 2)


def test_what_is_no_rtmpose_is_refused(tmp_path: Path, network: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        RtmPose(tmp_path / "none.onnx", COCO_17)
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(InputError, match=r"bad\.onnx: it cannot be loaded"):
        RtmPose(tmp_path / "bad.onnx", COCO_17)
    with pytest.raises(InputError, match="finds 17 joints, BODY_25 has 25"):
        RtmPose(network, BODY_25)
    other = brightest_point_network(tmp_path / "other.onnx", outputs=("heat_x", "heat_y"))
    with pytest.raises(InputError, match="are not RTMPose's"):
        RtmPose(other, COCO_17)
