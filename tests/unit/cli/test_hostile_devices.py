"""The commands that check, upload, replay and continue, on some of the datasets of the test beside."""

import shutil
import sys

import pytest
from fake_hub import FakeHub
from test_hostile_commands import DATA, EPISODES, INFO, KINDS, STATS, VIDEO, recorded  # noqa: F401

from aiorecord.check import check_dataset
from aiorecord.check.repair import repair_dataset
from aiorecord.cli import main
from aiorecord.workers.pool import WorkerPool

SOME = ["deep JSON", "NaN statistics", "length 4611686018427387904", "mean 'x'", "rows: action", "tasks: NaN"]
CONTINUED = ["length 4611686018427387904", "tasks: NaN"]
if sys.platform != "win32":
    SOME += [f"pipe {EPISODES}", f"dangling {DATA}", f"pipe {VIDEO}", f"sparse {INFO}"]
    CONTINUED += [f"device {STATS}"]


@pytest.fixture(scope="module")
def pool():
    """One for all: starting a process takes longer than checking a small dataset."""

    class Shared(WorkerPool):
        def shutdown(self, wait=True, *, cancel_futures=False):
            """The other tests are not done with it."""

    shared = Shared(1, name="shared")
    shared.submit(int).result()  # it has its process now
    yield shared
    WorkerPool.shutdown(shared)


@pytest.fixture
def hub(running_hub):
    yield running_hub
    running_hub.hang_up()


@pytest.fixture(scope="module")
def running_hub():
    constants = pytest.importorskip("huggingface_hub.constants")
    with FakeHub() as fake, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", fake.endpoint)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setenv("HF_TOKEN", fake.token)
        yield fake


def replay(root):
    """A robot and a teleoperator that do what a dataset holds."""
    return [f"--{what}.{name}" for what in ("robot", "teleop") for name in ("type=replay", f"root={root}")]


def says_one_line(command, capfd):
    capfd.readouterr()
    code = main(command)
    out, err = capfd.readouterr()
    assert code in (0, 1, 2, 3), command
    assert len(err.splitlines()) <= 1, (command, err)
    assert "A fault of" not in err
    assert "Traceback" not in out + err
    return code


@pytest.mark.parametrize("kind", SOME)
def test_each_command_says_one_line(recorded, pool, hub, kind, tmp_path, capfd, monkeypatch):  # noqa: F811
    for module in (check_dataset, repair_dataset):
        monkeypatch.setattr(module, "WorkerPool", lambda *_, **__: pool)
    root = shutil.copytree(recorded, tmp_path / "set")
    KINDS[kind](root)
    says_one_line(["teleoperate", *replay(root), "--display=none", "--teleop_time_s=0.1"], capfd)
    says_one_line(["push", str(root), "--repo_id=tester/set"], capfd)
    found = says_one_line(["check", str(root)], capfd)
    assert found in (0, 1, 3)
    assert says_one_line(["check", str(root), "--repair", "--accept-loss"], capfd) in (0, 3, found)


@pytest.mark.parametrize("kind", CONTINUED)
def test_recording_says_one_line(recorded, kind, tmp_path, capfd):  # noqa: F811
    root = shutil.copytree(recorded, tmp_path / "set")
    KINDS[kind](root)
    dataset = [f"--dataset.root={root}", "--dataset.repo_id=t/h", "--dataset.single_task=x", "--resume=true"]
    once = ["--dataset.num_episodes=1", "--dataset.episode_time_s=0.1", "--dataset.reset_time_s=0"]
    once += ["--dataset.rgb_encoder.vcodec=h264", "--dataset.fps=30", "--play_sounds=false", "--display=none"]
    says_one_line(["record", *replay(recorded), *dataset, *once], capfd)


def test_a_measurement_of_no_film_says_one_line(tmp_path, capfd):
    file = tmp_path / "film.mp4"
    file.write_bytes(b"no film")
    assert says_one_line(["bench", f"--source=video:{file}", f"--folder={tmp_path}"], capfd) == 2
    assert says_one_line(["bench", f"--source=video:{tmp_path}", f"--folder={tmp_path}"], capfd) == 2
