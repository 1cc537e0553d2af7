"""``normfree bench``: find the benchmark and run it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from rich.console import Console

from normfree.errors import UsageError, unknown_name

#: Benchmark → what it measures. Each is a module ``bench_…`` here with a function ``run(words)``.
BENCHMARKS = {
    "train": "time of a training step: networks beside timm's, or a recipe beside its variants",
    "infer": "time of a prediction: as trained, folded, and otherwise",
    "optim": "time of an optimizer step, beside torch's SGD",
    "data": "images a second of reading, decoding, cropping, batching, beside Pillow",
    "augment": "images a second of mixing and RandAugment, beside Pillow",
}


def run(words: Sequence[str]) -> None:
    """Measure: ``normfree bench infer [options]``."""
    if not words or words[0] in ("--help", "-h"):
        listed = "\n".join(f"  {name:10}{purpose}" for name, purpose in BENCHMARKS.items())
        text = f"usage: normfree bench BENCHMARK [options]\n\n{listed}"
        Console().print(text, markup=False, highlight=False, soft_wrap=True)
        return
    name, *options = words
    if name not in BENCHMARKS:
        raise UsageError(str(unknown_name("benchmark", name, BENCHMARKS)))
    import_module(f"normfree.cli.bench_{name}").run(options)
