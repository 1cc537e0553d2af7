"""``digits``: scikit-learn's handwritten digits, real images that need no download."""

from __future__ import annotations

import numpy as np

from normfree.data.sources.registry import Opening, register_source
from normfree.data.sources.source import ArraySource, Split
from normfree.errors import UserError


@register_source("digits")
def open_digits(argument: str, split: Split, opening: Opening) -> ArraySource:
    """1,797 handwritten digits, 8 × 8 pixels, grayscale: 1,442 for training, 355 for validation.

    Every fifth example of each class is for validation. The file does not record who wrote which
    digit, so the splits cannot be separated by writer: validation accuracy is for writers seen in
    training.

    Args:
        argument: empty.
        split: ``train`` or ``val``.
        opening: not used.

    Returns:
        The digits, with their 17 gray levels scaled to 0 to 255.

    Raises:
        UserError: scikit-learn is not installed.

    >>> from normfree.data import open_source
    >>> train, val = open_source("digits", "train"), open_source("digits", "val")
    >>> len(train), len(val), val.image(0).shape
    (1442, 355, (8, 8, 1))

    Source: E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits* (1998), UCI; the
    subset included in scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            "the source 'digits' needs scikit-learn: pip install 'normfree[demo]'"
        ) from error
    stored = load_digits()
    labels = stored.target.astype(np.int64)
    turn = np.zeros_like(labels)  # number of earlier examples of the same class
    for label in range(10):
        turn[labels == label] = np.arange((labels == label).sum())
    chosen = (turn % 5 == 4) == (split == "val")
    pixels = np.rint(stored.images[chosen, ..., None] * (255 / 16)).astype(np.uint8)
    return ArraySource("digits", pixels, labels[chosen], tuple(map(str, range(10))))
