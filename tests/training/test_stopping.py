import signal
import threading

import pytest

from amnesty.training import stop_on_signals


def handlers():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_asks(number):
    before = handlers()
    with stop_on_signals() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop() and stop.signal == number
        signal.raise_signal(signal.SIGTERM)  # patience
        assert stop.signal == number
    assert handlers() == before


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_after_that_interrupts(first):
    before = handlers()
    with stop_on_signals():
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert handlers() == before


def test_the_handlers_come_back_after_an_error():
    before = handlers()
    with pytest.raises(ZeroDivisionError), stop_on_signals():
        raise ZeroDivisionError
    assert handlers() == before


def test_one_inside_another_gives_back_to_it():
    with stop_on_signals() as outer:
        with stop_on_signals() as inner:
            signal.raise_signal(signal.SIGTERM)
        assert inner() and not outer()
        signal.raise_signal(signal.SIGTERM)
        assert outer()


def test_other_threads_change_nothing():
    before, found = handlers(), []

    def work():
        with stop_on_signals() as stop:
            found.append((handlers() == before, stop()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(True, False)]
