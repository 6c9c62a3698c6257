"""Packing is told like everything else that a recorder does: begun, then ended or failed, whoever waits."""

import asyncio
import json
import threading

import pytest
from helpers import FPS, H264, STATES, record_episode

import aiorecord
from aiorecord import PackingBegan, PackingEnded, PackingFailed


def recorder_for(root):
    clock = aiorecord.FakeClock(auto=True)
    options = {"rgb_encoder": H264, "encode_workers": 1, "encode": "deferred", "clock": clock}
    return aiorecord.Recorder("me/x", root=root / "set", fps=FPS, features=STATES, **options)


async def packings(recorder):
    return [e async for e in recorder.events() if isinstance(e, PackingBegan | PackingEnded | PackingFailed)]


def test_the_packing_at_the_end(tmp_path):
    async def main():
        async with recorder_for(tmp_path) as recorder:
            reading = asyncio.create_task(packings(recorder))
            await asyncio.sleep(0)
            for _ in range(2):
                await (await record_episode(recorder, 3)).save
        return await reading, recorder.packed

    (began, ended), packed = asyncio.run(main())
    assert began == PackingBegan()
    assert ended == PackingEnded(packed.merged_files, packed.data_files + packed.video_files, packed.bytes)
    assert ended.merged_files >= 2
    assert json.loads(json.dumps(ended.as_dict()))["written_files"] == 1


def test_one_that_fails_says_why(tmp_path):
    async def main():
        recorder = recorder_for(tmp_path)
        reading = asyncio.create_task(packings(recorder))
        await asyncio.sleep(0)
        await recorder.open()
        await (await record_episode(recorder, 3)).save
        (rows,) = (tmp_path / "set" / "data").rglob("*.parquet")
        rows.write_bytes(b"no Parquet")
        with pytest.raises(aiorecord.AiorecordError) as error:
            await recorder.pack()
        await recorder.aclose(drain=False)
        return await reading, str(error.value)

    (began, failed), said = asyncio.run(main())
    assert (began, failed) == (PackingBegan(), PackingFailed(said))
    assert failed.as_dict() == {"event": "PackingFailed", "error": said}


def test_whoever_is_cancelled_does_not_keep_the_end_from_being_told(tmp_path):
    async def main():
        recorder = recorder_for(tmp_path)
        reading = asyncio.create_task(packings(recorder))
        await asyncio.sleep(0)
        await recorder.open()
        await (await record_episode(recorder, 3)).save
        under_way, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def stop(done, total):
            loop.call_soon_threadsafe(under_way.set)
            go_on.wait(60)

        packing = asyncio.create_task(recorder.pack(stop))
        await under_way.wait()
        packing.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await packing
        assert recorder.packed is not None
        await recorder.aclose()
        return await reading

    kinds = [type(event) for event in asyncio.run(main())]
    assert kinds == [PackingBegan, PackingEnded], "packed once: it counts though nobody waited for it"
