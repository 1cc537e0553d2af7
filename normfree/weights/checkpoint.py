"""The parts of the checkpoint schema that are used outside the trainer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from normfree.errors import UserError
from normfree.weights.card import ModelCard, read_card
from normfree.weights.torch_file import is_state_dict

#: Version of checkpoints, incremented when older versions of normfree can no longer read them.
FORMAT = 2
#: Of the checkpoints that are one ``torch.save`` file, as they were before.
FILE_FORMAT = 1

_NAME = re.compile(r"step-([0-9]+)(\.pt)?")


def list_checkpoints(directory: Path) -> list[Path]:
    """The checkpoints of a run, oldest first; other names are ignored.

    The step in the name says which is newer: clocks go wrong. A file is a checkpoint from before
    they were directories.
    """
    named = {path: _NAME.fullmatch(path.name) for path in directory.glob("step-*")}
    return sorted(
        (path for path, match in named.items() if match and path.is_dir() != bool(match[2])),
        key=lambda path: (step_of(path), path.is_dir()),
    )


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint.

    >>> step_of(Path("step-00000120")), step_of(Path("step-00000080.pt"))
    (120, 80)
    """
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def is_checkpoint(content: object) -> bool:
    """Whether the content of a file or directory is a checkpoint of a run."""
    return isinstance(content, dict) and {"format", "step", "config", "state"} <= content.keys()


def check_checkpoint(content: Any, source: str) -> dict[str, Any]:
    """Check that the content of a file is a checkpoint, and return it.

    Args:
        content: content of the file.
        source: name of the file in messages.

    Raises:
        UserError: it is not a checkpoint, or its version is not supported.
    """
    known = is_checkpoint(content) and content["format"] in (FILE_FORMAT, FORMAT)
    whole = known and all(isinstance(content[part], dict) for part in ("config", "state"))
    if not whole or type(content["step"]) is not int or content["step"] < 0:
        raise UserError(f"{source} is not a checkpoint that this version of normfree wrote")
    return content


def averaged_weights(content: Any, source: str) -> tuple[Mapping[str, Tensor], ModelCard]:
    """The averaged weights of a checkpoint, and their card.

    Raises:
        UserError: the weights or the card are missing or damaged.
    """
    state = check_checkpoint(content, source)["state"]
    weights = state.get("ema", state.get("model"))  # a run without an average has none
    if not is_state_dict(weights):
        raise UserError(f"{source} is a damaged checkpoint: it has no averaged weights")
    card = content.get("card") or _card_of(content["config"], source)
    if not isinstance(card, dict):
        raise UserError(f"{source} is a damaged checkpoint: it has no card")
    return weights, read_card(card | {"metrics": {"step": content["step"]}}, source)


def _card_of(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Build the card of an older checkpoint, which was saved without one."""
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
            f"{source} has no preprocessing settings; use the model.safetensors of its run"
        ) from None
