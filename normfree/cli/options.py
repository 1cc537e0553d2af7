"""From words on the command line to a typed value, with errors that fit on a line."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import fields
from typing import Any, TypeVar

import tyro

from normfree.errors import UserError, unknown_name

Options = TypeVar("Options")

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


class UsageError(UserError):
    """A command line that cannot be understood."""


def parse(
    kind: type[Options],
    words: Sequence[str],
    *,
    prog: str,
    default: Any = None,
    description: str | None = None,
) -> Options:
    """Fill a dataclass from the command line.

    Args:
        kind: a dataclass; its fields are the options.
        words: what was typed after the command.
        prog: the command, for the help text.
        default: values for what is not given; None takes the dataclass's.
        description: first lines of the help text; None takes the dataclass's docstring.

    Raises:
        UsageError: an option does not exist (the message has the nearest), or a value is of the
            wrong kind or missing.
    """
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            options, unknown = tyro.cli(
                kind,
                args=list(words),
                prog=prog,
                description=description,
                default=tyro.MISSING_NONPROP if default is None else default,
                return_unknown_args=True,
            )
    except SystemExit as end:
        if not end.code:  # --help
            raise
        reason = _first_part(printed.getvalue()).removeprefix(f"Error parsing {kind.__name__}: ")
        raise UsageError(f"{reason.rstrip('.')} (see {prog} --help)") from None
    if unknown:
        raise UsageError(_about(unknown, kind, prog))
    return options


def _about(unknown: Sequence[str], kind: Any, prog: str) -> str:
    option = next((word for word in unknown if word.startswith("-")), None)
    if option is None:
        return f"unexpected argument {unknown[0]!r} (see {prog} --help)"
    option = option.partition("=")[0]
    if option in SYNONYMS:
        return f"unknown option {option!r}; here it is {SYNONYMS[option]} (see {prog} --help)"
    known = ["--help", "--debug", *("--" + f.name.replace("_", "-") for f in fields(kind))]
    return f"{unknown_name('option', option, known)} (see {prog} --help)"


def _first_part(box: str) -> str:
    """What tyro prints in a box, up to its first rule, as one line."""
    words: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip(" │╭╮╰╯")
        if not text.strip("─"):
            break
        words.extend(text.split())
    return " ".join(words)
