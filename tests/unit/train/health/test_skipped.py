from __future__ import annotations

from pathlib import Path

import pytest

from normfree.errors import UserError
from normfree.train.health.skipped import SkippedSteps, read_skipped


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "skipped.json"
    assert read_skipped(path) == {}
    skipped = SkippedSteps(path, {})
    skipped.add(10, "the loss is inf")
    skipped.add(9, "the loss is nan")
    assert read_skipped(path) == {9: "the loss is nan", 10: "the loss is inf"}
    assert (skipped.in_a_row(10), skipped.in_a_row(8), skipped.before(10)) == (2, 0, 1)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"-1": 1}', "[" * 9999, "\x00", "{"])
def test_a_damaged_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "skipped.json"
    path.write_text(text)
    with pytest.raises(UserError, match="does not say which steps the run left out"):
        read_skipped(path)


def test_a_file_that_cannot_be_written_is_an_error_for_people(tmp_path: Path) -> None:
    skipped = SkippedSteps(tmp_path / "nowhere" / "skipped.json", {})
    with pytest.raises(UserError, match="cannot write the skipped steps"):
        skipped.add(1, "the loss is nan")
