"""How a recording ends before its time: one press, an answer at once, an ending that says what is safe."""

import contextlib
import logging
import os
import signal
import sys
import threading

import pytest
from helpers import episodes_of

from aiorecord.cli import main
from aiorecord.cli.commands import record as record_module
from aiorecord.cli.commands.record import RecordCommand
from aiorecord.cli.said_already import flags_are_told
from aiorecord.dataset.commit.writer import DatasetWriter
from aiorecord.encoding.episode_encoding import EpisodeEncoding
from aiorecord.monitor.sinks.plain import PlainView
from aiorecord.saving.job import FLAG_LOGGER
from aiorecord.session import Command, Phase
from aiorecord.staging.folder import EpisodeFolder, Staging

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Record one short episode with a small camera; `press` is called once when `phase` is shown."""

    def run(press, *flags, phase=Phase.DRAINING, episodes=1):
        done, keys = [], []
        draw = PlainView.draw

        @contextlib.contextmanager
        def reading(on_command, on_terminal):
            keys.append(on_command)
            yield

        def drawing(self, snapshot):
            draw(self, snapshot)
            if snapshot.phase is phase and not done:
                done.append(True)
                press(keys[0])

        monkeypatch.setattr(record_module, "reading_keys", reading)
        monkeypatch.setattr(PlainView, "draw", drawing)
        code = main(
            [
                *("record", "--robot.type=sim", "--robot.cameras={front: {width: 64, height: 48}}"),
                *("--teleop.type=sim", "--dataset.repo_id=t/leave", f"--dataset.root={tmp_path / 'set'}"),
                *("--dataset.single_task=Leave", f"--dataset.num_episodes={episodes}", "--display=plain"),
                *("--dataset.episode_time_s=0.3", "--dataset.reset_time_s=0", "--play_sounds=false"),
                *("--encode=deferred", "--dataset.rgb_encoder.vcodec=h264", "--encode_workers=1"),
                *flags,
            ]
        )
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def stuck(monkeypatch):
    """Encodes that take until they are aborted."""
    aborted = threading.Event()
    abort = EpisodeEncoding.abort

    def encode(self):
        assert aborted.wait(60)
        raise RuntimeError("aborted")

    def aborting(self):
        aborted.set()
        abort(self)

    monkeypatch.setattr(EpisodeEncoding, "run", encode)
    monkeypatch.setattr(EpisodeEncoding, "abort", aborting)


def send(number):
    return lambda on_command: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    "press",
    [lambda on_command: on_command(Command.STOP), send(signal.SIGINT)],
    ids=["q", "Ctrl-C"],
)
def test_one_press_while_saving_leaves_and_says_what_is_safe(run, stuck, tmp_path, press):
    code, out, err = run(press)
    assert code == 130
    assert "Leaving: encoding stops, 1 episode stays in staging." in out
    ending = out.partition("Leaving:")[2]
    assert "waiting   1 episode waits in staging, safe on disk, to be encoded" in ending
    assert f"finish    aiorecord recover {tmp_path / 'set'}" in ending
    assert "Nothing was recorded" not in out
    assert "was not saved" not in out + err
    [folder] = Staging(tmp_path / "set").episode_paths()
    assert EpisodeFolder.load(folder).manifest.state == "complete"


def test_a_terminal_that_is_closed_while_saving_leaves_nothing_unfinished(run, tmp_path):
    code, out, _ = run(send(signal.SIGHUP))
    assert code == 0
    assert "Leaving" not in out
    assert len(episodes_of(tmp_path / "set")) == 1


def test_a_press_while_packing_is_answered_and_costs_nothing(run, tmp_path):
    code, out, _ = run(send(signal.SIGINT), phase=Phase.PACKING)
    assert code == 0
    assert "Small files are merged to the end" in out
    assert len(episodes_of(tmp_path / "set")) == 1


def test_a_first_press_while_recording_ends_the_episode_and_saves_it(run, tmp_path):
    code, out, _ = run(send(signal.SIGINT), "--dataset.episode_time_s=100", phase=Phase.RECORDING, episodes=3)
    assert code == 0
    assert "Leaving" not in out


def cut_at(frames):
    def draw_in_slack(self, view, observer):
        running = observer.session.recorder.core.recording
        capture = None if running is None else running.status()["episode"]
        if capture is not None and capture.frames == frames:
            running.request_end("0.9 GB are free on the disk")

    return draw_in_slack


def test_an_episode_that_a_full_disk_cut_is_named_and_the_exit_code_says_ended_early(run, monkeypatch):
    monkeypatch.setattr(RecordCommand, "_draw_in_slack", cut_at(4))
    code, out, _ = run(lambda on_command: None)
    assert code == 130
    assert "episode 0 was CUT SHORT after 4 of 9 frames: 0.9 GB are free on the disk" in out


def test_a_commit_that_fails_is_no_reason_to_say_that_nothing_was_recorded(run, monkeypatch):
    def refuse(self, *args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(DatasetWriter, "commit", refuse)
    code, out, _ = run(lambda on_command: None)
    assert code == 1
    assert "take 1 was NOT saved" in out
    assert "1 episode waits in staging, safe on disk" in out
    assert "finish    aiorecord recover" in out
    assert "Nothing was recorded" not in out


def test_a_flagged_episode_is_named_by_its_number(run):
    code, out, _ = run(lambda on_command: None, "--max_late_ms=0")
    assert code == 0
    assert out.count("episode 0 is FLAGGED") == 2  # when it ends, and in the summary


def test_the_log_does_not_say_it_once_more_where_nobody_set_one_up():
    flag = logging.LogRecord(FLAG_LOGGER, logging.WARNING, __file__, 1, "Episode x is flagged", (), None)
    other = logging.LogRecord(
        "aiorecord.recording.recorder", logging.WARNING, __file__, 1, "The queue is full", (), None
    )
    with flags_are_told():
        assert not logging.lastResort.filter(flag)
        assert logging.lastResort.filter(other)
    assert logging.lastResort.filter(flag)
