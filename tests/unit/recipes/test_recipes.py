from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from normfree.errors import UserError
from normfree.recipes import get_contract, get_recipe, list_recipes
from normfree.recipes.contract import parse_contract
from normfree.train.fit import fit

HEADER = """A title.

Command:   normfree train x
Hardware:  a laptop
Time:      1 min
Expected:  97 %
Source:    table 3
Status:    measured
"""


@pytest.mark.parametrize("name", list_recipes())
def test_every_header_is_a_contract(name: str) -> None:
    contract = get_contract(name)
    assert contract.command.startswith(f"normfree train {name}")
    assert contract.title.endswith((".", ":"))


@pytest.mark.parametrize("name", list_recipes())
def test_the_file_the_recipe_and_the_command_have_one_name(name: str) -> None:
    assert get_recipe(name).name == name


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
    assert parse_contract(open_header.replace("measured", "paper")).status == "paper"


def test_an_unknown_recipe_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown recipe 'digit'; did you mean digits"):
        get_recipe("digit")


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_trains_two_steps_in_its_smoke_form(name: str, tmp_path: Path) -> None:
    recipe = get_recipe(name)
    small = replace(
        recipe,
        data="synthetic:40x40x3x10",
        model="nfnet_micro",
        train_size=32,
        test_size=32,
        test_margin=8 if recipe.augment == "crop_flip" else None,
        epochs=1,
        batch_size=20,
        workers=0,
        out=tmp_path / "run",
    )
    assert fit(small).steps == 2
