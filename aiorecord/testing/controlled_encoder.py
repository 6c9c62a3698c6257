"""An encoder that works when a test lets it, more slowly, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ..encoding.camera_encoding import encode_camera
from ..encoding.encoded import EncodedCamera
from ..errors import EncodeError


class ControlledEncoder(ThreadPoolExecutor):
    """Encodes in threads of this process, each encode when it is let, as ``Recorder(encode_executor=...)``.

    An encode is that of one camera of one episode. What else the recorder runs on it (whether a codec opens)
    is not held up. As a context manager it ends its threads; leave the recorder's block first. It is asked
    only for episodes that are not captured live: ``Recorder(encode="deferred")``.

    Args:
        workers: how many encodes run at a time.
        held: whether encodes wait for `let` from the beginning.
        delay_s: seconds, of real time, that each encode takes longer.

    Attributes:
        lengths: frames of each encode that has ended, in that order.
        delay_s: as given; may be changed.
    """

    def __init__(self, workers: int = 1, *, held: bool = False, delay_s: float = 0.0) -> None:
        super().__init__(workers, thread_name_prefix="testing-encode")
        self.lengths: list[int] = []
        self.delay_s = delay_s
        self._errors: list[BaseException] = []
        self._held = held
        self._let = 0
        self._ended = False
        self._changed = threading.Condition()

    def hold(self) -> None:
        """Encodes that have not begun wait from now on."""
        with self._changed:
            self._held, self._let = True, 0

    def let(self, encodes: int | None = None) -> None:
        """Let encodes begin that wait, or that come.

        Args:
            encodes: how many; None lets all of them, until the next `hold`.
        """
        with self._changed:
            if encodes is None:
                self._held = False
            else:
                self._let += encodes
            self._changed.notify_all()

    def fail_next(self, encodes: int = 1, error: BaseException | None = None) -> None:
        """The next encodes that are asked for raise, when they begin.

        A recorder begins an encode that failed once more, so that a save fails after two.

        Args:
            encodes: how many.
            error: what they raise, an `EncodeError` by default.
        """
        error = error or EncodeError("This encode fails because a test wants it to.")
        with self._changed:
            self._errors += [error] * encodes

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call in a thread; an encode when it is let. See `concurrent.futures.Executor`."""
        if fn is encode_camera:
            with self._changed:
                error = self._errors.pop(0) if self._errors else None
            return super().submit(self._encode, error, *args, **kwargs)
        return super().submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads; encodes that wait begin. See `concurrent.futures.Executor`."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        super().shutdown(wait, cancel_futures=cancel_futures)

    def _encode(self, error: BaseException | None, *args: Any, **kwargs: Any) -> EncodedCamera:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or not self._held or self._let > 0)
            if self._held and not self._ended:
                self._let -= 1
            self._changed.wait_for(lambda: self._ended, self.delay_s)
        if error is not None:
            raise error
        encoded = encode_camera(*args, **kwargs)
        self.lengths.append(encoded.frames)
        return encoded
