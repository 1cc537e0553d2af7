"""Tables 4 and 5: pre-training on JFT-300M, which is not public, and fine-tuning on ImageNet.

Any large set of photographs can take JFT's place: ``--data folder:DIR``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

from normfree.recipes.contract import Contract, paper_contract
from normfree.recipes.group import Group, Row
from normfree.recipes.imagenet import FULL, PLAIN, RESNET, SAM, top1
from normfree.train.recipe import Recipe

DEPTHS = (50, 101, 152, 200)
SIZES = (224, 320, 384)

#: ImageNet top-1, per cent, when fine-tuned at 224, 320 and 384 pixels.
TABLE_4 = {
    "bn_resnet50": (78.1, 79.6, 79.9),
    "nf_resnet50": (79.5, 80.9, 81.1),
    "bn_resnet101": (80.8, 82.2, 82.5),
    "nf_resnet101": (81.4, 82.7, 83.2),
    "bn_resnet152": (81.8, 83.1, 83.4),
    "nf_resnet152": (82.7, 83.6, 84.0),
    "bn_resnet200": (81.8, 83.1, 83.5),
    "nf_resnet200": (82.9, 84.1, 84.3),
}

#               epochs  TPUv3-core-days
TABLE_5 = {
    "nfnet_f4": (40, "3.7k TPUv3-core-days"),
    "nfnet_f4_plus": (20, "1.86k TPUv3-core-days"),
}

#: Appendix A.5. Stochastic depth and dropout are not mentioned there; section 6.2 calls explicit
#: regularization harmful when so much is learned from.
_PRETRAIN: dict[str, Any] = {
    "data": "folder:jft",
    "train_size": 224,
    "test_size": 224,
    "mixing": "none",
    "randaugment_layers": 0,
    "ema_decay": 0,
    "drop_rate": 0.0,
    "stochastic_depth_rate": 0.0,
    "warmup_steps": 5000,
}

#: Appendix A.5: 15,000 steps of 2,048 are 23.98 epochs of ImageNet.
_FINETUNE: dict[str, Any] = {
    "init": "weights.safetensors",
    "steps": 15_000,
    "batch_size": 2048,
    "lr": 0.1,
    "warmup_steps": 5000,
    "mixing": "none",
    "randaugment_layers": 0,
    "ema_decay": 0.9999,
}

#: What appendix A.5 leaves open.
PRETRAINING = "label smoothing 0.1 as in A.1, no dropout, no stochastic depth"
FINE_TUNING = "crops and flips only, label smoothing 0.1 and bfloat16 as in A.1"

_UNREGULARIZED: dict[str, Any] = {
    "weight_decay": 0.0,
    "drop_rate": 0.0,
    "stochastic_depth_rate": 0.0,
}
_MILD: dict[str, Any] = {
    "weight_decay": 1e-5,
    "drop_rate": 0.25,
    "stochastic_depth_rate": 0.1,
}
#: The ascent's share of the batch is not mentioned in appendix A.5: the one of appendix A.4.
_NFNET = {**_FINETUNE, **_MILD, **SAM, "accumulate": 64}

#: End of the name → setting, expected accuracy, and what the paper says of it.
NFNET_FINETUNES: dict[str, tuple[dict[str, Any], str, str]] = {
    "": (_NFNET, top1(89.2), "table 5"),
    "_unregularized": (
        {**_NFNET, **_UNREGULARIZED},
        "similar to 89.2 % top-1; no number printed",
        "appendix A.5, set-up of the ResNets",
    ),
    "_no_sam": ({**_FINETUNE, **_MILD}, "not in the paper", "not in the paper: table 5 has SAM"),
}


def groups() -> Iterator[Group]:
    """Tables 4 and 5, pre-training and fine-tuning."""
    yield Group(
        title="table 4: pre-training ResNets",
        pattern="jft_*_resnet*",
        rows=tuple(_pretrain_resnet(model) for model in TABLE_4),
    )
    yield Group(
        title="table 4: fine-tuning ResNets",
        pattern="imagenet_*_resnet*_finetune_*",
        rows=tuple(_finetune_resnet(model, size) for model, size in product(TABLE_4, SIZES)),
    )
    yield Group(
        title="table 5: pre-training NFNets",
        pattern="jft_nfnet_f4*",
        rows=tuple(_pretrain_nfnet(model) for model in TABLE_5),
    )
    yield Group(
        title="table 5: fine-tuning NFNets",
        pattern="imagenet_nfnet_f4*_finetune*",
        rows=tuple(_finetune_nfnet(model, end) for model, end in product(TABLE_5, NFNET_FINETUNES)),
    )


def _pretrain_resnet(model: str) -> Row:
    changes: dict[str, Any] = {"epochs": 10, "batch_size": 1024, "lr": 0.4, "weight_decay": 1e-5}
    recipe = _resnet(model).override(name=f"jft_{model}", **_PRETRAIN, **changes)
    return Row(recipe, _pretraining(recipe, "table 4", _assumed(model, PRETRAINING)))


def _pretrain_nfnet(model: str) -> Row:
    epochs, time = TABLE_5[model]
    changes: dict[str, Any] = {"epochs": epochs, "batch_size": 4096, "weight_decay": 1e-6}
    recipe = FULL.override(name=f"jft_{model}", model=model, **_PRETRAIN, **changes)
    assumed = f"5,000 warm-up steps as for ResNets, {PRETRAINING}"
    return Row(
        recipe, replace(_pretraining(recipe, "table 5", assumed), hardware="TPUv3", time=time)
    )


def _pretraining(recipe: Recipe, table: str, assumed: str) -> Contract:
    return paper_contract(
        recipe.name,
        f"Pre-training {recipe.model.name} on JFT-300M, which is not public.",
        expected="no number printed before fine-tuning",
        source=f"{table} and appendix A.5; assumed: {assumed}",
    )


def _finetune_resnet(model: str, size: int) -> Row:
    recipe = _resnet(model).override(
        name=f"imagenet_{model}_finetune_{size}",
        train_size=size,
        test_size=size,
        **_FINETUNE,
        **_UNREGULARIZED,
    )
    expected = top1(TABLE_4[model][SIZES.index(size)])
    assumed = _assumed(model, f"tested at {size} px, {FINE_TUNING}")
    source = f"table 4, row {model}, {size}px; assumed: {assumed}"
    return Row(recipe, _finetuning(recipe, expected, source))


def _finetune_nfnet(model: str, end: str) -> Row:
    changes, expected, source = NFNET_FINETUNES[end]
    recipe = FULL.override(name=f"imagenet_{model}_finetune{end}", model=model, **changes)
    assumed = f"the model's sizes, {FINE_TUNING}, AGC as in A.1" + (
        ", SAM as in A.4, replicas of 32 images" if recipe.sam else ""
    )
    return Row(recipe, _finetuning(recipe, expected, f"{source}; assumed: {assumed}"))


def _finetuning(recipe: Recipe, expected: str, source: str) -> Contract:
    size = recipe.model.train_size or "its own"
    return paper_contract(
        recipe.name,
        f"Fine-tuning {recipe.model.name} on ImageNet, at {size} pixels.",
        expected=expected,
        source=source,
        arguments="--data folder:DIR --init FILE",
    )


def _assumed(model: str, assumed: str) -> str:
    """What is assumed of a ResNet."""
    of_bn = "no AGC, batch statistics over the whole batch"
    return f"{assumed}, {of_bn if model.startswith('bn_') else 'AGC as in A.1'}"


def _resnet(model: str) -> Recipe:
    return RESNET.override(model=model, **(PLAIN if model.startswith("bn_") else {}))
