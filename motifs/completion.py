"""Shell completion: commands, their options and the values that options take; files everywhere else."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Literal

Shell = Literal["bash", "zsh"]
_SPEC = "COMPLETION_SPEC = "

# $command is what is typed of one of the commands, however many words it has
_BASH = """\
# completion of motifs for bash; made by `motifs completion bash`
_motifs() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}} words=""
  COMPREPLY=()
  if (( COMP_CWORD == 1 )); then words="{first}"
  elif (( COMP_CWORD == 2 )) && [[ $command == calibrate ]]; then words="{second}"
  else
    [[ $command == calibrate ]] && command="calibrate ${{COMP_WORDS[2]}}"
    [[ $command == evaluate && " ${{COMP_WORDS[*]}} " == *" --all "* ]] && command="evaluate --all"
    case "$command $prev" in
{values}
    *)
      [[ $cur == -* ]] && case "$command" in
{options}
      esac ;;
    esac
  fi
  [[ -n $words ]] && COMPREPLY=( $(compgen -W "$words" -- "$cur") )
}}
complete -o default -o bashdefault -F _motifs motifs
"""

_ZSH = """\
#compdef motifs
# completion of motifs for zsh; made by `motifs completion zsh`
_motifs() {{
  local command=$words[2] previous=$words[CURRENT-1]
  local -a found
  if (( CURRENT == 2 )); then
    found=({first})
    _describe command found; return
  elif (( CURRENT == 3 )) && [[ $command == calibrate ]]; then
    found=({second})
    _describe 'what to calibrate' found; return
  fi
  [[ $command == calibrate ]] && command="calibrate $words[3]"
  [[ $command == evaluate && ${{words[(I)--all]}} -gt 0 ]] && command="evaluate --all"
  case "$command $previous" in
{values}
  *)
    if [[ $words[CURRENT] == -* ]]; then case "$command" in
{options}
    esac; fi ;;
  esac
  if (( $#found )); then compadd -- $found; else _files; fi
}}
if [[ $funcstack[1] == _motifs ]]; then _motifs "$@"; else compdef _motifs motifs; fi
"""


def completion_script(commands: Mapping[str, str], shell: Shell) -> str:
    """The script for a shell.

    Args:
        commands: names (of one word or two) and summaries.
        shell: whose.
    """
    known = {name: options_of(name) for name in commands}
    known["evaluate"]["--all"] = ()
    if shell == "bash":
        first, second = " ".join(_first(commands)), " ".join(_second(commands))
        values = [f'    {shlex.quote(f"{name} {flag}")}) words="{" ".join(v)}" ;;' for name, flag, v in _values(known)]
        options = [f'      {shlex.quote(name)}) words="{" ".join(flags)}" ;;' for name, flags in known.items()]
        script = _BASH
    else:
        first, second = (
            " ".join(shlex.quote(f"{name}:{summary}") for name, summary in found.items())
            for found in (_first(commands), _second(commands))
        )
        values = [f"  {shlex.quote(f'{name} {flag}')}) found=({' '.join(v)}) ;;" for name, flag, v in _values(known)]
        options = [f"    {shlex.quote(name)}) found=({' '.join(flags)}) ;;" for name, flags in known.items()]
        script = _ZSH
    return script.format(first=first, second=second, values="\n".join(values), options="\n".join(options))


def _first(commands: Mapping[str, str]) -> dict[str, str]:
    """First words, and what they do."""
    found: dict[str, str] = {}
    for name, text in commands.items():
        word, _, rest = name.partition(" ")
        found.setdefault(word, ", ".join(_second(commands)) if rest else text)
    return found


def _second(commands: Mapping[str, str]) -> dict[str, str]:
    """What `calibrate` is followed by."""
    return {name.split()[1]: text for name, text in commands.items() if name.startswith("calibrate ")}


def _values(known: Mapping[str, Mapping[str, tuple[str, ...]]]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Commands, their options that take one of some values, and these."""
    return ((name, flag, v) for name, flags in known.items() for flag, v in flags.items() if v)


def options_of(command: str) -> dict[str, tuple[str, ...]]:
    """The options of a command, with the values that each may take where these are known."""
    import tyro

    function = getattr(importlib.import_module("motifs.commands"), command.replace(" --", "_").replace(" ", "_"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.cli(function, args=["--tyro-print-completion", "bash"], config=(tyro.conf.FlagCreatePairsOff,))
    script = printed.getvalue()
    start = script.index(_SPEC) + len(_SPEC)
    spec: dict[str, Any] = ast.literal_eval(script[start : script.index("\n", start)])
    return {flag: tuple(map(str, option.get("choices", ()))) for option in spec["options"] for flag in option["flags"]}
