"""Mutated images: each must end in an image or a BadImageError, in bounded time and memory.

    python -m tests.fuzz.fuzz_images --count 5000 --seed 0

Real photographs are encoded in every supported format, then mutated: bits, header bytes, sizes,
truncation, splices. A worker process decodes and transforms them one by one. It is killed if it
takes too long, and replaced if it dies. Image ``index`` of a seed is always the same.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import resource
import struct
import sys
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from normfree.analysis.environment import environment
from normfree.data import EvalTransform, TrainTransform, decode, open_image, render
from normfree.errors import BadImageError

SIZE = (90, 67)  # width and height: uncommon numbers, so that they can be found in headers
_HUGE = (0, 1, 2, 255, 16_383, 32_767, 65_535, 100_000, 2**31 - 1, 2**32 - 1)


@dataclass
class Report:
    """Outcomes of a fuzzing run.

    Attributes:
        outcomes: number of images that gave an image, a BadImageError, or a failure.
        formats: the same, by format.
        failures: index → description of the failure.
        seconds: longest time for one image.
        megabytes: largest growth of a worker's memory.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    formats: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    megabytes: float = 0.0


@cache
def originals() -> dict[str, bytes]:
    """A photograph in every format, by the name of the format."""
    china, flower = (Image.fromarray(image) for image in load_sample_images().images)
    photo, other = china.resize(SIZE), flower.resize(SIZE)
    gray, deep = photo.convert("L"), np.asarray(photo.convert("L")).astype(np.uint16) * 257
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010F: "a camera", 0x0132: "2021:02:11 00:00:00", 0x011A: 72.0})
    forms: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "jpeg": (photo, "jpeg", {}),
        "jpeg exif": (photo, "jpeg", {"exif": exif}),
        "jpeg progressive": (photo, "jpeg", {"progressive": True, "subsampling": 0}),
        "jpeg cmyk": (photo.convert("CMYK"), "jpeg", {}),
        "png": (photo, "png", {}),
        "png exif": (photo, "png", {"exif": exif}),
        "png palette": (photo.quantize(32), "png", {"transparency": 3}),
        "png 16": (Image.fromarray(deep), "png", {}),
        "webp": (photo, "webp", {}),
        "webp lossless": (photo, "webp", {"lossless": True, "exif": exif.tobytes()}),
        "gif": (photo.quantize(64), "gif", {}),
        "gif animated": (photo, "gif", {"save_all": True, "append_images": [other]}),
        "bmp": (photo, "bmp", {}),
        "bmp gray": (gray, "bmp", {}),
        "tiff": (photo, "tiff", {"exif": exif}),
        "tiff lzw": (photo, "tiff", {"compression": "tiff_lzw"}),
        "tiff jpeg": (photo, "tiff", {"compression": "jpeg"}),
        "tiff g4": (photo.convert("1"), "tiff", {"compression": "group4"}),
        "ppm": (photo, "ppm", {}),
        "pgm 16": (Image.fromarray(deep), "ppm", {}),
        "pbm": (photo.convert("1"), "ppm", {}),
    }
    stored = {}
    for name, (image, kind, options) in forms.items():
        file = io.BytesIO()
        image.save(file, kind, **options)
        stored[name] = file.getvalue()
    stored["ppm plain"] = b"P3 %d %d 255\n" % SIZE + b" ".join(
        b"%d" % value for value in np.asarray(photo).ravel()
    )
    return stored


def mutated(seed: int, index: int) -> tuple[str, bytes]:
    """The format and the bytes of one damaged image."""
    rng = np.random.default_rng([seed, index])
    names = list(originals())
    name = names[index % len(names)]
    content = bytearray(originals()[name])
    for _ in range(rng.integers(1, 4)):
        _DAMAGES[rng.integers(len(_DAMAGES))](content, rng)
        content = content or bytearray(b"\0")
    if name.startswith("png") and rng.random() < 0.7:
        content = _with_valid_checksums(bytes(content))
    return name, bytes(content)


def _flip_bits(content: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(len(content), size=rng.integers(1, 17)):
        content[at] ^= 1 << int(rng.integers(8))


def _edit_header(content: bytearray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 5)):
        content[int(rng.integers(min(len(content), 200)))] = int(rng.choice([0, 1, 127, 128, 255]))


def _edit_sizes(content: bytearray, rng: np.random.Generator) -> None:
    """Change width or height wherever they are stored, as text or in two or four bytes."""
    form = rng.choice(["<H", ">H", "<I", ">I", "text"])
    for side in SIZE:
        value = int(rng.choice(_HUGE))
        if form == "text":
            old, new = b"%d" % side, b"%d" % value
        else:
            mask = 0xFFFF if form[1] == "H" else 0xFFFFFFFF
            old, new = struct.pack(form, side), struct.pack(form, value & mask)
        at = content.find(old, 0, 400)
        if at >= 0 and rng.random() < 0.8:
            content[at : at + len(old)] = new


def _truncate(content: bytearray, rng: np.random.Generator) -> None:
    del content[int(rng.integers(len(content))) :]


def _splice(content: bytearray, rng: np.random.Generator) -> None:
    """Insert or overwrite with a piece of this or another image."""
    donor = list(originals().values())[rng.integers(len(originals()))]
    start = int(rng.integers(len(donor)))
    piece = donor[start : start + int(rng.integers(1, 2000))]
    at = int(rng.integers(len(content)))
    content[at : at + (len(piece) if rng.random() < 0.5 else 0)] = piece


def _delete(content: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(len(content)))
    del content[at : at + int(rng.integers(1, 64))]


_DAMAGES = (_flip_bits, _edit_header, _edit_sizes, _edit_sizes, _truncate, _splice, _delete)


def _with_valid_checksums(png: bytes) -> bytearray:
    """Correct the chunk checksums, so that the damage reaches the decoder."""
    fixed, at = bytearray(png[:8]), 8
    while at + 12 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        body = png[at + 4 : at + 8 + length]
        fixed += png[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        at += 12 + length
    return fixed + png[at:]


def fuzz(
    count: int, seed: int = 0, *, start: int = 0, seconds: float = 5, memory: int = 2**30
) -> Report:
    """Decode mutated images in worker processes.

    Args:
        count: how many.
        seed: which ones.
        start: index of the first.
        seconds: that each may take.
        memory: bytes that each may take; allocations beyond twice that fail.
    """
    report = Report()
    context = multiprocessing.get_context("spawn")
    index = start
    while index < start + count:
        ours, theirs = context.Pipe()
        worker = context.Process(
            target=_work, args=(theirs, seed, index, start + count, memory), daemon=True
        )
        worker.start()
        theirs.close()
        index = _collect(ours, report, index, seconds, memory, seed)
        worker.kill()
        worker.join()
    return report


def _collect(
    ours: Connection, report: Report, index: int, seconds: float, memory: int, seed: int
) -> int:
    """Results of one worker until it is done, dies or hangs; the index to continue with."""
    ours.recv()  # the worker is ready
    while True:
        try:
            result = ours.recv() if ours.poll(2 * seconds) else ("hang", 2 * seconds, 0.0, "")
        except EOFError:
            result = ("crash", 0.0, 0.0, "")
        if result is None:
            return sys.maxsize
        outcome, took, megabytes, detail = result
        if outcome in ("image", "bad image") and took > seconds:
            outcome, detail = "slow", f"{took:.1f} s"
        if outcome in ("image", "bad image") and megabytes > memory / 2**20:
            outcome, detail = "large", f"{megabytes:.0f} MB"
        report.outcomes[outcome] += 1
        report.formats[mutated(seed, index)[0], outcome] += 1
        report.seconds = max(report.seconds, took)
        report.megabytes = max(report.megabytes, megabytes)
        if outcome not in ("image", "bad image"):
            report.failures[index] = f"{outcome} {detail}"
        index += 1
        if outcome in ("hang", "crash"):
            return index


def _work(theirs: Connection, seed: int, start: int, stop: int, memory: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # silence libtiff
    originals()
    decode(originals()["png"])  # loads what Pillow loads lazily
    used = _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * memory, used + 2 * memory))
    theirs.send("ready")
    for index in range(start, stop):
        _, content = mutated(seed, index)
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak memory counter
        before, began = _status("VmHWM"), time.perf_counter()
        try:
            part = open_image(content)
            view = TrainTransform(64).view(part.height, part.width, np.random.default_rng(index))
            render(part, view)
            image = decode(content)
            EvalTransform(64)(image)
            TrainTransform(64)(image, np.random.default_rng(0))
            outcome, detail = "image", ""
        except BadImageError as error:
            outcome, detail = "bad image", error.reason
            if "\n" in str(error):
                outcome = "several lines"
        except BaseException as error:
            outcome, detail = "other error", f"{type(error).__name__}: {error}"
        took = time.perf_counter() - began
        theirs.send((outcome, took, (_status("VmHWM") - before) / 2**20, detail))
    theirs.send(None)


def _status(key: str) -> int:
    """A line of ``/proc/self/status``, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def main() -> None:
    """Fuzz, print the outcomes, and keep the images that failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="index of the first image")
    parser.add_argument("--seconds", type=float, default=5, help="that one image may take")
    parser.add_argument("--memory", type=int, default=1024, help="megabytes for one image")
    parser.add_argument("--keep", type=Path, help="directory for the images that fail")
    parser.add_argument("--json", type=Path, help="file for the totals")
    args = parser.parse_args()
    report = fuzz(
        args.count, args.seed, start=args.start, seconds=args.seconds, memory=args.memory * 2**20
    )
    for name in originals():
        print(f"{name:18}", {o: n for (f, o), n in sorted(report.formats.items()) if f == name})
    print(f"{dict(report.outcomes)}; at most {report.seconds:.2f} s, {report.megabytes:.0f} MB")
    for index, failure in report.failures.items():
        print(f"{index}: {failure}")
        if args.keep:
            args.keep.mkdir(parents=True, exist_ok=True)
            (args.keep / str(index)).write_bytes(mutated(args.seed, index)[1])
    if args.json:
        totals = {
            "fuzz": "images",
            **environment(),
            **{"count": args.count, "seed": args.seed, "failures": len(report.failures)},
            "outcomes": dict(report.outcomes),
            "most": {"seconds": round(report.seconds, 2), "megabytes": round(report.megabytes)},
        }
        args.json.write_text(json.dumps(totals, indent=1) + "\n")
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
