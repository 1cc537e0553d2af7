"""The images by which a run calibrates its first weights."""

from __future__ import annotations

from contextlib import closing

from normfree.models import ImageClassifier
from normfree.nn.calibration import calibrate_gains
from normfree.train.build import build_device_transform
from normfree.train.build_reader import build_reader
from normfree.train.resolve import Resolved
from normfree.train.sources import Sources


def calibrate(model: ImageClassifier, resolved: Resolved, sources: Sources) -> None:
    """Calibrate a network on the host by the first micro-batch that a single rank would read.

    All ranks see the same images, so that they begin with the same weights.
    """
    transform = build_device_transform(resolved, device="cpu")
    reader = build_reader(resolved, sources)
    with closing(reader), closing(reader.train(0)) as reading:
        images = transform(next(reading)).images
    calibrate_gains(model, transform.normalized(images))
