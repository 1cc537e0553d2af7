from __future__ import annotations

import json

import pytest

from normfree.cli.recipes import run
from normfree.errors import UserError
from normfree.recipes import list_recipes, recipe_groups

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def first_words(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def test_the_default_listing_has_a_line_for_a_table_or_figure(capsys: Capture) -> None:
    run([])
    words = first_words(capsys.readouterr().out)
    assert words[:3] == ["recipe", "ours", "digits"]
    for group in recipe_groups():
        names = [row.recipe.name for row in group.rows]
        assert [word for word in words if word in names] == ([] if group.pattern else names)
        assert not group.pattern or words.count(group.pattern) == 1


def test_all_lists_every_recipe(capsys: Capture) -> None:
    run(["--all"])
    words = first_words(capsys.readouterr().out)
    assert [word for word in words if word in list_recipes()] == list_recipes()


def test_a_pattern_lists_what_it_matches(capsys: Capture) -> None:
    run(["imagenet_bn_nfnet_f?"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("imagenet_")]
    assert [row.split()[0] for row in rows] == [f"imagenet_bn_nfnet_f{n}" for n in range(4)]
    column = lines[0].index("paper")
    assert [row[column:].strip() for row in rows] == [
        *("83.4 % top-1", "84.4 % top-1", "85.1 % top-1", "85.5 % top-1")
    ]
    measured = lines[0].index("measured")
    assert all(not row[measured:column].strip() for row in rows)


def test_a_name_shows_its_contract(capsys: Capture) -> None:
    run(["imagenet_nf_resnet50_b1024_agc0.04"])
    out = capsys.readouterr().out
    assert out.startswith("NF-ResNet-50 on ImageNet, batch 1024, λ = 0.04.\n\nCommand:   normfree ")
    assert "\nSource:    figure 2b; assumed: weight decay 1e-4," in out
    assert out.endswith("Status:    paper\n")


def test_a_pattern_that_matches_nothing_is_said() -> None:
    with pytest.raises(UserError, match="no recipe matches 'zip'; normfree recipes --all"):
        run(["zip"])


def test_a_sweep_is_a_shell_script_of_commands(capsys: Capture) -> None:
    run(["--sweep", "unclipped_layers"])
    title, source, *commands = capsys.readouterr().out.splitlines()
    assert title.startswith("# NF-ResNet-50")
    assert source.startswith("# Source: section 4.1")
    assert len(commands) == 64
    assert all(command.startswith("normfree train imagenet_nf_resnet50_") for command in commands)
    with pytest.raises(UserError, match="unknown sweep 'layers'; known: unclipped_layers"):
        run(["--sweep", "layers"])


def test_recipes_as_json(capsys: Capture) -> None:
    run(["digits", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["recipe"], row["status"]) == ("digits", "measured")
