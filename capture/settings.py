"""Values of settings that no computation can use, refused by the option's name."""

from __future__ import annotations

from core.errors import InputError


def refuse_setting(name: str, value: object, holds: bool, wanted: str) -> None:
    """Refuses one setting unless it holds.

    Args:
        name: the field of the configuration.
        value: its value.
        holds: whether it can be used; false for NaN as comparisons are.
        wanted: what it has to be, in words.

    Raises:
        InputError: if it does not hold.
    """
    if not holds:
        raise InputError(f"--{name.replace('_', '-')}", f"it is {value}", f"give {wanted}")
