"""What ``normfree export`` says of the file that it wrote: how far it agrees with the network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from normfree.cli.card_data import card_data
from normfree.errors import BadImageError, UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from normfree.data import Source
    from normfree.inference.agreement import Agreement
    from normfree.weights import ModelCard

_MOST_IMAGES = 256
_PIXELS = 2**21  # of all: 32 images of 256 × 256


class Images(NamedTuple):
    """What a file is checked with.

    Attributes:
        pixels: normalized images.
        labels: their classes; None if they have several each, or are noise.
        said: what they are.
    """

    pixels: Tensor
    labels: Tensor | None
    said: str


def check_images(card: ModelCard, checkpoint: str, data: str | None) -> Images:
    """Validation images, chosen at random but always the same; noise where there are none.

    Args:
        card: of the network.
        checkpoint: the network as the user named it.
        data: source of the images; None: the one that the card names, if it may be opened.

    Raises:
        UserError: the user named a source that cannot be opened.
    """
    from normfree.data import open_source
    from normfree.inference.optimize import noise

    most = max(8, min(_MOST_IMAGES, _PIXELS // card.test_size**2))
    try:
        named = data or card_data(card, checkpoint, "check it with")
        source = open_source(named, "val", card.classes, val_fraction=card.val_fraction)
        return _chosen(source, card, most, f"validation images of {named}")
    except UserError:
        if data is not None:
            raise
    return Images(noise(8, card.channels, card.test_size), None, "images of noise")


def _chosen(source: Source, card: ModelCard, most: int, said: str) -> Images:
    import numpy as np
    import torch

    from normfree.inference import card_transform, source_transform
    from normfree.inference.preprocess import CardInputs, stack

    if source.channels != card.channels:
        raise UserError(
            f"the network takes images of {card.channels} channels, and those of the data have "
            f"{source.channels}; name others with --data"
        )
    transform = source_transform(card_transform(card), source)
    pixels, labels = [], []
    for index in np.random.default_rng(0).permutation(len(source)).tolist():
        try:
            image = source.image(index)
        except BadImageError:
            continue
        pixels.append(image if transform is None else transform(image, None))
        labels.append(source.labels[index])
        if len(pixels) == most:
            break
    if not pixels:
        raise UserError("none of the images to check the file with can be read")
    single = np.ndim(source.labels) == 1 and tuple(source.classes) == card.classes
    known = torch.tensor(np.array(labels)) if single else None
    return Images(CardInputs(card, "cpu").normalize(stack(pixels)), known, said)


def checked(
    model: nn.Module, exported: nn.Module, images: Images, card: ModelCard, *, int8: bool
) -> Iterator[str]:
    """Lines that say how far a file agrees with the network, and what int8 lost."""
    from normfree.inference.agreement import agreement

    found = agreement(model, exported, images.pixels, card.loss, images.labels)
    if math.isnan(found.difference):
        yield "it cannot be compared with the network: logits are not finite"
        return
    yield (
        f"on {found.images} {images.said}, its probabilities differ from the network's by "
        f"{found.difference:.1g} at most, and {found.same_top1:.2%} have the same top-1 class"
    )
    if int8:
        yield _lost(found)


def _lost(found: Agreement) -> str:
    if found.accuracy is None:
        return "what int8 lost in accuracy is unknown: name images with labels by --data"
    before, after = found.accuracy
    return (
        f"int8 lost {100 * (before - after):.2f} points of accuracy on them: "
        f"{before:.2%} before, {after:.2%} now"
    )
