"""Datasets of the coded robot, made in this process through the public `Recorder`."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fault_content as content
from fault_verify import Expected

from aiorecord import Recorder, RGBEncoderConfig
from aiorecord.clock import FakeClock
from aiorecord.encoding.episode_encoding import EpisodeEncoding
from aiorecord.staging.folder import EpisodeFolder, Staging

FPS = 60
LOSSLESS = RGBEncoderConfig(vcodec="h264", crf=0, preset="ultrafast")


def coded_frame(session: int, step: int) -> dict:
    """What the coded robot shows at a step."""
    return content.frame(session, step)


async def record_coded(
    root: Path, session: int, lengths: list[int], expected: Expected, *, save: bool = True, **options
) -> None:
    """Record episodes; without `save` they stay in staging."""
    executor = ThreadPoolExecutor(1)
    arguments = {
        "fps": FPS,
        "features": content.features(),
        "rgb_encoder": LOSSLESS,
        "encode_executor": executor,
        "clock": FakeClock(auto=True),
        "robot_type": "coded",
        "resume": True,
    } | options
    recorder = Recorder("demo/faults", root=root, **arguments)
    wanted = set(recorder.features)
    step = 0
    await recorder.open()
    try:
        for length in lengths:
            # Held: not committed before the next one begins, or the recorder is drained.
            async with recorder.episode("Show the code", hold=True) as episode:
                frames = []
                for _ in range(length):
                    episode.add_frame({k: v for k, v in coded_frame(session, step).items() if k in wanted})
                    frames.append((session, step))
                    step += 1
            assert episode.save is not None
            await episode.save.durable()
            if not save:
                episode.save.hold()
                recorder.core.last_save = None  # the next episode would release it
            expected.frames[episode.save.episode_id] = frames
            expected.ended.add(episode.save.episode_id)
    finally:
        await recorder.aclose(drain=save)
        executor.shutdown()


def encode_staged(root: Path) -> None:
    """Encode what staging holds, and leave it there."""
    with ThreadPoolExecutor(1) as executor:
        for path in Staging(root).episode_paths():
            EpisodeEncoding(EpisodeFolder.load(path), executor).run()


def make_staged(root: Path, *, packed: list[int], staged: list[int], encoded: bool = True) -> Expected:
    """`record_staged` for tests without a loop."""
    return asyncio.run(record_staged(root, packed=packed, staged=staged, encoded=encoded))


async def record_staged(
    root: Path, *, packed: list[int], staged: list[int], encoded: bool = True
) -> Expected:
    """A dataset with packed episodes, and encoded ones that wait in staging for their commit.

    Args:
        root: the dataset.
        packed: lengths of the episodes in it.
        staged: lengths of those that wait.
        encoded: whether they are encoded.
    """
    expected = Expected()
    await record_coded(root, 1, packed, expected)
    await record_coded(root, 2, staged, expected, save=False)
    if encoded:
        encode_staged(root)
    return expected
