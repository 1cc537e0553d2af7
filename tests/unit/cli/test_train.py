from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from normfree.cli import main
from normfree.cli.train import EVERYDAY, HEADINGS
from normfree.factory import create_model
from normfree.schema import to_plain
from normfree.train.flags import current, option, settings
from normfree.train.init import init_fields, read_init
from normfree.train.recipe import Recipe
from normfree.train.run_dir import RunDirectory
from normfree.train.saved import FORMAT
from normfree.weights import save_model
from tests.unit.train.tiny import tiny_recipe


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def asked_to_fit(monkeypatch: pytest.MonkeyPatch, *words: str) -> Recipe:
    """The recipe that a command line comes to."""
    from normfree.train import fit as module

    asked: list[Recipe] = []

    def note(recipe: Recipe, console: Any) -> None:
        asked.append(recipe)

    monkeypatch.setattr(module, "fit", note)
    with pytest.raises(SystemExit) as end:
        main(["train", *words])
    assert end.value.code == 0
    return asked[0]


def saved_run(path: Path) -> Recipe:
    recipe = tiny_recipe(path, name="folder", epochs=17)
    path.mkdir(parents=True)
    config = {"format": FORMAT, "recipe": to_plain(recipe), "derived": {}}
    RunDirectory(path).write_config(config)
    return recipe


def test_no_words_train_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = asked_to_fit(monkeypatch)
    names = (recipe.name, recipe.model.name, recipe.data.source)
    assert names == ("digits", "nfnet_pico", "digits")


def test_options_override_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["finetune", "--lr", "0.3", "--clipping", "None", "--no-nesterov", "--out", "x"]
    recipe = asked_to_fit(monkeypatch, *words, "--model-options", "alpha=0.3", "se_ratio=0.25")
    flags = ("model", "lr", "clipping", "nesterov", "out")
    assert [current(recipe, flag) for flag in flags] == [*("nfnet_f0", 0.3, None, False, Path("x"))]
    assert recipe.model.options == {"alpha": 0.3, "se_ratio": 0.25}


def test_resume_needs_no_setting_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = saved_run(Path("here"))
    recipe = asked_to_fit(monkeypatch, "--resume", "--out", "here", "--workers", "3")
    assert recipe.place.resume
    assert recipe.data.workers == 3
    assert recipe.length == saved.length
    assert (recipe.model, recipe.data.source) == (saved.model, saved.data.source)


def test_resume_by_name_takes_the_newest_run(monkeypatch: pytest.MonkeyPatch) -> None:
    saved_run(Path("runs/folder-1"))
    saved_run(Path("runs/folder-2"))
    recipe = asked_to_fit(monkeypatch, "folder", "--resume")
    assert (recipe.place.out, recipe.length.total_epochs(1, 1)) == (Path("runs/folder-2"), 17)


def test_a_run_of_another_recipe_is_not_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    saved_run(Path("here"))
    with pytest.raises(SystemExit) as end:
        main(["train", "digits", "--resume", "--out", "here"])
    assert end.value.code == 1
    assert "here is a run of folder, not of digits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], {"steps": 15_000, "lr": 0.1, "warmup_steps": 5000}),
        (["--epochs", "3"], {"epochs": 3, "steps": None, "lr": 0.1, "warmup_steps": 5000}),
        (["--optimizer", "adamw", "--lr=0.001"], {"optimizer": "adamw", "lr": 0.001}),
        (["--base-lr", "0.2"], {"base_lr": 0.2, "lr": None, "steps": 15_000}),
        (["--warmup-epochs=1"], {"warmup_epochs": 1.0, "warmup_steps": None}),
    ],
)
def test_what_is_typed_is_not_outdone_by_the_recipe(
    monkeypatch: pytest.MonkeyPatch, words: list[str], wanted: dict[str, Any]
) -> None:
    recipe = asked_to_fit(monkeypatch, "imagenet_nf_resnet50_finetune_224", *words)
    assert {flag: current(recipe, flag) for flag in wanted} == wanted


def test_the_smoke_form_of_a_recipe_takes_options_too(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = asked_to_fit(monkeypatch, "imagenet_nfnet_f5_sam", "--smoke", "--seed", "3")
    flags = ("steps", "sam_rho", "seed")
    assert [current(recipe, flag) for flag in flags] == [2, 0.05, 3]
    assert recipe.data.source.startswith("synthetic:")


def test_what_outdoes_each_other_is_not_taken_together(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "finetune", "--lr", "0.1", "--base-lr", "0.2"])
    assert end.value.code == 2
    assert "give --base-lr or --lr, not both" in capsys.readouterr().err


def help_text(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["train", *words])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    return text


def test_help_is_a_screen_of_what_most_people_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = help_text(capsys, "--help")
    assert len(text.splitlines()) <= 55
    places = [text.index(f"\n  {option(flag)}") for flag in EVERYDAY]
    assert places == sorted(places)
    assert "--agc-eps" not in text
    left = len({setting.flag for setting in settings(Recipe)} - {*EVERYDAY}) + 1  # and --smoke
    assert f"--help-all shows {left} more" in text
    assert "augmentation (11)" in text


def test_every_component_has_a_heading() -> None:
    components = {setting.path[0] for setting in settings(Recipe) if setting.path}
    assert components == set(HEADINGS)


@pytest.mark.parametrize("recipe", ["digits", "imagenet_nfnet_f5_sam"])
def test_all_help_lists_every_setting_in_80_columns(
    recipe: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = help_text(capsys, recipe, "--help-all")
    for setting in settings(Recipe):
        assert option(setting.flag) in text or f"--no-{setting.flag}" in text, setting.flag
    assert text.index("everyday options") < text.index("optimizer and learning rate")


def test_values_that_no_recipe_can_have_are_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "--batch-size", "0"])
    assert end.value.code == 2
    said = "normfree: --batch-size should be greater than 0; got 0 (see normfree train --help)\n"
    assert capsys.readouterr().err == said


def test_a_usage_error_shows_no_traceback_even_with_debug(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "--debug", "nope"])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_recipe_after_an_option_is_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "--epochs", "2", "fashion_mnist"])
    assert end.value.code == 2
    assert "the recipe comes first: normfree train fashion_mnist" in capsys.readouterr().err


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights that name their network and their sizes."""
    model = create_model("nfnet_nano", num_classes=3, train_size=24, test_size=40)
    file = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_model(model, file)
    return str(file)


@pytest.mark.parametrize(
    ("words", "model", "sizes"),
    [
        ([], "nfnet_nano", (None, None)),  # derived when the file is read, by init_fields
        (["--test-size", "32"], "nfnet_nano", (None, 32)),
        (["--model", "nfnet_micro"], "nfnet_micro", (96, 128)),
    ],
)
def test_a_file_names_its_network_and_sizes(
    monkeypatch: pytest.MonkeyPatch, nano: str, words: list[str], model: str, sizes: Any
) -> None:
    recipe = asked_to_fit(monkeypatch, "folder", "--init", nano, *words)
    assert (recipe.model.name, recipe.model.init) == (model, nano)
    assert (recipe.model.train_size, recipe.model.test_size) == sizes
    fields = init_fields("nfnet_nano", read_init(nano, "nfnet_nano"))
    assert (fields["train_size"], fields["test_size"]) == (24, 40)


def test_a_file_of_no_network_is_said_before_anything_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "finetune", "--init", "nowhere.safetensors"])
    assert end.value.code == 1
    said = "--init nowhere.safetensors: there are no weights at nowhere.safetensors"
    assert said in capsys.readouterr().err
