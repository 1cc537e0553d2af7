"""Tables 1 and 3: the NFNets on ImageNet, by the whole recipe of section 5.1 and appendix A.

The other families of recipes are changes of :data:`FULL` and :data:`RESNET`. Depths, dropout, sizes
and RandAugment's magnitude are the model's (table 1), so they follow ``--model``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from normfree.recipes.contract import paper_contract
from normfree.recipes.group import Group, Row
from normfree.train.components import (
    AGC,
    SGD,
    Augmentation,
    Average,
    Batch,
    Compute,
    Cosine,
    CropFlip,
    Data,
    Epochs,
    Loop,
    Loss,
    Mixing,
    Network,
    RandomOperations,
    ScaledRate,
    WarmupEpochs,
)
from normfree.train.recipe import Recipe

#: Section 5.1 and appendices A.1 to A.3.
FULL = Recipe(
    name="imagenet_nfnet_f0",
    data=Data(source="folder:imagenet", test_margin=32, workers=16),
    model=Network(name="nfnet_f0", stochastic_depth_rate=0.25),
    batch=Batch(size=4096),
    length=Epochs(epochs=360),
    optimizer=SGD(rate=ScaledRate(base_lr=0.1), momentum=0.9, nesterov=True, weight_decay=2e-5),
    schedule=Cosine(warmup=WarmupEpochs(warmup_epochs=5)),
    clipping=AGC(clipping=0.01, eps=1e-3, unclipped=("classifier",)),
    ema=Average(decay=0.99999),
    loss=Loss(kind="softmax", label_smoothing=0.1),
    augment=Augmentation(
        geometry=CropFlip(),
        mixing=Mixing(kind="mixup_cutmix", mixup_alpha=0.2, pairing="two_batches"),
        randaugment=RandomOperations(layers=4, quirks=True),
    ),
    compute=Compute(precision="bfloat16", channels_last=True),
    loop=Loop(log_every=100),
)

#: What the paper leaves open for ResNets, as the authors' code has it; see ``docs/recipes.md``.
ASSUMED_OF_NF = "weight decay 1e-4, crops and flips only, stochastic depth 0.1"
ASSUMED_OF_BN = (
    "weight decay 1e-4, crops and flips only, no stochastic depth, no AGC, batch statistics over "
    "the whole batch"
)

#: NF-ResNets on ImageNet: no mixing, no RandAugment.
RESNET = FULL.override(
    name="imagenet_nf_resnet50",
    model="nf_resnet50",
    weight_decay=1e-4,
    stochastic_depth_rate=0.1,
    mixing="none",
    randaugment_layers=0,
)

#: What the batch-normalized ResNets do without.
PLAIN: dict[str, Any] = {"clipping": None, "stochastic_depth_rate": 0.0}

#: Appendix A.4: a fifth of the images for the ascent, which replicas do not share. Replicas of 32
#: images, as table 3 is timed with, are imitated by micro-batches.
SAM: dict[str, Any] = {
    "sam_rho": 0.05,
    "sam_fraction": 0.2,
    "sam_scope": "micro_batch",
    "accumulate": 128,
}
ASSUMED_OF_SAM = "ρ = 0.05 as in fine-tuning (appendix A.5), replicas of 32 images"

#: Top-1 and top-5, per cent, and milliseconds of a training step.
TABLE_3 = {
    "f0": (83.6, 96.8, 73.3),
    "f1": (84.7, 97.1, 158.5),
    "f2": (85.1, 97.3, 295.8),
    "f3": (85.7, 97.5, 532.2),
    "f4": (85.9, 97.6, 1033.3),
    "f5": (86.0, 97.6, 1398.5),
    "f5_sam": (86.3, 97.9, 1958.0),
    "f6_sam": (86.5, 97.9, 2774.1),
}


def top1(percent: float, top5: float | None = None) -> str:
    """As a contract says it.

    >>> top1(86.0), top1(83.6, 96.8)
    ('86.0 % top-1', '83.6 % top-1, 96.8 % top-5')
    """
    return f"{percent:.1f} % top-1" + ("" if top5 is None else f", {top5:.1f} % top-5")


def step_time(milliseconds: float) -> dict[str, str]:
    """Lines of a contract: the paper's training latency, of 32 images a device (appendix A.2)."""
    return {"hardware": "32 TPUv3", "time": f"{milliseconds:.1f} ms a step of 1,024 images"}


def groups() -> Iterator[Group]:
    """Tables 1 and 3."""
    rows = [_row(f"f{number}") for number in range(8)]
    rows += [_row("f5", sam=True), _row("f6", sam=True), _resnet50()]
    yield Group(title="tables 1 and 3: ImageNet", rows=tuple(rows))


def _row(variant: str, *, sam: bool = False) -> Row:
    key = f"{variant}_sam" if sam else variant
    name, label = f"imagenet_nfnet_{key}", f"NFNet-{variant.upper()}{'+SAM' if sam else ''}"
    recipe = FULL.override(name=name, model=f"nfnet_{variant}", **(SAM if sam else {}))
    title = f"{label} on ImageNet."
    if key in TABLE_3:
        *accuracies, milliseconds = TABLE_3[key]
        runs = "one run" if sam else "mean of three seeds"
        source = f"table 3, row {label}, {runs}; its sizes and dropout: table 1"
        source += f"; assumed: {ASSUMED_OF_SAM}" if sam else ""
        said = {"expected": top1(*accuracies), "source": source, **step_time(milliseconds)}
        return Row(recipe, paper_contract(name, title, **said))
    source = (
        "table 1, row F6; table 3 has it with SAM only"
        if variant == "f6"
        else "the authors' code; the paper's largest is F6"
    )
    return Row(recipe, paper_contract(name, title, expected="not in the paper", source=source))


def _resnet50() -> Row:
    name = "imagenet_bn_resnet50"
    recipe = RESNET.override(name=name, model="bn_resnet50", **PLAIN)
    source = f"table 3, row ResNet-50; assumed: {ASSUMED_OF_BN}, 360 epochs"
    said = {"expected": top1(78.6, 94.3), "source": source, **step_time(41.6)}
    return Row(recipe, paper_contract(name, "Batch-normalized ResNet-50 on ImageNet.", **said))
