"""The viewer of `--display_data`: shows observations and actions while they are recorded.

A bounded queue passes views to a separate thread. When the viewer is slower than the robot, views are dropped
and counted: a viewer never delays a tick or the end of a recording.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Self

from ..errors import AiorecordError, ConfigError, StateError
from ..printable import get_logger
from ..system.installation import install_hint
from ..system.threads import start_thread
from .view import Sink, View

logger = get_logger(__name__)

MODES = {"rerun": ("rerun", "rerun-sdk"), "foxglove": ("foxglove", "foxglove-sdk")}
"""For each `--display_mode`, the module it needs and the package that has it."""

CAPACITY = 2
"""Most views that may wait. More would only be shown later."""

START_S = 60.0
CLOSE_S = 5.0


def check_viewer(mode: str) -> None:
    """Check that views can be shown in this way.

    Raises:
        ConfigError: there is no such mode, or its package is not installed.
    """
    if mode not in MODES:
        raise ConfigError(f"--display_mode is {' or '.join(MODES)}, not {mode!r}.", option="display_mode")
    module, package = MODES[mode]
    if find_spec(module) is None:
        raise ConfigError(
            f"--display_data with {mode} needs {package}. Install it: {install_hint('viz')}",
            option="display_data",
        )


class Viewer:
    """Shows views in a thread of its own. Made by `open`.

    Attributes:
        shown: views that the sink accepted.
        dropped: views that were dropped because the sink was busy.
        note: why nothing can be shown (no display, for example), or None.
        hint: what the user must do to see something, such as where to connect; or None.
        error: the error that ended the viewer, or None.
    """

    def __init__(self, sink: Sink, *, capacity: int = CAPACITY) -> None:
        self.shown = 0
        self.dropped = 0
        self.note: str | None = None
        self.hint: str | None = None
        self.error: Exception | None = None
        self._sink = sink
        self._queue: queue.Queue[View | None] = queue.Queue(capacity)
        self._closing = threading.Event()
        self._ready = threading.Event()
        # A daemon: it has only views to lose, and a viewer that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="aiorecord-viewer", daemon=True)

    @classmethod
    def open(
        cls,
        session_name: str = "recording",
        mode: str = "rerun",
        ip: str | None = None,
        port: int | None = None,
        compressed: bool = False,
    ) -> Self:
        """Start a viewer, or connect to one. Blocks for a second or more: call it before the robot moves.

        Args:
            session_name: shown as the title.
            mode: ``rerun`` or ``foxglove``.
            ip: rerun: address of a running viewer, None starts one here. foxglove: the interface on which
                to serve, default 127.0.0.1.
            port: its port; default 9876 for rerun, 8765 for foxglove.
            compressed: show JPEG instead of raw images. With `ip` and `port` given that is always done, as
                in lerobot.

        Raises:
            ConfigError: there is no such mode, it is not installed, or it cannot be started.
            StateError: it did not start within a minute.
        """
        check_viewer(mode)
        compressed = compressed or (ip is not None and port is not None)
        sink: Sink
        if mode == "rerun":
            from .sinks.rerun_sink import RerunSink

            sink = RerunSink(session_name, ip, port, compressed)
        else:
            from .sinks.foxglove_sink import FoxgloveSink

            sink = FoxgloveSink(session_name, ip, port, compressed)
        viewer = cls(sink)
        viewer.start()
        return viewer

    def start(self) -> None:
        """Start the thread and wait until the sink is open.

        Raises:
            AiorecordError: the sink's error.
            StateError: it took more than a minute.
        """
        start_thread(self._thread)
        if not self._ready.wait(START_S):
            self._closing.set()
            self._sink.abandon()
            raise StateError(f"The viewer did not start within {START_S:.0f} s.")
        if isinstance(self.error, AiorecordError):
            raise self.error
        if self.error is not None:
            raise ConfigError(
                f"The viewer cannot be started: {self.error}", option="display_data"
            ) from self.error

    def show(
        self,
        observation: Mapping[str, Any],
        action: Mapping[str, Any],
        features: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Pass a view to the viewer; never waits. It is dropped, and counted, when the sink is busy.

        Arrays are not copied: if a driver reuses an array for its next observation, parts of both may be
        shown.

        Args:
            observation: what the robot saw, keyed as in a frame, or flat.
            action: what was asked of it, likewise.
            features: the dataset's feature dict; empty when the values are flat.
        """
        if self.error is not None or self.note is not None or self._closing.is_set():
            return
        try:
            self._queue.put_nowait(View(observation, action, features))
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Show the waiting views, disconnect, end the thread. Idempotent.

        Blocks for some seconds at most: a stuck sink is abandoned, with a warning. A viewer window
        stays open.
        """
        already = self._closing.is_set()
        self._closing.set()
        with contextlib.suppress(queue.Full):  # this wakes the thread up
            self._queue.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)
        if self._thread.is_alive() and not already:
            logger.warning("The viewer did not close within %.0f s and is left behind.", CLOSE_S)
            self._sink.abandon()

    def _run(self) -> None:
        try:
            self.note = self._sink.open()
            self.hint = self._sink.hint
        except Exception as error:  # noqa: BLE001 - handed to `start`, which raises it
            self.error = error
            return
        finally:
            self._ready.set()
        try:
            self._show_views()
            self._sink.close()
        except Exception as error:  # noqa: BLE001 - the recording goes on without a view; it is reported
            self.error = error
            logger.warning("The viewer stopped: %s", error)
            self._sink.abandon()

    def _show_views(self) -> None:
        while not (self._closing.is_set() and self._queue.empty()):
            view = self._queue.get()
            if view is None:
                return
            self._sink.show(view)
            self.shown += 1
