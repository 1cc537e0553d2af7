"""``normfree bench infer``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from normfree.cli.options import parse
from normfree.cli.threads import torch_threads
from normfree.errors import UsageError
from normfree.schema import record

if TYPE_CHECKING:
    from torch import Tensor, nn

    from normfree.models import ImageClassifier

Form = Literal["folded", "channels_last", "bfloat16", "compiled", "onnx"]


@record
class Options:
    """Time of a prediction on this machine: networks as trained, and in forms to deploy.

    The forms: folded; folded with channels_last memory; that in bfloat16; folded and compiled by
    torch.compile; folded and run by ONNX Runtime. All take turns, so what slows the machine slows
    all of them.
    """

    models: tuple[str, ...] = ("nfnet_f0",)
    """Names of networks; their weights are random, which changes no time."""
    forms: tuple[Form, ...] = ("folded", "channels_last")
    """What to compare the trained form with."""
    size: int | None = None
    """Side of the images, pixels. None: the network's training size."""
    batch_size: int = 1
    """Images at a time."""
    threads: int | None = None
    """Processor cores to use. None: all."""
    rounds: int = 20
    """Times that each form is timed."""
    json: Path | None = None
    """Write the numbers, and where they were measured, to this file."""


def run(words: Sequence[str]) -> None:
    """Measure: ``normfree bench infer [--models …] [--json FILE]``."""
    options = parse(Options, words, prog="normfree bench infer")
    for name in ("batch_size", "rounds", "size"):
        least = 2 if name == "rounds" else 1
        value = getattr(options, name)
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")

    from normfree.analysis.environment import environment
    from normfree.models import model_config

    for name in options.models:
        model_config(name)  # a wrong name is said before anything is measured
    with torch_threads(options.threads):
        rows = [row for name in options.models for row in _measure(name, options)]
        where = environment()
    Console().print(_table(rows))
    if options.json is not None:
        found = {"benchmark": "infer", **where, "results": rows}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def _measure(name: str, options: Options) -> Iterator[dict[str, Any]]:
    """A row for each form of a network."""
    import torch

    from normfree.analysis.latency import compare_latency
    from normfree.factory import create_model

    torch.manual_seed(0)
    model = create_model(name).eval().requires_grad_(False)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("skip_gain"):
            parameter.fill_(1.0)  # at zero, the logits would not show whether the branches agree
        if parameter_name == "classifier.weight":
            parameter.normal_(std=0.01)  # nor would they if this were zero
    size = options.size or model.config.train_size
    images = torch.randn(options.batch_size, model.config.in_channels, size, size)
    with torch.inference_mode(), TemporaryDirectory() as directory:
        calls = {"trained": lambda: model(images)}
        for form in options.forms:
            calls[form] = _form(form, model, images, Path(directory))
        want = model(images)
        errors = {
            variant: (call() - want).abs().max() / want.abs().max()
            for variant, call in calls.items()
        }
        latencies = compare_latency(calls, rounds=options.rounds)
    for variant, latency in latencies.items():
        yield {
            "model": name,
            "form": variant,
            "size": size,
            "batch_size": options.batch_size,
            "speedup": latencies["trained"].median / latency.median,
            "error": errors[variant].item(),
            "seconds": asdict(latency),
        }


def _form(
    form: Form, model: ImageClassifier, images: Tensor, directory: Path
) -> Callable[[], Tensor]:
    """A call that predicts in one form."""
    import torch

    from normfree.models import fold

    folded = fold(model)
    if form == "folded":
        return lambda: folded(images)
    network: nn.Module = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = images.to(memory_format=torch.channels_last)
    match form:
        case "channels_last":
            return lambda: network(x)
        case "bfloat16":
            network, x = network.bfloat16(), x.bfloat16()
            return lambda: network(x).float()
        case "compiled":
            compiled = torch.compile(network)
            return lambda: compiled(x)
        case "onnx":
            from normfree.inference import export_model, open_exported

            path = directory / "network.onnx"
            export_model(model, path, {"test_size": images.shape[2]})
            exported, _ = open_exported(path)
            return lambda: exported(images)


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "form", "px", "batch", "median ms", "quartiles ms", "faster", "error"):
        table.add_column(heading, justify="left" if heading in ("model", "form") else "right")
    for row in rows:
        low, median, high = (1000 * row["seconds"][key] for key in ("low", "median", "high"))
        table.add_row(
            row["model"],
            row["form"],
            str(row["size"]),
            str(row["batch_size"]),
            f"{median:.1f}",
            f"{low:.1f}–{high:.1f}",
            f"{row['speedup']:.2f}×",
            f"{row['error']:.0e}",
        )
    return table
