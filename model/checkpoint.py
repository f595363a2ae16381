"""Checkpoints: everything a run needs to go on, in one file that is complete or absent and cannot run code.

Files are read with torch's restricted unpickler, which admits tensors and plain types only. Each carries the identity
of its run (recipe and data); a run of another identity refuses it and says what differs.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.errors import InputError, StageError
from core.files import atomic_path, require_file, to_jsonable
from core.pickles import require_plain_torch_file
from model.lexicon import Lexicon

FORMAT = "action-motifs/checkpoint/1"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State of a run before step `step`.

    Attributes:
        identity: recipe and data of the run, as JSON types.
        step: steps done.
        model: weights of student, teacher and predictors.
        optimizer: state of AdamW in the present phase; None before a phase's first step.
        rng: state of torch's generator.
        lexicon: result of mining, None before it.
    """

    identity: Mapping[str, Any]
    step: int
    model: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any] | None
    rng: torch.Tensor
    lexicon: Lexicon | None


def identity_sha256(identity: Mapping[str, Any]) -> str:
    """Hash of a run's identity."""
    return hashlib.sha256(json.dumps(to_jsonable(identity), sort_keys=True).encode()).hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint atomically."""
    content = {
        "format": FORMAT,
        "identity": json.dumps(to_jsonable(checkpoint.identity), sort_keys=True),
        "step": checkpoint.step,
        "model": dict(checkpoint.model),
        "optimizer": checkpoint.optimizer,
        "rng": checkpoint.rng,
        "lexicon": None if checkpoint.lexicon is None else checkpoint.lexicon.to_plain(),
    }
    # a stream, as torch writes the name of a path into the file: the temporary one, which differs from run to run
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save(content, stream)


# what torch raises on files that are damaged or ask for what they may not
_DAMAGED = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError,
    AttributeError, IndexError, AssertionError, MemoryError, OverflowError, struct.error, zlib.error,
)  # fmt: skip


def load_checkpoint(path: Path, identity: Mapping[str, Any] | None = None) -> Checkpoint:
    """Reads a checkpoint onto the CPU.

    Args:
        identity: of the run that asks; None to take any.

    Raises:
        InputError: if there is no file, it is damaged, or it holds more than tensors and plain types.
        StageError: if it belongs to a run of another identity.
    """
    require_file(path)
    try:
        require_plain_torch_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of odd pickles, which are refused just below
            data = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            str(path), f"not a readable checkpoint of plain tensors ({reason})", "remove it and train again"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(str(path), f"not a checkpoint of format {FORMAT}", "train again with this version")
    if missing := {"identity", "step", "model", "optimizer", "rng", "lexicon"} - data.keys():
        raise InputError(str(path), f"it has no {', '.join(sorted(missing))}", "remove it and train again")
    try:
        stored = json.loads(data["identity"])
        lexicon = None if data["lexicon"] is None else Lexicon.from_plain(data["lexicon"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(str(path), f"what it says of itself is damaged ({error!r})", "train again") from error
    if identity is not None and identity_sha256(stored) != identity_sha256(identity):
        changes = "; ".join(differences(stored, to_jsonable(identity))[:4])
        raise StageError(
            str(path), f"belongs to a run of another configuration: {changes}", "use another run folder, or that recipe"
        )
    return Checkpoint(stored, data["step"], data["model"], data["optimizer"], data["rng"], lexicon)


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Where two nested tables differ, as `a.b: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{name}.{k}" if name else str(k))]
    return [] if old == new else [f"{name} {old} -> {new}"]
