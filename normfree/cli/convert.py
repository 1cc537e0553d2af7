"""``normfree convert``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.schema import record


@record
class Options:
    """Turn the authors' or timm's weights into a .safetensors file of ours, or ours into timm's."""

    source: Annotated[str, Positional()]
    """A file (its content says what it is), a run directory, or hf:owner/name."""
    out: Annotated[Path, Positional()]
    """The .safetensors file to write."""
    model: str | None = None
    """Name of the network. None: inferred from the names and shapes of the weights."""
    to: Literal["normfree", "timm"] = "normfree"
    """Whose names to write."""


def run(words: Sequence[str]) -> None:
    """Convert: ``normfree convert SOURCE OUT.safetensors [--model NAME] [--to timm]``."""
    options = parse(Options, words, prog="normfree convert")
    from normfree.weights import convert

    done = convert(options.source, options.out, model=options.model, to=options.to)
    for line in (
        f"read   {options.source}: {done.model}, {done.parameters:,} parameters under the names of "
        f"{done.source_layout}",
        f"       sha256 {done.source_sha256}",
        f"wrote  {options.out}: {done.written_as} under the names of {options.to}",
        f"       sha256 {done.sha256}",
    ):
        say(line)
