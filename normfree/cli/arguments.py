"""An option of a command, as argparse takes it: pydantic converts and checks the words."""

from __future__ import annotations

import argparse
import types
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a command.

    Attributes:
        name: of the value.
        annotation: type of the value.
        help: what it does.
        default: what it is if it is not given, for the help text; MISSING if it must be given.
        group: heading that it stands under.
        positional: whether it is given by its place.
    """

    name: str
    annotation: Any
    help: str
    default: Any = MISSING
    group: str = "options"
    positional: bool = False

    @property
    def flag(self) -> str:
        """As it is typed."""
        return "--" + self.name.replace("_", "-")


def place(option: Option) -> str:
    """A positional as the usage line shows it."""
    if not option.positional:
        return ""
    several = "..." if _items(option.annotation) is not None else ""
    return option.name.upper() + several


def add_argument(parser: Any, option: Option) -> Any:
    """Tell argparse about an option; returns its action."""
    text = " ".join(option.help.split()).replace("%", "%%")
    if not option.positional and (default := _shown(option.default)):
        text += f" (default: {default})".replace("%", "%%")
    if _is_bool(option.annotation):
        action = argparse.BooleanOptionalAction if option.default is not False else "store_true"
        return parser.add_argument(option.flag, dest=option.name, action=action, help=text)
    several = _items(option.annotation) is not None
    settings: dict[str, Any] = {
        "type": _converter(option.annotation),
        "metavar": _metavar(option),
        "help": text,
    }
    if several:
        settings["nargs"] = "*"
    elif option.positional and option.default is not MISSING:
        settings["nargs"] = "?"
    if option.positional:
        return parser.add_argument(option.name, **settings)
    required = option.default is MISSING
    return parser.add_argument(option.flag, dest=option.name, required=required, **settings)


def _converter(annotation: Any) -> Any:
    """From a word to a value, for argparse."""
    item = _items(annotation)
    if item is _PAIR:
        return _pair
    adapter: TypeAdapter[Any] = TypeAdapter(annotation if item is None else item)
    optional = type(None) in _parts(annotation)

    def convert(word: str) -> Any:
        if optional and word in ("None", "none"):
            return None
        if not word:
            raise argparse.ArgumentTypeError("it is empty")
        try:
            return adapter.validate_strings(word)
        except ValidationError as error:
            wanted = dict.fromkeys(
                str(found["msg"]).removeprefix("Input ") for found in error.errors()
            )
            raise argparse.ArgumentTypeError(f"{'; or '.join(wanted)}; got {word!r}") from None

    return convert


def joined(option: Option, value: Any) -> Any:
    """Several words as the one value that they make."""
    if _items(option.annotation) is _PAIR:
        return dict(value)
    if isinstance(value, list):
        return None if value == [None] else tuple(value)
    return value


def _pair(word: str) -> tuple[str, Any]:
    """``field=value``, the value in YAML."""
    field, equals, value = word.partition("=")
    try:
        if equals and field:
            return field, yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError, ValueError):
        pass
    raise argparse.ArgumentTypeError(
        f"{word!r} is not field=value in YAML, such as stem_stride=1 or widths=[16,32,64,64]"
    )


_PAIR = object()


def _items(annotation: Any) -> Any:
    """The type of one of several values; None where there is only one."""
    for part in _parts(annotation):
        if get_origin(part) is tuple:
            return get_args(part)[0]
        if get_origin(part) is dict:
            return _PAIR
    return None


def _parts(annotation: Any) -> list[Any]:
    """The types of a union, without what annotates them."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for inner in get_args(annotation) for part in _parts(inner)]
    return [annotation]


def literals(annotation: Any) -> list[Any]:
    """The values that a type lists.

    >>> literals(Literal["a", "b"] | None)
    ['a', 'b']
    """
    literal = [part for part in _parts(annotation) if get_origin(part) is Literal]
    return [word for part in literal for word in get_args(part)]


def _is_bool(annotation: Any) -> bool:
    return _parts(annotation) == [bool]


def _metavar(option: Option) -> str:
    """The placeholder of the value in the help text."""
    if option.positional:
        return option.name.upper()
    words = literals(option.annotation)
    kinds = {int: "N", float: "X", Path: "PATH", str: "NAME"}
    item = _items(option.annotation)
    names = [kinds[part] for part in _parts(item or option.annotation) if part in kinds]
    if item is _PAIR:
        names = ["FIELD=VALUE"]
    if words and not names:
        return "{" + ",".join(words) + "}"
    return "|".join(dict.fromkeys([*names, *words])) or "VALUE"


def _shown(value: Any) -> str:
    """A default as it would be typed; nothing where leaving out the flag says it all."""
    if value is MISSING or value is None or value is False or value in ((), {}):
        return ""
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
