"""Pose priors from files: SMPLify's `gmm_08.pkl`, mixtures as `.npz`, and VPoser's `.ckpt`, none able to run code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InputError
from core.files import read_npz, require_file
from core.pickles import require_plain_torch_file
from fitting.pose_density import EncodedDensity, MixtureDensity, PoseDensity
from fitting.prior import pose_prior
from fitting.unpickle import read_pickle_arrays

_MIXTURE = ("weights", "means", "covars")
_NUM_COMPONENTS = 69  # SMPL's 23 joints
_VPOSER_COMPONENTS = 63  # its 21 body joints
_VARIANCE_EPS = 1e-5  # torch's, of its batch normalisation
_NEXT = "give SMPLify's gmm_08.pkl, the same arrays as .npz, or VPoser's V02_05 .ckpt"
# VPoser V02_05, its encoder: normalise, linear, leaky kink, normalise, (dropout), linear, linear, mean of the code
_NORMS, _LINEARS, _MEAN = (
    ("encoder_net.1", "encoder_net.4"),
    ("encoder_net.2", "encoder_net.6", "encoder_net.7"),
    ("encoder_net.8.mu"),
)


def read_pose_density(path: Path) -> PoseDensity:
    """A pose prior that the user has.

    Raises:
        InputError: if the file is missing, damaged, or no pose prior of SMPL; it names the entry and its shape.
    """
    path = require_file(Path(path))
    if path.suffix in (".ckpt", ".pt", ".pth"):
        return _vposer(path)
    if path.suffix == ".pkl":
        return _mixture(read_pickle_arrays(path), path)
    if path.suffix == ".npz":
        return _mixture(read_npz(path, _MIXTURE), path)
    raise InputError(str(path), f"a pose prior is .pkl, .npz or .ckpt, not {path.suffix!r}", _NEXT)


def _mixture(data: Mapping[str, Any], path: Path) -> MixtureDensity:
    if missing := [name for name in _MIXTURE if name not in data]:
        raise InputError(str(path), f"it lacks {missing[0]!r}", _NEXT)
    weights, means, covariances = (np.asarray(data[name], float) for name in _MIXTURE)
    k, n = len(weights.ravel()), _NUM_COMPONENTS
    for name, array, shape in (("means", means, (k, n)), ("covars", covariances, (k, n, n))):
        if array.shape != shape:
            raise InputError(str(path), f"{name!r} has the shape {array.shape}, {shape} is needed", _NEXT)
        if not np.isfinite(array).all():
            raise InputError(str(path), f"{name!r} holds numbers that are none", _NEXT)
    if np.linalg.eigvalsh(covariances).min() <= 0:
        raise InputError(str(path), "a covariance is not positive definite", _NEXT)
    return MixtureDensity(weights.ravel() / weights.sum(), means, covariances)


def _vposer(path: Path) -> EncodedDensity:
    import torch

    try:
        require_plain_torch_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        action = "save its tensors alone: torch.save({'state_dict': model.state_dict()}, FILE)"
        raise InputError(str(path), f"no file of tensors ({type(error).__name__})", action) from error
    tensors = content.get("state_dict", content) if isinstance(content, dict) else {}
    found = {str(name).removeprefix("vp_model."): value for name, value in tensors.items()}

    def array(name: str) -> np.ndarray:
        if not isinstance(found.get(name), torch.Tensor):
            raise InputError(str(path), f"it lacks {name!r} of VPoser's encoder", _NEXT)
        return np.asarray(found[name].double().numpy())

    def norm(name: str) -> tuple[np.ndarray, np.ndarray]:
        scale = array(f"{name}.weight") / np.sqrt(array(f"{name}.running_var") + _VARIANCE_EPS)
        return scale, array(f"{name}.bias") - scale * array(f"{name}.running_mean")

    def linear(name: str) -> tuple[np.ndarray, np.ndarray]:
        return array(f"{name}.weight"), array(f"{name}.bias")

    (s0, b0), (s1, b1) = (norm(name) for name in _NORMS)
    (W0, c0), (W1, c1), (W2, c2) = (linear(name) for name in _LINEARS)
    W3, c3 = linear(_MEAN)
    if W0.shape[1] != _VPOSER_COMPONENTS:
        problem = f"its encoder takes {W0.shape[1]} numbers, a pose of SMPL's body has {_VPOSER_COMPONENTS}"
        raise InputError(str(path), problem, _NEXT)
    back = W3 @ W2 @ W1
    second_bias = back @ b1 + W3 @ (W2 @ c1 + c2) + c3
    sigma = pose_prior().sigma[1 : 1 + _VPOSER_COMPONENTS // 3].ravel()
    return EncodedDensity(W0 * s0, W0 @ b0 + c0, back * s1, second_bias, sigma)
