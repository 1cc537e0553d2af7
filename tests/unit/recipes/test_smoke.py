from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from normfree.recipes import get_recipe, list_recipes
from normfree.recipes.smoke import smoke
from normfree.train.config import Recipe
from normfree.train.fit import Result, fit

#: All that a smoke form may change; what a recipe studies is not among it.
SHRUNK = {
    *("name", "data", "model_options", "num_classes", "init", "freeze", "train_size", "test_size"),
    *("epochs", "steps", "warmup_steps", "batch_size", "accumulate", "mean", "std", "workers"),
    *("compile", "log_every", "out", "resume"),
}


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes longer than the two steps."""
    monkeypatch.setattr("normfree.train.fit.plot_curves", lambda *_: "curves: not drawn")


def run(name: str, directory: Path) -> Result:
    return fit(replace(smoke(get_recipe(name)), out=directory / name))


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_trains_two_steps_in_its_smoke_form(name: str, tmp_path: Path) -> None:
    result = run(name, tmp_path)
    assert result.steps == 2
    assert 0 < result.last["train_loss"] < 10


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("imagenet_nfnet_f0_*", 7),
        ("imagenet_nfnet_f5*", 2),
        ("imagenet_nfnet_f4_finetune*", 3),
        ("imagenet_appendix_e_*", 4),
        ("imagenet_nf_resnet50_b256_*", 6),
        ("imagenet_nf_resnet50_unclipped_??", 5),
    ],
)
def test_what_a_study_varies_reaches_the_weights(pattern: str, count: int, tmp_path: Path) -> None:
    losses = [run(name, tmp_path).last["test_loss"] for name in list_recipes(pattern)]
    assert len(losses) == len({*losses}) == count


def test_a_smoke_form_keeps_what_the_recipe_studies() -> None:
    for name in list_recipes():
        recipe, small = get_recipe(name), smoke(get_recipe(name))
        for field in fields(Recipe):
            if field.name not in SHRUNK:
                assert getattr(small, field.name) == getattr(recipe, field.name), (name, field.name)


def test_shrunk_networks_keep_the_proportions_of_their_widths() -> None:
    def widths(name: str) -> str:
        return smoke(get_recipe(name)).model_options[0]

    assert widths("imagenet_nfnet_f1") == "widths=[16, 32, 96, 96]"
    assert widths("imagenet_nfnet_f1_default_width") == "widths=[16, 32, 64, 128]"
    assert widths("jft_nfnet_f4_plus") == "widths=[24, 48, 128, 128]"


def test_options_of_the_network_stay() -> None:
    small = smoke(get_recipe("imagenet_appendix_e_mixed_bottlenecks"))
    assert "group_widths=[8, 8, 16, 16]" in small.model_options
    assert 'bottleneck_of=["input", "input", "output", "output"]' in small.model_options
    assert "second_conv=false" in smoke(get_recipe("imagenet_nfnet_f0_baseline")).model_options


def test_a_run_that_warms_up_from_the_first_step_still_does() -> None:
    assert smoke(get_recipe("digits")).warmup_steps == 1
    assert smoke(replace(get_recipe("digits"), warmup_epochs=0.0)).warmup_steps == 0
    assert smoke(replace(get_recipe("digits"), accumulate=2)).accumulate == 2
