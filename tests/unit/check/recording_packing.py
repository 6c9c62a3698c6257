"""Records and packs until it is told to stop: ``python recording_packing.py ROOT STOP``.

Records in real time, so that others get the processor too. Says ``packed`` when it has packed once; ends when
there is a file STOP.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from helpers import FEATURES, FPS, H264, make_frame

from aiorecord import Recorder


def is_over(stop: Path) -> bool:
    return stop.exists() or not stop.parent.exists()


async def main(root: Path, stop: Path) -> None:
    options = {"fps": FPS, "features": FEATURES, "rgb_encoder": H264, "encode": "deferred"}
    async with Recorder("test/set", root=root, **options) as recorder:
        for number in range(3000):
            if is_over(stop):
                return
            async with recorder.episode("Test") as episode:
                async for tick in recorder.ticks(seconds=0.2):
                    episode.add_frame(make_frame(tick.index, number))
            if number % 8 == 2:
                assert episode.save is not None
                await episode.save
                await recorder.pack()
                print("packed", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
