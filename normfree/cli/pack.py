"""``normfree pack``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from rich.console import Console
from rich.progress import Progress

from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.errors import UsageError, UserError
from normfree.schema import record


@record
class Options:
    """Store the images of a data source in one file, to be read many times.

    Train on it by --data pack:FILE. Raw images are not decoded any more, so reading them takes a
    tenth of the time; resized to a short side of 256, a photograph takes about 260 KB. An existing
    file is only replaced with --force.
    """

    source: Annotated[str, Positional()]
    """Where the images come from, such as folder:DIR; or a pack, with --verify."""
    out: Annotated[Path | None, Positional()] = None
    """The file to write."""
    val_fraction: float = 0.1
    """Part of each class that validates if the source has no validation images of its own."""
    size: int | None = None
    """Resize larger images to this shorter side, with antialiasing. None: as they are."""
    square: bool = False
    """Resize both sides to --size, which changes the aspect ratio, as evaluating an NFNet does."""
    encode: Literal["jpeg", "raw"] = "raw"
    """raw: pixels, fastest to read; jpeg: about a tenth of the space. Without --size, jpeg keeps
    the files as they are."""
    quality: int = 95
    """Of JPEGs."""
    workers: int = 0
    """Processes that read and decode images."""
    on_bad_image: Literal["error", "skip"] = "error"
    """Stop at an unreadable image, or leave it out and count it."""
    force: bool = False
    """Replace the file if there is one."""
    verify: bool = False
    """Compare every image of a pack with its checksum; nothing is written."""


def run(words: Sequence[str]) -> None:
    """Pack: ``normfree pack SOURCE OUT [--size N] [--encode jpeg|raw]``."""
    options = parse(Options, words, prog="normfree pack")
    if options.workers < 0:
        raise UsageError("--workers must not be negative")
    if options.verify:
        _verify(options.source)
        return
    if options.out is None:
        raise UsageError("name the file to write: normfree pack SOURCE OUT")
    if options.out.is_dir():
        raise UserError(f"{options.out} is a directory: name a file in it")
    if options.out.exists() and not options.force:
        raise UserError(f"{options.out} exists: replace it by --force, or name another file")
    _write(options, options.out)


def _write(options: Options, out: Path) -> None:
    from normfree.data import BadImages, has_split, open_source
    from normfree.data.pack_writer import write_pack
    from normfree.data.packing import Packing
    from normfree.data.sources import Split

    packing = Packing(
        short_side=options.size,
        square=options.square,
        encoding=options.encode,
        quality=options.quality,
    )
    splits = [split for split in get_args(Split) if has_split(options.source, split)]
    sources = {
        split: open_source(options.source, split, val_fraction=options.val_fraction)
        for split in splits
    }
    images = sum(map(len, sources.values()))
    bad = BadImages() if options.on_bad_image == "skip" else None
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("packing", total=images)
        write_pack(
            out,
            sources,
            packing,
            made_of=options.source,
            workers=options.workers,
            bad_images=bad,
            advance=lambda done: progress.update(task, advance=done),
        )
    for name, reason in (bad.reasons if bad else {}).items():
        say(f"left out {name}: {reason}", stderr=True)
    kept = images - (bad.count if bad else 0)
    say(f"{out}: {kept} images of {options.source}, {out.stat().st_size / 1e6:.1f} MB")
    say(f"train on them by --data pack:{out}")


def _verify(source: str) -> None:
    from normfree.data.pack import open_pack, read_header

    path = Path(source.removeprefix("pack:"))
    header = read_header(path)
    damaged = 0
    for split in header.splits:
        pack = open_pack(path, split)
        for error in pack.verify():
            damaged += 1
            say(f"{split}: {error.name}: {error.reason}", stderr=True)
        say(f"{split}: {len(pack)} images, {len(header.classes)} classes, {header.encoding}")
    if damaged:
        raise UserError(f"{damaged} images of {path} are damaged: make the pack again")
    say(f"{path}: every image matches its checksum")
