"""The control loop's real-time policy."""

import json
import os
import subprocess
import sys
import threading

import pytest

from aiorecord.system.scheduling import realtime

linux = pytest.mark.skipif(sys.platform != "linux", reason="policies of single threads")


def policy() -> int:
    """The calling thread's, without flags."""
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


def allowed() -> bool:
    """Whether this user may have one."""
    import resource

    return os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_RTPRIO)[0] > 0


@linux
def test_the_calling_thread_has_it_within_the_block_and_those_it_starts_do_not():
    found: list[int] = []
    with realtime() as given:
        if given:
            assert policy() == os.SCHED_RR
            assert allowed()
        thread = threading.Thread(target=lambda: found.append(policy()))
        thread.start()
        thread.join()
        child = subprocess.run(
            [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"],
            capture_output=True,
            text=True,
        )
    assert policy() == os.SCHED_OTHER
    assert found == [os.SCHED_OTHER]
    assert int(child.stdout) == os.SCHED_OTHER


@linux
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="may take everything back")
def test_root_gets_back_what_it_had_bit_by_bit():
    before = os.sched_getscheduler(0)
    with realtime() as given:
        assert given
    assert os.sched_getscheduler(0) == before


@linux
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="grants the limit itself")
def test_a_user_with_an_rtprio_limit_has_it_too():
    code = (
        "import os, resource\n"
        "import aiorecord.system.scheduling\n"
        "try:\n"
        "    resource.setrlimit(resource.RLIMIT_RTPRIO, (1, 1))\n"
        "except ValueError:\n"
        "    raise SystemExit('a container whose root may not grant it')\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "for _ in range(2):\n"
        "    with aiorecord.system.scheduling.realtime() as given:\n"
        "        print(given, os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)\n"
        "    print(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if "may not grant it" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout.split() == ["True", "2", "0"] * 2, done.stderr


@linux
def test_it_ends_with_an_error_too_and_can_be_had_again():
    for _ in range(2):
        with pytest.raises(KeyError), realtime():
            raise KeyError
        assert policy() == os.SCHED_OTHER


@linux
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="becomes another user")
def test_a_user_to_whom_it_is_not_allowed_goes_on_without():
    code = (
        "import os\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "from aiorecord.system.scheduling import realtime\n"
        "with realtime() as given:\n"
        "    print(given, os.sched_getscheduler(0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import aiorecord.system.scheduling\n{code}"], capture_output=True, text=True
    )
    assert done.stdout.split() == ["False", "0"], done.stderr


@linux
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs the right to begin with")
def test_a_policy_that_the_user_chose_is_kept():
    code = (
        "import os\n"
        "from aiorecord.system.scheduling import realtime\n"
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))\n"
        "with realtime() as given:\n"
        "    print(given, os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)\n"
        "print(os.sched_getscheduler(0))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "1", "20", "1"], done.stderr


@linux
@pytest.mark.parametrize("wanted", [True, False])
def test_the_report_says_whether_the_loop_had_it(tmp_path, wanted):
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "aiorecord", "record", "--robot.type=sim", "--teleop.type=sim"]
    command += ["--dataset.repo_id=t/t", f"--dataset.root={tmp_path / 'set'}", "--dataset.single_task=Test"]
    command += ["--dataset.num_episodes=1", "--dataset.episode_time_s=0.2", "--dataset.reset_time_s=0"]
    command += ["--display=none", "--play_sounds=false", f"--report={report}", f"--realtime={wanted}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text())["session"]["realtime"] is (wanted and allowed())
