"""One call from a name to a network, with weights if there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from normfree.models import ImageClassifier, build_model
from normfree.weights import build_with, locate, read_parameters


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
        weights: a file of ours, timm's or the authors', a run directory, or ``hf:owner/name``; None
            for a fresh initialization. What the file says of the configuration is the default of
            ``fields``; another ``num_classes`` keeps all but the classifier, and warns that it
            does.
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
    if weights is None:
        return build_model(name, device=device, dtype=dtype, **fields)
    parameters = read_parameters(locate(weights))
    return build_with(parameters, name, device=device, dtype=dtype, **fields)
