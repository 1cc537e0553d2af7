"""From words on the command line to typed values, with errors that fit on a line.

argparse parses, pydantic converts and checks. Commands with fixed options describe them by a
:func:`~normfree.schema.record`; ``train`` offers every setting of a recipe.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import partial
from typing import Any, NoReturn, TypeVar
from typing import get_type_hints as hints_of

from normfree.cli.arguments import Option, add_argument, joined, place
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
    given = parse_options(options_of(kind), words, prog=prog, description=kind.__doc__ or "")
    try:
        return kind(**given)
    except UserError as error:
        raise UsageError(f"{error} (see {prog} --help)") from None


def parse_options(
    options: Iterable[Option],
    words: Sequence[str],
    *,
    prog: str,
    description: str,
    short: str | None = None,
) -> dict[str, Any]:
    """The values that were typed, by name; what was not typed is absent.

    Args:
        options: all that may be typed.
        words: what was.
        prog: the command, for the help text.
        description: of the command, for the help text.
        short: the group that ``--help`` shows, and ``--help-all`` the others too; None shows all.

    Raises:
        UsageError: see :func:`parse`.
    """
    options = list(options)
    make = partial(_parser, prog=prog, description=description)
    parser = make(options)
    if short is None:
        parser.add_argument("-h", "--help", action="help", help="Show this help.")
    else:
        brief = make([option for option in options if option.group == short])
        brief.epilog = _overview(options, short)
        parser.add_argument("-h", "--help", action=_ShortHelp, brief=brief)
        parser.add_argument("--help-all", action="help")
    given, unknown = parser.parse_known_args(list(words))
    if unknown:
        raise UsageError(_about(unknown, [option.flag for option in options], prog))
    by_name = {option.name: option for option in options}
    return {name: joined(by_name[name], value) for name, value in vars(given).items()}


def _parser(options: Sequence[Option], *, prog: str, description: str) -> _Parser:
    """Argparse's parser, with the options in their groups."""
    parser = _Parser(
        prog=prog,
        usage=" ".join(filter(None, [prog, *map(place, options), "[options]"])),
        description=description,
        allow_abbrev=False,
        add_help=False,
        formatter_class=_Formatter,
        argument_default=argparse.SUPPRESS,
    )
    groups: dict[str, Any] = {"options": parser}
    for option in options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        add_argument(groups[option.group], option)
    return parser


def _overview(options: Sequence[Option], short: str) -> str:
    """What ``--help-all`` adds: the headings, and how many options are under each."""
    counts = Counter(option.group for option in options if option.group != short)
    said = ", ".join(f"{group} ({count})" for group, count in counts.items())
    return textwrap.fill(f"--help-all shows {counts.total()} more: {said}.", _columns())


def _columns() -> int:
    """As wide as the terminal, but no wider than a line is easily read."""
    return min(shutil.get_terminal_size().columns, 100) - 2


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """argparse's layout, within these columns."""

    def __init__(self, prog: str, **_: Any) -> None:
        super().__init__(prog, width=_columns())


class _ShortHelp(argparse.Action):
    """Show the help text of another parser, which has fewer options."""

    def __init__(self, brief: _Parser, **settings: Any) -> None:
        super().__init__(nargs=0, **settings)
        self.brief = brief

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Show it and exit."""
        self.brief.print_help()
        parser.exit()


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


def options_of(kind: Any) -> list[Option]:
    """The fields of a record as options."""
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


def _about(unknown: Sequence[str], flags: Sequence[str], prog: str) -> str:
    word = next((word for word in unknown if word.startswith("-")), None)
    if word is None:
        return f"unexpected argument {unknown[0]!r} (see {prog} --help)"
    word = word.partition("=")[0]
    if word in SYNONYMS:
        return f"unknown option {word!r}; here it is {SYNONYMS[word]} (see {prog} --help)"
    return f"{unknown_name('option', word, ['--help', '--debug', *flags])} (see {prog} --help)"
