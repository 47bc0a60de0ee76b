"""Signals that wait until what must not be broken off is done."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from photolabel.cluster.signals import deferred


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_block(number: signal.Signals) -> None:
    done: list[str] = []

    def handler(*_: object) -> None:
        done.append("handled")
        raise KeyboardInterrupt

    before = signal.signal(number, handler)
    try:
        with pytest.raises(KeyboardInterrupt), deferred():
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            done.append("in the midst")
        assert done == ["in the midst", "handled"]
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


def test_a_signal_that_ends_the_process_is_let_through() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with deferred():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_are_none_of_its_business() -> None:
    found: list[object] = []

    def look() -> None:
        with deferred():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
