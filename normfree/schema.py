"""Typed records: frozen, validated on creation, and convertible to and from plain values.

Recipes, network configurations and model cards are records. pydantic validates them, and its
errors are turned into one-line messages.
"""

from __future__ import annotations

import functools
import json
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, dataclass_transform, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass, is_pydantic_dataclass

from normfree.errors import UserError, unknown_name

__all__ = ["Field", "from_plain", "record", "to_plain"]

T = TypeVar("T")

_FINDINGS = 20  # a hostile file may cause thousands; only this many are formatted

_ABSENT = ("missing", "missing_keyword_only_argument", "unexpected_keyword_argument")

_CONFIG = ConfigDict(
    strict=True,
    extra="forbid",
    allow_inf_nan=False,
    use_attribute_docstrings=True,
    validate_default=False,
)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
def record(cls: type[T]) -> type[T]:
    """Turn a class into a frozen, keyword-only dataclass whose fields are validated.

    ``dataclasses.replace``, ``fields`` and ``asdict`` work as for any dataclass. Numbers must be
    finite, and nothing is coerced: ``"3"`` is not 3. A docstring under a field describes it. A
    class attribute ``spelling``, a function of the field name, gives the name that messages use,
    such as ``--batch-size``.

    Raises (when an instance is created):
        UserError: a field is invalid; the message lists what was expected and what was found.

    >>> @record
    ... class Crop:
    ...     size: int = Field(gt=0)
    >>> Crop(size=0)
    Traceback (most recent call last):
    normfree.errors.UserError: size should be greater than 0; got 0
    """
    made: Any = dataclass(frozen=True, kw_only=True, config=_CONFIG)(cls)
    validate = made.__init__

    @functools.wraps(validate)
    def init(self: Any, **values: Any) -> None:
        try:
            validate(self, **values)
        except ValidationError as error:
            raise UserError(explain(error, made)) from None

    made.__init__ = init
    return made


def from_plain(kind: type[T], values: object) -> T:
    """Create a record from plain values, as in YAML and JSON.

    Args:
        kind: a class decorated with :func:`record`.
        values: a dictionary, with lists for tuples and dictionaries for records.

    Raises:
        UserError: a value is missing, unknown or invalid.

    >>> @record
    ... class Crop:
    ...     sizes: tuple[int, ...]
    >>> from_plain(Crop, {"sizes": [1, 2]})
    Crop(sizes=(1, 2))
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values))
    except ValidationError as error:
        raise UserError(explain(error, kind)) from None
    except (RecursionError, ValueError, TypeError) as error:
        raise UserError(f"these values do not describe a {kind.__name__}: {error}") from None


def to_plain(value: Any) -> dict[str, Any]:
    """The inverse of :func:`from_plain`."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def explain(error: ValidationError, kind: Any, most: int = 3) -> str:
    """A validation error as one line: ``--lr should be greater than 0; got -1``.

    Args:
        error: pydantic's error.
        kind: the record class.
        most: largest number of findings to list.
    """
    found = error.errors(include_url=False)
    # A field missing in one variant of a union is irrelevant if another variant has a bad value.
    found = [item for item in found if item["type"] not in _ABSENT] or found
    said = list(dict.fromkeys(_sentence(item, kind) for item in found[:_FINDINGS]))
    more = f"; and {len(said) - most} more" if len(said) > most else ""
    return "; ".join(said[:most]) + more


def _sentence(item: Mapping[str, Any], kind: Any) -> str:
    if item["type"] == "value_error":  # raised by the record itself
        return str(item["ctx"]["error"])
    owner, name = _owner(kind, item["loc"])
    spelling: Callable[[str], str] = getattr(owner, "spelling", str)
    called = spelling(name) if name else getattr(owner, "__name__", "the value")
    match item["type"]:
        case "missing" | "missing_keyword_only_argument":
            return f"{called} is missing"
        case "unexpected_keyword_argument":
            known = getattr(owner, "__dataclass_fields__", {})
            return str(unknown_name("setting", str(item["loc"][-1]), known))
    _, should, wanted = str(item["msg"]).removeprefix("Input ").rpartition("should ")
    wanted = should + wanted
    return f"{called} {wanted}; got {_short(item['input'])}"


def _owner(kind: Any, loc: tuple[int | str, ...]) -> tuple[Any, str]:
    """The record class in which an error occurred, and the name of the field."""
    owner, name, inside = kind, "", [kind]
    for place in loc:
        # The tag of a union selects one of its records.
        inside = [candidate for candidate in inside if _is_tagged(candidate, place)] or inside
        for candidate in inside:
            if place in candidate.__pydantic_fields__:
                owner, name = candidate, str(place)
                inside = list(_records(candidate.__pydantic_fields__[place].annotation))
                break
    return owner, name


def _is_tagged(kind: Any, tag: int | str) -> bool:
    return any(tag in get_args(field.annotation) for field in kind.__pydantic_fields__.values())


def _records(annotation: Any) -> Iterator[Any]:
    """The record classes in an annotation, including those in unions."""
    if is_pydantic_dataclass(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from _records(part)


def _short(value: object) -> str:
    """A value for use in a message, abbreviated to one line."""
    return reprlib.repr(value)
