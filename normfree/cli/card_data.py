"""Which images a command uses if the user names none: what the network was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from normfree.errors import UserError, printable

if TYPE_CHECKING:
    from normfree.weights import ModelCard

#: Sources that a card may name: they read none of the user's files.
_WITHOUT_PATH = ("digits", "synthetic")


def card_data(card: ModelCard, checkpoint: str, purpose: str) -> str:
    """The data source that a card names, if it may be opened.

    A card may come from anyone. A path in it is used only in a run directory, which is the user's.

    Args:
        card: of the network.
        checkpoint: the network as the user named it.
        purpose: what the images are for, in messages.

    Raises:
        UserError: the card names no source, or one with a path.
    """
    if card.data is None:
        raise UserError(
            f"{checkpoint} does not say what it was trained on; name the images to {purpose} with "
            "--data"
        )
    if card.data.partition(":")[0] in _WITHOUT_PATH or Path(checkpoint, "config.yaml").is_file():
        return card.data
    raise UserError(
        f"{checkpoint} says that it was trained on {printable(card.data, 200)}, but a path that a "
        f"file names is not opened; name the images to {purpose} with --data"
    )
