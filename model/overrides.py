"""Single settings of a recipe changed by name: `optim.lr=5e-4`, `model.width=128`, `stage1_steps=2000`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from core.errors import InputError

C = TypeVar("C")


def override(config: C, settings: Sequence[str]) -> C:
    """A config dataclass with settings `name=value` changed; dots lead into the configs within.

    Raises:
        InputError: if there is no such setting, or the value is none of its kind.
    """
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InputError(setting, "has no value", "write it as name=value")
        config = _changed(config, name.strip().split("."), text.strip(), setting)
    return config


def _changed(config: Any, path: Sequence[str], text: str, setting: str) -> Any:
    name, *rest = path
    hints = typing.get_type_hints(type(config))
    if name not in hints:
        raise InputError(setting, f"{type(config).__name__} has no {name!r}", f"it has {', '.join(hints)}")
    old = getattr(config, name)
    if dataclasses.is_dataclass(old) != bool(rest):
        problem = f"{name!r} holds settings of its own" if not rest else f"{name!r} is a single setting"
        raise InputError(setting, problem, "see `model/recipes.py` for the names")
    value = _changed(old, rest, text, setting) if rest else _parsed(hints[name], text, setting)
    return dataclasses.replace(config, **{name: value})


def _parsed(hint: Any, text: str, setting: str) -> Any:
    if typing.get_origin(hint) is typing.Literal:
        if text not in typing.get_args(hint):
            raise InputError(setting, f"{text!r} is no choice", f"use one of {', '.join(typing.get_args(hint))}")
        return text
    if hint is bool and text in ("true", "false"):
        return text == "true"
    try:
        if hint in (int, float, str):
            return hint(text)
    except ValueError:
        pass
    raise InputError(setting, f"{text!r} is no {getattr(hint, '__name__', hint)}", "give a value of that kind")
