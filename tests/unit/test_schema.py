from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest

from normfree.errors import UserError
from normfree.schema import Field, from_plain, record, to_plain


@record
class Plain:
    kind: Literal["plain"] = "plain"
    lr: float = Field(default=0.1, gt=0)
    """Peak."""
    spelling = staticmethod(lambda name: f"--{name}")


@record
class Pair:
    kind: Literal["pair"] = "pair"
    betas: tuple[float, float] = (0.9, 0.999)


@record
class Whole:
    name: str
    part: Plain | Pair = Field(default=Plain(), discriminator="kind")
    sizes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.name == "taken":
            raise UserError("that name is taken")


@pytest.mark.parametrize(
    "whole", [Whole(name="a"), Whole(name="a", part=Pair(betas=(0.5, 0.6)), sizes=(1, 2))]
)
def test_plain_values_and_back(whole: Whole) -> None:
    assert from_plain(Whole, to_plain(whole)) == whole


def test_replace_validates_again() -> None:
    assert dataclasses.replace(Plain(), lr=2).lr == 2
    with pytest.raises(UserError, match="--lr should be greater than 0; got -1"):
        dataclasses.replace(Plain(), lr=-1)


def test_a_docstring_describes_a_field() -> None:
    assert Plain.__pydantic_fields__["lr"].description == "Peak."  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": 3}, "name should be a valid string; got 3"),
        ({"name": "taken"}, "that name is taken"),
        ({"nam": "a"}, "unknown setting 'nam'; did you mean name?"),
        ({}, "name is missing"),
        ({"name": "a", "part": {"kind": "plain", "lr": -3}}, "--lr should be greater than 0"),
        ({"name": "a", "part": {"kind": "plain", "lr": "x"}}, "--lr should be a valid number"),
        ({"name": "a", "part": {"kind": "pair", "betas": [1, 2, 3]}}, "betas .* got"),
        ({"name": "a", "part": {"kind": "none"}}, "part tag 'none'"),
        ({"name": "a", "sizes": [1, True]}, "sizes should be a valid integer; got True"),
        ({"name": "a", "sizes": float("nan")}, "sizes"),
        ([1], "Whole should be an object"),
        ("text", "Whole should be an object"),
        ({"name": {3: 4}}, "name should be a valid string"),
        ({"name": b"bytes"}, "do not describe a Whole: .* bytes"),
    ],
)
def test_what_is_wrong_is_said_on_one_line(values: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        from_plain(Whole, values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), True, "3", None], ids=["nan", "inf", "bool", "text", "no"]
)
def test_nothing_is_coerced(value: Any) -> None:
    with pytest.raises(UserError, match="--lr should be"):
        Plain(lr=value)


def test_long_and_deep_values_are_shortened_and_bounded() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("x" * 10**6, ["x"] * 10**5, deep):
        with pytest.raises(UserError) as caught:
            from_plain(Whole, {"name": "a", "sizes": value})
        assert len(str(caught.value)) < 400


def test_many_findings_are_counted() -> None:
    with pytest.raises(UserError, match=r"; and 2 more$"):
        from_plain(Whole, {"name": "a", "sizes": [1.5, "a", None, True, {}]} | {"b": 1})
