"""Recovery is itself killed, before any of its changes of the disk, and run again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("kill_driver.py")
EVERY = 7
"""Every seventh step, and all of them over the lanes that a longer run may choose."""


@pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL")
def test_killed_at_many_steps_the_result_is_the_same(killed_session, tmp_path):
    arguments = [sys.executable, str(DRIVER), str(killed_session), str(tmp_path), "0", str(EVERY)]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    unkilled = runs.pop()
    assert unkilled["first"] in (0, 3)
    assert unkilled["again"] == 0
    assert len(runs) > 10
    for run in runs:
        assert run["first"] == -9, run
        # A loss is told by whoever salvages; later it is in the quality record.
        assert run["again"] in (0, 3), run
        assert not run["left"], run
        assert not run["temporary"], run
        for what in ("rows", "lengths", "frames", "info", "stats"):
            assert run[what] == unkilled[what], (what, run)
