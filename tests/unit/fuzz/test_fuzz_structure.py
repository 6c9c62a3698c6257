"""A seeded sample of damage by structure; `nox -s fuzz` tries 2,000 inputs. See structure_driver.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("structure_driver.py")
CASES = 40


@pytest.mark.skipif(sys.platform != "linux", reason="fork, pipes, devices and memory limits")
def test_structured_damage():
    """No hang, no escape, bounded memory, no traceback; no readable episode is gone or paired anew."""
    arguments = [sys.executable, str(DRIVER), "--cases", str(CASES), "--seed", "1"]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:]
    assert f"{CASES} inputs" in done.stdout
