"""What a recipe promises: the header of its file, read as a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

Status = Literal["measured", "paper"]

_LINE = re.compile(r"^(Command|Hardware|Time|Expected|Source|Status): +(\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Contract:
    """The header of a recipe's file.

    Attributes:
        title: what is trained on what.
        command: how to run it.
        hardware: on what the time holds.
        time: from start to end.
        expected: the metric it reaches.
        source: the row of the paper it is, or why it is none.
        status: ``measured`` here, or said by the ``paper`` (or hoped for) only.
    """

    title: str
    command: str
    hardware: str
    time: str
    expected: str
    source: str
    status: Status


def parse_contract(header: str) -> Contract:
    """Read the header of a recipe's file.

    Args:
        header: the docstring of the module.

    Raises:
        ValueError: a line is missing, or the status is neither ``measured`` nor ``paper``,
            or it is ``measured`` and a line is left open.
    """
    lines = {name.lower(): value.strip() for name, value in _LINE.findall(header)}
    missing = [n for n in Contract.__dataclass_fields__ if n != "title" and n not in lines]
    if missing:
        raise ValueError(f"the header of a recipe lacks {', '.join(missing)}")
    if lines["status"] not in ("measured", "paper"):
        raise ValueError(f"a recipe's status is 'measured' or 'paper', not {lines['status']!r}")
    vague = [n for n, value in lines.items() if "@@" in value or "varies" in value]
    if lines["status"] == "measured" and vague:
        raise ValueError(f"a measured recipe says what was measured, also as {', '.join(vague)}")
    status = cast(Status, lines.pop("status"))
    return Contract(title=header.strip().splitlines()[0], status=status, **lines)
