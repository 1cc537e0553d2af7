"""Create a network by name, optionally with weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from normfree.models import ImageClassifier, build_model
from normfree.weights import build_with, locate, named, read_parameters


def create_model(
    name: str,
    *,
    weights: str | Path | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **fields: Any,
) -> ImageClassifier:
    """Create a network by name.

    Args:
        name: one of :func:`normfree.list_models`.
        weights: ``"pretrained"``, weights that were published for this network; a file from
            normfree, timm or the authors, a URL of one, a run directory, or ``hf:owner/name``;
            None initializes the network randomly. The file's configuration provides the defaults
            of ``fields``. With another ``num_classes``, everything but the classifier is loaded,
            with a warning.
        device: device of the parameters; ``"meta"`` allocates no memory.
        dtype: dtype of the parameters.
        fields: any field of the network's configuration: ``num_classes``, ``in_channels``,
            ``drop_rate``, ``activation``, ``widths``, …

    Returns:
        The network, in training mode.

    Raises:
        UserError: the name or a field is unknown (the message suggests similar ones), or the
            weights do not fit.

    Example:
        >>> model = create_model("nfnet_pico", num_classes=10)
        >>> model(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """
    if weights is None:
        return build_model(name, device=device, dtype=dtype, **fields)
    parameters = read_parameters(locate(named(weights, name)))
    return build_with(parameters, name, device=device, dtype=dtype, **fields)
