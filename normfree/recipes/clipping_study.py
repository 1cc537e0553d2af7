"""Section 4.1: figures 2 and 7 (batch size and λ), and the sweep over layers that need clipping."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from normfree.recipes.contract import paper_contract
from normfree.recipes.group import Group, Row
from normfree.recipes.imagenet import ASSUMED_OF_BN, ASSUMED_OF_NF, PLAIN, RESNET
from normfree.recipes.sweep import Sweep, SweepRun

BATCH_SIZES = (256, 512, 1024, 2048, 4096)
CLIPPINGS = (0.01, 0.02, 0.04, 0.08, 0.16)
DEPTHS = (50, 200)

#: Sets of layers, as ``--unclipped`` calls them.
LAYERS = ("first_conv", "classifier", "stage1", "stage2", "stage3", "stage4")


def groups() -> Iterator[Group]:
    """Figures 2a, 2b and 7."""
    yield Group(
        title="figure 2a: batch-normalized ResNets",
        pattern="imagenet_bn_resnet*_b*",
        rows=tuple(_batch_normalized(*row) for row in product(DEPTHS, BATCH_SIZES)),
    )
    yield Group(
        title="figure 2a: NF-ResNets without AGC",
        pattern="imagenet_nf_resnet*_noagc",
        rows=tuple(_without_agc(*row) for row in product(DEPTHS, BATCH_SIZES)),
    )
    for depth, figure in zip(DEPTHS, ("figure 2b", "figure 7"), strict=True):
        yield Group(
            title=f"{figure}: λ for NF-ResNet-{depth}; the best are figure 2a's",
            pattern=f"imagenet_nf_resnet{depth}_b*_agc*",
            rows=tuple(_with_agc(figure, depth, *row) for row in product(BATCH_SIZES, CLIPPINGS)),
        )


def layer_sets() -> list[tuple[str, ...]]:
    """All 64 sets of the first convolution, the classifier and the four stages.

    >>> layer_sets()[0], layer_sets()[0b010101]
    ((), ('first_conv', 'stage1', 'stage3'))
    """
    return [
        tuple(layer for place, layer in enumerate(LAYERS) if bits >> place & 1)
        for bits in range(2 ** len(LAYERS))
    ]


def layer_sweep() -> Sweep:
    """The second ablation of section 4.1: which layers need clipping."""
    return Sweep(
        name="unclipped_layers",
        title="NF-ResNet-50 on ImageNet at batch 4096, AGC everywhere but in some layers.",
        source="section 4.1, second ablation; assumed: depth 50, " + ASSUMED_OF_NF,
        recipe="imagenet_nf_resnet50_b4096_agc0.01",
        runs=tuple(
            SweepRun(settings={"unclipped": layers}, expected=_said_of(layers))
            for layers in layer_sets()
        ),
    )


def _batch_normalized(depth: int, batch: int) -> Row:
    name = f"imagenet_bn_resnet{depth}_b{batch}"
    title = f"Batch-normalized ResNet-{depth} on ImageNet, batch {batch}."
    return _row(name, title, "figure 2a", model=f"bn_resnet{depth}", batch_size=batch, **PLAIN)


def _without_agc(depth: int, batch: int) -> Row:
    name = f"imagenet_nf_resnet{depth}_b{batch}_noagc"
    title = f"NF-ResNet-{depth} on ImageNet without AGC, batch {batch}."
    return _row(
        name, title, "figure 2a", model=f"nf_resnet{depth}", batch_size=batch, clipping=None
    )


def _with_agc(figure: str, depth: int, batch: int, clipping: float) -> Row:
    name = f"imagenet_nf_resnet{depth}_b{batch}_agc{clipping:g}"
    title = f"NF-ResNet-{depth} on ImageNet, batch {batch}, λ = {clipping:g}."
    return _row(name, title, figure, model=f"nf_resnet{depth}", batch_size=batch, clipping=clipping)


def _said_of(layers: tuple[str, ...]) -> str:
    """What section 4.1 says of training without clipping these layers."""
    if any(layer.startswith("stage") for layer in layers):
        return "not stable"
    if "first_conv" in layers:
        return "often stable"
    return "what the rest of the paper does" if layers == ("classifier",) else "not said"


def _row(name: str, title: str, source: str, *, expected: str = "", **changes: Any) -> Row:
    recipe = RESNET.override(name=name, epochs=90, **changes)
    assumed = ASSUMED_OF_BN if recipe.model.name.startswith("bn_") else ASSUMED_OF_NF
    contract = paper_contract(
        name,
        title,
        expected=expected or f"drawn only: {source}",
        source=f"{source}; assumed: {assumed}",
    )
    return Row(recipe, contract)
