"""The images by which a run calibrates its first weights."""

from __future__ import annotations

from normfree.data import BadImages, train_batches
from normfree.models import ImageClassifier
from normfree.nn.calibration import calibrate_gains
from normfree.train.build import build_device_transform
from normfree.train.build_reader import build_plan, train_transform
from normfree.train.resolve import Resolved
from normfree.train.sources import Sources


def calibrate(model: ImageClassifier, resolved: Resolved, sources: Sources) -> None:
    """Calibrate a network on the host by the first micro-batch that a single rank would read.

    All ranks see the same images, so that they begin with the same weights. Images that cannot be
    read are passed over: training meets them, and has a run to say so in.
    """
    reading = train_batches(
        sources.train,
        train_transform(resolved, sources.train),
        build_plan(resolved),
        start=0,
        stop=1,
        on_bad_image="skip",
        bad_images=BadImages(),
    )
    transform = build_device_transform(resolved, device="cpu")
    images = transform(next(reading)).images
    calibrate_gains(model, transform.normalized(images))
