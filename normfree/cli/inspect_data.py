"""``normfree inspect-data``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from normfree.cli.bench_output import check_bounds
from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.errors import UserError, printable
from normfree.schema import record

if TYPE_CHECKING:
    from normfree.analysis.dataset import Contents
    from normfree.data import Source, Split

_LISTED = 10  # names in each list; --json has all


@record
class Options:
    """What is in a data source.

    Counts, sizes, balance of the classes, duplicates by the hash of their contents (across splits,
    too), and images that cannot be read. Every image is decoded.
    """

    source: Annotated[str, Positional()]
    """The images: folder:DIR, csv:FILE, wds:PATTERN, or any other that --data of train takes."""
    val_fraction: float = 0.1
    """Part of each class that validates if the source has no validation images of its own."""
    limit: int | None = None
    """Images of each split to read, evenly spaced. None: all of them."""
    out: Path | None = None
    """Draw a contact sheet to this PNG: training images, each whole and in random crops."""
    rows: int = 8
    """Images on the contact sheet."""
    columns: int = 6
    """Augmented images of each of them."""
    size: int = 128
    """Side of an augmented image, pixels."""
    magnitude: float = 0.0
    """Strength of RandAugment on the contact sheet, in tenths; 0 leaves it out."""
    seed: int = 0
    """Seed of the random crops."""
    json: bool = False
    """Print one JSON object, with the names of all images that a list has."""


def run(words: Sequence[str]) -> None:
    """Inspect: ``normfree inspect-data SOURCE [--out contact.png] [--json]``."""
    options = parse(Options, words, prog="normfree inspect-data")
    check_bounds(
        options, {"limit": 1, "rows": 1, "columns": 1, "size": 1, "magnitude": 0, "seed": 0}
    )
    from normfree.analysis.dataset import inspect

    sources = _open(options.source, options.val_fraction)
    found = inspect(sources, options.limit)
    if options.out is not None:
        _draw(options.out, sources, options)
    if options.json:
        say(json.dumps({"source": options.source, **asdict(found)}))
        return
    for line in _lines(options.source, found):
        say(line)
    if options.out is not None:
        say(f"contact sheet: {options.out}")


def _open(spec: str, val_fraction: float) -> dict[Split, Source]:
    """The splits of a source; one that lacks training or validation images is worth a look, too."""
    from normfree.data import has_split, open_source
    from normfree.data.sources.table import SPLITS

    opened = partial(open_source, spec, on_bad_image="skip", val_fraction=val_fraction)
    found = {split: opened(split) for split in SPLITS if has_split(spec, split)}
    if not found:
        raise UserError(f"{printable(spec, 200)} has no images")
    return found


def _draw(file: Path, sources: dict[Split, Source], options: Options) -> None:
    from PIL import Image

    from normfree.analysis.dataset import contact_sheet

    if file.suffix.lower() != ".png":
        raise UserError(f"--out is a PNG file, and {file} is not named like one")
    sheet = contact_sheet(
        sources.get("train", next(iter(sources.values()))),
        size=options.size,
        rows=options.rows,
        columns=options.columns,
        magnitude=options.magnitude,
        seed=options.seed,
    )
    if sheet.shape[2] not in (1, 3):
        raise UserError(f"images of {sheet.shape[2]} channels cannot be drawn: leave out --out")
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet).save(file)


def _lines(spec: str, found: Contents) -> Iterator[str]:
    yield f"{spec}: {len(found.classes)} classes"
    for split, part in found.splits.items():
        read = "" if part["read"] == part["images"] else f", {part['read']:,} of them read"
        yield f"{split}: {part['images']:,} images{read}"
        yield from (f"  {note}" for note in part["notes"])
        yield f"  classes: {_balance(part['per_class'])}"
        for what in ("width", "height", "bytes"):
            if part[what]:
                yield "  {}: {least:,} to {most:,}, median {median:,}".format(what, **part[what])
        bad = [f"{name}: {reason}" for name, reason in part["unreadable"].items()]
        yield from _listed(f"  {len(bad)} unreadable", bad)
    twice = found.duplicates
    yield f"{twice['images']:,} images in {twice['sets']:,} sets of equal content"
    for what, name in (
        ("in several splits", "across_splits"),
        ("with different labels", "different_labels"),
    ):
        sets = [" = ".join(names) for names in twice[name]]
        yield from _listed(f"  {len(sets)} sets {what}", sets)


def _balance(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    (most, many), (least, few) = ordered[0], ordered[-1]
    ratio = f", {many / few:.3g} times as many" if few else ""
    return (
        f"from {few:,} ({printable(least, 80)}) to {many:,} images ({printable(most, 80)}){ratio}"
    )


def _listed(heading: str, lines: Sequence[str]) -> Iterator[Any]:
    yield heading
    yield from (f"    {line}" for line in lines[:_LISTED])
    if len(lines) > _LISTED:
        yield f"    and {len(lines) - _LISTED} more: --json has them all"
