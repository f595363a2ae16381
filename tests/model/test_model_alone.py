"""Training runs where torch, numpy, h5py and Lightning are all there is."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path

from model.recipes import Recipe

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"core", "dataset", "fitting", "model", "torch", "numpy", "h5py", "lightning", "lightning_fabric"}
ABSENT = (
    "scipy", "rich", "jaxtyping", "beartype", "cv2", "av", "trimesh", "smplx", "matplotlib", "tyro", "pycolmap",
    "tensorboard", "threadpoolctl", "jinja2", "embreex",
)  # fmt: skip
_PROGRAM = f"""
import sys
for name in {ABSENT}:
    sys.modules[name] = None  # importing it fails
import pathlib, pickle
from model.train import train
result = train(pathlib.Path(sys.argv[1]), pickle.loads(bytes.fromhex(sys.argv[3])), pathlib.Path(sys.argv[2]))
assert result.steps == 14
"""


def test_a_run_from_end_to_end_needs_nothing_else(people: Path, tiny: Recipe, tmp_path: Path) -> None:
    call = [sys.executable, "-c", _PROGRAM, str(people), str(tmp_path / "run"), pickle.dumps(tiny).hex()]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run/tensorboard").exists()


def test_no_module_imports_anything_else_at_its_top() -> None:
    for path in sorted((ROOT / "model").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            odd = {m.split(".")[0] for m in modules} - ALLOWED - set(sys.stdlib_module_names)
            assert not odd, f"{path.name} imports {odd}"
