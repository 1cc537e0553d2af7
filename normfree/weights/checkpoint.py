"""The schema of a run's checkpoints: what others than the trainer need to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from normfree.errors import UserError
from normfree.weights.card import ModelCard, read_card
from normfree.weights.torch_file import is_state_dict

#: Raised by one if a checkpoint's content changes so that older versions cannot read it.
FORMAT = 1


def is_checkpoint(content: object) -> bool:
    """Whether a file of ``torch.save`` is a run's."""
    return isinstance(content, dict) and {"format", "step", "config", "state"} <= content.keys()


def check_checkpoint(content: Any, source: str) -> dict[str, Any]:
    """The content of a checkpoint, once it is known to be one.

    Args:
        content: of a file.
        source: the file, for messages.

    Raises:
        UserError: it is none, or of a version that cannot be read.
    """
    known = is_checkpoint(content) and content["format"] == FORMAT
    whole = known and all(isinstance(content[part], dict) for part in ("config", "state"))
    if not whole or type(content["step"]) is not int or content["step"] < 0:
        raise UserError(f"{source} is not a checkpoint that this version of normfree wrote")
    return content


def averaged_weights(content: Any, source: str) -> tuple[Mapping[str, Tensor], ModelCard]:
    """The averaged weights of a checkpoint, and their card.

    Raises:
        UserError: they are missing or damaged.
    """
    weights = check_checkpoint(content, source)["state"].get("ema")
    if not is_state_dict(weights):
        raise UserError(f"{source} is a damaged checkpoint: it has no averaged weights")
    card = content.get("card") or _card_of(content["config"], source)
    if not isinstance(card, dict):
        raise UserError(f"{source} is a damaged checkpoint: it has no card")
    return weights, read_card(card | {"metrics": {"step": content["step"]}}, source)


def _card_of(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The card of a checkpoint from before they had one."""
    try:
        recipe, derived = config["recipe"], config["derived"]
        said = ("model", "classes", "mean", "std", "test_size", "test_margin")
        return {
            **{name: derived[name] for name in said},
            "test_crop": recipe.get("test_crop", "resize_crop"),
            "loss": recipe.get("loss", "softmax"),
            "recipe": recipe["name"],
            "data": recipe["data"],
        }
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f"{source} does not say how its network is fed; use the model.safetensors of its run"
        ) from None
