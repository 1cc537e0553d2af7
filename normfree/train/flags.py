"""Flat names for nested settings: ``--ema-decay`` is the field ``decay`` of the component ``ema``.

Every field of every component has one flat name, its *flag*: its own name, or what
:class:`Flag` says. The command line, :meth:`Recipe.override` and the comparison of runs on resume
all go through this one table.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic.dataclasses import is_pydantic_dataclass

from normfree.errors import unknown_name
from normfree.schema import Field, record

T = TypeVar("T")

#: The field that tells the variants of a component apart: ``optimizer.kind`` is ``"sgd"``.
SELECTOR = "kind"


@dataclass(frozen=True)
class Flag:
    """Annotates a field: what its flag is called, where not like the field."""

    name: str


@dataclass(frozen=True)
class Off:
    """Annotates an optional component: the flag and the value that switch it off."""

    flag: str
    value: Any


@dataclass(frozen=True)
class Setting:
    """A field of a component.

    Attributes:
        flag: its flat name.
        path: to the component, from the recipe.
        kind: the record that has the field; one of several where the component has variants.
        field: name of the field.
        annotation: type of its values.
    """

    flag: str
    path: tuple[str, ...]
    kind: Any
    field: str
    annotation: Any

    @property
    def description(self) -> str:
        """The docstring under the field."""
        return " ".join((self.kind.__pydantic_fields__[self.field].description or "").split())


def spelling(kind: type, field: str) -> str:
    """What a person calls a field of a component: its flag, or those of the component that it is.

    >>> @component
    ... class Length:
    ...     epochs: Annotated[int, Flag("max_epochs")] = 1
    >>> spelling(Length, "epochs")
    '--max-epochs'
    """
    hint = hints(kind)[field]
    inside = [setting.flag for variant in records(hint) for setting in settings(variant)]
    return " or ".join(map(option, inside or [flag_of(hint, field)]))


def option(flag: str) -> str:
    """A flag as it is typed.

    >>> option("ema_decay")
    '--ema-decay'
    """
    return "--" + flag.replace("_", "-")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
def component(cls: type[T]) -> type[T]:
    """A :func:`~normfree.schema.record` whose errors name the options of the command line."""
    made: Any = record(cls)
    made.spelling = staticmethod(lambda field: spelling(made, field))
    return made


@cache
def settings(kind: Any) -> tuple[Setting, ...]:
    """All settings of a record and of the components in it, in their order."""
    return tuple(_settings(kind, ()))


def find(kind: Any, flag: str) -> list[Setting]:
    """The settings that have a flag: several where variants of a component share it.

    Raises:
        UserError: none has it; the message has the nearest.
    """
    found = [setting for setting in settings(kind) if setting.flag == flag]
    if not found and flag not in off_values(kind):
        raise unknown_name("setting", flag, {setting.flag for setting in settings(kind)})
    return found


@cache
def off_values(kind: Any) -> Mapping[str, tuple[tuple[str, ...], Any]]:
    """Flag → (path of the component that it can switch off, the value that does)."""
    return dict(_off_values(kind, ()))


def current(recipe: Any, flag: str) -> Any:
    """The value of a setting; None where its component is absent or of another variant."""
    kind: Any = type(recipe)
    for setting in find(kind, flag):
        owner = recipe
        for place in setting.path:
            owner = getattr(owner, place, None)
        if isinstance(owner, setting.kind):
            return getattr(owner, setting.field)
    path, value = off_values(kind).get(flag, ((), None))
    owner = recipe
    for place in path:
        owner = getattr(owner, place, None)
    return value if path and owner is None else None


def _settings(kind: Any, path: tuple[str, ...]) -> Iterator[Setting]:
    for field, hint in hints(kind).items():
        inner = list(records(hint))
        for variant in inner:
            yield from _settings(variant, (*path, field))
        if not inner:
            yield Setting(flag_of(hint, field), path, kind, field, hint)


def _off_values(kind: Any, path: tuple[str, ...]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for field, hint in hints(kind).items():
        for extra in getattr(hint, "__metadata__", ()):
            if isinstance(extra, Off):
                yield extra.flag, ((*path, field), extra.value)
        for variant in records(hint):
            yield from _off_values(variant, (*path, field))


def records(hint: Any) -> Iterator[Any]:
    """The components that an annotation names."""
    if is_pydantic_dataclass(hint):
        yield hint
    elif get_origin(hint) in (Annotated, Union, types.UnionType):
        for part in get_args(hint):
            yield from records(part)


@cache
def hints(kind: Any) -> dict[str, Any]:
    """The fields of a component, with their annotations."""
    found = get_type_hints(kind, include_extras=True)
    return {field: found[field] for field in kind.__pydantic_fields__}


def flag_of(hint: Any, field: str) -> str:
    """The flag of a field with this annotation."""
    named = [extra.name for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Flag)]
    return named[0] if named else field


def words(kind: Any) -> tuple[str, ...]:
    """The values of a record's selector."""
    hint = hints(kind)[SELECTOR]
    literal = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    assert get_origin(literal) is Literal
    return get_args(literal)
