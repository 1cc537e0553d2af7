from __future__ import annotations

from pathlib import Path

import pytest

from normfree.recipes import get_recipe, list_recipes
from normfree.recipes.smoke import smoke
from normfree.train.fit import Result, fit
from normfree.train.flags import current, settings
from normfree.train.recipe import Recipe

#: All that a smoke form may change; what a recipe studies is not among it.
SHRUNK = {
    *("name", "data", "model_options", "num_classes", "init", "freeze", "train_size", "test_size"),
    *(
        "epochs",
        "steps",
        "warmup_epochs",
        "warmup_steps",
        "warmup_fraction",
        "batch_size",
        "accumulate",
        "mean",
        "std",
        "workers",
    ),
    *("compile", "log_every", "out", "resume"),
}


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes longer than the two steps."""
    monkeypatch.setattr("normfree.train.fit.plot_curves", lambda *_: "curves: not drawn")


def run(name: str, directory: Path) -> Result:
    return fit(smoke(get_recipe(name)).override(out=directory / name))


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
    ],
)
def test_what_a_study_varies_reaches_the_weights(pattern: str, count: int, tmp_path: Path) -> None:
    losses = [run(name, tmp_path).last["val_loss"] for name in list_recipes(pattern)]
    assert len(losses) == len({*losses}) == count


def test_a_smoke_form_keeps_what_the_recipe_studies() -> None:
    for name in list_recipes():
        recipe, small = get_recipe(name), smoke(get_recipe(name))
        for flag in {setting.flag for setting in settings(Recipe)} - SHRUNK:
            assert current(small, flag) == current(recipe, flag), (name, flag)


def test_shrunk_networks_keep_the_proportions_of_their_widths() -> None:
    def widths(name: str) -> object:
        return smoke(get_recipe(name)).model.options["widths"]

    assert widths("imagenet_nfnet_f1") == [16, 32, 96, 96]
    assert widths("imagenet_nfnet_f1_default_width") == [16, 32, 64, 128]
    assert widths("jft_nfnet_f4_plus") == [24, 48, 128, 128]


def test_options_of_the_network_stay() -> None:
    options = smoke(get_recipe("imagenet_appendix_e_mixed_bottlenecks")).model.options
    assert options["group_widths"] == [8, 8, 16, 16]
    assert options["bottleneck_of"] == ["input", "input", "output", "output"]
    options = smoke(get_recipe("imagenet_nfnet_f0_baseline")).model.options
    assert options["second_conv"] is False


def test_a_run_that_warms_up_from_the_first_step_still_does() -> None:
    def warmup(recipe: Recipe) -> float:
        return smoke(recipe).schedule.warmup.steps(99, 99)

    assert warmup(get_recipe("digits")) == 1
    assert warmup(get_recipe("digits").override(warmup_epochs=0.0)) == 0


def test_micro_batches_stay() -> None:
    assert smoke(get_recipe("digits").override(accumulate=2)).batch.accumulate == 2
    assert smoke(get_recipe("digits")).batch.accumulate == 1
