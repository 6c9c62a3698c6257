"""Binds an object to its event loop and its process; calls from elsewhere are refused.

Objects used by an event loop have no locks: a call from another thread would interleave with the loop's own
and mix what two calls do. A forked child has copies of the parent's objects but none of its threads, and
shares its files and its lock: whatever it did with them would be lost, or would harm the parent.
"""

from __future__ import annotations

import asyncio
import os
import threading

from ..errors import StateError

_forks = 0
"""How often this process was forked since the module was imported."""


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class ProcessOwner:
    """The process that made an object. A check compares two numbers and makes no system call.

    Args:
        what: the object, for messages, such as ``"recorder"``.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._born = _forks

    @property
    def is_forked(self) -> bool:
        """Whether this is a process that was forked after the object was made."""
        return self._born != _forks

    def check_process(self, call: str) -> None:
        """Refuse a call in a forked child.

        Raises:
            StateError: this process was forked after the object was made.
        """
        if self._born != _forks:
            raise StateError(
                f"{call} was called in a forked process, but the {self._what} belongs to its parent, which "
                "goes on with it. Start the process by 'spawn', or make a new one in it for another dataset."
            )


class LoopOwner(ProcessOwner):
    """The event loop that an object belongs to, from `bind` on; before that every call is allowed.

    Args:
        what: the object, for messages.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def bind(self) -> None:
        """Bind the object to the running loop. Only the first call has an effect.

        Raises:
            StateError: no event loop of asyncio is running, as under trio; or this is a forked child.
        """
        self.check_process("It")
        if self._loop is None:
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:
                raise StateError(
                    f"The {self._what} needs a running event loop of asyncio, and there is none here. Start "
                    "the program with asyncio.run(...), or anyio.run(..., backend='asyncio'); under trio, "
                    "run asyncio.run(...) in a thread of its own."
                ) from None
            self._thread = threading.get_ident()

    def check(self, call: str) -> None:
        """Refuse a plain call that does not come from the loop.

        In the loop's thread it is allowed also while the loop is stopped: nothing can interleave then.

        Args:
            call: for the message, such as ``"Episode.add_frame"``.

        Raises:
            StateError: it comes from another thread, another loop, or a forked child.
        """
        if self._born == _forks and asyncio._get_running_loop() is self._loop:
            return
        self.check_process(call)
        loop = self._loop
        if loop is None:
            return
        if threading.get_ident() != self._thread or loop.is_running():
            raise StateError(
                f"{call} was called from another thread than that of the {self._what}'s event loop. Hand the "
                "call over with loop.call_soon_threadsafe(...), or use AsyncLeRobotDataset, whose "
                "methods may be called from any thread."
            )
        self._check_loop(call)

    def check_awaited(self, call: str) -> None:
        """Refuse a coroutine that does not run on the loop; it would never end.

        Args:
            call: for the message.

        Raises:
            StateError: it runs on another loop, or in a forked child.
        """
        self.check_process(call)
        self._check_loop(call)

    def _check_loop(self, call: str) -> None:
        running = asyncio._get_running_loop()
        if self._loop is not None and running is not None and running is not self._loop:
            state = "which is closed" if self._loop.is_closed() else "not to the one that runs here"
            raise StateError(
                f"{call} was called on another event loop: the {self._what} belongs to the loop that opened "
                f"it, {state}. Use it there (asyncio.run_coroutine_threadsafe(..., loop)). Ended episodes "
                "are in staging: `aiorecord recover ROOT` brings them into the dataset."
            )
