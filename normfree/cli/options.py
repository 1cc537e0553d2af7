"""From words on the command line to typed values, with errors that fit on a line.

argparse parses, pydantic converts and checks. Commands with fixed options describe them by a
:func:`~normfree.schema.record`; ``train`` offers every setting of a recipe.
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as hints_of

import yaml
from pydantic import TypeAdapter, ValidationError

from normfree.errors import UsageError, UserError, unknown_name

T = TypeVar("T")

#: What other programs call some options, and what they are called here.
SYNONYMS = {
    "--learning-rate": "--lr",
    "--wd": "--weight-decay",
    "--dropout": "--drop-rate",
    "--drop-path": "--stochastic-depth-rate",
    "--lr-schedule": "--schedule",
    "--bs": "--batch-size",
    "--checkpoint": "--init, to start from weights, or --resume",
}


@dataclass(frozen=True)
class Positional:
    """Annotates a field: it is given by its place, not by a flag."""


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


def parse(kind: type[T], words: Sequence[str], *, prog: str) -> T:
    """Fill a record from the command line; its docstrings are the help text.

    Args:
        kind: a record; its fields are the options.
        words: what was typed after the command.
        prog: the command, for the help text.

    Raises:
        UsageError: an option does not exist (the message has the nearest), or a value is of the
            wrong kind or missing.
    """
    given = parse_options(_options(kind), words, prog=prog, description=kind.__doc__ or "")
    try:
        return kind(**given)
    except UserError as error:
        raise UsageError(f"{error} (see {prog} --help)") from None


def parse_options(
    options: Iterable[Option], words: Sequence[str], *, prog: str, description: str
) -> dict[str, Any]:
    """The values that were typed, by name; what was not typed is absent.

    Raises:
        UsageError: see :func:`parse`.
    """
    options = list(options)
    parser = _Parser(
        prog=prog,
        usage=" ".join(filter(None, [prog, *map(_place, options), "[options]"])),
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    groups: dict[str, Any] = {"options": parser}
    for option in options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        _add(groups[option.group], option)
    given, unknown = parser.parse_known_args(list(words))
    if unknown:
        raise UsageError(_about(unknown, [option.flag for option in options], prog))
    by_name = {option.name: option for option in options}
    return {name: _joined(by_name[name], value) for name, value in vars(given).items()}


class _Parser(argparse.ArgumentParser):
    """argparse, with errors that are raised."""

    def print_help(self, file: Any = None) -> None:
        """Print the help text; argparse's own swallows a reader that has left."""
        stream = file or sys.stdout
        stream.write(self.format_help())
        stream.flush()

    def error(self, message: str) -> NoReturn:
        text = message.removeprefix("argument ")
        raise UsageError(f"{text} (see {self.prog} --help)")


def _place(option: Option) -> str:
    """A positional as the usage line shows it."""
    if not option.positional:
        return ""
    several = "..." if _items(option.annotation) is not None else ""
    return option.name.upper() + several


def _options(kind: Any) -> list[Option]:
    hints = hints_of(kind, include_extras=True)
    return [
        Option(
            name=field.name,
            annotation=hints[field.name],
            help=kind.__pydantic_fields__[field.name].description or "",
            default=_default_of(kind, field.name),
            positional=any(
                isinstance(extra, Positional)
                for extra in getattr(hints[field.name], "__metadata__", ())
            ),
        )
        for field in fields(kind)
    ]


def _default_of(kind: Any, name: str) -> Any:
    field = kind.__pydantic_fields__[name]
    return MISSING if field.is_required() else field.get_default(call_default_factory=True)


def _add(parser: Any, option: Option) -> None:
    """Tell argparse about an option."""
    text = " ".join(option.help.split()).replace("%", "%%")
    if option.default is not MISSING and option.default not in (None, ()) and not option.positional:
        text += f" (default: {_shown(option.default)})".replace("%", "%%")
    if _is_bool(option.annotation):
        action = argparse.BooleanOptionalAction if option.default is not False else "store_true"
        parser.add_argument(option.flag, dest=option.name, action=action, help=text)
        return
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
        parser.add_argument(option.name, **settings)
    else:
        parser.add_argument(
            option.flag, dest=option.name, required=option.default is MISSING, **settings
        )


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


def _joined(option: Option, value: Any) -> Any:
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


def _is_bool(annotation: Any) -> bool:
    return _parts(annotation) == [bool]


def _metavar(option: Option) -> str:
    """The placeholder of the value in the help text."""
    if option.positional:
        return option.name.upper()
    words = [
        word
        for part in _parts(option.annotation)
        if get_origin(part) is Literal
        for word in get_args(part)
    ]
    kinds = {int: "N", float: "X", Path: "PATH", str: "NAME"}
    item = _items(option.annotation)
    names = [kinds[part] for part in _parts(item or option.annotation) if part in kinds]
    if item is _PAIR:
        names = ["FIELD=VALUE"]
    if words and not names:
        return "{" + ",".join(words) + "}"
    return "|".join(dict.fromkeys([*names, *words])) or "VALUE"


def _shown(value: Any) -> str:
    """A default as it would be typed."""
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _about(unknown: Sequence[str], flags: Sequence[str], prog: str) -> str:
    word = next((word for word in unknown if word.startswith("-")), None)
    if word is None:
        return f"unexpected argument {unknown[0]!r} (see {prog} --help)"
    word = word.partition("=")[0]
    if word in SYNONYMS:
        return f"unknown option {word!r}; here it is {SYNONYMS[word]} (see {prog} --help)"
    return f"{unknown_name('option', word, ['--help', '--debug', *flags])} (see {prog} --help)"
