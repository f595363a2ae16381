"""What a stage says of its result: health figures, metrics, and the manifest that keeps them beside the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.errors import InputError
from core.files import read_json, sha256_of_path

_MANIFEST_KEYS = {"fingerprint", "outputs", "metrics", "health", "failed", "timing"}


@dataclass(frozen=True)
class Health:
    """One figure of a stage's result against its threshold; past it, the result is refused.

    Attributes:
        name: what is measured, with its unit (`reprojection_px`).
        value: what came out; NaN counts as past the threshold.
        limit: the threshold.
        kind: whether `limit` is the largest or the smallest value allowed.
        item: what the figure is about, where it is not the whole stage (a camera, a frame).
        action: what the user can do when it is refused.
    """

    name: str
    value: float
    limit: float
    kind: Literal["max", "min"]
    action: str
    item: str = ""

    @property
    def ok(self) -> bool:
        """Whether the figure holds."""
        return self.value <= self.limit if self.kind == "max" else self.value >= self.limit

    def __str__(self) -> str:
        sign = {("max", True): "<=", ("max", False): ">", ("min", True): ">=", ("min", False): "<"}[self.kind, self.ok]
        return f"{self.name} {self.value:.4g} {sign} {self.limit:.4g}"


@dataclass(frozen=True)
class Summary:
    """What a stage says about its whole result.

    Attributes:
        metrics: figures for the manifest and the report.
        health: the few figures that decide whether the result may be used.
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    health: Sequence[Health] = ()


@dataclass(frozen=True)
class Manifest:
    """What a stage did, as `manifest.json` beside its result holds it."""

    path: Path
    data: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Hash of stage version, config and input contents."""
        return str(self.data["fingerprint"])

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The stage's figures."""
        metrics: Mapping[str, Any] = self.data["metrics"]
        return metrics

    @property
    def health(self) -> tuple[dict[str, Any], ...]:
        """The health figures: the fields of `Health` and `ok`."""
        return tuple(self.data["health"])

    @property
    def failed(self) -> Mapping[str, Mapping[str, str]]:
        """Items that failed, each with item, problem and action."""
        failed: Mapping[str, Mapping[str, str]] = self.data["failed"]
        return failed

    @property
    def seconds(self) -> float:
        """Wall time of the run that completed the result."""
        return float(self.data["timing"]["seconds"])

    @staticmethod
    def read(out: Path) -> Manifest:
        """The manifest of a finished stage.

        Raises:
            InputError: if the stage has not been run or its manifest is damaged.
        """
        path = out / "manifest.json"
        data = read_json(path)
        if not isinstance(data, dict) or not data.keys() >= _MANIFEST_KEYS:
            raise InputError(
                str(path), "not a manifest of this project", f"run the stage that makes {out.name} with --redo"
            )
        return Manifest(path, data)


def changed_inputs(out: Path) -> list[str]:
    """Neighbouring stages (`04_rig`) that a finished result was made from and that have changed since."""
    data = Manifest.read(out).data
    made_from: Mapping[str, str] = data.get("made_from", {})
    changed = {
        Path(path).parts[0]
        for key, path in made_from.items()
        if not (out.parent / path).exists() or sha256_of_path(out.parent / path) != data["inputs"][key]
    }
    return sorted(changed)
