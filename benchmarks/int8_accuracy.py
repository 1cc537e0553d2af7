"""Accuracy of a trained network in every form, on a whole test split, and what int8 changes.

    python benchmarks/int8_accuracy.py RUN --data idx:DIR [--images 10000] [--json FILE]

int8 is calibrated on 256 training images. ``changed`` counts the images whose most likely class
differs from the float32 network's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import normfree
from normfree.analysis.environment import environment
from normfree.data import open_source
from normfree.inference import card_transform
from normfree.inference.forms import FORMS, Example
from normfree.inference.preprocess import CardInputs, source_transform, stack

CALIBRATION_IMAGES = 256


def images_of(source, indices, predictor):
    """Normalized images of a source."""
    transform = source_transform(card_transform(predictor.card), source)
    pixels = [source.image(index) for index in indices]
    if transform is not None:
        pixels = [transform(image, None) for image in pixels]
    return CardInputs(predictor.card, "cpu").normalize(stack(pixels))


@torch.no_grad()
def main() -> None:
    """Measure, and print and store the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    predictor = normfree.load(options.run)
    train, test = open_source(options.data, "train"), open_source(options.data, "val")
    chosen = np.random.default_rng(0).permutation(len(train))[:CALIBRATION_IMAGES].tolist()
    count = min(options.images or len(test), len(test))
    batches = images_of(test, range(count), predictor).split(250)
    labels = torch.from_numpy(test.labels[:count]).long()
    example = Example(predictor.model, batches[0], images_of(train, chosen, predictor))
    rows, want = [], None
    for form in FORMS.values():
        if not form.default or form.lacks(example):
            continue
        network = form.build(example)
        found = torch.cat([network(batch) for batch in batches]).argmax(dim=1)
        want = found if want is None else want
        top1 = (found == labels).double().mean().item()
        rows.append({"form": form.name, "top1": top1, "changed": int((found != want).sum())})
        print(f"{form.name:20}{top1:8.2%}{rows[-1]['changed']:8} changed", flush=True)
    if options.json:
        found = {"benchmark": "int8_accuracy", **environment(), "run": predictor.card.recipe}
        found |= {"test_images": count, "calibration_images": CALIBRATION_IMAGES, "results": rows}
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
