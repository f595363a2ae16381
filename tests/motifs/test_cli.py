from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from motifs import cli, commands
from motifs.completion import completion_script

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_of_contents_lists_every_command_in_running_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 0
    printed = capsys.readouterr().out
    places = [printed.index(f"  {name} ") for name in cli.COMMANDS]
    assert places == sorted(places)


def test_help_needs_no_heavy_library() -> None:
    program = (
        "import sys\n"
        "for name in ('numpy', 'torch', 'cv2', 'av', 'scipy'): sys.modules[name] = None\n"
        "from motifs.cli import run\nraise SystemExit(run(['--help']))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    assert "calibrate rig" in answer.stdout


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*command.split(), "--help"]) == 0
    printed = capsys.readouterr().out
    assert f"usage: motifs {command}" in printed
    function = getattr(commands, command.replace(" --", "_").replace(" ", "_"))
    assert function.__doc__.splitlines()[0][:30] in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean `motifs train`?"),
        (["calibrate"], "takes one of: lens, rig, markers, scene, feet"),
        (["xyzzy"], "`motifs --help` lists the commands"),
    ],
)
def test_an_unknown_command_points_at_the_near_one(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_option_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sync", "somewhere", "--methodd", "qr"]) == 2
    assert "--method" in capsys.readouterr().err


def test_a_run_of_nothing_is_refused_dry_too(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["run"], ["run", "--dry-run"]):
        assert cli.run(arguments) == 1
        assert "SESSIONS: none was named" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["sync", "detect", "calibrate lens", "triangulate", "fit", "run", "status", "report"]
)
def test_a_session_that_does_not_exist_is_one_line_and_status_1(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*command.split(), str(tmp_path / "nowhere")]) == 1
    error = capsys.readouterr().err.strip()
    assert "there is no such session folder" in error
    assert "Next:" in error
    assert "Traceback" not in error
    assert not (tmp_path / "nowhere").exists()


def test_bash_completes_commands_options_and_values(tmp_path: Path) -> None:
    script = tmp_path / "completion.sh"
    script.write_text(completion_script(cli.COMMANDS, "bash"))

    def completed(*words: str) -> list[str]:
        line = " ".join(f'"{word}"' for word in ("motifs", *words))
        ask = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _motifs; "
        ask += 'printf "%s\\n" "${COMPREPLY[@]}"'
        return subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout.splitlines()

    assert completed("cal") == ["calibrate"]
    assert completed("calibrate", "") == ["lens", "rig", "markers", "scene", "feet"]
    assert completed("run", "S", "--sched") == ["--scheduler"]
    assert completed("calibrate", "rig", "S", "--met") == ["--method"]
    assert completed("train", "D", "--recipe", "cp") == ["cpu_10min"]
    assert completed("evaluate", "--al") == ["--all"]
    assert completed("evaluate", "--all", "D", "--prot") == ["--protocols"]
    assert completed("view", "out/de") == [""]  # nothing of its own: bash then looks for files
    shown = subprocess.run(
        ["bash", "-c", f"source {script}; complete -p motifs"], capture_output=True, text=True, check=True
    )
    assert "-o default" in shown.stdout


@pytest.mark.parametrize(
    ("call", "near"),
    [
        ("fit --rdeo S", "--redo"),
        ("view --motfs m S", "--motifs"),
        ("train amd --recpie cpu_10min --out x", "--recipe"),
        ("run S --sheduler=tcp://a:1", "--scheduler"),
        ("calibrate lens S --lenses-form f", "--lenses-from"),
    ],
)
def test_an_unknown_option_points_at_the_near_one_wherever_it_stands(
    call: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(call.split()) == 2
    assert f"did you mean {near}?" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_completes_too(tmp_path: Path) -> None:
    script = tmp_path / "_motifs"
    script.write_text(completion_script(cli.COMMANDS, "zsh"))
    press = (
        "zmodload zsh/zpty; zpty shell zsh -f -i; "
        f"zpty -w shell 'fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u -D; PS1=; cd {ROOT}'; sleep 1; "
        "zpty -w -n shell $'motifs train D --recipe cp\t\n'; sleep 1; zpty -w -n shell $'motifs view CHANGEL\t\n'; "
        "sleep 1; while zpty -r -t shell line; do print -r -- $line; done; zpty -d shell"
    )
    shown = subprocess.run(["zsh", "-f", "-c", press], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "cpu_10min" in shown and "CHANGELOG.md" in shown
