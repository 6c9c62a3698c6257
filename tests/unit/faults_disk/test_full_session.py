"""Whole sessions on disks that run full: everything is saved, and the operator is told what to do."""

import json
import shutil
import subprocess
import sys

import pytest
from helpers import rows_of
from small_disk import fill, small_disk
from test_disk_full import FEATURES, noise, recorder_for

import aiorecord
from aiorecord import FakeClock, Session, SessionEvents, SessionPlan


class Robot:
    """Shows noise, and does something at some step."""

    name = "noisy"

    def __init__(self, at=-1, action=lambda: None):
        self.step, self.episode = 0, 0
        self._at, self._action = at, action
        self.connected = False

    async def connect(self):
        self.connected = True

    async def disconnect(self):
        self.connected = False

    async def get_observation(self):
        self.step += 1
        if self.step == self._at:
            self._action()
        frame = noise(self.step, self.episode)
        return {key: frame[key] for key in FEATURES if key != "action"}

    async def get_action(self):
        return {"action": noise(self.step, self.episode)["action"]}

    async def send_action(self, action):
        return action


async def test_a_session_ends_when_no_episode_fits_any_more(tmp_path):
    """The operator's disk fills up by other means; two episodes of five are recorded."""
    with small_disk(tmp_path, "tmpfs", 48) as disk:

        async def main():
            async with recorder_for(disk, min_free_gb=0.02, clock=FakeClock(auto=True)) as recorder:
                robot = Robot()
                session = Session(recorder, robot, robot, SessionPlan("Test", 5, 0.2, 0))

                def on_episode(record):
                    if record.number == 2:
                        fill(disk, leave=12 << 20)
                        recorder.core.disk._meter.look(None, 0, 0)

                session.events = SessionEvents(on_episode=on_episode)
                with pytest.raises(aiorecord.DiskFullError, match="resume"):
                    await session.run()
                assert not robot.connected
                assert len(session.records) == 2
                assert [record.save.result().success for record in session.records] == [True, True]

        await main()
        assert len(rows_of(disk / "set")) == 12


async def test_a_disk_that_is_full_at_once_ends_the_episode_and_keeps_it(tmp_path):
    """Without a reserve: the capture itself is refused, in the middle of an episode."""
    with small_disk(tmp_path, "ext4", 48) as disk:

        async def main():
            async with recorder_for(disk, clock=FakeClock(auto=True)) as recorder:
                robot = Robot(20, lambda: fill(disk, leave=1 << 20))
                session = Session(recorder, robot, robot, SessionPlan("Test", 1, 1000, 0))
                (record,) = await session.run()
                assert "No space" in record.end_reason
                assert record.frames > 20
                (disk / "ballast").unlink()
                record.save.release()
                try:
                    await record.save
                except aiorecord.SaveError:  # the full disk took no manifest either
                    record.save.retry()
                assert (await record.save).length >= 19
                assert "lost" in record.save.problems[0]
                return record.save.length

        length = await main()
        rows = rows_of(disk / "set")
        assert [row["observation.state"][0] for row in rows] == list(range(1, length + 1))


def test_the_command_says_what_to_do_and_saves_everything(tmp_path):
    with small_disk(tmp_path, "tmpfs", 64) as disk:
        free = shutil.disk_usage(disk).free
        reserve_gb = (free - 2_000_000) / 1e9  # 2 MB are left for recording
        report = tmp_path / "report.json"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "aiorecord", "record", "--robot.type=sim", "--teleop.type=sim"),
                "--robot.cameras={front: {width: 320, height: 240}}",
                *("--dataset.repo_id=demo/full", f"--dataset.root={disk / 'set'}"),
                *("--dataset.single_task=Fill the disk", "--dataset.rgb_encoder.vcodec=h264"),
                *("--dataset.num_episodes=9", "--dataset.episode_time_s=60", "--dataset.reset_time_s=0"),
                *("--play_sounds=false", "--encode=deferred", "--display=plain", f"--report={report}"),
                *(f"--min_free_gb={reserve_gb}", "--buffer_mb=64"),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 1, done.stdout + done.stderr
        assert "DISK:" in done.stdout
        assert "min_free_gb" in done.stdout
        assert "ended early, kept" in done.stdout
        assert "Free some space" in done.stderr
        assert "Traceback" not in done.stderr
        said = json.loads(report.read_text())
        assert said["disk"]["min_free_bytes"] == pytest.approx(reserve_gb * 1e9, abs=1)
        assert said["disk"]["bytes_per_s"] > 0
        assert "min_free_gb" in said["episodes"][0]["end_reason"]
        assert all(episode["stage"] == "committed" for episode in said["episodes"])
        assert len(rows_of(disk / "set")) == sum(episode["frames"] for episode in said["episodes"])
        assert not (disk / "set" / ".aiorecord").exists()


def test_wrong_settings_are_refused(tmp_path):
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(aiorecord.ConfigError, match="min_free_gb"):
            recorder_for(tmp_path, min_free_gb=wrong)
