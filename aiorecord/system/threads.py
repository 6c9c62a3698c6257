"""The one place where blocking work leaves the event loop, for a pool of named threads."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ..errors import StateError
from .loop_owner import ProcessOwner
from .uncancellable import UncancellableTask, finished


class Threads:
    """A named thread pool whose calls are never abandoned.

    Cancelling `run` does not abandon the call: the cancellation is delivered when the call has ended,
    so that whatever comes next finds the files in a known state.

    All threads start with the first call, so that no later one, the closing least of all, lacks a thread.
    Where they cannot be started the first call raises, and what comes then (only the closing) runs on the
    loop.

    Args:
        size: threads at most.
        name: prefix of the threads' names.
    """

    def __init__(self, size: int, name: str = "aiorecord") -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._size = size
        self._started = self._lacking = False
        self._running: set[asyncio.Future[Any]] = set()
        self._closed = False
        self._ending: UncancellableTask[None] | None = None
        self._owner = ProcessOwner("thread pool")

    async def run[T](self, function: Callable[..., T], *args: Any) -> T:
        """Call `function(*args)` in a thread.

        Cancelling waits for the call to end, then raises `asyncio.CancelledError`; an error of the call is
        then lost to the caller, who was cancelled anyway.

        Raises:
            StateError: the pool is closed, or no threads can be started; this is a forked child, which has
                none of its threads; or the call was cancelled by others than the caller (a future in it was).
        """
        self._check()
        if self._lacking:
            return function(*args)
        return await finished(self._submit(function, args), self._owner)

    async def run_each[T](self, functions: Sequence[Callable[[], T]]) -> list[T]:
        """Call functions at the same time, as far as there are threads; cancelling waits for all of them.

        Returns:
            What they return, in order.

        Raises:
            StateError: as `run`.
            Exception: what the first of them failed with.
        """
        self._check()
        if self._lacking:
            return [function() for function in functions]
        calls = [self._submit(function, ()) for function in functions]
        results: list[T | BaseException] = await finished(
            asyncio.gather(*calls, return_exceptions=True), self._owner
        )
        return [call.result() for call, _ in zip(calls, results, strict=True)]

    def _check(self) -> None:
        if self._closed:
            raise StateError("This recorder is closed.")
        self._owner.check_process("Work in a thread")
        if not self._lacking and not self._started:
            self._start()

    def _submit[T](self, function: Callable[..., T], args: tuple[Any, ...]) -> asyncio.Future[T]:
        future = asyncio.get_running_loop().run_in_executor(self._pool, _uncancelled, function, args)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def _start(self) -> None:
        together = threading.Barrier(self._size)
        try:
            for _ in range(self._size):
                self._pool.submit(together.wait)
        except RuntimeError as error:
            together.abort()
            self._lacking = True
            raise no_threads(error) from error
        self._started = True

    async def aclose(self, *last: Callable[[], object]) -> None:
        """Take no more calls, wait for those under way, make the last ones, let the threads end. Idempotent.

        Cancelling waits too.

        Args:
            last: called one after the other when nothing else runs in the threads: what lets go of a lock or
                a file that the calls before needed. Each is called, also when one before it failed.

        Raises:
            Exception: what the first of them failed with.
        """
        self._closed = True
        if self._ending is None:
            self._ending = UncancellableTask(self._end(last), name="aiorecord-threads-end")
        await finished(self._ending)

    async def _end(self, last: tuple[Callable[[], object], ...]) -> None:
        while self._running:
            await asyncio.wait(self._running)
        try:
            await self._call_each(last)
        finally:
            # No call is left, so the threads only have to return: this does not hold up the loop.
            self._pool.shutdown(wait=True)

    async def _call_each(self, functions: tuple[Callable[[], object], ...]) -> None:
        for number, function in enumerate(functions):
            try:
                if not self._started and not self._lacking:
                    with contextlib.suppress(StateError):
                        self._start()
                if self._lacking:
                    function()
                else:
                    await self._submit(function, ())
            except BaseException:
                await self._call_each(functions[number + 1 :])
                raise


async def run_in_thread[T](function: Callable[..., T], *args: Any) -> T:
    """Call `function(*args)` in one of the event loop's own threads, for those who have no `Threads`.

    Cancelling waits for the call to end, as `Threads.run` does.
    """
    future = asyncio.get_running_loop().run_in_executor(None, _uncancelled, function, args)
    return await finished(future)


async def run_left_behind[T](function: Callable[[], T], name: str) -> T:
    """Call a function in a thread of its own that is abandoned on cancellation and ends with the program.

    Only for what waits for others (a network) and would keep people from leaving. What guards the call, a
    lock, is let go by the function itself, at its end.

    Args:
        function: what to call.
        name: of the thread.
    """
    call: Future[T] = Future()

    def run() -> None:
        try:
            call.set_result(_uncancelled(function, ()))
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            call.set_exception(error)

    start_thread(threading.Thread(target=run, name=name, daemon=True))
    result: T = await wrapped(call)
    return result


def wrapped(call: Future[Any], *, quietly: bool = False) -> asyncio.Future[Any]:
    """Like `asyncio.wrap_future`, but cancelling it leaves the call alone, and the loop may close before.

    Args:
        call: what to wait for.
        quietly: give None whatever became of it.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def finish() -> None:
        if future.done():
            return
        if quietly or call.cancelled():
            future.set_result(None)
        elif (error := call.exception()) is not None:
            future.set_exception(error)
        else:
            future.set_result(call.result())

    def finished(_: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no task waits
            loop.call_soon_threadsafe(finish)

    call.add_done_callback(finished)
    return future


def start_thread(thread: threading.Thread) -> None:
    """Start a thread.

    Raises:
        StateError: the machine, or a limit of this user or service, allows no more.
    """
    try:
        thread.start()
    except RuntimeError as error:
        raise no_threads(error) from error


def no_threads(error: RuntimeError) -> StateError:
    """What to raise where a thread could not be started."""
    return StateError(
        f"No thread could be started ({error}): the limit of threads and processes is reached, or memory is. "
        "Close other programs, or raise it (`ulimit -u`, TasksMax of the service)."
    )


def _uncancelled[T](function: Callable[..., T], args: tuple[Any, ...]) -> T:
    """Call a function; its `asyncio.CancelledError` would look like a cancellation of the caller."""
    try:
        return function(*args)
    except asyncio.CancelledError as error:
        raise StateError("A future that a thread waited for was cancelled.") from error
