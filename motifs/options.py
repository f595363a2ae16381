"""Arguments and options that commands share: their types, names and help."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

CORES = os.cpu_count() or 1
SETTINGS = arg(name="")  # a config's fields are options of their own, without a prefix

SessionPath = Annotated[Positional[Path], arg(metavar="SESSION", help="folder that holds session.json")]
DatasetPath = Annotated[Positional[Path], arg(metavar="DATASET", help="folder that `motifs build` made")]
RunPath = Annotated[Positional[Path], arg(metavar="RUN", help="folder that `motifs train` made")]
Workers = Annotated[int, arg(help="processes; the result does not depend on it")]
Redo = Annotated[bool, arg(help="replace a result that was made with other settings or inputs")]
Out = Annotated[Path, arg(help="folder to make")]
Recording = Annotated[Positional[Path], arg(metavar="RECORDING", help="folder of the recording")]
AnySessions = Annotated[Positional[tuple[Path, ...]], arg(metavar="SESSIONS", help="folders that hold session.json")]
SessionPaths = Annotated[Positional[tuple[Path, ...]], arg(metavar="SESSIONS", help="fitted sessions of one person")]
Sources = Annotated[
    Positional[tuple[Path, ...]],
    arg(
        metavar="SOURCES",
        help="session folders; motions of AMASS (.npz), Humans in Kitchens (.npz), BVH, AMC with its ASF, NTU "
        "(.skeleton), HumanML3D (.npy); folders or .tar.xz of them",
    ),
]
RecipeName = Annotated[
    Literal["paper", "gpu_10min", "cpu_10min", "debug_cpu"], arg(help="what to train, and for how long")
]
Device = Annotated[str, arg(help="cpu, cuda, or auto for a GPU where there is one")]
DryRun = Annotated[bool, arg(help="print the stages and where they stand, run nothing")]
