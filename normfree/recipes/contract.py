"""What a recipe promises: the header of its file, read as a table, or built with its family."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

Status = Literal["measured", "paper", "unmeasured"]

_LINE = re.compile(
    r"^(Command|Hardware|Time|Expected|Source|Status|Result): +(\S.*)$", re.MULTILINE
)


@dataclass(frozen=True)
class Contract:
    """What a recipe promises.

    Attributes:
        title: what is trained on what.
        command: how to run it.
        hardware: on what the time holds.
        time: from start to end, or of a step where it says so.
        expected: the metric it reaches.
        source: the row of the paper it is, or why it is none; what is assumed where the paper is
            silent.
        status: ``measured`` here; said by the ``paper`` only; or ``unmeasured``.
        result: the stored result of what was measured, a file of the repository; empty otherwise.
    """

    title: str
    command: str
    hardware: str
    time: str
    expected: str
    source: str
    status: Status
    result: str = ""


def parse_contract(header: str) -> Contract:
    """Read the header of a recipe's file.

    Args:
        header: the docstring of the module.

    Raises:
        ValueError: a line is missing, there is no such status, or it is ``measured`` and a line is
            left open or points to no result.
    """
    header = header.replace("``", "`")
    lines = {name.lower(): value.strip() for name, value in _LINE.findall(header)}
    missing = [n for n in Contract.__dataclass_fields__ if n not in ("title", "result", *lines)]
    if missing:
        raise ValueError(f"the header of a recipe lacks {', '.join(missing)}")
    if lines["status"] not in get_args(Status):
        raise ValueError(f"a recipe's status is one of {get_args(Status)}, not {lines['status']!r}")
    if (lines["status"] == "measured") != ("result" in lines):
        raise ValueError("a measured recipe has a line 'Result' that says where, and no other has")
    vague = [n for n, value in lines.items() if "@@" in value or "varies" in value]
    if lines["status"] == "measured" and vague:
        raise ValueError(f"a measured recipe says what was measured, also as {', '.join(vague)}")
    status = cast(Status, lines.pop("status"))
    return Contract(title=header.strip().splitlines()[0], status=status, **lines)


def paper_contract(
    name: str,
    title: str,
    *,
    expected: str,
    source: str,
    arguments: str = "--data folder:DIR",
    hardware: str = "TPUs",
    time: str = "not known",
) -> Contract:
    """What the paper says of one of its rows; nothing of it was measured here.

    Args:
        name: of the recipe.
        title: what is trained on what, a sentence.
        expected: what the paper prints, or where it draws it.
        source: table or figure, and row.
        arguments: what has to be typed after the name.
        hardware: on what the time holds.
        time: what the paper prints.

    >>> contract = paper_contract("x", "F0 on ImageNet.", expected="83.6 %", source="table 3")
    >>> contract.command, contract.status
    ('normfree train x --data folder:DIR', 'paper')
    """
    return Contract(
        title=title,
        command=f"normfree train {name} {arguments}",
        hardware=hardware,
        time=time,
        expected=expected,
        source=source,
        status="paper",
    )
