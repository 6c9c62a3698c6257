"""The thread in which a blocking device is called."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from ...system.machine_time import monotonic_s
from ...system.threads import start_thread

EXIT_WAIT_S = 10.0
"""Seconds that the process, at its end, waits for devices that are being released."""

_closing: weakref.WeakSet[DeviceThread] = weakref.WeakSet()


class DeviceThread:
    """Makes calls one after the other in a thread of its own.

    A driver that never returns must not keep the process from ending, so the thread is a daemon. It holds no
    data. After `close`, the process waits for it at its end, for `EXIT_WAIT_S` in all, so that a device is
    released even if no caller waited for that.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        start_thread(self._thread)

    @property
    def waiting(self) -> int:
        """Calls that have not begun."""
        return self._calls.qsize()

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Make a call after those before it; cancelling the future works until it begins."""
        future: Future[Any] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args)
            except BaseException as error:  # noqa: BLE001 - it is raised where the future is waited for
                future.set_exception(error)
            else:
                future.set_result(result)

        self._calls.put(call)
        return future

    def close(self) -> None:
        """End the thread after the calls that were submitted."""
        _closing.add(self)
        self._calls.put(None)

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for the thread to end. Blocking."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # it refers to what the driver returned


@atexit.register
def _wait_for_release() -> None:
    end_s = monotonic_s() + EXIT_WAIT_S
    for thread in list(_closing):
        thread.join(max(0.0, end_s - monotonic_s()))
