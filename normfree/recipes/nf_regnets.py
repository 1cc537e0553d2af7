"""NF-RegNets on ImageNet, as the authors' code trains them; the paper has no row of theirs."""

from __future__ import annotations

from collections.abc import Iterator

from normfree.recipes.contract import paper_contract
from normfree.recipes.group import Group, Row
from normfree.train.components import Data, Network
from normfree.train.recipe import Recipe

LEVELS = range(6)


def groups() -> Iterator[Group]:
    """B0 to B5: the authors give no weight decay for the larger ones."""
    yield Group(
        title="NF-RegNets of the authors' code",
        pattern="imagenet_nf_regnet_b?",
        rows=tuple(_row(level) for level in LEVELS),
    )


def _row(level: int) -> Row:
    name = f"imagenet_nf_regnet_b{level}"
    recipe = Recipe(
        name=name,
        data=Data(source="folder:imagenet", test_margin=32, test_crop="crop_resize", workers=16),
        model=Network(name=f"nf_regnet_b{level}", stochastic_depth_rate=0.1),
    ).override(
        epochs=360,
        batch_size=1024,
        lr=0.4,
        lr_floor=1e-3,
        warmup_epochs=5,
        weight_decay=round(5e-5 + 1e-5 * level, 6),
        clipping=None,
        ema_decay=0.99999,
        mixing="mixup_cutmix",
        precision="float32",
        channels_last=True,
        log_every=100,
    )
    title = f"NF-RegNet-B{level} on ImageNet."
    expected, source = "not in the paper", "the authors' code"
    return Row(recipe, paper_contract(name, title, expected=expected, source=source))
