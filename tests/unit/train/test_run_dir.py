from __future__ import annotations

from pathlib import Path

import pytest

from normfree.errors import UserError
from normfree.train.config import Recipe
from normfree.train.run_dir import RunDirectory, create_run_directory, find_run_directory
from tests.unit.train.tiny import tiny_recipe


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def unplaced() -> Recipe:
    return tiny_recipe(Path("x"), out=None)


def test_runs_are_numbered() -> None:
    assert create_run_directory(unplaced()).path == Path("runs/tiny-1")
    assert create_run_directory(unplaced()).path == Path("runs/tiny-2")
    Path("runs/tiny-10").mkdir()
    Path("runs/tiny-other").mkdir()
    assert create_run_directory(unplaced()).path == Path("runs/tiny-11")


def test_the_newest_run_of_the_name_is_resumed() -> None:
    with pytest.raises(UserError, match="no runs/tiny-N to go on with"):
        find_run_directory(unplaced())
    for number in (2, 9, 10):
        Path(f"runs/tiny-{number}").mkdir(parents=True)
    assert find_run_directory(unplaced()).path == Path("runs/tiny-10")


def test_directories_are_made_with_their_parents() -> None:
    assert create_run_directory(tiny_recipe(Path("a/b/c"))).path.is_dir()


def test_an_empty_directory_may_be_used() -> None:
    Path("empty").mkdir()
    assert create_run_directory(tiny_recipe(Path("empty"))).path == Path("empty")


def test_another_run_is_not_overwritten() -> None:
    create_run_directory(tiny_recipe(Path("a"))).write_config({"recipe": {}, "derived": {}})
    with pytest.raises(UserError, match="a holds another run; go on with it by --resume"):
        create_run_directory(tiny_recipe(Path("a")))


def test_other_files_are_not_written_among() -> None:
    Path("home").mkdir()
    Path("home/letter.txt").touch()
    with pytest.raises(UserError, match="home is not empty; choose another --out"):
        create_run_directory(tiny_recipe(Path("home")))
    with pytest.raises(UserError, match="is a file"):
        create_run_directory(tiny_recipe(Path("home/letter.txt")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no run to go on with"),
        ("a: [", "is not YAML"),
        ("a: 1", "is not the configuration of a run"),
        ("", "is not the configuration of a run"),
    ],
)
def test_what_is_no_run_cannot_be_resumed(text: str | None, message: str) -> None:
    Path("a").mkdir()
    if text is not None:
        Path("a/config.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        RunDirectory(Path("a")).read_config()


def test_the_configuration_comes_back() -> None:
    run = create_run_directory(tiny_recipe(Path("a")))
    run.write_config({"recipe": {"lr": 1e-5}, "derived": {"classes": ["0°", "é"]}})
    assert run.read_config() == {"recipe": {"lr": 1e-5}, "derived": {"classes": ["0°", "é"]}}
