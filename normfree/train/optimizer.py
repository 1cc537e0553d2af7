"""The optimizer of a run: which groups it has, and what clips their gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch

from normfree.models import ImageClassifier
from normfree.optim import AGCSGD, param_groups
from normfree.optim.clip_record import ClipRecord
from normfree.optim.clipping import Clipping
from normfree.train.components import AGC
from normfree.train.components.clipping import LAYERS
from normfree.train.resolve import Resolved


class Updater(NamedTuple):
    """What moves the weights once their gradient is complete.

    Attributes:
        optimizer: the recipe's.
        clip: in front of it; None where it clips as it goes, or nothing does.
    """

    optimizer: torch.optim.Optimizer
    clip: Clipping | None

    def __call__(self) -> ClipRecord:
        """Clip the gradients and move the weights; returns what was clipped."""
        clipped = None if self.clip is None else self.clip.clip_(self.optimizer.param_groups)
        self.optimizer.step()
        if clipped is not None:
            return clipped
        return self.optimizer.clip_record if isinstance(self.optimizer, AGCSGD) else ClipRecord()


def build_updater(model: ImageClassifier, resolved: Resolved) -> Updater:
    """The optimizer of a recipe, over the groups of :func:`normfree.optim.param_groups`.

    Raises:
        UserError: the model has no such layer to leave unclipped, or nothing is left to train.
    """
    recipe = resolved.recipe
    agc = recipe.clipping if isinstance(recipe.clipping, AGC) else None
    unclipped = ("classifier",) if agc is None else agc.unclipped
    groups = param_groups(
        model,
        weight_decay=recipe.optimizer.weight_decay,
        clipping=None if agc is None else resolved.clipping,
        classifier="auto" if "classifier" in unclipped else None,
        unclipped=() if agc is None else _places(model, unclipped),
    )
    optimizer = recipe.optimizer.build(groups, resolved.peak_lr, recipe.clipping)
    clips_itself = isinstance(optimizer, AGCSGD) and agc is not None
    if recipe.clipping is None or resolved.clipping is None or clips_itself:
        return Updater(optimizer, None)
    return Updater(optimizer, recipe.clipping.build(resolved.clipping))


def _places(model: ImageClassifier, names: tuple[str, ...]) -> list[str]:
    """The modules that a recipe's names stand for; the classifier's weight is a group anyway."""
    named = {"first_conv": model.first_conv, **LAYERS}
    return [named.get(name, name) for name in names if name != "classifier"]
