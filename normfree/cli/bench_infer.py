"""``normfree bench infer``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from normfree.cli.options import parse
from normfree.cli.output import say
from normfree.cli.threads import torch_threads
from normfree.errors import UsageError
from normfree.schema import record

if TYPE_CHECKING:
    from normfree.inference.forms import Example, Form


@record
class Options:
    """Time of a prediction on this machine: networks as trained, and in forms to deploy.

    The forms: folded, channels_last, prepacked (oneDNN's layout), compiled (torch.compile), onnx
    (ONNX Runtime), openvino; bfloat16, prepacked_bfloat16, openvino_bfloat16; onnx_int8 and
    openvino_int8, calibrated on noise; all: every form that can be built here. All take turns, so
    what slows the machine slows all of them.
    """

    models: tuple[str, ...] = ("nfnet_f0",)
    """Names of networks; their weights are random, which changes no time."""
    forms: tuple[str, ...] = ("folded", "channels_last", "prepacked")
    """What to compare the trained form with."""
    peers: bool = False
    """Measure timm's network of the same kind too, in its best settings; timm must be installed."""
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
    from normfree.cli.peers import peer_name
    from normfree.models import model_config

    for name in options.models:
        config = model_config(name)  # a wrong name is said before anything is measured
        if options.peers:
            peer_name(config)
    chosen_forms(options.forms)
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

    from normfree.analysis.complexity import count_macs
    from normfree.analysis.latency import compare_latency
    from normfree.cli.peers import peer_networks
    from normfree.factory import create_model
    from normfree.inference.forms import Example
    from normfree.inference.optimize import relative_error

    torch.manual_seed(0)
    model = create_model(name).eval().requires_grad_(False)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("skip_gain"):
            parameter.fill_(1.0)  # at zero, the logits would not show whether the branches agree
        if parameter_name == "classifier.weight":
            parameter.normal_(std=0.01)  # nor would they if this were zero
    size = options.size or model.config.train_size
    images = torch.randn(options.batch_size, model.config.in_channels, size, size)
    calls = {form.name: form.build for form in chosen_forms(options.forms)}
    example = Example(model, images, calibration=torch.randn(16, *images.shape[1:]))
    networks = {name: build(example) for name, build in calls.items() if _known(name, example)}
    peers = peer_networks(model.config, images) if options.peers else {}
    with torch.inference_mode():
        want = model(images)
        errors = {variant: relative_error(made(images), want) for variant, made in networks.items()}
        timed = {
            variant: partial(network, images) for variant, network in (networks | peers).items()
        }
        latencies = compare_latency(timed | ceiling_calls(), rounds=options.rounds)
    ceiling = max(flops / latencies.pop(name).median for name, flops in CEILINGS.items())
    flops = 2 * count_macs(model, size) * options.batch_size
    for variant, latency in latencies.items():
        yield {
            "model": name,
            "form": variant,
            "size": size,
            "batch_size": options.batch_size,
            "speedup": latencies["trained"].median / latency.median,
            "error": errors.get(variant),  # a peer has other weights
            "gflops": flops / latency.median / 1e9,
            "ceiling_gflops": ceiling / 1e9,
            "ceiling_fraction": flops / latency.median / ceiling,
            "seconds": asdict(latency),
        }


def chosen_forms(names: Sequence[str]) -> list[Form]:
    """The trained form, and those that were named.

    Raises:
        UserError: there is no such form.
    """
    from normfree.inference.forms import FORMS, named

    listed = list(FORMS) if "all" in names else ["trained", *names]
    return named(dict.fromkeys(listed))


def _known(name: str, example: Example) -> bool:
    """Whether a form can be built here; if not, say why."""
    from normfree.inference.forms import FORMS

    if said := FORMS[name].lacks(example):
        say(f"{name} is left out: it {said}", stderr=True)
    return not said


#: Calls that show what the processor can do → floating-point operations of one call.
CEILINGS = {"matrix product": 2 * 1024**3, "1×1 convolution": 2 * 8 * 24**2 * 512**2}


def ceiling_calls() -> dict[str, Callable[[], object]]:
    """A matrix product and a channels-last 1×1 convolution, large enough to be bound by compute."""
    import torch

    a, b = torch.randn(2, 1024, 1024)
    conv = torch.nn.Conv2d(512, 512, 1, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(8, 512, 24, 24).to(memory_format=torch.channels_last)
    return {"matrix product": lambda: a @ b, "1×1 convolution": lambda: conv(x)}


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in (
        "model",
        "form",
        "px",
        "batch",
        "median ms",
        "quartiles ms",
        "faster",
        "error",
        "of ceiling",
    ):
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
            "" if row["error"] is None else f"{row['error']:.0e}",
            f"{row['ceiling_fraction']:.0%}",
        )
    return table
