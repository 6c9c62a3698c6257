"""Whatever is on disk, reading it back ends with a report or a clear error, in bounded time and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("fuzz_driver.py")
CASES = 120


@pytest.mark.skipif(sys.platform == "win32", reason="the memory limit is POSIX")
@pytest.mark.parametrize("seed", [1, 2])
def test_seeded_damage(prepared, tmp_path, seed):
    arguments = [sys.executable, str(DRIVER), str(prepared), str(tmp_path), str(seed), str(CASES)]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:]
    outcomes = [line.rpartition(" -> ")[2] for line in done.stdout.splitlines() if " -> " in line]
    assert len(outcomes) == CASES
    # The damage was real, and most of it did not keep the rest from being read.
    assert len(set(outcomes)) > 5
    assert sum("rows" in outcome for outcome in outcomes) > CASES / 3
