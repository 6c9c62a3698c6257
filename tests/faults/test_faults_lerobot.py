"""What lerobot reads before and after; and what it keeps itself under the same faults. Needs lerobot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fault_content as content
import pytest
from fault_report import Row
from fault_runs import record_argv
from fault_verify import Expected

from aiorecord.lerobot.drivers.device_flags import is_installed

FLAGS = [
    "--dataset.fps=60",
    "--dataset.episode_time_s=0.3",
    "--dataset.reset_time_s=0",
    "--dataset.num_episodes=9",
]


def lerobot_python() -> str | None:
    """A Python that has lerobot: this one, or the one that LEROBOT_PYTHON names."""
    return sys.executable if is_installed() else os.environ.get("LEROBOT_PYTHON")


@pytest.mark.parametrize("moment", ["committed", "encoding", "P saving"])
def test_lerobot_reads_what_a_kill_leaves(zygote, tmp_path, moment):
    if not is_installed():  # tests/lerobot is importable under that name
        pytest.skip("lerobot is not installed here")
    from lerobot import datasets

    root, expected = tmp_path / "set", Expected()
    flags = [*FLAGS[:-1], "--dataset.num_episodes=3"] if moment == "P saving" else FLAGS
    program = zygote.start(record_argv(root, 1, *flags))
    for _ in range(1 if moment == "P saving" else 2):
        assert program.until(lambda line: line.endswith(moment))
    program.kill()
    expected.add(program.told)

    def read() -> list[list[tuple[int, int]]]:
        dataset = datasets.LeRobotDataset("demo/faults", root=root)
        episodes: dict[int, list[tuple[int, int]]] = {}
        for index in range(len(dataset)):
            frame = dataset[index]
            code = tuple(int(n) for n in frame["observation.state"][:2])
            picture = frame["observation.images.front"].numpy() * 255
            assert content.read_code(picture.mean(axis=0)) == code
            episodes.setdefault(int(frame["episode_index"]), []).append(code)
        return list(episodes.values())

    counted = json.loads((root / "meta/info.json").read_text())["total_episodes"]
    before = read() if counted else []
    assert len(before) == counted
    assert zygote.run(["recover", str(root)]).code in (0, 3)
    expected.check(root)
    after = read()
    assert after[: len(before)] == before
    assert [codes for codes in after if len(codes) > 0] == [
        expected.frames[id_][: expected.found[id_]] for id_ in sorted(expected.found)
    ]


def test_the_same_faults_on_lerobot(tmp_path, report, shim):
    python = lerobot_python()
    if python is None:
        pytest.skip("lerobot is not installed here; LEROBOT_PYTHON may name a Python that has it")
    target = tmp_path / "report.json"
    command = [
        python,
        str(Path(__file__).with_name("lerobot_faults.py")),
        str(tmp_path / "sets"),
        str(target),
    ]
    package = Path(__file__).parent.parent.parent
    env = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(package), "LD_PRELOAD": str(shim)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    for values in json.loads(target.read_text()):
        row = Row(**values)
        report.rows[row.fault] = row
        assert row.times >= 1
    assert len(report.rows) >= 16
