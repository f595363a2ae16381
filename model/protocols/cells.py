"""Finished cells of a table (method, group, seed), kept on disk so that none is computed twice."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.files import dump_json, read_json, to_jsonable, write_json


@dataclass(frozen=True)
class Cells:
    """A folder of cells.

    Attributes:
        folder: where they lie; None to keep nothing.
        settings: what every cell depends on besides its own name (data, recipe, version of the protocol).
    """

    folder: Path | None
    settings: Mapping[str, Any]

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        """The cell of a name: read if it was finished under the same settings, else computed and written.

        Args:
            name: what is computed, `protocol/method/group/seed` for example.
            compute: gives plain types.
        """
        path = self._path(name)
        if path is not None and path.is_file():
            return read_json(path)["value"]
        begin = time.perf_counter()
        value = json.loads(dump_json(compute()))
        if path is not None:
            write_json(path, {"name": name, "settings": self.settings, "value": value})
        print(f"{name}: {time.perf_counter() - begin:.1f} s", file=sys.stderr, flush=True)
        return value

    def _path(self, name: str) -> Path | None:
        if self.folder is None:
            return None
        settings = json.dumps(to_jsonable({"name": name, **self.settings}), sort_keys=True)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
        return self.folder / f"{name.replace('/', '--').replace(' ', '_')}-{digest}.json"
