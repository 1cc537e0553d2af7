"""Whether the fields of a configuration are what their annotations say: YAML and JSON bring all."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_args, get_origin, get_type_hints

from normfree.errors import UserError

_WORDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a word"}


def check_types(config: Any) -> None:
    """Compare each field of a dataclass with its annotation.

    Args:
        config: its fields are numbers, words, or tuples of them.

    Raises:
        UserError: a field is of another kind.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        several = get_origin(hint) is tuple
        kind = _scalar(get_args(hint)[0] if several else hint)
        if several and isinstance(value, tuple) and all(_is(kind, item) for item in value):
            continue
        if several or not _is(kind, value):
            wanted = f"a list, each {_WORDS[kind]}" if several else _WORDS[kind]
            raise UserError(f"{field.name} must be {wanted}; got {value!r}")


def _scalar(hint: Any) -> type:
    """A choice of words is a word; which, the configuration itself checks."""
    return hint if hint in _WORDS else str


def _is(kind: type, value: object) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, kind)
