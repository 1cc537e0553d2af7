from __future__ import annotations

import pytest

from normfree.recipes import get_contract, get_recipe, list_recipes
from tests.unit.recipes.asked import network, settings

WIDE, DEFAULT = (256, 512, 1536, 1536), (256, 512, 1024, 2048)

#: Table 6: top-1 and milliseconds of F0 to F3.
TABLE_6 = """
baseline        80.4  58.0  81.7 116.0  82.0 211.7  82.3 369.5
modified_width  80.9  64.1  81.8 133.9  82.0 252.2  82.3 441.5
second_conv     81.3  73.3  82.2 158.5  82.4 295.8  82.7 532.2
mixup           82.2  73.3  82.9 158.5  83.1 295.8  83.5 532.2
randaugment     83.2  73.3  84.6 158.5  84.8 295.8  85.0 532.2
cutmix          83.6  73.3  84.7 158.5  85.1 295.8  85.7 532.2
default_width   83.1  65.9  84.5 137.4  85.0 248.8  85.5 452.2
bn              83.4 111.7  84.4 258.0  85.1 396.3  85.5 617.7
"""

CELLS = [
    (row.split()[0], variant, *row.split()[1 + 2 * variant : 3 + 2 * variant])
    for row in TABLE_6.strip().splitlines()
    for variant in range(4)
]

#                widths   second conv  mixing        layers of RandAugment
CHANGES = {
    "baseline": (DEFAULT, False, "none", 0),
    "modified_width": (WIDE, False, "none", 0),
    "second_conv": (WIDE, True, "none", 0),
    "mixup": (WIDE, True, "mixup", 0),
    "randaugment": (WIDE, True, "mixup", 4),
    "cutmix": (WIDE, True, "mixup_cutmix", 4),
    "default_width": (DEFAULT, True, "mixup_cutmix", 4),
    "bn": (WIDE, True, "mixup_cutmix", 4),
}


def name_of(row: str, variant: int) -> str:
    end = f"nfnet_f{variant}"
    return f"imagenet_bn_{end}" if row == "bn" else f"imagenet_{end}_{row}"


@pytest.mark.parametrize(("row", "variant", "percent", "milliseconds"), CELLS)
def test_cells_of_tables_2_and_6(row: str, variant: int, percent: str, milliseconds: str) -> None:
    contract = get_contract(name_of(row, variant))
    assert (contract.expected, contract.time) == (
        f"{percent} % top-1",
        f"{milliseconds} ms a step of 1,024 images",
    )


@pytest.mark.parametrize("variant", range(4))
@pytest.mark.parametrize("row", CHANGES)
def test_a_row_differs_from_the_full_recipe_in_what_it_is_called_after(
    row: str, variant: int
) -> None:
    name, full = name_of(row, variant), f"imagenet_nfnet_f{variant}"
    widths, second_conv, *augmentation = CHANGES[row]
    config = network(name)
    assert (config.widths, config.second_conv) == (widths, second_conv)
    assert [*settings(name, "mixing", "randaugment_layers")] == augmentation
    assert config.depths == network(full).depths
    assert config.normalization == ("batch" if row == "bn" else "none")
    back = get_recipe(name).override(
        name=full,
        model=f"nfnet_f{variant}",
        model_options={},
        mixing="mixup_cutmix",
        randaugment_layers=4,
        clipping=0.01,
    )
    assert back == get_recipe(full)


def test_only_the_batch_normalized_twins_are_not_clipped() -> None:
    for row, variant, *_ in CELLS:
        (clipping,) = settings(name_of(row, variant), "clipping")
        assert clipping == (None if row == "bn" else 0.01)


def test_the_negative_results_of_appendix_e() -> None:
    start = "imagenet_appendix_e_"
    assert [name.removeprefix(start) for name in list_recipes(start + "*")] == [
        *("mixed_bottlenecks", "dct_stem", "grouped_pointwise", "grouped_pointwise_straddled")
    ]
    mixed = network(start + "mixed_bottlenecks")
    assert mixed.group_widths == (8, 8, 16, 16)
    assert mixed.bottleneck_ratios == (0.25, 0.25, 0.5, 0.5)
    assert mixed.bottleneck_of == ("input", "input", "output", "output")
    assert network(start + "dct_stem").stem == "dct"
    straddled = network(start + "grouped_pointwise_straddled")
    assert (straddled.pointwise_groups, straddled.se_place) == (2, "straddled")
