"""Flat names for nested settings: ``--ema-decay`` is the field ``decay`` of the component ``ema``.

Every field of every component has one flat name, its *flag*: its own name, or what
:class:`Flag` says. The command line, :meth:`Recipe.override` and the migration of old files all go
through this one table.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
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

from normfree.errors import UserError, unknown_name
from normfree.schema import Field, from_plain, record, to_plain

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
    hint = _hints(kind)[field]
    inside = [setting.flag for variant in _records(hint) for setting in settings(variant)]
    return " or ".join(map(option, inside or [_flag(hint, field)]))


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


def override(recipe: T, values: Mapping[str, Any]) -> T:
    """The recipe with other values for some settings, validated as a whole.

    A component that is absent is made where one of its settings is given, and removed by the value
    that switches it off. A selector (``optimizer="adamw"``) changes the variant and keeps the
    settings that both variants have. Variants without a selector, such as a length in epochs or in
    steps, follow the setting that is given.

    Args:
        recipe: left as it was.
        values: flag → value.

    Raises:
        UserError: a setting that does not exist, does not belong to the chosen variant, contradicts
            another, or has a value that it cannot have.
    """
    kind = type(recipe)
    plain = to_plain(recipe)
    for flag in sorted(values, key=lambda flag: not _selects(kind, flag)):
        _set(plain, kind, flag, _plain(values[flag]), values)
    return from_plain(kind, plain)


def _set(plain: dict[str, Any], kind: Any, flag: str, value: Any, given: Mapping[str, Any]) -> None:
    """Put one value into the plain values of a recipe."""
    homes = find(kind, flag)
    path, off = off_values(kind).get(flag, (None, None))
    if path is not None and type(value) is not bool and value == off:
        _place(plain, path[:-1])[path[-1]] = None
        return
    if not homes[0].path:
        plain[homes[0].field] = value
        return
    owner, name = _place(plain, homes[0].path[:-1]), homes[0].path[-1]
    now: dict[str, Any] | None = owner.get(name)
    switch = _switch_of(kind, homes[0].path)
    if now is None and switch is not None and given.get(switch) in (None, _off(kind, switch)):
        raise UserError(f"{option(flag)} does nothing without {option(switch)}")
    if homes[0].field == SELECTOR:
        owner[name] = _switched(homes, now, value)
    elif now is not None and (fitting := [home for home in homes if _is_a(now, home.kind)]):
        now[fitting[0].field] = value
    elif now is None or not _has_selector(homes[0].kind):
        if not _has_selector(homes[0].kind):
            _refuse_rivals(kind, homes[0], given)
        owner[name] = {homes[0].field: value} | _default_selector(homes[0].kind)
    else:
        words = [word for home in homes for word in _words(home.kind)]
        chosen = option(_flag(_hints(homes[0].kind)[SELECTOR], SELECTOR))
        raise UserError(
            f"{option(flag)} is a setting of {chosen} {' or '.join(words)}, not of {now[SELECTOR]}"
        )


def _switch_of(kind: Any, path: tuple[str, ...]) -> str | None:
    """The flag that switches a component on and off; None if it is always on."""
    return next((flag for flag, (place, _) in off_values(kind).items() if place == path), None)


def _off(kind: Any, switch: str) -> Any:
    """The value by which a flag switches its component off."""
    return off_values(kind)[switch][1]


def _switched(homes: list[Setting], now: dict[str, Any] | None, value: Any) -> dict[str, Any]:
    """The variant that a selector names, with what it shares with the present one."""
    for home in homes:
        if value in _words(home.kind):
            hints = _hints(home.kind)
            kept = {name: item for name, item in (now or {}).items() if name in hints}
            kept = {name: item for name, item in kept.items() if _may_hold(hints[name], item)}
            return kept | {SELECTOR: value}
    words = [word for home in homes for word in _words(home.kind)]
    raise unknown_name(option(homes[0].flag).removeprefix("--"), str(value), words)


def _refuse_rivals(kind: Any, home: Setting, given: Mapping[str, Any]) -> None:
    """Two settings that would each choose another variant cannot be given together."""
    for rival in settings(kind):
        same_place = rival.path == home.path and rival.kind is not home.kind
        if same_place and rival.flag in given and rival.flag != home.flag:
            one, other = sorted((option(home.flag), option(rival.flag)))
            raise UserError(f"give {one} or {other}, not both")


def _may_hold(hint: Any, value: Any) -> bool:
    """Whether a component that was kept from another variant is one that this variant takes."""
    kinds = list(_records(hint))
    return not kinds or not isinstance(value, dict) or any(_is_a(value, kind) for kind in kinds)


def _is_a(value: Mapping[str, Any], kind: Any) -> bool:
    """Whether plain values are those of a record: by its selector, or by its fields."""
    if _has_selector(kind):
        return value.get(SELECTOR) in _words(kind)
    return value.keys() <= _hints(kind).keys()


def _place(plain: dict[str, Any], path: Iterable[str]) -> dict[str, Any]:
    for place in path:
        plain = plain[place]
    return plain


def _settings(kind: Any, path: tuple[str, ...]) -> Iterator[Setting]:
    for field, hint in _hints(kind).items():
        inner = list(_records(hint))
        for variant in inner:
            yield from _settings(variant, (*path, field))
        if not inner:
            yield Setting(_flag(hint, field), path, kind, field, hint)


def _off_values(kind: Any, path: tuple[str, ...]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for field, hint in _hints(kind).items():
        for extra in getattr(hint, "__metadata__", ()):
            if isinstance(extra, Off):
                yield extra.flag, ((*path, field), extra.value)
        for variant in _records(hint):
            yield from _off_values(variant, (*path, field))


def _records(hint: Any) -> Iterator[Any]:
    """The components that an annotation names."""
    if is_pydantic_dataclass(hint):
        yield hint
    elif get_origin(hint) in (Annotated, Union, types.UnionType):
        for part in get_args(hint):
            yield from _records(part)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field: hints[field] for field in kind.__pydantic_fields__}


def _flag(hint: Any, field: str) -> str:
    named = [extra.name for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Flag)]
    return named[0] if named else field


def _selects(kind: Any, flag: str) -> bool:
    return any(home.field == SELECTOR for home in find(kind, flag))


def _has_selector(kind: Any) -> bool:
    return SELECTOR in _hints(kind)


def _words(kind: Any) -> tuple[str, ...]:
    """The values of a record's selector."""
    hint = _hints(kind)[SELECTOR]
    literal = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    assert get_origin(literal) is Literal
    return get_args(literal)


def _default_selector(kind: Any) -> dict[str, str]:
    required = not _has_selector(kind) or kind.__pydantic_fields__[SELECTOR].is_required()
    return {} if required else {SELECTOR: _words(kind)[0]}


def _plain(value: Any) -> Any:
    """In YAML's types."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
