from __future__ import annotations

import os
from pathlib import Path

import pytest

from normfree.errors import UserError
from normfree.train.run_dir import RunDirectory, find_run_directory, new_run_directory


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def made(out: str | None = None) -> RunDirectory:
    """A new run's directory, unlocked again."""
    with new_run_directory("tiny", None if out is None else Path(out)) as run:
        return run


def test_runs_are_numbered() -> None:
    assert made().path == Path("runs/tiny-1")
    assert made().path == Path("runs/tiny-2")
    Path("runs/tiny-10").mkdir()
    Path("runs/tiny-other").mkdir()
    assert made().path == Path("runs/tiny-11")


def test_the_newest_run_of_the_name_is_resumed() -> None:
    with pytest.raises(UserError, match="no runs/tiny-N to go on with"):
        find_run_directory("tiny", None)
    for number in (2, 9, 10):
        Path(f"runs/tiny-{number}").mkdir(parents=True)
        Path(f"runs/tiny-{number}/config.yaml").touch()
    Path("runs/tiny-11").mkdir()  # of a start that failed
    assert find_run_directory("tiny", None).path == Path("runs/tiny-10")


def test_directories_are_made_with_their_parents() -> None:
    assert made("a/b/c").path.is_dir()


def test_an_empty_directory_may_be_used() -> None:
    Path("empty").mkdir()
    assert made("empty").path == Path("empty")


def test_another_run_is_not_overwritten() -> None:
    made("a").write_config({"recipe": {}, "derived": {}})
    with pytest.raises(UserError, match="a holds another run; go on with it by --resume"):
        made("a")


def test_other_files_are_not_written_among() -> None:
    Path("home").mkdir()
    Path("home/letter.txt").touch()
    with pytest.raises(UserError, match="home is not empty; choose another --out"):
        made("home")
    with pytest.raises(UserError, match="is a file"):
        made("home/letter.txt")


def test_a_directory_has_one_writer() -> None:
    with new_run_directory("tiny", Path("a")) as run:
        holder = rf"in a \(process {os.getpid()} on .*\); wait for it"
        with pytest.raises(UserError, match=f"another process is training {holder}"):
            made("a")
        with pytest.raises(UserError, match="another process"), run.locked():
            pass
    with run.locked():
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no run to go on with"),
        ("a: [", "is not YAML"),
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
        ("\x00", "is not YAML"),
        ("[" * 100_000, "is not YAML"),
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
    run = made("a")
    run.write_config({"recipe": {"lr": 1e-5}, "derived": {"classes": ["0°", "é"]}})
    assert run.read_config() == {"recipe": {"lr": 1e-5}, "derived": {"classes": ["0°", "é"]}}
