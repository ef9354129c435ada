"""Signals that stop a run at its next step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Says, when it is called, whether a signal has asked to stop.

    Attributes:
        signal: the first that came, ``None`` so far.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        """Return whether a stop was asked for."""
        return self.signal is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal = signal.Signals(number)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Let SIGINT (Ctrl-C) and SIGTERM ask for a stop instead of ending the process; give what says so.

    It is for ``Checkpoints(folder, stop=...)``: the run stops after the step under way, saves a checkpoint and raises
    `InterruptedRunError`. A second SIGINT raises `KeyboardInterrupt` at once. Afterwards the handlers are what they
    were. Outside the main thread, which alone may set handlers, nothing changes.

    Example:
        >>> from amnesty.training import stop_on_signals
        >>> with stop_on_signals() as stop:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     stop(), stop.signal.name
        (True, 'SIGTERM')
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[signal.Signals, Any] = {}
    try:
        for number in _SIGNALS:
            before[number] = signal.signal(number, stop._handle)
        yield stop
    finally:
        for number, handler in before.items():
            # None: a handler that Python did not set, and cannot set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
