from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import pytest

from normfree.cli.options import Positional, parse
from normfree.errors import UsageError, UserError
from normfree.schema import record


@record
class Options:
    """Options of a command that does not exist."""

    place: Annotated[Path, Positional()]
    """Where."""
    batch_size: int = 8
    """How many."""
    kind: Literal["big", "small"] = "big"
    """Which."""

    def __post_init__(self) -> None:
        if self.batch_size < 0:
            raise UserError("--batch-size cannot be negative")


def parsed(*words: str) -> Options:
    return parse(Options, words, prog="normfree x")


def test_values_are_typed() -> None:
    options = parsed("here", "--batch-size", "16", "--kind", "small")
    assert options == Options(place=Path("here"), batch_size=16, kind="small")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--batch-sise", "3"], "unknown option '--batch-sise'; did you mean --batch-size"),
        (["a", "--batchsize=3"], "unknown option '--batchsize'; did you mean --batch-size"),
        (["a", "b"], "unexpected argument 'b'"),
        (["a", "--batch-size", "many"], "--batch-size: should be a valid integer, .*; got 'many'"),
        (["a", "--batch-size"], "--batch-size: expected one argument"),
        (["a", "--kind", "huge"], "--kind: should be 'big' or 'small'; got 'huge'"),
        (["a", "--batch-size", "-1"], "--batch-size cannot be negative"),
        (["", "--kind", "big"], "PLACE: it is empty"),
        ([], "required: PLACE"),
    ],
)
def test_what_cannot_be_understood_is_said_on_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(*words)
    text = str(caught.value)
    assert re.search(message, text)
    assert "see normfree x --help" in text
    assert "\n" not in text
    assert not set(text) & set("│─╭╰")


def test_long_messages_survive_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(UsageError, match=r"got 'huge' \(see normfree x --help\)$"):
        parsed("a", "--kind", "huge")


def test_help_ends_without_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parsed("--help")
    assert end.value.code in (0, None)
    assert "How many." in capsys.readouterr().out
