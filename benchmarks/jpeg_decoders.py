"""JPEG decoders on real photographs: time for whole images and for the crops of training.

    python benchmarks/jpeg_decoders.py [--images 64] [--rounds 10] [--json FILE]
    python benchmarks/jpeg_decoders.py --write DIR    # for: normfree bench data --data folder:DIR

The photographs are crops of 500 × 375 pixels of the two that scikit-learn includes, saved at
quality 94 (72 KB each). Decoders that are not installed are left out: ``pip install simplejpeg
opencv-python-headless imagecodecs pyvips[binary] kornia-rs``. ``different`` is the share of values
that differ from Pillow's; ``training crops`` decodes what a crop of ``TrainTransform`` shows, or
the whole image where a decoder knows no parts. ``half_size`` tells what decoding at half the size,
which is faster, would change in an evaluation at 112 pixels: the share of values that stay within
one gray level.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("VIPS_CONCURRENCY", "1")

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from normfree.analysis.environment import environment
from normfree.analysis.latency import compare_latency
from normfree.data import EvalTransform
from normfree.data.crop import random_crop_view
from normfree.data.view import Box
from normfree.kernels import jpeg_region

HEIGHT, WIDTH, QUALITY, SIZE = 375, 500, 94, 192
Decoder = Callable[[bytes, Box | None], np.ndarray]


def photographs(count: int) -> list[bytes]:
    """Real photographs: crops of two large ones."""
    rng, files = np.random.default_rng(0), []
    for number in range(count):
        whole = load_sample_images().images[number % 2]
        top, left = (
            int(rng.integers(free + 1))
            for free in (whole.shape[0] - HEIGHT, whole.shape[1] - WIDTH)
        )
        file = io.BytesIO()
        part = whole[top : top + HEIGHT, left : left + WIDTH]
        Image.fromarray(part).save(file, "jpeg", quality=QUALITY)
        files.append(file.getvalue())
    return files


def pillow(content: bytes, _: Box | None) -> np.ndarray:
    """The reference."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def normfree_kernel(content: bytes, box: Box | None) -> np.ndarray:
    """Ours, which knows parts."""
    found = jpeg_region(content, *(box or Box(0, 0, HEIGHT, WIDTH)), channels=3)
    assert found is not None
    return found


def simplejpeg(content: bytes, _: Box | None) -> np.ndarray:
    """libjpeg-turbo."""
    return import_module("simplejpeg").decode_jpeg(content, fastdct=False, fastupsample=False)


def opencv(content: bytes, _: Box | None) -> np.ndarray:
    """libjpeg-turbo."""
    cv2 = import_module("cv2")
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


def imagecodecs(content: bytes, _: Box | None) -> np.ndarray:
    """libjpeg-turbo."""
    return import_module("imagecodecs").jpeg8_decode(content)


def pyvips(content: bytes, box: Box | None) -> np.ndarray:
    """libjpeg-turbo, row by row up to the end of the part."""
    image = import_module("pyvips").Image.new_from_buffer(content, "", access="sequential")
    return (image.crop(box.left, box.top, box.width, box.height) if box else image).numpy()


def kornia(content: bytes, _: Box | None) -> np.ndarray:
    """libjpeg-turbo."""
    return import_module("kornia_rs.io").ImageDecoder().decode(content)


DECODERS: dict[str, tuple[str, Decoder, bool]] = {
    "Pillow": ("pillow", pillow, False),
    "normfree": ("normfree", normfree_kernel, True),
    "simplejpeg": ("simplejpeg", simplejpeg, False),
    "OpenCV": ("opencv-python-headless", opencv, False),
    "imagecodecs": ("imagecodecs", imagecodecs, False),
    "pyvips": ("pyvips", pyvips, True),
    "kornia-rs": ("kornia-rs", kornia, False),
}


def installed(content: bytes) -> Iterator[str]:
    """The decoders that work here."""
    for name, (_, decode, _) in DECODERS.items():
        try:
            decode(content, None)
        except (ImportError, AttributeError, OSError) as error:
            print(f"{name} is left out: {error}")
        else:
            yield name


def measure(files: list[bytes], rounds: int) -> list[dict]:
    """A row for each decoder."""
    names = list(installed(files[0]))
    boxes = [
        random_crop_view(HEIGHT, WIDTH, SIZE, np.random.default_rng(row)).needed
        for row in range(len(files))
    ]

    def run(decode: Decoder, parts: bool) -> None:
        for content, box in zip(files, boxes, strict=True):
            decode(content, box if parts else None)

    calls = {}
    for name in names:
        _, decode, knows_parts = DECODERS[name]
        calls[f"{name}, whole"] = partial(run, decode, False)
        if knows_parts:
            calls[f"{name}, crops"] = partial(run, decode, True)
    times, rows = compare_latency(calls, rounds=rounds), []
    for name in names:
        package, decode, knows_parts = DECODERS[name]
        whole = times[f"{name}, whole"]
        crops = times[f"{name}, crops"] if knows_parts else whole
        different = [(decode(file, None) != pillow(file, None)).mean() for file in files]
        rows.append(
            {
                "decoder": name,
                "version": version(package),
                "parts": knows_parts,
                "different": float(np.mean(different)),
                "whole": asdict(whole),
                "training_crops": asdict(crops),
                "whole_per_second": len(files) / whole.median,
                "training_crops_per_second": len(files) / crops.median,
            }
        )
    return rows


def half_size(files: list[bytes]) -> float:
    """Share of values within one gray level after decoding at half the size."""
    transform, within = EvalTransform(112), []
    for content in files:
        whole, half = (Image.open(io.BytesIO(content)) for _ in range(2))
        half.draft("RGB", (WIDTH // 2, HEIGHT // 2))
        ours, expected = (transform(np.asarray(image.convert("RGB"))) for image in (half, whole))
        within.append((np.abs(ours - expected) <= 1).mean())
    return float(np.mean(within))


def main() -> None:
    """Measure, print and store the table; or write the photographs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--write", type=Path, help="write the photographs to DIR/train/any")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    files = photographs(options.images)
    if options.write:
        for name in ("any", "other"):  # a folder of images has at least two classes
            directory = options.write / "train" / name
            directory.mkdir(parents=True, exist_ok=True)
            for number, content in enumerate(files if name == "any" else files[:1]):
                (directory / f"{number:04}.jpg").write_bytes(content)
        return
    torch.set_num_threads(1)
    rows = measure(files, options.rounds)
    for row in rows:
        print(
            f"{row['decoder']:12} {row['version']:12} whole {row['whole_per_second']:6.0f}/s   "
            f"crops {row['training_crops_per_second']:6.0f}/s   different {row['different']:.2%}"
        )
    share = half_size(files)
    print(f"at half the size, {share:.0%} of an evaluation's values stay within one gray level")
    if options.json:
        found = {
            "benchmark": "jpeg_decoders",
            **environment(),
            "command": "python benchmarks/jpeg_decoders.py",
            "options": {"images": options.images, "rounds": options.rounds},
            "bytes_per_image": float(np.mean([len(file) for file in files])),
            "half_size": share,
            "results": rows,
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
