"""All checks, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from normfree.analysis.doctor import behavior, optimizer, structure
from normfree.analysis.doctor.finding import Check, Finding, Patient

#: In the order in which they are made. Add new checks here.
CHECKS: tuple[Check, ...] = (
    structure.not_finite,
    structure.normalization_left_in,
    structure.plain_convolution,
    structure.wrong_gain,
    structure.activation_without_gain,
    structure.wrong_beta,
    structure.no_alpha,
    optimizer.in_no_group,
    optimizer.clipped_classifier,
    optimizer.clipping_threshold,
    optimizer.decayed_gain,
    behavior.exploding_stage,
    behavior.dead_stage,
    behavior.branch_off_one,
    behavior.constant_answer,
    behavior.confident_at_first,
    behavior.unused_parameter,
    behavior.zero_gradient,
)


def examine(
    model: nn.Module,
    images: Float[Tensor, "n c h w"],
    groups: Sequence[Mapping[str, Any]] | None = None,
    *,
    fresh: bool = True,
) -> list[Finding]:
    """What is wrong with a network; it is not changed.

    Args:
        model: any image classifier.
        images: a few, normalized; noise will do.
        groups: parameter groups of its optimizer, if there is one.
        fresh: whether the weights are those of initialization, of which more can be expected.

    Returns:
        The findings; empty for a healthy network. Where weights are not finite, nothing else is
        looked for.

    Example:
        >>> import torch, normfree
        >>> model = normfree.create_model("nfnet_pico")
        >>> images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> examine(model, images)
        []
        >>> model.stages[1][0].act0.gain = 1.0
        >>> [finding.check for finding in examine(model, images)]
        ['wrong_gain']
    """
    patient = Patient(model, images, groups, fresh)
    found = list(structure.not_finite(patient))
    if found:
        return found
    return [finding for check in CHECKS[1:] for finding in check(patient)]
