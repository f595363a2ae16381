"""What every refusal by the command must look like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_session import content, write_session

from motifs import cli


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Two room cameras with videos and joints."""
    return write_session(tmp_path / "s")


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refused(*arguments, says=...)`: runs what must fail cleanly and change nothing; returns its message."""

    def check(*arguments: str | Path, says: str | tuple[str, ...] = ()) -> str:
        before = content(tmp_path)
        capsys.readouterr()
        assert cli.run([str(argument) for argument in arguments]) == 1
        message = capsys.readouterr().err.strip()
        assert message.startswith("motifs ") and "Next: " in message, message
        assert "\n" not in message and "Traceback" not in message
        for part in (says,) if isinstance(says, str) else says:
            assert part in message, message
        assert content(tmp_path) == before
        return message

    return check
