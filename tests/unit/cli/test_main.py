from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from types import ModuleType
from typing import Any, get_args

import pytest
import torch

from normfree.cli import COMMANDS, main
from normfree.data.resize import Resize
from normfree.data.sources.hold_out import HELD_OUT
from normfree.data.sources.registry import OnBadImage
from normfree.data.view import PixelType
from normfree.errors import Interrupted, UserError
from normfree.kernels import status
from normfree.models import list_models
from normfree.train.components import Data
from normfree.train.flags import option, settings
from normfree.train.recipe import Recipe

Capture = pytest.CaptureFixture[str]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(words)
    return end.value.code or 0  # type: ignore[return-value]


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("normfree.cli.info")

    def raise_it(words: list[str]) -> None:
        raise error

    module.run = raise_it
    monkeypatch.setitem(sys.modules, "normfree.cli.info", module)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_names_every_command(words: list[str], capsys: Capture) -> None:
    assert run(*words) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert command in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: Capture) -> None:
    assert run(command, "--help") == 0
    assert f"usage: normfree {command}" in capsys.readouterr().out


def test_the_version(capsys: Capture) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("normfree 0.")


def test_every_setting_of_a_recipe_is_an_option(capsys: Capture) -> None:
    run("train", "--help-all")
    out = capsys.readouterr().out
    for setting in settings(Recipe):
        assert option(setting.flag) in out


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("wrong; do this"), 1, "normfree: wrong; do this\n"),
        (UserError("two\n lines"), 1, "normfree: two\\n lines\n"),
        (UserError("[bold]brackets[/bold]"), 1, "normfree: [bold]brackets[/bold]\n"),
        (ZeroDivisionError("ouch"), 1, "normfree: unexpected ZeroDivisionError: ouch; run again"),
        (KeyboardInterrupt(), 130, "normfree: interrupted\n"),
        (Interrupted(signal.SIGTERM, "stopped; go on"), 143, "normfree: stopped; go on"),
    ],
)
def test_failures_are_a_line_and_an_exit_code(
    error: BaseException,
    code: int,
    message: str,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail_with(error, monkeypatch)
    assert run("info") == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(UserError("wrong"), monkeypatch)
    with pytest.raises(UserError, match="wrong"):
        main(["info", "--debug"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["train", "digit"], "unknown recipe 'digit'; did you mean digits?"),
        (["train", "--epoch", "3"], "unknown option '--epoch'; did you mean --epochs"),
        (["train", "digits", "folder"], "unexpected argument 'folder'"),
        (["train", "--batch-size", "0"], "--batch-size should be greater than 0; got 0"),
        (["eval"], "arguments are required: CHECKPOINT"),
        (["predict", "x"], "name at least one image"),
        (["predict", "x", "y", "--top", "0"], "--top must be positive"),
    ],
)
def test_a_wrong_command_line_exits_with_2(words: list[str], message: str, capsys: Capture) -> None:
    assert run(*words) == 2
    assert message in capsys.readouterr().err


def test_info_lists_the_models(capsys: Capture) -> None:
    assert run("info") == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("nfnet_f0 "))
    assert line.split() == ["nfnet_f0", "71.5M", "12.38B", "192", "256", "0.2", "5", "83.6"]


def test_info_as_json_has_the_same_numbers(capsys: Capture) -> None:
    assert run("info", "--json") == 0
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list_models()
    assert (rows["nfnet_f0"]["parameters"], rows["nfnet_f0"]["paper_top1"]) == (71_489_284, "83.6")
    assert run("info", "nfnet_pico", "--json") == 0
    model = json.loads(capsys.readouterr().out)
    assert model["config"]["name"] == "nfnet_pico"
    assert sum(part["parameters"] for part in model["parts"]) == rows["nfnet_pico"]["parameters"]
    assert {role["clipping"] for role in model["roles"]} == {0.01, None}
    assert run("info", "--system", "--json") == 0
    assert json.loads(capsys.readouterr().out)["torch"] == torch.__version__


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["recipes"], ["info"]])
def test_what_is_only_looked_up_imports_no_torch(words: list[str]) -> None:
    code = (
        "import sys, normfree.cli as c\n"
        f"try: c.main({words})\n"
        "finally: sys.stderr.write(' '.join({'torch', 'numpy'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(("word", "code"), [("--version", 0), ("--nonsense", 2)])
@pytest.mark.parametrize("world", ["1", "2"])
def test_a_rank_ends_before_threads_of_gloo_can_miss_the_interpreter(
    word: str, code: int, world: str
) -> None:
    script = (
        "import atexit, sys, normfree.cli as c\n"
        "atexit.register(sys.stderr.write, 'shut down')\n"
        f"c.main(['{word}'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "WORLD_SIZE": world},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert done.stdout or code  # what was said is written
    assert ("shut down" in done.stderr) == (world == "1")


@pytest.mark.parametrize("words", [["info"], ["recipes"], ["--help"], ["eval", "--help"]])
def test_80_columns_are_enough(
    words: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run(*words)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_info_says_which_path_augments_on_this_system(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("1", "0"):
        monkeypatch.setenv("NORMFREE_KERNELS", value)
        assert run("info", "--system") == 0
        lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
        assert lines["kernels"] == str(status())
        assert lines["torch"] == torch.__version__
        assert lines["threads"] == str(torch.get_num_threads())
    assert lines["kernels"] == "PyTorch's operations: NORMFREE_KERNELS is 0"


def test_info_shows_parts_and_groups_that_add_up(capsys: Capture) -> None:
    assert run("info", "nfnet_f0") == 0
    parts, roles = capsys.readouterr().out.split("\npart ")[1].split("\nrole ")
    sums = [int(line.split()[-1].replace(",", "")) for line in parts.splitlines()[1:] if line]
    assert sum(sums) == 71_489_284
    assert ["stage", "4", "3", "1536", "8"] in [line.split()[:5] for line in parts.splitlines()]
    assert ["classifier", "weight", "1", "3,072,000", "2e-05", "none"] in [
        line.split() for line in roles.splitlines()
    ]


def test_recipes_keep_measured_and_paper_apart(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run("recipes") == 0
    lines = capsys.readouterr().out.splitlines()
    paper = lines[0].index("paper")
    imagenet = next(line for line in lines if line.startswith("imagenet_nfnet_f0"))
    assert imagenet[paper:].strip() == "83.6 % top-1, 96.8 % top-5"


def test_the_settings_of_data_are_those_of_the_sources() -> None:
    """They are spelled out, because importing them would import torch."""
    fields = Data.__pydantic_fields__  # type: ignore[attr-defined]
    assert fields["val_fraction"].default == HELD_OUT
    for name, known in (
        ("resize", Resize),
        ("image_dtype", PixelType),
        ("on_bad_image", OnBadImage),
    ):
        assert get_args(fields[name].annotation) == get_args(known)
