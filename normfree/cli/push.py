"""``normfree push``."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.schema import record


@record
class Options:
    """Upload a trained network to the Hugging Face Hub: weights, card, and a page on it."""

    run: Annotated[str, Positional()]
    """A run directory, or a .safetensors or checkpoint of ours."""
    repository: Annotated[str, Positional()]
    """owner/name; it is created if it is not there."""
    private: bool = False
    """A new repository is for its owner only."""
    license: str | None = None
    """License of the weights, by the hub's name, such as apache-2.0. None: the page states none."""
    message: str | None = None
    """Of the commit. None: a standard one."""
    dry_run: bool = False
    """Show the page and what would be uploaded; send nothing."""
    card_only: Path | None = None
    """Write the files into this folder, to look at or to edit; send nothing."""


def run(words: Sequence[str]) -> None:
    """Upload: ``normfree push RUN OWNER/NAME [--dry-run] [--card-only DIR]``."""
    options = parse(Options, words, prog="normfree push")
    from normfree.weights.publish import prepare, push

    with tempfile.TemporaryDirectory(prefix="normfree-push-") as temporary:
        folder = options.card_only or Path(temporary)
        files = prepare(options.run, options.repository, folder, license_id=options.license)
        if options.card_only is not None:
            say(f"wrote {', '.join(path.name for path in files)} to {folder}; nothing was sent")
            return
        if options.dry_run:
            for line in (folder / "README.md").read_text().splitlines():
                say(line)
        for path in files:
            say(f"{path.stat().st_size / 1e6:9.3f} MB  {path.name}")
        if options.dry_run:
            say(f"nothing was sent to {options.repository}")
            return
        url = push(folder, options.repository, private=options.private, message=options.message)
        say(f"uploaded: {url}")
