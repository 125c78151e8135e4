"""Turns SIGINT, SIGTERM and SIGHUP into wishes that the loop reads between two steps.

Ctrl-C once, SIGHUP     drain: let what runs finish, start nothing more
Ctrl-C twice, SIGTERM   kill: end the gangs now; their trials run again on resume
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """While entered, signals are counted instead of raised; restores the old handlers."""

    def __init__(self) -> None:
        self.draining = False
        self.killing = False
        self.exit_code = 0
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._former[number] = signal.signal(number, self._received)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _received(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTERM or (number == signal.SIGINT and self.draining):
            self.killing = True
        self.draining = True
        self.exit_code = 130 if number == signal.SIGINT else 143
