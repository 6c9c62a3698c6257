"""The capture that is prepared ahead: what was refused when it was prepared is asked for once more."""

import asyncio
import contextlib
import threading

import pytest

from aiorecord.errors import StateError, StorageError
from aiorecord.recording.standby import Standby
from aiorecord.system.tasks import TaskOwner
from aiorecord.system.threads import Threads


class Capture:
    def discard(self):
        pass


class Disk:
    """Makes captures while it has room. Each attempt waits until the test lets it go on."""

    def __init__(self, refusals):
        self.refusals = refusals
        self.attempts = 0
        self.began = threading.Event()
        self.go_on = threading.Event()

    def make(self):
        self.attempts += 1
        refuses = self.attempts <= self.refusals  # as it is when the attempt begins
        self.began.set()
        assert self.go_on.wait(60)
        if refuses:
            raise StorageError("The disk is full.")
        return Capture()


@contextlib.asynccontextmanager
async def standby_of(disk):
    threads, tasks = Threads(1, "test-standby"), TaskOwner("test-standby")
    await tasks.start()
    standby = Standby(disk.make, tasks, threads)
    try:
        yield standby
    finally:
        disk.go_on.set()
        await tasks.aclose()
        await threads.aclose()


async def until(event):
    while not event.is_set():
        await asyncio.sleep(0)


async def wait_during_an_attempt(standby, disk):
    """A wait that began when an attempt was under way, which goes on when the disk lets it."""
    standby.start()
    await until(disk.began)
    wait = asyncio.ensure_future(standby.wait())
    await asyncio.sleep(0)
    return wait


async def test_an_attempt_that_began_before_the_wait_and_was_refused_is_made_once_more():
    disk = Disk(refusals=1)
    async with standby_of(disk) as standby:
        wait = await wait_during_an_attempt(standby, disk)
        disk.go_on.set()
        assert isinstance(await wait, Capture)
    assert disk.attempts == 2


async def test_a_disk_that_goes_on_refusing_is_asked_once_more_only():
    disk = Disk(refusals=9)
    async with standby_of(disk) as standby:
        wait = await wait_during_an_attempt(standby, disk)
        disk.go_on.set()
        with pytest.raises(StorageError):
            await wait
        assert disk.attempts == 2
        with pytest.raises(StorageError):  # and each later wait once
            await standby.wait()
        assert disk.attempts == 3
        with pytest.raises(StorageError):
            await standby.take()
        assert disk.attempts == 4


async def test_what_was_closed_meanwhile_is_not_handed_out():
    disk = Disk(refusals=1)
    async with standby_of(disk) as standby:
        wait = await wait_during_an_attempt(standby, disk)
        standby.close()
        disk.go_on.set()
        with pytest.raises(StateError):
            await wait
    assert disk.attempts == 1, "nothing is begun in a recorder that closes"
