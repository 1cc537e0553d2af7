from __future__ import annotations

import pytest

from tests.fuzz.fuzz_images import fuzz, originals


def test_mutated_images_end_in_an_image_or_a_bad_image_error():
    count = 15 * len(originals())
    report = fuzz(count, seed=7)
    assert not report.failures
    assert report.outcomes["image"] + report.outcomes["bad image"] == count
    assert (
        min(report.outcomes.values()) > count / 10
    )  # both outcomes occur, so the damage is not trivial
    assert {name for name, _ in report.formats} == set(originals())


@pytest.mark.parametrize(
    ("bound", "value", "kinds"),
    [("seconds", 1e-9, ("slow", "hang")), ("memory", 2**14, ("large",))],
)
def test_it_notices_what_is_slow_and_what_is_large(bound, value, kinds):
    report = fuzz(3, **{bound: value})
    assert report.failures
    assert all(failure.startswith(kinds) for failure in report.failures.values())
