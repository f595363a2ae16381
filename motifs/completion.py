"""Shell completion: commands, their options and the values that options take, in a script that the shell reads."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
from collections.abc import Mapping
from typing import Any, Literal

Shell = Literal["bash", "zsh"]
_SPEC = "COMPLETION_SPEC = "


def completion_script(commands: Mapping[str, str], shell: Shell) -> str:
    """The script for a shell.

    Args:
        commands: names (of one word or two) and summaries.
        shell: whose.
    """
    import tyro

    module = importlib.import_module("motifs.commands")
    functions = {name: getattr(module, name.replace(" ", "_")) for name in commands if " --" not in name}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.extras.subcommand_cli_from_dict(
            functions, prog="motifs", args=["--tyro-print-completion", shell], config=(tyro.conf.FlagCreatePairsOff,)
        )
    return _nested(printed.getvalue(), commands)


def _nested(script: str, commands: Mapping[str, str]) -> str:
    """The script with commands of two words one inside the other, as they are typed, and with their summaries."""
    start = script.index(_SPEC) + len(_SPEC)
    end = script.index("\n", start)
    spec: dict[str, Any] = ast.literal_eval(script[start:end])
    found: dict[str, Any] = {}
    for name, summary in commands.items():
        if name not in spec["subcommands"]:
            continue
        described = {**spec["subcommands"][name], "description": summary}
        group, _, rest = name.partition(" ")
        if not rest:
            found[name] = described
            continue
        outer = found.setdefault(group, {**described, "options": [], "description": group, "subcommands": {}})
        outer["subcommands"][rest] = described
    return script[:start] + repr({**spec, "subcommands": found}) + script[end:]
