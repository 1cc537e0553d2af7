"""The optimizer of a recipe: which groups it has, what it clips, how it is updated."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from normfree.models import ImageClassifier
from normfree.optim import AGCSGD, LARS, RMSProp, param_groups
from normfree.optim.clipping import clip_gradients_
from normfree.train.resolve import Resolved

#: Sets of layers that have a name of their own in ``Recipe.unclipped`` → where they are.
LAYERS = {f"stage{number}": f"stages.{number - 1}" for number in (1, 2, 3, 4)}


def new_optimizer(model: ImageClassifier, resolved: Resolved) -> torch.optim.Optimizer:
    """The optimizer of a recipe, over the groups of :func:`normfree.optim.param_groups`.

    Raises:
        UserError: the model has no such layer to leave unclipped, or nothing is left to train.
    """
    recipe = resolved.recipe
    by_norms = recipe.clip != "global"
    groups = param_groups(
        model,
        weight_decay=recipe.weight_decay,
        clipping=resolved.clipping if by_norms else None,
        classifier="auto" if "classifier" in recipe.unclipped else None,
        unclipped=_unclipped(model, recipe.unclipped) if by_norms else (),
    )
    lr, momentum = resolved.peak_lr, recipe.momentum
    match recipe.optimizer:
        case "lars":
            return LARS(groups, lr=lr, momentum=momentum)
        case "rmsprop":
            return RMSProp(groups, lr=lr, momentum=momentum)
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999))
    return AGCSGD(
        groups,
        lr=lr,
        momentum=momentum,
        nesterov=recipe.nesterov,
        eps=recipe.agc_eps,
        unitwise=recipe.clip == "unit",
    )


def update(optimizer: torch.optim.Optimizer, resolved: Resolved) -> tuple[Int[Tensor, ""], int]:
    """Clip the gradients and move the weights.

    Returns:
        How many units were clipped (on the device) and how many could have been.
    """
    recipe = resolved.recipe
    if isinstance(optimizer, AGCSGD) and recipe.clip != "global":  # it clips as it goes
        optimizer.step()
        return optimizer.clipped_units, optimizer.total_units
    counted = torch.zeros((), dtype=torch.int64, device=resolved.device), 0
    if resolved.clipping is not None:
        counted = clip_gradients_(
            optimizer.param_groups, recipe.clip, resolved.clipping, recipe.agc_eps
        )
    optimizer.step()
    return counted


def _unclipped(model: ImageClassifier, names: tuple[str, ...]) -> list[str]:
    """The modules that a recipe's names stand for; the classifier's weight is a group anyway."""
    named = {"first_conv": model.first_conv, **LAYERS}
    return [named.get(name, name) for name in names if name != "classifier"]
