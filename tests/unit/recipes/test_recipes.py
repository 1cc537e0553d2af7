from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from normfree.errors import UserError
from normfree.recipes import get_contract, get_recipe, list_recipes, recipe_groups
from normfree.recipes.contract import parse_contract

HEADER = """A title.

Command:   normfree train x
Hardware:  a laptop
Time:      1 min
Expected:  97 %
Source:    table 3
Status:    measured
Result:    benchmarks/results/x.json
"""


def test_every_recipe_has_a_contract() -> None:
    for name in list_recipes():
        contract = get_contract(name)
        assert contract.command.split()[:3] == ["normfree", "train", name]
        assert contract.title.endswith((".", ":")), name
        assert all(value for key, value in vars(contract).items() if key != "result"), name


def test_the_recipe_and_the_command_have_one_name_that_a_shell_leaves_alone() -> None:
    for name in list_recipes():
        assert get_recipe(name).name == name
        assert re.fullmatch(r"[a-z0-9_.]+", name)


def test_the_command_asks_for_weights_where_the_recipe_starts_from_some() -> None:
    for name in list_recipes():
        asked = " --init " in get_contract(name).command
        assert asked == (get_recipe(name).model.init is not None), name


def test_no_name_is_taken_twice() -> None:
    names = [row.recipe.name for group in recipe_groups() for row in group.rows]
    assert names == list_recipes()
    assert len({*names}) == len(names)


def test_only_our_own_recipes_are_measured() -> None:
    ours, *paper = recipe_groups()
    assert [row.recipe.name for row in ours.rows] == [
        *("digits", "fashion_mnist", "folder", "finetune")
    ]
    assert {row.contract.status for group in paper for row in group.rows} == {"paper"}
    assert {row.recipe.name for row in ours.rows if row.contract.status == "measured"} == {
        *("digits", "fashion_mnist")
    }


def test_what_was_measured_is_stored() -> None:
    root = Path(__file__).parents[3]
    for name in list_recipes():
        contract = get_contract(name)
        if contract.status == "measured":
            stored = json.loads((root / contract.result).read_text())
            assert {run["recipe"] for run in stored["runs"]} == {name}
            numbers = [f"{100 * stored['top1_ema'][key]:.1f}" for key in ("low", "high")]
            assert all(number in contract.expected for number in numbers), (name, numbers)
            assert stored["n"] == len(stored["runs"])


def test_the_pattern_of_a_group_matches_its_recipes_and_no_others() -> None:
    groups = [group for group in recipe_groups() if group.pattern]
    assert len(groups) > 10
    for group in groups:
        assert list_recipes(group.pattern) == [row.recipe.name for row in group.rows]


def test_what_is_assumed_is_said() -> None:
    """Wherever a ResNet is trained, the paper leaves something open."""
    resnets = [name for name in list_recipes() if "resnet" in get_recipe(name).model.name]
    assert len(resnets) == 1 + 70 + 8 + 24
    for name in resnets:
        assert "assumed: " in get_contract(name).source, name


def test_a_header_is_read() -> None:
    contract = parse_contract(HEADER)
    assert (contract.title, contract.time, contract.status) == ("A title.", "1 min", "measured")


@pytest.mark.parametrize("line", ["Command", "Hardware", "Time", "Expected", "Source", "Status"])
def test_a_missing_line_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match=f"lacks {line.lower()}"):
        parse_contract(HEADER.replace(f"{line}:", f"No {line}:"))


def test_a_status_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="not 'hoped'"):
        parse_contract(HEADER.replace("measured", "hoped"))


@pytest.mark.parametrize(("value", "line"), [("1 min", "time"), ("97 %", "expected")])
@pytest.mark.parametrize("placeholder", ["@@", "varies"])
def test_a_measured_recipe_leaves_nothing_open(value: str, line: str, placeholder: str) -> None:
    open_header = HEADER.replace(value, placeholder)
    with pytest.raises(ValueError, match=f"measured, also as {line}$"):
        parse_contract(open_header)
    paper = open_header.replace("measured", "paper").replace("Result", "Was")
    assert parse_contract(paper).status == "paper"


def test_a_result_is_named_by_measured_recipes_only() -> None:
    for header in (HEADER.replace("Result", "Was"), HEADER.replace("measured", "paper")):
        with pytest.raises(ValueError, match="'Result'"):
            parse_contract(header)


def test_an_unknown_recipe_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown recipe 'digit'; did you mean digits"):
        get_recipe("digit")
    with pytest.raises(UserError, match="unknown recipe 'zzz'; normfree recipes lists them"):
        get_contract("zzz")
