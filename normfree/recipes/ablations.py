"""Tables 2 and 6: from an SE-ResNeXt-D to the NFNets, change by change; and appendix E."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from normfree.models.paper import ABLATIONS
from normfree.recipes.contract import paper_contract
from normfree.recipes.group import Group, Row
from normfree.recipes.imagenet import FULL, step_time, top1


def network(ablation: str) -> dict[str, Any]:
    """The setting that makes the network of an ablation.

    >>> network("modified_width")
    {'model_options': {'second_conv': False}}
    """
    return {"model_options": to_plain_options(ABLATIONS[ablation])}


def to_plain_options(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a network in YAML's types."""
    return {
        field: list(value) if isinstance(value, tuple) else value for field, value in fields.items()
    }


ASSUMED_OF_TWINS = "no AGC, batch statistics over the whole batch"

_PLAIN = {"mixing": "none", "randaugment_layers": 0}

#: Row of table 2 → how the paper calls it, and what differs from the full recipe.
ROWS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "baseline": ("Baseline", {**_PLAIN, **network("baseline")}),
    "modified_width": ("+ Modified Width", {**_PLAIN, **network("modified_width")}),
    "second_conv": ("+ Second Conv", _PLAIN),
    "mixup": ("+ MixUp", {"mixing": "mixup", "randaugment_layers": 0}),
    "randaugment": ("+ RandAugment", {"mixing": "mixup"}),
    "cutmix": ("+ CutMix", {}),
    "default_width": ("Default Width + Augs", network("default_width")),
}

#: ImageNet top-1, per cent, of F0 to F3.
TABLE_2 = {
    "baseline": (80.4, 81.7, 82.0, 82.3),
    "modified_width": (80.9, 81.8, 82.0, 82.3),
    "second_conv": (81.3, 82.2, 82.4, 82.7),
    "mixup": (82.2, 82.9, 83.1, 83.5),
    "randaugment": (83.2, 84.6, 84.8, 85.0),
    "cutmix": (83.6, 84.7, 85.1, 85.7),
    "default_width": (83.1, 84.5, 85.0, 85.5),
    "bn": (83.4, 84.4, 85.1, 85.5),
}

#: Milliseconds of a training step; augmentation is not part of it.
TABLE_6 = {
    "baseline": (58.0, 116.0, 211.7, 369.5),
    "modified_width": (64.1, 133.9, 252.2, 441.5),
    "second_conv": (73.3, 158.5, 295.8, 532.2),
    "mixup": (73.3, 158.5, 295.8, 532.2),
    "randaugment": (73.3, 158.5, 295.8, 532.2),
    "cutmix": (73.3, 158.5, 295.8, 532.2),
    "default_width": (65.9, 137.4, 248.8, 452.2),
    "bn": (111.7, 258.0, 396.3, 617.7),
}

#: Appendix E: what did not help.
NEGATIVE_RESULTS = {
    "mixed_bottlenecks": "group widths and bottlenecks that differ between stages",
    "dct_stem": "8×8 DCT coefficients in place of the stem",
    "grouped_pointwise": "1×1 convolutions in two groups",
    "grouped_pointwise_straddled": "1×1 convolutions in two groups, straddled squeeze-and-excite",
}


def groups() -> Iterator[Group]:
    """Tables 2 and 6, and appendix E."""
    variants = range(4)
    yield Group(
        title="tables 2 and 6: the network and the augmentation",
        pattern="imagenet_nfnet_f[0-3]_*",
        rows=tuple(_row(key, variant) for variant in variants for key in ROWS),
    )
    yield Group(
        title="table 6: batch-normalized NFNets",
        pattern="imagenet_bn_nfnet_f?",
        rows=tuple(_batch_normalized(variant) for variant in variants),
    )
    yield Group(
        title="appendix E: what did not help",
        pattern="imagenet_appendix_e_*",
        rows=tuple(_negative_result(key) for key in NEGATIVE_RESULTS),
    )


def _row(key: str, variant: int) -> Row:
    label, changes = ROWS[key]
    name = f"imagenet_nfnet_f{variant}_{key}"
    remark = {
        "mixup": "; assumed: on all images",
        "randaugment": "; assumed: MixUp on all images",
        "cutmix": f"; the same as imagenet_nfnet_f{variant}",
    }.get(key, "")
    contract = paper_contract(
        name,
        f"NFNet-F{variant} on ImageNet: {label}.",
        expected=top1(TABLE_2[key][variant]),
        source=f"tables 2 and 6, row {label}, F{variant}{remark}",
        **step_time(TABLE_6[key][variant]),
    )
    return Row(FULL.override(name=name, model=f"nfnet_f{variant}", **changes), contract)


def _batch_normalized(variant: int) -> Row:
    name = f"imagenet_bn_nfnet_f{variant}"
    contract = paper_contract(
        name,
        f"Batch-normalized NFNet-F{variant} on ImageNet.",
        expected=top1(TABLE_2["bn"][variant]),
        source=f"table 6, row -NF, + BN, F{variant}; assumed: {ASSUMED_OF_TWINS}",
        **step_time(TABLE_6["bn"][variant]),
    )
    return Row(FULL.override(name=name, model=f"bn_nfnet_f{variant}", clipping=None), contract)


def _negative_result(key: str) -> Row:
    name = f"imagenet_appendix_e_{key}"
    contract = paper_contract(
        name,
        f"NFNet-F0 on ImageNet, with {NEGATIVE_RESULTS[key]}.",
        expected="no better than F0 at its speed; no number printed",
        source="appendix E; assumed: the full recipe, F0",
    )
    return Row(FULL.override(name=name, **network(key)), contract)
