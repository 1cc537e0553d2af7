from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from normfree.data.sources.folder import FolderSource
from normfree.errors import UserError
from normfree.train.resolve import Resolved, resolve
from normfree.train.saved import FORMAT, differences, read_config, read_recipe, write_config
from tests.unit.train.test_resolve import gray
from tests.unit.train.tiny import tiny_recipe


def resolved(train: int = 64, **changes: Any) -> Resolved:
    return resolve(tiny_recipe(Path("x"), **changes), gray(train), gray(10))


def saved(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = yaml.safe_load(yaml.safe_dump(write_config(resolved(**changes))))
    return plain


def test_the_configuration_survives_yaml() -> None:
    before = resolved(mean=(0.1,), model_options={"alpha": 0.3}, sam_rho=0.05, clipping=None)
    after = read_config(yaml.safe_load(yaml.safe_dump(write_config(before))), "here")
    assert after == before
    assert differences(before, after) == []
    assert read_recipe(write_config(before), "here") == before.recipe


def test_differences_name_what_changed_and_pass_over_what_does_not_matter() -> None:
    before = resolved()
    assert differences(before, resolved(workers=2, log_every=7, out=Path("y"))) == []
    changed = differences(before, resolved(train=65, momentum=0.8))
    assert "momentum: 0.9 → 0.8" in changed
    assert "train_images: 64 → 65" in changed
    assert "clip: unit → None" in differences(before, resolved(clipping=None))


def test_differences_name_other_training_data_of_the_same_size() -> None:
    recipe = tiny_recipe(Path("x"), mean=(1.0,) * 3, std=(2.0,) * 3)

    def run(*files: str, labels: tuple[int, ...] = (0, 0, 1)) -> Resolved:
        train = FolderSource(files * 8, np.array(labels * 8), ("ant", "bee"))
        return resolve(recipe, train, train)

    before = run("/d/ant/0.jpg", "/d/ant/1.jpg", "/d/bee/0.jpg")
    assert differences(before, run("/e/ant/0.jpg", "/e/ant/1.jpg", "/e/bee/0.jpg")) == []
    for other in (
        run("/d/ant/0.jpg", "/d/ant/2.jpg", "/d/bee/0.jpg"),
        run("/d/ant/0.jpg", "/d/ant/1.jpg", "/d/bee/0.jpg", labels=(0, 1, 1)),
    ):
        assert [line.partition(":")[0] for line in differences(before, other)] == ["train_data"]


@pytest.mark.parametrize("version", [None, 1, FORMAT + 1, "2", [2] * 1000])
def test_other_versions_are_refused_with_a_way_out(version: Any) -> None:
    plain = saved()
    if version is None:  # as the first version wrote it
        del plain["format"]
    else:
        plain["format"] = version
    for read in (read_config, read_recipe):
        with pytest.raises(UserError, match=r"run/config.yaml has format .*that wrote it") as error:
            read(plain, "run/config.yaml")
        assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("recipe",), None),
        (("recipe",), [1]),
        (("recipe", "lr"), 3),
        (("recipe", "batch", "size"), -1),
        (("recipe", "batch", "size"), "many"),
        (("recipe", "optimizer", "kind"), "adam"),
        (("recipe", "optimizer"), {"kind": "sgd", "rate": {"lr": 0.1, "base_lr": 0.1}}),
        (("recipe", "data", "mean"), ["a"]),
        (("derived",), 3),
        (("derived", "total_steps"), 0),
        (("derived", "total_steps"), float("nan")),
        (("derived", "classes"), "abc"),
        (("derived", "surplus"), 1),
    ],
)
def test_damaged_configurations_are_named_on_one_line(path: tuple[str, ...], value: Any) -> None:
    plain = saved()
    place = plain
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(UserError, match="here") as error:
        read_config(plain, "here")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, [], "text", {}, {"recipe": {}}, {"format": FORMAT}])
def test_other_files_are_no_configuration(content: Any) -> None:
    with pytest.raises(UserError, match="here"):
        read_config(content, "here")
