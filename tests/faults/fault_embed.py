"""A small application on the public `Recorder`: saves fail, later ones commit, the failed ones are retried.

Settings, as JSON: ``root``, ``session``, ``episodes``, ``length`` of each, ``strikes`` (see fault_encode.py),
``refused`` (numbers of episodes whose commit the disk refuses, with ``switch``, the file that makes the shim
refuse), ``retry`` (which failed ones are retried from their handles). It announces what the watched recorder
does, as the command does, and prints the outcome as JSON.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import fault_content as content
from fault_encode import Strike, StruckPool

from aiorecord import Recorder, RGBEncoderConfig, SaveError
from aiorecord.clock import FakeClock
from aiorecord.saving import disk_guard
from aiorecord.saving.handle import EpisodeSave

LOSSLESS = RGBEncoderConfig(vcodec="h264", crf=0, preset="ultrafast")


def embed(settings: str) -> int:
    """Run it; 0 unless something unforeseen came."""
    return asyncio.run(_run(json.loads(settings)))


async def _run(settings: dict[str, Any]) -> int:
    session, step = settings["session"], 0
    disk_guard.MAX_RETRIES = 0  # what is retried is retried from the handle, however long the rest takes
    saves: list[EpisodeSave] = []
    with StruckPool(1, [Strike(**strike) for strike in settings["strikes"]]) as pool:
        recorder = Recorder(
            "demo/faults",
            root=settings["root"],
            fps=60,
            features=content.features(),
            rgb_encoder=LOSSLESS,
            encode="deferred",
            encode_workers=1,
            encode_executor=pool,
            clock=FakeClock(auto=True),
            min_free_gb=0,
        )
        await recorder.open()
        try:
            for number in range(settings["episodes"]):
                refused = number in settings["refused"]
                async with recorder.episode("Show the code", hold=refused) as episode:
                    for _ in range(settings["length"]):
                        episode.add_frame(content.frame(session, step))
                        step += 1
                assert episode.save is not None
                saves.append(episode.save)
                if refused:
                    await _let_the_disk_refuse(saves, Path(settings["switch"]))
            failed = [number for number, save in enumerate(saves) if await _failed(save)]
            for number in failed:
                if number in settings["retry"]:
                    saves[number].retry()
                    await saves[number]
        finally:
            await recorder.aclose()
    still = [number for number, save in enumerate(saves) if not save.result().success]
    order = sorted(set(range(len(saves))) - set(still), key=lambda n: saves[n].result().episode_index)
    print(json.dumps({"failed": failed, "still": still, "order": order}), flush=True)
    return 0


async def _let_the_disk_refuse(saves: list[EpisodeSave], switch: Path) -> None:
    """Commit the last save on a disk that takes nothing, when all before it are out of the way."""
    *before, save = saves
    for one in before:
        await _failed(one)
    while save.job.encoded is None:
        await asyncio.sleep(0.001)
    switch.touch()  # noqa: ASYNC240 - nothing else runs
    save.release()
    assert await _failed(save)
    switch.unlink()  # noqa: ASYNC240 - as above


async def _failed(save: EpisodeSave) -> bool:
    try:
        await save
    except SaveError:
        return True
    return False
