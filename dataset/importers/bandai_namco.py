"""The Bandai Namco Research Motiondataset: labels are in the names of its files.

(c) 2022 Bandai Namco Research Inc., CC BY-NC 4.0; Kobayashi et al. 2023, arXiv 2306.08861. Three professionals acted,
and no clip says who. In set 2 the Hips' OFFSET takes three values that part the styles; those are taken for the actors.
In set 1 it takes five that part neither, so set 1 counts as one person, who may be one of set 2's: train on one of the
sets alone where that matters. Actor and style are confounded.
"""

from __future__ import annotations

import re
from pathlib import Path

from dataset.importers.takes import Take

_NAME = re.compile(r"dataset-([12])_([a-z-]+)_([a-z-]+)_\d+\.bvh")
_ACTORS = {
    "active": "a", "elderly": "a", "exhausted": "a", "feminine": "b", "youthful": "b", "masculine": "c", "normal": "c",
}  # fmt: skip


def take_of(path: Path) -> Take | None:
    """The labels of a clip; None if its name is not of this dataset."""
    if not (match := _NAME.fullmatch(path.name)):
        return None
    number, content, style = match.groups()
    subject = "bandai-1" if number == "1" else f"bandai-2{_ACTORS.get(style, '')}"
    return Take(subject, content, details={"dataset": f"bandai-namco-{number}", "style": style})
