from __future__ import annotations

from normfree.train.waiting import DataWait


def said(wait: DataWait, *shares: float) -> list[bool]:
    return [wait.advice(10 * share, 10, 100) is not None for share in shares]


def test_it_is_said_once_and_again_only_if_it_gets_worse() -> None:
    assert said(DataWait(2), 0.04, 0.05, 0.2, 0.2, 0.29, 0.31, 0.31, 0.1, 0.5) == [
        *(False, False, True, False, False, True, False, False, True)
    ]


def test_short_windows_say_nothing() -> None:
    assert DataWait(0).advice(0.5, 0.9, 100) is None


def test_the_message_has_the_numbers() -> None:
    message = DataWait(3).advice(7.5, 10, 1000)
    assert message is not None
    for part in ("75 %", "100 images/s", "400 would", "(3 now"):
        assert part in message


def test_a_generator_is_closed_with_the_one_that_measures_it() -> None:
    closed = []

    def micro_batches():  # type: ignore[no-untyped-def]
        try:
            yield from range(5)
        finally:
            closed.append(True)

    measured = DataWait(0).measured(micro_batches())
    assert next(measured) == 0
    measured.close()
    assert closed == [True]
