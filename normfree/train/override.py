"""Change settings of a nested recipe by their flat names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from normfree.errors import UserError, unknown_name
from normfree.schema import from_plain, to_plain
from normfree.train.flags import (
    SELECTOR,
    Setting,
    find,
    flag_of,
    hints,
    off_values,
    option,
    records,
    settings,
    words,
)

T = TypeVar("T")

#: Plain values, as YAML has them.
Plain = dict[str, Any]


def override(recipe: T, values: Mapping[str, Any]) -> T:
    """The recipe with other values for some settings, validated as a whole.

    - A setting of a component that is switched off needs the flag that switches it on
      (``sam_fraction`` needs ``sam_rho``); the value that switches it off removes the component.
    - A selector (``optimizer="adamw"``) changes the variant of a component. What both variants have
      is kept.
    - Variants without a selector, such as a length in epochs or in steps, follow the setting that
      is given.

    Args:
        recipe: left as it was.
        values: flag → value.

    Raises:
        UserError: a setting that does not exist, does not belong to the chosen variant, contradicts
            another, or has a value that it cannot have.
    """
    kind: Any = type(recipe)
    plain = to_plain(recipe)
    for flag in sorted(values, key=lambda flag: not _selects(kind, flag)):  # selectors first
        _set(plain, kind, flag, _plain(values[flag]), values)
    return from_plain(kind, plain)


def _set(plain: Plain, kind: Any, flag: str, value: Any, given: Mapping[str, Any]) -> None:
    """Put one value into the plain values of a recipe."""
    homes = _reachable(plain, kind, flag)
    path = homes[0].path
    if not path:
        plain[flag] = value
        return
    owner, name = _place(plain, path[:-1]), path[-1]
    now: Plain | None = owner.get(name)
    if _is_off(kind, flag, value):
        owner[name] = None
    elif now is None and (missing := _missing_switch(kind, path, given)):
        raise UserError(f"{option(flag)} does nothing without {option(missing)}")
    elif homes[0].field == SELECTOR:
        owner[name] = _switched(homes, now, value)
    elif now is not None and (fitting := [home for home in homes if _is_a(now, home.kind)]):
        now[fitting[0].field] = value
    elif now is not None and SELECTOR in now:
        raise _of_another_variant(flag, [home.kind for home in homes], now[SELECTOR])
    else:
        owner[name] = _new(kind, homes[0], value, given)


def _reachable(plain: Plain, kind: Any, flag: str) -> list[Setting]:
    """The settings with this flag that the chosen variants can have.

    Raises:
        UserError: none of them can.
    """
    homes = find(kind, flag)
    found = [x for x in homes if len(x.path) < 2 or x.kind in _variants(plain, kind, x)]
    if not found:
        name, *_ = homes[0].path
        owners = [x for x in records(hints(kind)[name]) if _holds(x, homes[0])]
        raise _of_another_variant(flag, owners, plain[name][SELECTOR])
    return found


def _variants(plain: Plain, kind: Any, home: Setting) -> list[Any]:
    """The components that may stand where the setting's does, under the chosen variant."""
    name, place = home.path
    chosen = [x for x in records(hints(kind)[name]) if _is_a(plain[name] or {}, x)]
    return [variant for owner in chosen for variant in records(hints(owner)[place])]


def _holds(owner: Any, home: Setting) -> bool:
    return home.kind in records(hints(owner)[home.path[1]])


def _is_off(kind: Any, flag: str, value: Any) -> bool:
    """Whether the value switches the component of the flag off."""
    if flag not in off_values(kind):
        return False
    return not isinstance(value, bool) and bool(value == off_values(kind)[flag][1])


def _missing_switch(kind: Any, path: tuple[str, ...], given: Mapping[str, Any]) -> str | None:
    """The flag that would switch a component on, if it was not given."""
    for flag, (place, off) in off_values(kind).items():
        if place == path and given.get(flag) in (None, off):
            return flag
    return None


def _switched(homes: list[Setting], now: Plain | None, value: Any) -> Plain:
    """The variant that a selector names, with what it shares with the present one."""
    for home in homes:
        if value in words(home.kind):
            fields = hints(home.kind)
            shared = {name: item for name, item in (now or {}).items() if name in fields}
            return {k: v for k, v in shared.items() if _may_hold(fields[k], v)} | {SELECTOR: value}
    known = [word for home in homes for word in words(home.kind)]
    raise unknown_name(option(homes[0].flag).removeprefix("--"), str(value), known)


def _of_another_variant(flag: str, owners: list[Any], present: str) -> UserError:
    kinds = " or ".join(word for owner in owners for word in words(owner))
    selector = option(flag_of(hints(owners[0])[SELECTOR], SELECTOR))
    return UserError(f"{option(flag)} is a setting of {selector} {kinds}, not of {present}")


def _new(kind: Any, home: Setting, value: Any, given: Mapping[str, Any]) -> Plain:
    """A component with one of its settings; its others are the defaults.

    Raises:
        UserError: another setting that was given would choose another variant.
    """
    if SELECTOR in hints(home.kind):
        required = home.kind.__pydantic_fields__[SELECTOR].is_required()
        chosen = {} if required else {SELECTOR: words(home.kind)[0]}
        return {home.field: value} | chosen
    for rival in settings(kind):
        if rival.path == home.path and rival.kind is not home.kind and rival.flag in given:
            one, other = sorted((option(home.flag), option(rival.flag)))
            raise UserError(f"give {one} or {other}, not both")
    return {home.field: value}


def _may_hold(hint: Any, value: Any) -> bool:
    """Whether a component that was kept from another variant is one that this variant takes."""
    kinds = list(records(hint))
    return not kinds or not isinstance(value, dict) or any(_is_a(value, kind) for kind in kinds)


def _is_a(value: Plain, kind: Any) -> bool:
    """Whether plain values are those of a record: by its selector, or by its fields."""
    if SELECTOR in hints(kind):
        return value.get(SELECTOR) in words(kind)
    return value.keys() <= hints(kind).keys()


def _selects(kind: Any, flag: str) -> bool:
    return any(home.field == SELECTOR for home in find(kind, flag))


def _place(plain: Plain, path: Iterable[str]) -> Plain:
    for place in path:
        plain = plain[place]
    return plain


def _plain(value: Any) -> Any:
    """In YAML's types."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
