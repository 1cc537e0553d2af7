"""What follows ``#`` in the description of a source, and which columns of a table mean what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from normfree.errors import UserError, unknown_name

COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "path": ("path", "file", "file_name", "filename", "image"),
        "image": ("image", "img", "jpg", "png"),
        "name": ("name", "path", "file_name", "filename", "key", "__key__"),
        "label": ("label", "class", "target", "category"),
        "labels": ("labels", "classes", "categories", "tags"),
        "split": ("split",),
        "group": ("group",),
    }
)
"""Role → the names under which a column is found if ``#role=column`` does not name it."""


def split_options(argument: str, known: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Separate ``FILE#label=species,classes=names.txt`` into the file and its options.

    A ``#`` that does not begin such a list belongs to the file's name.

    Args:
        argument: what follows the colon of a source.
        known: options that the source has.

    Raises:
        UserError: an option does not exist, or appears twice.

    >>> split_options("birds.csv#label=species,group=bird", ["label", "group"])
    ('birds.csv', {'label': 'species', 'group': 'bird'})
    >>> split_options("birds #2.csv", ["label"])
    ('birds #2.csv', {})
    """
    place, mark, listed = argument.rpartition("#")
    if not mark or not re.fullmatch(r"\w+=[^,]+(,\w+=[^,]+)*", listed):
        return argument, {}
    options: dict[str, str] = {}
    for item in listed.split(","):
        name, _, value = item.partition("=")
        if name not in known:
            raise unknown_name("option of a source", name, known)
        if name in options:
            raise UserError(f"the option {name} appears twice in {argument}")
        options[name] = value
    return place, options


def find_columns(
    header: Iterable[str],
    options: Mapping[str, str],
    *,
    required: Sequence[str],
    optional: Sequence[str],
    file: str,
) -> dict[str, str]:
    """Find the columns of a table, without regard to case.

    Args:
        header: names of the columns.
        options: role → column, as the user named it.
        required: roles that must be found.
        optional: other roles.
        file: in messages.

    Returns:
        Role → column. ``label`` and ``labels`` are alternatives: one of them is found, and
        ``label`` if both could be, unless the user named ``labels``.

    Raises:
        UserError: a column that is needed is not there.

    >>> find_columns(["File", "class"], {}, required=["path"], optional=["split"], file="a.csv")
    {'path': 'File', 'label': 'class'}
    """
    columns = list(header)
    spelled = {column.strip().lower(): column for column in reversed(columns)}
    labels = ["labels"] if "labels" in options else ["label", "labels"]
    found: dict[str, str] = {}
    for role in (*required, *labels, *optional):
        if role == "labels" and "label" in found:
            continue
        names = [options[role]] if role in options else COLUMNS[role]
        column = next((spelled[n.lower()] for n in names if n.lower() in spelled), None)
        if column is not None:
            found[role] = column
        elif role in required or role in options:
            raise UserError(_missing(role, names, columns, file))
    if "label" not in found and "labels" not in found:
        raise UserError(_missing("label", COLUMNS["label"] + COLUMNS["labels"], columns, file))
    return found


def _missing(role: str, names: Sequence[str], columns: Sequence[str], file: str) -> str:
    has = ", ".join(columns[:20]) or "none"
    return (
        f"{file} has no column {' or '.join(names)}, but {has}: "
        f"name it with #{role}=COLUMN behind the file"
    )
