"""Make a folder of classes from a few large photographs: the crops of a photograph are a class.

    python examples/photo_folder.py /usr/share/backgrounds/mate/nature images

The training images of a class are random windows of the left 70 % of its photograph, the
validation images of the right 30 %: no pixel is in both. The photographs in the command are those
of Debian's package ``mate-backgrounds``; any directory of large images will do.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = {"train": (0.0, 0.7), "val": (0.7, 1.0)}


def windows(photo: Image.Image, part: tuple[float, float], rng: np.random.Generator, count: int):
    """Random squares of a part of the photograph, 15 to 35 % of its height, as 160×160 images."""
    left, right = (round(share * photo.width) for share in part)
    for _ in range(count):
        side = min(int(photo.height * rng.uniform(0.15, 0.35)), right - left)
        x = int(rng.integers(left, max(left + 1, right - side)))
        y = int(rng.integers(0, photo.height - side))
        yield photo.crop((x, y, x + side, y + side)).resize((160, 160), Image.Resampling.LANCZOS)


def main() -> None:
    """Read the photographs, write ``OUT/train/CLASS/*.jpg`` and ``OUT/val/CLASS/*.jpg``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photographs", type=Path, help="a directory of large images")
    parser.add_argument("out", type=Path, help="where the classes go")
    parser.add_argument("--train", type=int, default=100, help="training images of a class")
    parser.add_argument("--val", type=int, default=30, help="validation images of a class")
    args = parser.parse_args()
    counts = {"train": args.train, "val": args.val}
    files = sorted(args.photographs.glob("*.jpg"))
    if len(files) < 2:
        parser.error(f"need at least two .jpg files in {args.photographs}, found {len(files)}")
    for number, file in enumerate(files):
        photo = Image.open(file).convert("RGB")
        for split, part in SPLITS.items():
            directory = args.out / split / file.stem
            directory.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([number, len(split)])
            for i, window in enumerate(windows(photo, part, rng, counts[split])):
                window.save(directory / f"{i:03d}.jpg", quality=92)
    counted = f"{args.train} training and {args.val} validation images each"
    print(f"{len(files)} classes in {args.out}: {counted}")


if __name__ == "__main__":
    main()
