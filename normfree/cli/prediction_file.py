"""Predictions as a file: CSV for a spreadsheet, JSON, or JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normfree.atomic import atomic_file
from normfree.errors import UsageError

if TYPE_CHECKING:
    from normfree.inference import Prediction

    Row = tuple[str, list[Prediction]]

FORMATS = (".csv", ".json", ".jsonl")


def check_suffix(path: Path) -> None:
    """Refuse a file name that does not say its format.

    Raises:
        UsageError: it ends in something else.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"--output {path} must end in one of {', '.join(FORMATS)}")


def as_record(path: str, answers: Sequence[Prediction]) -> dict[str, Any]:
    """An image as an entry of a JSON list."""
    classes = [{"class": one.label, "probability": one.probability} for one in answers]
    return {"image": path, "classes": classes}


def write_predictions(path: Path, rows: Iterable[Row], top: int) -> int:
    """Write predictions as they come; an existing file is replaced once they are complete.

    Args:
        path: ends in .csv, .json or .jsonl.
        rows: path of an image and its most likely classes.
        top: how many classes each has.

    Returns:
        The number of rows.
    """
    pieces = {".csv": _csv, ".json": _json, ".jsonl": _json_lines}[path.suffix]
    count = 0

    def counted() -> Iterator[Row]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    with atomic_file(path) as file:
        for piece in pieces(counted(), top):
            file.write(piece.encode("utf-8", "backslashreplace"))
    return count


def _csv(rows: Iterable[Row], top: int) -> Iterator[str]:
    """``path,class,probability,class_2,probability_2,…``, most likely first."""
    numbers = ["", *(f"_{rank}" for rank in range(2, top + 1))]
    yield _line(["path", *(name + n for n in numbers for name in ("class", "probability"))])
    for path, answers in rows:
        yield _line([path, *(x for one in answers for x in (one.label, one.probability))])


def _line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


def _json(rows: Iterable[Row], _: int) -> Iterator[str]:
    opening = "["
    for row in rows:
        yield f"{opening}\n{_dump(as_record(*row))}"
        opening = ","
    yield "\n]\n" if opening == "," else "[]\n"


def _json_lines(rows: Iterable[Row], _: int) -> Iterator[str]:
    for row in rows:
        yield _dump(as_record(*row)) + "\n"


def _dump(found: Mapping[str, Any]) -> str:
    return json.dumps(found, allow_nan=False)
