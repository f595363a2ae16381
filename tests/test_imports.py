"""The floors of the house: no package imports one above it, and training stays free of video and cameras."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("core", "capture", "calibration", "fitting", "dataset", "model", "simulation", "motifs")
FORBIDDEN = {"dataset": {"capture", "calibration"}, "model": {"capture", "calibration"}}
BODY_MODEL = {"fitting", "fitting.smpl", "fitting.stand_in", "fitting.landmarks"}


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


@pytest.mark.parametrize("package", FLOORS)
def test_no_arrow_runs_up(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    above = set(FLOORS[FLOORS.index(package) + 1 :]) | FORBIDDEN.get(package, set())
    arrows = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in imported_modules(path)
        if module.split(".")[0] in above
    ]
    assert not arrows


def test_the_model_takes_only_the_body_from_fitting() -> None:
    arrows = [
        f"{path.name} imports {module}"
        for path in (ROOT / "model").rglob("*.py")
        for module in imported_modules(path)
        if module.split(".")[0] == "fitting" and module not in BODY_MODEL
    ]
    assert not arrows


def test_only_one_module_imports_pycolmap() -> None:
    # pycolmap's own zlib takes over unless the system's is loaded first; one module sees to the order
    users = [
        str(path.relative_to(ROOT))
        for package in FLOORS
        for path in (ROOT / package).rglob("*.py")
        if any(module.split(".")[0] == "pycolmap" for module in imported_modules(path))
    ]
    assert set(users) <= {"calibration/colmap.py"}


def test_training_needs_no_scipy_and_no_opencv() -> None:
    blocked = ["scipy", "cv2", "av", "trimesh", "smplx", "matplotlib", "jaxtyping", "tyro", "embreex"]
    blocked += ["rich", "threadpoolctl"]
    program = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        "import model.train, model.tasks, model.discover, model.recipes, dataset.loader, dataset.shards\n"
        "import model.protocols.forecast, model.protocols.recognition, model.protocols.groups, model.protocols.cells\n"
        "import dataset.kinect.cache, model.baselines.recipes, model.protocols.published\n"
        "from core.progress import progress\nwith progress('title', 1) as advance: advance()\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
