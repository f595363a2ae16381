"""Settings by name reach their place with their type, and what is none is refused by name."""

from __future__ import annotations

import pytest

from core.errors import InputError
from model.overrides import override
from model.recipes import paper


def test_settings_reach_their_place() -> None:
    changed = override(paper(), ["optim.lr=5e-4", "model.width=128", "precision=bf16", "model.decomposition=plain"])
    assert (changed.optim.lr, changed.model.width, changed.precision) == (5e-4, 128, "bf16")
    assert changed.model.decomposition == "plain" and changed.model.heads == paper().model.heads


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("optim.lr", "has no value"),
        ("optim.speed=1", "OptimConfig has no 'speed'. Next: it has lr, "),
        ("optim=1", "'optim' holds settings of its own"),
        ("seed.x=1", "'seed' is a single setting"),
        ("seed=1.5", "'1.5' is no int"),
        ("precision=half", "'half' is no choice. Next: use one of float32, bf16"),
    ],
)
def test_what_is_no_setting_is_refused(setting: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        override(paper(), [setting])
    assert setting in str(refused.value) and says in str(refused.value)
