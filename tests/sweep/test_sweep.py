"""A seeded sample of the sweep, for everyday runs; `nox -s sweep` tries all of it. See sweep.py."""

from __future__ import annotations

import shutil
import sys

import pytest
from sweep import sweep, table

posix = pytest.mark.skipif(
    sys.platform != "linux" or not (shutil.which("cc") or shutil.which("gcc")),
    reason="LD_PRELOAD and a C compiler",
)


@pytest.mark.leaves("aiorecord-check-")  # programs that are killed do not tidy up
@posix
def test_a_sample_of_all_points(tmp_path, capsys):
    found = sweep(tmp_path, sample=24, seed=7)
    with capsys.disabled():
        print("\n" + table(found))
    assert [(task, verdict["faults"]) for task, verdict in found if verdict["faults"]] == []
    # Most points are reached: calls that depend on the time are few.
    struck = sum(bool(verdict["hit"]) for _, verdict in found)
    assert struck > 0.8 * len(found)
