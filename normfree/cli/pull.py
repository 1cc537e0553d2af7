"""``normfree pull``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.schema import record


@record
class Options:
    """Download a network from the Hugging Face Hub, and check that it can be used."""

    repository: Annotated[str, Positional()]
    """owner/name, or owner/name@revision."""
    out: Path | None = None
    """Where it goes; then predict, eval and others take this folder. None: runs/NAME."""


def run(words: Sequence[str]) -> None:
    """Download: ``normfree pull OWNER/NAME[@REVISION] [--out DIR]``."""
    options = parse(Options, words, prog="normfree pull")
    from normfree.weights.hub import repository_of
    from normfree.weights.publish import pull

    repository, _ = repository_of(options.repository)
    folder = options.out or Path("runs", repository.rpartition("/")[2])
    card = pull(options.repository, folder).card
    classes = f"{len(card.classes):,} classes" if card.classes else "classes without names"
    say(f"{card.model['name']}, {classes}, {card.test_size} px: {folder}")
