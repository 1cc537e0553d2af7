"""``normfree doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from normfree.cli.options import Positional, parse
from normfree.cli.output import say
from normfree.schema import record

if TYPE_CHECKING:
    from normfree.analysis.doctor import Finding

_SIDE, _IMAGES = 64, 4


@record
class Options:
    """What is wrong with a network or a run, and how to mend it."""

    patient: Annotated[str, Positional()]
    """Name of a network, which is examined at initialization; or a run's directory, or a file of
    weights."""


def run(words: Sequence[str]) -> None:
    """Examine: ``normfree doctor MODEL|RUN``."""
    options = parse(Options, words, prog="normfree doctor")
    path = Path(options.patient)
    findings = _of_file(path) if path.exists() else _of_model(options.patient)
    for finding in findings:
        say(f"{finding.check}: {finding.evidence}")
        say(f"  to mend it: {finding.remedy}")
    say(f"{options.patient}: {_verdict(len(findings))}")


def _verdict(count: int) -> str:
    return "healthy" if count == 0 else f"{count} finding{'s' * (count > 1)}"


def _of_model(name: str) -> list[Finding]:
    import torch

    from normfree.analysis.doctor import examine
    from normfree.factory import create_model
    from normfree.optim import param_groups

    torch.manual_seed(0)
    model = create_model(name)
    side = min(_SIDE, model.config.train_size)
    images = torch.randn(_IMAGES, model.config.in_channels, side, side)
    groups = param_groups(model, weight_decay=2e-5, clipping=0.01)
    return examine(model, images, groups)


def _of_file(path: Path) -> list[Finding]:
    import torch

    from normfree.analysis.doctor import examine
    from normfree.inference import load
    from normfree.report.checks import examine_run

    findings = examine_run(path) if path.is_dir() else []
    if path.is_dir() and not (path / "model.safetensors").is_file():
        return findings
    predictor = load(path)
    side = predictor.card.test_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(_IMAGES, predictor.card.channels, side, side, generator=generator)
    return findings + examine(predictor.model, images, fresh=False)
