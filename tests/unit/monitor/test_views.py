"""What the views show."""

import io

import pytest
import screens_shown
from rich.console import Console
from screens_shown import camera

from aiorecord.errors import StorageError
from aiorecord.monitor.live_view import LiveView, render
from aiorecord.monitor.sinks.plain import describe
from aiorecord.monitor.snapshot import SaveRow
from aiorecord.monitor.units import size_text, time_text
from aiorecord.robots.guarding.source_policy import SourceStatus
from aiorecord.saving.handle import Stage
from aiorecord.session import Phase
from aiorecord.system.disk import DiskStatus


def snapshot(**changes):
    """The session of the screens, with other words for what the tests look for."""
    return screens_shown.snapshot(
        **{
            "task": "Pick up the cube",
            "late_ms": 0.4,
            "saves": [SaveRow("episode 1", 300, Stage.ENCODING, 0.42, True, None)],
            "index": 6,
        }
        | changes
    )


def text(renderable):
    console = Console(file=io.StringIO(), width=140, height=40)
    console.print(renderable)
    return console.file.getvalue()


def test_the_live_view_shows_all_there_is_to_know():
    shown = text(render(snapshot(), keys=True))
    for part in (
        *("RECORDING", "episode 6", "take 2 of 5", "7 s left of 10 s", "Pick up the cube", "30.0 fps of 30"),
        *("at worst 0.4 ms late", "3 late ticks", "front", "922 kB", "wrist", "12", "episode 1"),
        *("encoding (can be taken back)", "77.8 GB free = 2.2 h of recording", "→ n end the episode"),
        *("348 frames to encode, about 9 s", "answered late"),
    ):
        assert part in shown, part


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_can_be_shown(phase):
    shown = snapshot(phase=phase, seconds_left=None, rate=None, cameras={}, saves=[], disk=DiskStatus(10**9))
    assert phase.value.upper() in text(render(shown))
    assert phase.value in describe(shown)


def test_errors_are_shown_where_they_belong():
    save = SaveRow("episode 1", 3, Stage.FAILED, 0.0, False, "the encoder died")
    cameras = {"front": camera(3, error=StorageError("no space left"))}
    shown = text(render(snapshot(cameras=cameras, saves=[save])))
    assert "no space left" in shown
    assert "the encoder died" in shown


def test_sources_that_fail_are_shown():
    front = SourceStatus("observation.images.front", 7, 2, 5, 1, 3, 0.2, "is None [sic]")
    well = SourceStatus("teleop", 4, 0, 4, 0, 0, None, "cable")
    shown = text(render(snapshot(sources=[front, well])))
    for part in ("front", "7", "5", "is None [sic]", "teleop", "cable"):
        assert part in shown
    line = describe(snapshot(sources=[front, well]))
    assert "front: 7 failures, 5 times held" in line
    assert "teleop" not in line  # it is well again


def test_what_is_wrong_with_a_camera_and_flags_are_shown_in_both_views():
    cameras = {"front": camera(900, spilled=31, late=42, repeated=53, stale=64, lost=75)}
    shown = snapshot(phase=Phase.RESETTING, cameras=cameras, flags=["a tick was 90 ms late"])
    assert "flagged: a tick was 90 ms late" in text(render(shown, keys=True))
    running = snapshot(cameras=cameras)
    live = text(render(running, keys=True))
    for part in ("31", "53", "64", "75", "repeated", "stale", "lost"):
        assert part in live, part
    for part in ("42", "captured"):  # every tick that was late is counted once, and every frame
        assert part not in text(render(snapshot(cameras=cameras, frames=900, saves=[]), keys=True))
    assert "900" in live  # not as many as the episode has
    assert "front: 31 spilled, 53 repeated, 64 stale, 75 lost" in describe(running)


def test_an_episode_that_ended_is_called_durable_only_when_it_is():
    for stage, said in ((Stage.RECORDING, "not on disk yet"), (Stage.DURABLE, "durable")):
        shown = snapshot(saves=[SaveRow("episode 1", 3, stage, 0.0, False, None)])
        for view in (text(render(shown, keys=True)), describe(shown)):
            assert said in view
            assert ("durable" in view) == (stage is Stage.DURABLE)


def test_many_saves_do_not_fill_the_screen():
    saves = [SaveRow(f"episode {n}", 300, Stage.DURABLE, 0.0, False, None) for n in range(50)]
    shown = text(render(snapshot(saves=saves)))
    assert "and 42 more" in shown
    assert len(shown.splitlines()) < 24


def test_a_dear_drawing_is_forgotten_so_that_the_view_goes_on():
    view = LiveView(console=Console(file=io.StringIO()))
    view._cost_s = 1.0
    tries = 0
    while not view.fits(0.02):
        tries += 1
        assert tries < 100
    assert view.fits(0.02)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (812_000, "812 kB"),
        (3.42e9, "3.4 GB"),
        (2e13, "20.0 TB"),
    ],
)
def test_sizes(size, shown):
    assert size_text(size) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0 s"), (98, "98 s"), (720, "12 min"), (19_000, "5.3 h")])
def test_times(seconds, shown):
    assert time_text(seconds) == shown
