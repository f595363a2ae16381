"""The `motifs` command.

Each subcommand is one function of `motifs.commands`, whose signature makes its options. A subcommand imports only what
it needs, so `motifs --help` answers at once. Exit status: 0 done, 1 the work failed (the reason and the next action on
standard error), 2 the call was wrong.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from core.errors import MotifsError

# In running order; the order of `motifs --help`.
COMMANDS: dict[str, str] = {
    "demo": "simulate a session, take it all the way to a trained A4Mer, and compare with the truth",
    "simulate": "render a synthetic session with exact truth",
    "prepare": "boards and markers as PDF at their true size, and the clock to show to the cameras",
    "ingest": "make a session from videos, pictures or keypoint files, or another tool's project",
    "sync": "put every camera on one clock",
    "detect": "find keypoints, boards and markers in the videos",
    "calibrate lens": "solve each camera's lens from pictures of a board",
    "calibrate rig": "place the room cameras",
    "calibrate markers": "place boards and markers, those too that only photographs show",
    "calibrate scene": "map the room from a walk-through, for foot cameras that see no markers",
    "calibrate feet": "follow the foot cameras through the room",
    "triangulate": "lift the keypoints to 3D",
    "fit": "fit SMPL to the whole sequence",
    "run": "all annotation stages of sessions, from sync to fit, on this machine or a cluster",
    "build": "make AMD shards from fitted sessions and motion files of other projects",
    "stitch": "make long sessions with known boundaries from the labelled clips of a dataset",
    "verify": "check every clip of a dataset against its checksum",
    "export": "write clips or cameras in the formats of other tools",
    "train": "train A4Mer on a dataset",
    "evaluate": "measure a trained model beside simple references",
    "evaluate --all": "compare A4Mer, MAMP, GL-Transformer, motion codes and simple references on people left out",
    "discover": "find the atoms and motifs of a dataset",
    "shape": "one body shape for a person, from their fitted sessions and from scans",
    "view": "a page in the browser: room, cameras and pictures, the body along time, motifs",
    "film": "a finished fit as videos with the body over every picture, and as GLB",
    "report": "one HTML page about a session or a dataset: health, pictures, figures, motifs",
    "status": "where sessions stand, and what to do next",
    "completion": "a script that completes commands and options in your shell",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `motifs` command; ends the process with the exit status."""
    try:
        status = run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(table_of_contents())
        return 0
    if arguments[0] == "--version":
        from core.versions import code_version

        print(f"action-motifs {code_version()}")
        return 0
    command = next((c for n in (2, 1) if (c := " ".join(arguments[:n])) in COMMANDS), None)
    if command is None:
        print(_unknown(arguments), file=sys.stderr)
        return 2
    return _call(command, arguments[len(command.split()) :])


def table_of_contents() -> str:
    """The commands in running order."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: motifs COMMAND [options]",
            "",
            "From raw multi-view recordings to a trained model of human movement.",
            "",
            *rows,
            "",
            "`motifs COMMAND --help` lists a command's options; `motifs status SESSION` tells what to do next.",
        ]
    )


def _unknown(arguments: list[str]) -> str:
    """What to say about a command that does not exist."""
    asked = arguments[0]
    group = [name for name in COMMANDS if name.startswith(f"{asked} ")]
    if group:
        return f"motifs: `{asked}` takes one of: {', '.join(name.split()[1] for name in group)}"
    near = difflib.get_close_matches(asked, [*COMMANDS, *(name.split()[0] for name in COMMANDS)], n=1, cutoff=0.5)
    hint = f"did you mean `motifs {near[0]}`?" if near else "`motifs --help` lists the commands."
    return f"motifs: there is no command `{asked}`; {hint}"


def _call(command: str, arguments: list[str]) -> int:
    """Parses a subcommand's options and runs it."""
    import tyro

    function = getattr(importlib.import_module("motifs.commands"), command.replace(" --", "_").replace(" ", "_"))
    try:
        tyro.cli(function, prog=f"motifs {command}", args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
    except MotifsError as error:
        print(f"motifs {command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a read-only folder: the user's to mend, no defect of the program
        print(f"motifs {command}: {error}. Next: check the disk and the folder's permissions", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"motifs {command}: stopped; run it again to go on where it was", file=sys.stderr)
        return 130
    except SystemExit as exit_:
        if exit_.code == 2:
            print("".join(f"{line}\n" for line in _near_options(command, arguments)), end="", file=sys.stderr)
        return exit_.code if isinstance(exit_.code, int) else 2
    return 0


def _near_options(command: str, arguments: Sequence[str]) -> list[str]:
    """What to say about options that the command does not have; the parser may have stumbled over something else."""
    from motifs.completion import options_of

    known = options_of(command)
    asked = [word.split("=")[0] for word in arguments if word.startswith("--") and len(word) > 2]
    found = {word: difflib.get_close_matches(word, known, n=1) for word in asked if word not in known}
    return [
        f"motifs {command}: there is no option {word}; did you mean {near[0]}?" for word, near in found.items() if near
    ]
