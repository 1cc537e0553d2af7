"""One call from a name to a network, with weights if there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from normfree.models import ImageClassifier, build_model
from normfree.weights import load_weights


def create_model(
    name: str,
    *,
    weights: str | Path | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **fields: Any,
) -> ImageClassifier:
    """A network by name.

    Args:
        name: one of :func:`normfree.list_models`.
        weights: a ``.safetensors`` file; None for a fresh initialisation.
        device: where the parameters live; ``"meta"`` builds shapes only.
        dtype: of the parameters.
        fields: any field of the network's configuration: ``num_classes``, ``in_channels``,
            ``drop_rate``, ``activation``, ``widths``, …

    Returns:
        The network, in training mode.

    Raises:
        UserError: an unknown name or field (the message has the nearest ones), or weights that do
            not fit.

    Example:
        >>> model = create_model("nfnet_pico", num_classes=10)
        >>> model(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """
    model = build_model(name, device=device, dtype=dtype, **fields)
    if weights is not None:
        load_weights(model, weights)
    return model
