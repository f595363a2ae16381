"""RTMPose through onnxruntime, with the user's own weight file.

The network is top-down: it looks at one box, and answers with one distribution over x and one over y for each joint
(SimCC, Jiang et al. 2023, arXiv 2303.07399). Boxes come from a person detector if the user has one; otherwise the first
frame is looked at whole and later frames where the person was.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from capture.keypoints import Keypoints2d, clean
from core.arrays import Float, UInt8
from core.errors import InputError
from core.files import require_file
from core.skeletons import Skeleton

_MEAN_RGB = np.array([123.675, 116.28, 103.53], np.float32)  # ImageNet's, as RTMPose was trained with
_STD_RGB = np.array([58.395, 57.12, 57.375], np.float32)
_BOX_PADDING = 1.25  # RTMPose's own
_TRACK_SCORE = 0.3  # joints surer than this keep the box on the person
_TRACK_JOINTS = 4
_TRACK_MARGIN = 0.2  # of the box of joints: hands and head reach beyond them, and people move


class RtmPose:
    """A loaded network.

    Args:
        model: `.onnx` file with one image input and the outputs `simcc_x`, `simcc_y`.
        skeleton: what its joints are.

    Raises:
        InputError: if onnxruntime is not installed, or the file is not such a network.
    """

    def __init__(self, model: Path, skeleton: Skeleton) -> None:
        require_file(model)
        try:
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as failures
        except ImportError as error:
            raise InputError(
                "RTMPose", "onnxruntime is not installed", "pip install 'action-motifs[detect]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # views run in parallel, and the result must not depend on the machine
        try:
            self._session = onnxruntime.InferenceSession(
                model.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except (failures.Fail, failures.InvalidProtobuf, failures.InvalidGraph, failures.InvalidArgument) as error:
            raise InputError(str(model), f"it cannot be loaded ({error})", "give an RTMPose file in ONNX") from error
        self._skeleton, self._item = skeleton, str(model)
        self._input, self._size_px = self._check_network()

    def detect(
        self, image: UInt8[np.ndarray, "h w 3"], box_px: Float[np.ndarray, "4"] | None = None
    ) -> Float[np.ndarray, "joints 3"]:
        """Joints of the person in a box (x0, y0, x1, y1) of a BGR picture, or in the whole of it: x, y, score."""
        import cv2

        box = np.array([0.0, 0.0, image.shape[1], image.shape[0]]) if box_px is None else box_px
        net_from_px = _crop(box, self._size_px)
        crop = cv2.warpAffine(image, net_from_px, self._size_px, flags=cv2.INTER_LINEAR)
        tensor = ((crop[..., ::-1] - _MEAN_RGB) / _STD_RGB).transpose(2, 0, 1)[None].astype(np.float32)
        simcc_x, simcc_y = self._session.run(["simcc_x", "simcc_y"], {self._input: tensor})
        split = np.array([simcc_x.shape[-1] / self._size_px[0], simcc_y.shape[-1] / self._size_px[1]])
        xy = np.stack([simcc_x[0].argmax(axis=-1), simcc_y[0].argmax(axis=-1)], axis=-1) / split
        score = np.minimum(simcc_x[0].max(axis=-1), simcc_y[0].max(axis=-1))
        px_from_net = cv2.invertAffineTransform(net_from_px)
        return np.column_stack([xy @ px_from_net[:, :2].T + px_from_net[:, 2], score])

    def detect_sequence(
        self,
        frames: Iterable[UInt8[np.ndarray, "h w 3"]],
        boxes_px: Float[np.ndarray, "frames 4"] | None = None,
    ) -> Keypoints2d:
        """Joints of one person in successive BGR frames.

        Args:
            frames: the pictures.
            boxes_px: a box a frame, NaN where there is none; the person is followed if None.
        """
        found: list[np.ndarray] = []
        box: np.ndarray | None = None
        for index, image in enumerate(frames):
            if boxes_px is not None:
                if index >= len(boxes_px) or not np.isfinite(boxes_px[index]).all():
                    found.append(np.zeros((len(self._skeleton), 3)))
                    continue
                box = boxes_px[index]
            found.append(self.detect(image, box))
            if boxes_px is None:
                box = _box_around(found[-1])
        data = np.array(found).reshape(-1, 1, len(self._skeleton), 3)
        return clean(data[..., :2], data[..., 2], self._skeleton)

    def _check_network(self) -> tuple[str, tuple[int, int]]:
        """Name and size of the network's input."""
        inputs: list[Any] = self._session.get_inputs()
        outputs = {o.name: o.shape for o in self._session.get_outputs()}
        shape = inputs[0].shape if len(inputs) == 1 else []
        sized = len(shape) == 4 and shape[1] == 3 and all(isinstance(n, int) for n in shape[2:])
        if not sized or not {"simcc_x", "simcc_y"} <= outputs.keys():
            raise InputError(
                self._item,
                f"inputs {[i.shape for i in inputs]} and outputs {sorted(outputs)} are not RTMPose's",
                "export it with one 1x3xHxW input and the outputs simcc_x and simcc_y",
            )
        joints = outputs["simcc_x"][1]
        if isinstance(joints, int) and joints != len(self._skeleton):
            raise InputError(
                self._item,
                f"it finds {joints} joints, {self._skeleton.name} has {len(self._skeleton)}",
                "declare the skeleton it was trained on",
            )
        return inputs[0].name, (int(shape[3]), int(shape[2]))


def _crop(box_px: Float[np.ndarray, "4"], size_px: tuple[int, int]) -> Float[np.ndarray, "2 3"]:
    """The affine map from the picture to the network's input: the padded box, grown to the input's proportions."""
    centre = (box_px[:2] + box_px[2:]) / 2
    width, height = (box_px[2:] - box_px[:2]) * _BOX_PADDING
    scale = min(size_px[0] / max(width, 1.0), size_px[1] / max(height, 1.0))
    shift = np.array(size_px) / 2 - scale * centre
    return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])


def _box_around(joints: Float[np.ndarray, "joints 3"]) -> Float[np.ndarray, "4"] | None:
    """Where to look next: around the joints that were found, or everywhere if there are too few."""
    sure = joints[joints[:, 2] > _TRACK_SCORE, :2]
    if len(sure) < _TRACK_JOINTS:
        return None
    low, high = sure.min(axis=0), sure.max(axis=0)
    margin = _TRACK_MARGIN * (high - low)
    return np.concatenate([low - margin, high + margin])
