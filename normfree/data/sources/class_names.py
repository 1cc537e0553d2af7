"""The names of classes: from labels, or from a file that lists them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from normfree.data.files import read_regular
from normfree.errors import UserError, printable

_MOST_BYTES = 2**26  # of a file of class names


def class_names(values: Iterable[str | int]) -> tuple[str, ...]:
    """The classes that some labels make: sorted by name, or by number if all are numbers.

    >>> class_names(["10", "9", "9"]), class_names(["dog", "cat", 3])
    (('9', '10'), ('3', 'cat', 'dog'))
    """
    names = {str(value) for value in values}
    numbers = all(name.isascii() and name.isdigit() for name in names)
    for name in names:
        check_class(name)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numbers else (0, name)))


def check_class(name: str) -> None:
    """Refuse a name that is no text, because names are saved with the weights.

    Raises:
        UserError: it has control characters, or bytes that are not UTF-8.
    """
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise UserError(
            f"the class {printable(name, 80)!r} has control characters or bytes that are not UTF-8"
        )


def read_classes(file: Path) -> tuple[str, ...]:
    """The classes in a text file, one a line, in the order of their numbers.

    Raises:
        UserError: it cannot be read, or a name is empty or appears twice.
    """
    try:
        text = read_regular(file, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from None
    names = tuple(line.strip() for line in text.removesuffix("\n").split("\n"))
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"{file} should have the name of a class in each line, each of them once")
    for name in names:
        check_class(name)
    return names


def described_classes(features: Mapping[str, Any], roles: Mapping[str, str]) -> tuple[str, ...]:
    """The classes in Hugging Face's description of the columns, if it has them.

    >>> label = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    >>> described_classes({"label": label}, {"label": "label"})
    ('cat', 'dog')
    >>> described_classes({"tags": {"feature": label, "_type": "List"}}, {"labels": "tags"})
    ('cat', 'dog')
    """
    found = features.get(roles.get("label", roles.get("labels", "")))
    if isinstance(found, dict) and isinstance(found.get("feature"), dict):
        found = found["feature"]
    names = found.get("names") if isinstance(found, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    for name in names:
        check_class(name)
    return tuple(names)
