"""What a recipe of the paper sets is stated there, or its contract says that it is assumed."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from normfree.recipes import get_contract, get_recipe, list_recipes
from normfree.recipes.imagenet import FULL
from normfree.train.flags import current, settings
from normfree.train.recipe import Recipe

#: Settings that change nothing that is learned.
FREE = {"name", "workers", "log_every", "init", "data"}

#: Recipes → settings that their part of the paper states, beside those of the full recipe (A.1).
STATED: dict[str, set[str]] = {
    "imagenet_nfnet_f?": {"model"},
    "imagenet_nfnet_f?_sam": {"model", "sam_fraction", "sam_scope"},  # A.4
    "imagenet_bn_resnet50": {"model"},
    "imagenet_nfnet_f[0-3]_*": {
        "model",
        "model_options",
        "mixing",
        "randaugment_layers",
    },  # table 2
    "imagenet_bn_nfnet_f?": {"model"},
    "imagenet_appendix_e_*": {"model_options"},
    "imagenet_??_resnet*_b*": {"model", "epochs", "batch_size", "clipping"},  # 4.1
    "jft_*": {  # A.5
        *("model", "epochs", "batch_size", "lr", "weight_decay", "ema_decay", "train_size"),
        *("test_size", "mixing", "randaugment_layers"),
    },
    "jft_??_resnet*": {  # A.5
        *("model", "epochs", "batch_size", "lr", "weight_decay", "ema_decay", "train_size"),
        *("test_size", "mixing", "randaugment_layers", "warmup_steps"),
    },
    "imagenet_*_finetune*": {  # A.5
        *("model", "steps", "batch_size", "lr", "warmup_steps", "ema_decay", "weight_decay"),
        *("drop_rate", "stochastic_depth_rate", "train_size", "sam_rho"),
    },
}
#: Setting → what the contract calls it where it is assumed.
WORDS = {
    "weight_decay": "weight decay",
    "stochastic_depth_rate": "stochastic depth",
    "drop_rate": "dropout",
    "mixing": "crops and flips only",
    "randaugment_layers": "crops and flips only",
    "clipping": "AGC",
    "warmup_steps": "warm-up steps",
    "test_size": "tested at",
    "sam_rho": "ρ = ",
    "sam_fraction": "SAM as in A.4",
    "sam_scope": "SAM as in A.4",
    "accumulate": "replicas of 32 images",
}
#: Recipes → what they take over from the full recipe although their part of the paper is silent.
INHERITED = {
    "imagenet_bn_resnet50": ("360 epochs",),
    "jft_*": ("label smoothing", "dropout", "stochastic depth"),
    "imagenet_*_finetune*": ("label smoothing", "AGC"),
    "*bn_*": ("no AGC", "batch statistics"),
}
PAPER = [name for name in list_recipes() if get_contract(name).status == "paper"]


def stated(name: str) -> set[str]:
    """What the paper states of a recipe; the most specific pattern counts."""
    found = [pattern for pattern in STATED if fnmatchcase(name, pattern)]
    assert found, f"{name}: nothing says what the paper states of it"
    return STATED["imagenet_*_finetune*" if "finetune" in name else found[-1]]


@pytest.mark.parametrize("name", [n for n in PAPER if not n.startswith("imagenet_nf_regnet")])
def test_a_setting_is_stated_or_assumed(name: str) -> None:
    recipe, (_, _, assumed) = get_recipe(name), get_contract(name).source.partition("assumed: ")
    for flag in {setting.flag for setting in settings(Recipe)} - FREE - stated(name):
        own = current(recipe, flag)
        if own == current(FULL, flag) or (own is None and flag not in WORDS):
            continue  # the full recipe's, or of a component that is switched off
        assert WORDS.get(flag, flag) in assumed, f"{flag} = {own} is neither stated nor assumed"
    for pattern, words in INHERITED.items():
        if fnmatchcase(name, pattern):
            for word in words:
                assert word in assumed, f"{word} is taken over, but not said to be assumed"
