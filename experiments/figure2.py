"""Figure 2a of the paper in small: NF-ResNets with and without AGC as the batch grows.

    FASHION_MNIST=DIR python -m experiments.figure2

ResNets of 26 layers, an eighth as wide as the paper's, by the paper's recipe but for the length.
The rate of every point is the best of a grid of factors of two, which goes on until the best is
not at its edge; clipped networks choose λ in the same way. Both are chosen on the last 6,000
training images (``figure2_rates_B``, one run each). Points are the mean of the best four of five
runs, judged on ``t10k`` (``figure2_B``).
"""

from __future__ import annotations

import statistics
from typing import Any

from experiments.data import DATA, fashion_classes
from experiments.study import DOCS, Line, Study, command_line, put, run
from normfree.recipes.imagenet import PLAIN, RESNET

BATCHES = (64, 256, 2048)
CLIPPINGS = (0.01, 0.04, 0.16, 0.64)
FIRST_RATES = (0.1, 0.2, 0.4)
IMAGES, HELD_OUT, CLASSES = 1200, 6000, range(10)  # of each class; that validate
PLACES = {"validation": DATA / "figure2-val", "test": DATA / "figure2-test"}

KINDS: dict[str, dict[str, Any]] = {
    "batch-normalized": {"model": "bn_resnet50", **PLAIN},
    "NF": {"model": "nf_resnet50", "clipping": None},
    **{f"NF, AGC {x}": {"model": "nf_resnet50", "clipping": x} for x in CLIPPINGS},
}
#: What is a curve of the figure → the kinds of which the best is taken.
CURVES = {
    "batch-normalized": ("batch-normalized",),
    "NF, no clipping": ("NF",),
    "NF, AGC": tuple(f"NF, AGC {x}" for x in CLIPPINGS),
}


def study(name: str, batch: int, judged: str, variants: dict[str, Any], seeds: int) -> Study:
    """Variants of the paper's recipe for ResNets, on 12,000 images."""
    base = RESNET.override(
        data=f"idx:{PLACES[judged]}",
        workers=0,
        test_margin=0,
        train_size=28,
        test_size=28,
        model_options={"widths": [32, 64, 128, 256], "depths": [2, 2, 2, 2]},
        batch_size=batch,
        epochs=8,
        warmup_fraction=5 / 90,
        augment="shift_flip",
        shift_padding=2,
        precision="float32",
    )
    return Study(name=f"{name}_{batch}", base=base, variants=variants, seeds=seeds, judged=judged)


def rates(batch: int, tried: dict[str, list[float]]) -> Study:
    """One run for each kind and rate."""
    variants = {
        f"{kind}, rate {rate:g}": KINDS[kind] | {"base_lr": rate}
        for kind in KINDS
        for rate in tried[kind]
    }
    return study("figure2_rates", batch, "validation", variants, 1)


def reached(lines: list[Line], kind: str, rate: float) -> float:
    """The accuracy of a run; a run that diverged has that of a guess."""
    name = f"{kind}, rate {rate:g}"
    return max((x["top1"] or 0.1 for x in lines if x["variant"] == name), default=0.0)


def search(batch: int) -> dict[str, list[float]]:
    """Run rates until no best one is at the edge; returns those tried, in order."""
    tried = {kind: list(FIRST_RATES) for kind in KINDS}
    while True:
        chosen = rates(batch, tried)
        run(chosen)
        lines, before = chosen.lines(), str(tried)
        for kind, grid in tried.items():
            best = max(grid, key=lambda rate: reached(lines, kind, rate))
            if best == grid[-1]:
                grid.append(2 * best)
            elif best == grid[0]:
                grid.insert(0, best / 2)
        if str(tried) == before:
            return tried


def best(batch: int, curve: str) -> tuple[str, float]:
    """The kind and the rate of the best run of a curve, of those stored."""
    lines = study("figure2_rates", batch, "validation", {}, 1).lines()
    line = max(
        (x for x in lines if x["variant"].rpartition(", rate ")[0] in CURVES[curve]),
        key=lambda x: x["top1"] or 0.1,
    )
    kind, _, rate = line["variant"].rpartition(", rate ")
    return kind, float(rate)


def points(batch: int) -> Study:
    """Five runs of each curve at its best."""
    variants = {}
    for curve in CURVES:
        kind, rate = best(batch, curve)
        variants[f"{kind}, rate {rate:g}"] = KINDS[kind] | {"base_lr": rate}
    return study("figure2", batch, "test", variants, 5)


def best_four(lines: list[Line]) -> str:
    """Mean ± standard deviation of the best four of five runs; a run that diverged guesses."""
    values = sorted((100 * (line["top1"] or 0.1) for line in lines), reverse=True)[:4]
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def write_tables() -> None:
    """A row for each batch size: what the curves reached; and how far every rate got."""
    figure = [f"| batch | {' | '.join(CURVES)} |", "|---" * (1 + len(CURVES)) + "|"]
    search_rows = ["| batch | | rate: top-1, % |", "|---|---|---|"]
    for batch in BATCHES:
        lines = study("figure2_rates", batch, "validation", {}, 1).lines()
        for kind in KINDS:
            of_kind = sorted(
                (float(x["variant"].rpartition(" ")[2]), x["top1"])
                for x in lines
                if x["variant"].rpartition(", rate ")[0] == kind
            )
            said = "; ".join(
                f"{rate:g}: {100 * top1:.1f}" if top1 else f"{rate:g}: diverged"
                for rate, top1 in of_kind
            )
            search_rows.append(f"| {batch} | {kind} | {said} |")
        chosen = points(batch)
        cells = [
            best_four([x for x in chosen.lines() if x["variant"] == name]) + f" ({setting(name)})"
            for name in chosen.variants
        ]
        figure.append(f"| {batch} | {' | '.join(cells)} |")
    page = DOCS / "figure2.md"
    put(page, "figure2", "\n".join(figure))
    put(page, "figure2_rates", "\n".join(search_rows))


def setting(name: str) -> str:
    """What was chosen: λ, if any, and the rate."""
    kind, _, rate = name.rpartition(", rate ")
    clipping = kind.partition("AGC ")[2]
    return f"λ {clipping}, rate {rate}" if clipping else f"rate {rate}"


if __name__ == "__main__":
    options = command_line(__doc__)
    if not options.tables:
        for judged, held_out in (("validation", HELD_OUT), ("test", 0)):
            fashion_classes(PLACES[judged], CLASSES, IMAGES, held_out=held_out)
        for batch in BATCHES:
            if not options.only or f"figure2_{batch}" in options.only:
                search(batch)
                run(points(batch))
    if options.tables or not options.only:
        write_tables()
