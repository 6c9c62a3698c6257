"""Capture encoders that do not keep up: nothing is lost, memory stays bounded, the loop never waits."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading

import pytest
from test_disk_full import contents, noise, recorder_for

from aiorecord.clock import FakeClock
from aiorecord.staging import lossless
from aiorecord.staging.lossless import LosslessWriter
from aiorecord.staging.raw import RawWriter

FRAME_BYTES = 120 * 160 * 3
BUFFER_MB = 1.0


class SlowWriter(LosslessWriter):
    """The capture encoder with ten times the work: every frame is encoded nine times more, for nothing."""

    def __init__(self, path, camera, fps):
        super().__init__(path, camera, fps)
        self._waste = LosslessWriter(path.with_name(f"waste-{path.name}"), camera, fps)

    def write(self, frame):
        super().write(frame)
        for _ in range(9):
            self._waste.write(frame)

    def close(self):
        super().close()
        self._waste.close()
        self._waste.path.unlink()


class GatedWriter(LosslessWriter):
    """A capture encoder that does not come back from its second frame before it is told to."""

    gate = threading.Event()

    def write(self, frame):
        if self.frames == 1:
            assert self.gate.wait(300)
        super().write(frame)


async def test_with_an_encoder_ten_times_slower_every_frame_is_kept_and_memory_is_bounded(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(lossless, "LosslessWriter", SlowWriter)

    async with recorder_for(tmp_path, buffer_mb=BUFFER_MB, clock=FakeClock(auto=True)) as recorder:
        most = 0
        async with recorder.episode("Test") as episode:
            for k in range(300):
                episode.add_frame(noise(k))
                most = max(most, recorder.get_status().queued_bytes)
                while recorder.get_status().queued_bytes > (BUFFER_MB + 0.125) * 2**20:
                    await asyncio.sleep(0.001)  # as a robot's loop leaves the disk its time between ticks
            status = recorder.get_status().episode.cameras["observation.images.front"]
            assert episode.end_reason is None
        assert most <= (BUFFER_MB + 0.125) * 2**20 + FRAME_BYTES
        assert (await episode.save).length == 300
        final = episode.save.source.status().cameras["observation.images.front"]
        assert status.captured == final.captured == 300
        assert final.spilled > 0
        assert (final.lost, final.queued_frames, final.queued_bytes) == (0, 0, 0)
        assert recorder.get_status().queued_bytes == 0
    assert contents(tmp_path / "set") == [(0, 300)]


async def test_add_frame_does_not_wait_for_an_encoder_that_stands_still(tmp_path, monkeypatch):
    monkeypatch.setattr(lossless, "LosslessWriter", GatedWriter)
    GatedWriter.gate = threading.Event()

    async with recorder_for(tmp_path, buffer_mb=BUFFER_MB) as recorder:
        async with recorder.episode("Test") as episode:
            for k in range(200):  # ten times what the budget holds, while the encoder does nothing
                episode.add_frame(noise(k))
                while recorder.get_status().queued_bytes > (BUFFER_MB + 0.125) * 2**20:
                    await asyncio.sleep(0.001)
            camera = recorder.get_status().episode.cameras["observation.images.front"]
            assert camera.captured == 200
            assert camera.spilled > 150
            GatedWriter.gate.set()
        assert (await episode.save).length == 200
    assert contents(tmp_path / "set") == [(0, 200)]


async def test_where_the_disk_takes_no_raw_frames_either_the_episode_ends_and_is_kept(tmp_path, monkeypatch):
    gate = GatedWriter.gate = threading.Event()
    monkeypatch.setattr(lossless, "LosslessWriter", GatedWriter)
    write = RawWriter.write

    def stuck(self, array, index=None):
        assert gate.wait(300)
        write(self, array, index)

    monkeypatch.setattr(RawWriter, "write", stuck)

    async with recorder_for(tmp_path, buffer_mb=BUFFER_MB, clock=FakeClock(auto=True)) as recorder:
        async with recorder.episode("Test") as episode:
            async for tick in recorder.ticks():
                episode.add_frame(noise(tick.index))
            assert "too slow" in episode.end_reason
            gate.set()
        frames = episode.frames
        assert frames * FRAME_BYTES < 1.5 * BUFFER_MB * 2**20
        assert (await episode.save).length == frames, "the end comes before a frame is refused"
    assert contents(tmp_path / "set")[0][1] > 10


RSS = """
    import asyncio, resource, sys
    from pathlib import Path
    sys.path[:0] = {path!r}
    from aiorecord.staging import lossless
    from test_overload import SlowWriter
    from test_disk_full import noise, recorder_for

    async def main(place, frames, slow):
        if slow:
            lossless.LosslessWriter = SlowWriter
        async with recorder_for(place, buffer_mb=8) as recorder:
            async with recorder.episode("Test") as episode:
                for k in range(frames):
                    episode.add_frame(noise(k))
                    while recorder.get_status().queued_bytes > 9 << 20:
                        await asyncio.sleep(0.001)
            result = await episode.save
            spilled = episode.save.source.status().cameras["observation.images.front"].spilled
        print(result.length, spilled, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "slow"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux")
def test_the_memory_of_the_process_is_the_base_and_the_budget(tmp_path):
    """700 frames are 40 MB raw; a queue without a limit would hold most of them."""
    here = os.path.dirname(__file__)
    code = textwrap.dedent(RSS).format(path=[here, os.path.join(here, "..", "..")])

    def run(frames, how):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / how), str(frames), how],
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        return [int(word) for word in done.stdout.split()]

    length, _, base_kb = run(20, "plain")
    assert length == 20
    length, spilled, loaded_kb = run(700, "slow")
    assert length == 700
    assert spilled > 300
    # The second encoder that makes it slow, and what malloc keeps, come on top of base and budget.
    assert loaded_kb - base_kb < 8 * 1024 + 20 * 1024


async def test_raw_frames_that_the_disk_refuses_end_the_episode_with_what_was_taken(tmp_path, monkeypatch):
    """The spill's disk fails with the encoder's standing still: what both had taken is kept, in order."""
    GatedWriter.gate = threading.Event()
    monkeypatch.setattr(lossless, "LosslessWriter", GatedWriter)
    write = RawWriter.write

    def refused(self, array, index=None):
        if self.frames == 7:
            from aiorecord import StorageError

            raise StorageError("Could not write: No space left on device")
        write(self, array, index)

    monkeypatch.setattr(RawWriter, "write", refused)

    async with recorder_for(tmp_path, buffer_mb=BUFFER_MB, clock=FakeClock(auto=True)) as recorder:
        async with recorder.episode("Test") as episode:
            for k in range(10_000):
                try:
                    episode.add_frame(noise(k))
                except OSError:
                    break
                while recorder.get_status().queued_bytes > (BUFFER_MB + 0.125) * 2**20:
                    await asyncio.sleep(0.001)
            assert "No space" in episode.end_reason
            GatedWriter.gate.set()
        result = await episode.save
        assert 1 <= result.length < episode.frames
        assert "lost" in episode.save.problems[-1]
    found = contents(tmp_path / "set")
    assert len(found) == 1
