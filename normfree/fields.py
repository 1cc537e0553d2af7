"""Whether the fields of a dataclass are what their annotations say: YAML and JSON bring all."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from normfree.errors import UserError

_WORDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a word",
    Path: "a path",
    NoneType: "None",
}


def check_types(config: Any, called: Callable[[str], str] = str) -> None:
    """Compare each field of a dataclass with its annotation.

    Args:
        config: its fields are numbers, words, paths, tuples of them, or None.
        called: from the name of a field to what a person knows it by.

    Raises:
        UserError: a field is of another kind, or a word that is no choice.
    """
    kind: Any = type(config)
    for name, hint in _hints(kind).items():
        value = getattr(config, name)
        if not _fits(hint, value):
            raise UserError(f"{called(name)} must be {_wanted(hint)}; got {value!r}")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _fits(hint: Any, value: object) -> bool:
    match get_origin(hint):
        case origin if origin in (Union, UnionType):
            return any(_fits(choice, value) for choice in get_args(hint))
        case origin if origin is Literal:
            return isinstance(value, str) and value in get_args(hint)
        case origin if origin is tuple:
            kind = get_args(hint)[0]
            return isinstance(value, tuple) and all(_fits(kind, item) for item in value)
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, hint)


def _wanted(hint: Any) -> str:
    """The annotation in words.

    >>> _wanted(float | Literal["auto"] | None), _wanted(tuple[int, ...])
    ("a finite number or 'auto' or None", 'a list, each a whole number')
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(_wanted, inner))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    return f"a list, each {_wanted(inner[0])}" if origin is tuple else _WORDS[hint]
