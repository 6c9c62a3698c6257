"""The notebook's view while a cell runs: it moves, shows what the cameras see, and costs no recording."""

import asyncio
import base64
import io
import sys
import types

import av
import numpy as np
import pytest
from helpers import FEATURES, FPS, H264, make_frame

import aiorecord
from aiorecord.monitor.thumbnails import WIDTH, data_url, thumbnail

DEPTH = {
    "observation.images.depth": {
        "dtype": "video",
        "shape": (48, 64, 1),
        "names": ["height", "width", "channels"],
    }
}


class FrontEnd:
    """Keeps what a notebook would show; broken from the third look on, if it is to be."""

    def __init__(self, monkeypatch, breaks=False):
        self.pages, self.breaks = [], breaks
        module = types.ModuleType("IPython.display")
        module.display = self.display
        monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
        monkeypatch.setitem(sys.modules, "IPython.display", module)

    def display(self, shown, display_id):
        assert display_id
        self.pages.append(shown._repr_html_())
        return self

    def update(self, shown):
        if self.breaks and len(self.pages) > 2:
            raise ConnectionError("the kernel's socket is closed")
        self.pages.append(shown._repr_html_())


def recorder_for(root, features=FEATURES, **options):
    options |= {"rgb_encoder": H264, "encode_workers": 1, "encode": "deferred"}
    return aiorecord.Recorder("me/x", root=root / "set", fps=FPS, features=features, **options)


async def record(recorder, front, features=FEATURES, looks=3):
    """Frames at their rate until the view has looked so often since the episode began."""
    async with recorder.episode("Pick <it>") as episode:
        before = len(front.pages)
        async for tick in recorder.ticks(seconds=20):
            frame = make_frame(tick.index, 0, FEATURES)
            if features is not FEATURES:
                frame["observation.images.depth"] = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
            episode.add_frame(frame)
            if len(front.pages) >= before + looks and tick.index > 5:
                break
    return episode.save


def decoded(html):
    """The pictures of a page."""
    return [
        next(av.open(io.BytesIO(base64.b64decode(part.split("'")[0])), format="mjpeg").decode())
        for part in html.split("data:image/jpeg;base64,")[1:]
    ]


async def test_it_moves_and_shows_images_lateness_and_saves(tmp_path, monkeypatch):
    features = {**FEATURES, **DEPTH}
    front = FrontEnd(monkeypatch)

    async def main():
        async with recorder_for(tmp_path, features) as recorder:
            async with aiorecord.StatusView(recorder).live(refresh_s=0.02):
                save = await record(recorder, front, features)
                running = front.pages[-1]
                await save
            return running, front.pages[-1]

    running, last = await main()
    assert "recording: " in running
    for part in (f"of {FPS} fps", "ms at worst", "late, 0 missed"):
        assert part in running or "missed</span>" in running, part
    pictures = decoded(running)
    assert [(p.width, p.height) for p in pictures] == [(64, 48)] * 2
    assert np.ptp(pictures[1].to_ndarray(format="gray")) > 200, "depth is stretched"
    assert "episode 0</td><td>committed" in last
    assert "recording: " not in last


async def test_flags_are_shown_of_the_running_episode_and_stay_with_its_save(tmp_path, monkeypatch):
    front = FrontEnd(monkeypatch)
    limits = aiorecord.QualityLimits(max_repeats=0)

    async with recorder_for(tmp_path, limits=limits) as recorder:
        view = aiorecord.StatusView(recorder)
        async with view.live(refresh_s=0.02):
            async with recorder.episode("x") as episode:
                for _ in range(3):
                    episode.add_frame(make_frame(0))
                while not episode.flags:
                    await asyncio.sleep(0)
                assert "flagged: " in view._repr_html_()
            await episode.save
    assert front.pages[-1].count("flagged: ") >= 1


async def test_a_front_end_that_breaks_costs_the_view_only(tmp_path, monkeypatch, caplog):
    FrontEnd(monkeypatch, breaks=True)

    async def main():
        async with recorder_for(tmp_path) as recorder:
            async with aiorecord.StatusView(recorder).live(refresh_s=0.01):
                async with recorder.episode("x") as episode:
                    while "was stopped" not in caplog.text:
                        episode.add_frame(make_frame(0))
                        await asyncio.sleep(0)
            return await episode.save

    assert (await main()).success
    assert "the kernel's socket is closed" in caplog.text


async def test_without_a_notebook_it_says_what_to_do(tmp_path, monkeypatch):
    for name in ("IPython", "IPython.display"):
        monkeypatch.setitem(sys.modules, name, None)

    async with recorder_for(tmp_path) as recorder:
        with pytest.raises(aiorecord.StateError, match="IPython is not installed"):
            async with aiorecord.StatusView(recorder).live():
                pass
        with pytest.raises(aiorecord.ConfigError, match="refresh_s"):
            async with aiorecord.StatusView(recorder).live(refresh_s=0):
                pass


@pytest.mark.parametrize("shape", [(480, 640, 3), (1, 1, 3), (47, 63, 3), (720, 1280), (1080, 1920, 3)])
def test_thumbnails_are_small_copies(shape):
    image = np.zeros(shape, np.uint8 if len(shape) == 3 else np.float32)
    small = thumbnail(image)
    assert small.shape[1] <= WIDTH
    assert not np.shares_memory(small, image)
    assert data_url(small).startswith("data:image/jpeg;base64,")
