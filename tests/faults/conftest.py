"""The parts that all tests of the faults share."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fault_report import Report, summary, tables
from fault_runs import Zygote

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]  # fork, LD_PRELOAD, /proc

REPORT = Report()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "smoke: the short part of the faults suite, also for everyday runs")
    # Programs inherit what is ignored: under nohup a closed terminal would tell them nothing.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_runtest_logfinish() -> None:
    path = os.environ.get("FAULTS_REPORT")
    if path and REPORT.rows:  # after each test: a run that is stopped keeps what it has
        REPORT.write(Path(path))


def pytest_terminal_summary(terminalreporter) -> None:
    if not REPORT.rows:
        return
    rows = {name: vars(row) for name, row in REPORT.rows.items()}
    terminalreporter.section("faults")
    terminalreporter.write_line(tables(rows))
    terminalreporter.section("faults in short")
    terminalreporter.write_line(summary(rows))
    failed = [report.nodeid for report in terminalreporter.getreports("failed")]
    if failed:
        terminalreporter.write_line(f"A round that failed is not in it; see {', '.join(failed)}")


@pytest.fixture(scope="session")
def report() -> Report:
    """Where the figures go."""
    return REPORT


@pytest.fixture(scope="session")
def zygote():
    """Starts programs."""
    started = Zygote()
    yield started
    started.close()


@pytest.fixture(autouse=True)
def nothing_left_running(request):
    """A failed test's programs do not outlive it."""
    yield
    for name in ("zygote", "shimmed"):
        if name in request.fixturenames:
            request.getfixturevalue(name).end_all()


@functools.cache
def compiled(folder: Path) -> Path | str:
    """The shim, or why there is none."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return "there is no C compiler (cc) to build the shim with"
    library = folder / "fault_shim.so"
    source = Path(__file__).with_name("fault_shim.c")
    done = subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl", "-lpthread"],
        capture_output=True,
        text=True,
    )
    return library if done.returncode == 0 else f"the shim does not compile: {done.stderr[-300:]}"


@pytest.fixture(scope="session")
def shim(tmp_path_factory) -> Path:
    """The library that sees every change of the file system."""
    found = compiled(tmp_path_factory.getbasetemp())
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="session")
def shimmed(shim):
    """Starts programs under the shim."""
    started = Zygote(shim)
    yield started
    started.close()
