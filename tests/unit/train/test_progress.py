from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from normfree.train.progress import Progress, duration
from normfree.train.resolve import Resolved, resolve
from normfree.train.sources import open_sources
from tests.unit.train.tiny import tiny_recipe

TRAIN_LINE = {"step": 2, "loss": 1.25, "lr": 0.05, "images_per_second": 1234.4}
EPOCH_LINE = {
    "epoch": 1,
    "train_accuracy": 0.5,
    "train_loss": 1.5,
    "val_top1": 0.75,
    "val_top1_ema": 0.8,
    "seconds": 3.21,
    "eval_seconds": 0.52,
}


def tiny() -> Resolved:
    recipe = tiny_recipe(Path("x"))
    return resolve(recipe, *open_sources(recipe.data.source))


def shown(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    progress = Progress(console, tiny().span)
    progress.show_derivation(tiny())
    with progress:
        progress.advance()
        progress.advance()
        progress.report(TRAIN_LINE)
        progress.report_epoch(EPOCH_LINE)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_plain_lines_where_there_is_no_terminal() -> None:
    text = shown(terminal=False)
    assert "step 2/8  loss 1.250  lr 0.0500  1234 images/s" in text
    assert "epoch 1/3  train 50.00% loss 1.500  val 75.00%  EMA 80.00%  3.2 s training" in text
    assert "3.2 s training + 0.5 s evaluation\n" in text
    assert "\x1b" not in text


def test_a_terminal_is_not_obeyed() -> None:
    """Names of classes, files and sources are in notes and in the table."""
    recipe = tiny_recipe(Path("x"), name="a\x1b[2J[bold]name")
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    progress = Progress(console, tiny().span)
    progress.note("no images of cat\x1b[2J\n[red]dog\u202e")
    progress.show_derivation(replace(tiny(), recipe=recipe))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    assert r"cat\x1b[2J\n[red]dog\u202e" in text
    assert r"a\x1b[2J[bold]name" in text


def test_a_bar_on_a_terminal() -> None:
    text = shown(terminal=True)
    assert "2/8" in text
    assert "loss 1.250  lr 0.0500  1234 images/s" in text
    assert "left" in text
    assert "━" in text
    assert "step 2/8" not in text


def test_the_derived_values_are_shown() -> None:
    text = shown(terminal=False)
    for part in ("peak learning rate", "total steps", "64 / 24", "synthetic:64x8x1x5"):
        assert part in text


def test_no_console_writes_nothing(capsys) -> None:  # type: ignore[no-untyped-def]
    with Progress(None, tiny().span) as progress:
        progress.show_derivation(tiny())
        progress.advance()
        progress.report(TRAIN_LINE)
    assert capsys.readouterr().out == ""


def test_durations() -> None:
    assert [duration(s) for s in (0.2, 59.6, 61, 3599.4, 3600, 90061)] == [
        "0 s",
        "1 min 00 s",
        "1 min 01 s",
        "59 min 59 s",
        "1 h 00 min",
        "25 h 01 min",
    ]
