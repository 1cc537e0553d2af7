"""``normfree bench data``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from normfree.cli.bench_output import (
    check_bounds,
    load_from_checkout,
    milliseconds,
    print_table,
    times,
    write_json,
)
from normfree.cli.options import parse
from normfree.cli.output import say
from normfree.cli.threads import torch_threads
from normfree.data.resize import Resize
from normfree.data.view import PixelType
from normfree.errors import UsageError, UserError
from normfree.schema import record

if TYPE_CHECKING:
    from normfree.analysis.latency import Latency


_ORDER = ("read", "decode", "crop", "collate", "all", "transfer", "device")


@record
class Options:
    """Images a second that one processor core brings from files to a batch, stage by stage.

    The stages: read the file; decode what the crop needs of it; flip and resize that into the
    batch; transfer it, if there is an accelerator; and the device's stage: mix, RandAugment,
    normalize, in training. Each is timed by itself on what the stage before gives, and `all` from
    the files to the batch. With --peers, Pillow does the same in the usual way, on the same crops:
    it decodes whole images, and collates crops at the end. All take turns, so what slows the
    machine slows all of them, and run untimed before they are timed, as each finds its own data in
    the caches of a worker process. The files have been read before, so "read" is from the system's
    cache.
    """

    data: str | None = None
    """Where images are: folder:DIR. None: generated JPEGs of 500 × 375 pixels."""
    images: int = 64
    """Images of a batch; the first of the source."""
    size: int = 192
    """Side of the result, pixels."""
    transform: Literal["train", "eval"] = "train"
    """Random crops, or the evaluation's."""
    resize: Resize = "tensorflow"
    """Our filter; Pillow's is always its own bicubic, which is antialiased."""
    dtype: PixelType = "float32"
    """Of our batch; Pillow's is always uint8."""
    rounds: int = 10
    """Times that each is timed."""
    device_images_per_second: float | None = None
    """Images that a training step of your device consumes in a second, as train reports them: say
    how many cores keep it busy, with mixing partners from a second batch and without."""
    peers: bool = False
    """Compare with Pillow."""
    json: Path | None = None
    """Write the numbers, and where they were measured, to this file."""


def run(words: Sequence[str]) -> None:
    """Measure: ``normfree bench data [--data folder:DIR] [--peers] [--json FILE]``."""
    options = parse(Options, words, prog="normfree bench data")
    check_bounds(options, {"images": 2, "size": 1, "rounds": 2})
    rate = options.device_images_per_second
    if rate is not None and not 0 < rate < math.inf:
        raise UsageError(f"--device-images-per-second must be positive; got {rate:g}")

    from normfree.analysis.environment import environment

    with TemporaryDirectory() as directory, torch_threads(1):
        files = _files(options, Path(directory))
        size = sum(file.stat().st_size for file in files) / len(files)
        rows = list(_measure(files, options))
        where = environment()
    headings = ("stage", "by", "µs/image", "quartiles", "images/s/core", "faster")
    print_table(headings, map(_cells, rows), left=2)
    if (needed := _needed(rows, options.device_images_per_second)) is not None:
        say(_said(needed))
    settings = {name: value for name, value in asdict(options).items() if name != "json"}
    found = {"benchmark": "data", **where, "options": settings, "bytes_per_image": size}
    write_json(options.json, found | {"results": rows, "needed": needed})


def _files(options: Options, directory: Path) -> list[Path]:
    """As many files as a batch has images; those of a small folder again and again."""
    from normfree.analysis.data_stages import write_jpegs
    from normfree.data import open_source
    from normfree.data.sources.folder import FolderSource

    if options.data is None:
        return write_jpegs(directory, options.images)
    source = open_source(options.data, "train")
    if not isinstance(source, FolderSource):
        raise UserError(f"--data must be folder:DIR, because files are read; got {options.data}")
    return [Path(source.files[index % len(source)]) for index in range(options.images)]


def _measure(files: Sequence[Path], options: Options) -> Iterator[dict[str, Any]]:
    """A row for each stage, and for Pillow's."""
    from normfree.analysis.data_stages import our_stages
    from normfree.analysis.latency import compare_latency
    from normfree.data import EvalTransform, TrainTransform

    kind = TrainTransform if options.transform == "train" else EvalTransform
    transform = kind(options.size, resize=options.resize, dtype=options.dtype)
    ours = {stage.name: stage.call for stage in our_stages(files, transform)}
    theirs = {}
    if options.peers:
        peer = load_from_checkout("pillow_data")
        stages = peer.stages(files, options.size, options.transform)
        theirs = {stage.name: stage.call for stage in stages}
    sides = {"normfree": ours, "pillow": theirs}
    calls = {f"{by} {name}": call for by, side in sides.items() for name, call in side.items()}
    found = compare_latency(calls, rounds=options.rounds, settle=True)
    for stage in (name for name in _ORDER if name in ours or name in theirs):
        pair = [found.get(f"{by} {stage}") for by in sides]
        for by, latency in zip(sides, pair, strict=True):
            if latency is not None:
                yield {
                    "stage": stage,
                    "by": by,
                    "images_per_second_per_core": len(files) / latency.median,
                    "faster": _ratio(*pair) if by == "pillow" else None,
                    "seconds": asdict(latency),
                }


def _needed(rows: Sequence[Mapping[str, Any]], consumed: float | None) -> dict[str, float] | None:
    """Cores that read as many images as a device consumes."""
    if consumed is None:
        return None
    (rate,) = (
        row["images_per_second_per_core"]
        for row in rows
        if (row["stage"], row["by"]) == ("all", "normfree")
    )
    return {
        "device_images_per_second": consumed,
        "images_per_second_per_core": rate,
        "cores": consumed / rate,
    }


def _said(needed: Mapping[str, float]) -> str:
    """How many workers that is, for a person."""
    cores = needed["cores"]
    return (
        f"a device that takes {needed['device_images_per_second']:.0f} images/s needs "
        f"{cores:.1f} cores that read: --workers {math.ceil(cores)}; mixed with images of a second "
        f"batch, {2 * cores:.1f}: --workers {math.ceil(2 * cores)}"
    )


def _ratio(ours: Latency | None, pillow: Latency | None) -> dict[str, float] | None:
    """How many times as many images a second are ours; at worst and at best, by quartiles."""
    if ours is None or pillow is None:
        return None
    return {
        "median": pillow.median / ours.median,
        "low": pillow.low / ours.high,
        "high": pillow.high / ours.low,
    }


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    images = row["images_per_second_per_core"] * row["seconds"]["median"]
    each = {key: 1000 * row["seconds"][key] / images for key in ("low", "median", "high")}
    return (
        row["stage"],
        row["by"],
        *milliseconds(each, 0),
        f"{row['images_per_second_per_core']:.0f}",
        times(row["faster"]) if row["faster"] else "",
    )
