"""Versions of this code and of the libraries that its results depend on, for manifests."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_LIBRARIES = ("numpy", "scipy", "opencv-python-headless", "av", "torch", "lightning-fabric", "h5py", "trimesh", "smplx")


@cache
def code_version() -> str:
    """Commit of the checkout this code runs from, or the installed version."""
    folder = Path(__file__).resolve().parent.parent
    if (folder / ".git").exists() and shutil.which("git"):
        call = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
        answer = subprocess.run(call, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            return answer.stdout.strip()
    return importlib.metadata.version("action-motifs")


@cache
def library_versions() -> Mapping[str, str]:
    """Versions of the libraries whose numbers a result may depend on."""
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
