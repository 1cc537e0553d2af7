from __future__ import annotations

import signal
import threading

import pytest

from normfree.train.signals import StopRequest


@pytest.mark.parametrize("signum", StopRequest.SIGNALS)
def test_a_signal_only_sets_the_flag_and_handlers_come_back(signum: int) -> None:
    before = signal.getsignal(signum)
    with StopRequest() as stop:
        assert stop.signum is None
        signal.raise_signal(signum)
        assert stop.signum == signum
    assert signal.getsignal(signum) == before


def test_a_second_interrupt_stops_at_once() -> None:
    with StopRequest():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_second_termination_is_patient() -> None:
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert stop.signum == signal.SIGTERM


def test_outside_the_main_thread_it_does_nothing() -> None:
    seen = []

    def work() -> None:
        with StopRequest() as stop:
            seen.append(stop.signum)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
