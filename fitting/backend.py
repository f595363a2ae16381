"""Where normal equations lie: in numpy's arrays, or in tensors of torch on a GPU.

Residuals and their derivatives are numpy's. What is added up from them is indexed, multiplied and reshaped by the same
lines on both sides; these few functions are what numpy and torch do not have in common.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from core.errors import InputError

Array: TypeAlias = Any
"""numpy's, or a tensor on a device."""
CPU = "cpu"
"""numpy and LAPACK in this process; every other name is a device of torch."""
TORCH_CPU = "torch-cpu"
"""The lines of a GPU on a machine without one, for tests."""


def require_device(name: str) -> str:
    """The name itself.

    Raises:
        InputError: if there is no such device here; it says what is missing.
    """
    if name in (CPU, TORCH_CPU):
        return name
    kind, colon, number = name.partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise InputError("--device", f"{name!r} is no device", "give cpu, cuda, or cuda:1 for the second GPU")
    import torch

    action = "fit with `--device cpu`, or install torch for your CUDA from pytorch.org"
    if torch.version.cuda is None:
        raise InputError(
            "--device", f"{name!r} was asked for, and torch {torch.__version__} was built without CUDA", action
        )
    count = torch.cuda.device_count()
    if not count:
        raise InputError(
            "--device", f"{name!r} was asked for, and torch finds no GPU of NVIDIA with its driver", action
        )
    if int(number or 0) >= count:
        raise InputError(
            "--device", f"{name!r} was asked for, and the GPUs here are cuda:0 to cuda:{count - 1}", "give one of these"
        )
    return name


def zeros(shape: tuple[int, ...], device: str = CPU) -> Array:
    """Zeros of double precision on a device."""
    if device == CPU:
        return np.zeros(shape)
    import torch

    return torch.zeros(shape, dtype=torch.float64, device=CPU if device == TORCH_CPU else device)


def beside(array: np.ndarray, other: Array) -> Array:
    """An array of numpy where another lies."""
    if isinstance(other, np.ndarray):
        return array
    import torch

    return torch.as_tensor(np.ascontiguousarray(array), device=other.device)


def zeros_beside(shape: tuple[int, ...], other: Array) -> Array:
    """Zeros where another array lies."""
    return np.zeros(shape) if isinstance(other, np.ndarray) else other.new_zeros(shape)


def on_host(array: Array) -> np.ndarray:
    """An array of numpy."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()
