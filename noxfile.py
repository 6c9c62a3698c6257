"""`uv run nox` runs everything that must be green; `uv run nox -l` lists the sessions."""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "layers", "docs", "tests", "lerobot"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
DEFAULT_PYTHON = Path(".python-version").read_text().strip()

ONCE = (
    *("tests/unit/check", "tests/unit/dataset", "tests/unit/fuzz", "tests/unit/recover"),
    *("tests/unit/faults_disk", "tests/unit/faults_encode", "tests/unit/media", "tests/unit/workers"),
    *("tests/unit/encoding/test_encode.py", "tests/unit/encoding/test_stats.py"),
    "tests/unit/encoding/test_stats_cost.py",
    *("tests/unit/test_examples.py", "tests/unit/test_embedding_examples.py"),
    *("tests/unit/test_typed_pages.py", "tests/unit/test_docs_commands.py", "tests/unit/test_docs.py"),
    *("tests/unit/test_docs_python.py", "tests/unit/test_project_files.py", "tests/unit/test_house.py"),
    "tests/unit/bench",
)
"""What looks at files or breaks disks and codecs, which no version of Python changes, and whole programs of
code that the other tests run on each version: on the default one only, unless asked for."""


def sync(session: nox.Session, *groups: str, extras: tuple[str, ...] = ()) -> None:
    """Install the project as locked, with dependency groups and extras, into the session's environment."""
    session.run_install(
        "uv",
        "sync",
        "--locked",
        "--no-default-groups",
        *(f"--group={group}" for group in groups),
        *(f"--extra={extra}" for extra in extras),
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location, "UV_PYTHON": session.virtualenv.location},
        silent=True,
    )


@nox.session(python=DEFAULT_PYTHON)
def lint(session: nox.Session) -> None:
    """Style."""
    sync(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=DEFAULT_PYTHON)
def types(session: nox.Session) -> None:
    """mypy --strict."""
    sync(session, "lint")
    session.run("mypy")


@nox.session(python=DEFAULT_PYTHON)
def layers(session: nox.Session) -> None:
    """Who may import whom."""
    sync(session, "lint")
    session.run("lint-imports")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests on the light core: no torch, no lerobot."""
    sync(session, "test", extras=("bench", "hub", "viz"))
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    is_default = session.python == DEFAULT_PYTHON
    session.run("pytest", "tests/unit", "examples", *(f"--ignore={room}" for room in ONCE if not is_default))
    session.run("pytest", "tests/faults", "-m", "smoke")
    if is_default:
        session.run("pytest", "tests/sweep")


@nox.session(python=DEFAULT_PYTHON)
def lerobot(session: nox.Session) -> None:
    """What was recorded, read back by the real lerobot."""
    sync(session, "test", "drivers", "training", extras=("lerobot",))
    session.run("pytest", *(session.posargs or ["tests/lerobot"]), env={"HF_HUB_OFFLINE": "1"})


@nox.session(python=DEFAULT_PYTHON)
def docs(session: nox.Session) -> None:
    """The site of the documentation; a link that leads nowhere is an error."""
    sync(session, "docs")
    site = Path(session.create_tmp()) / "site"
    session.run("mkdocs", "build", "--strict", "--site-dir", str(site), env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(python=DEFAULT_PYTHON)
def random(session: nox.Session) -> None:
    """The unit tests twice, in two random orders: none needs another one before it."""
    sync(session, "test", "random", extras=("bench", "hub", "viz"))
    for _ in range(2):
        session.run("pytest", "-p", "randomly", *(session.posargs or ["tests/unit"]))


@nox.session(python=DEFAULT_PYTHON)
def coverage(session: nox.Session) -> None:
    """Which lines and branches the unit tests run, in the process of the tests; fails below `fail_under`."""
    sync(session, "test", "coverage", extras=("bench", "hub", "viz"))
    session.run("coverage", "run", "-m", "pytest", *(session.posargs or ["tests/unit"]))
    session.run("coverage", "report")


@nox.session(python=DEFAULT_PYTHON)
def faults(session: nox.Session) -> None:
    """What docs/reliability.md promises, tried on the real program, fault by fault."""
    sync(session, "test")
    report = Path(session.create_tmp()) / "faults.json"
    session.run("pytest", *(session.posargs or ["tests/faults"]), env={"FAULTS_REPORT": str(report)})
    if not session.posargs:
        session.run("python", "tests/faults/fault_report.py", str(report), "docs/reliability.md")
        session.run("python", "tests/faults/fault_report.py", str(report), "--summary")


@nox.session(python=DEFAULT_PYTHON)
def sweep(session: nox.Session) -> None:
    """Every I/O call fails once, the power fails at every change; 15 minutes, or `-- --part=2/60`."""
    sync(session, "test")
    results = Path(session.create_tmp()) / "sweep"
    arguments = ["--results", str(results), "--seconds", "900", *session.posargs]
    session.run("python", "tests/sweep/sweep.py", *arguments)


@nox.session(python=DEFAULT_PYTHON)
def fuzz(session: nox.Session) -> None:
    """Datasets and staging damaged by structure, 2,000 of them, recovered or repaired, and read again."""
    sync(session, "test")
    arguments = session.posargs or ["--cases", "2000"]
    session.run("python", "tests/unit/fuzz/structure_driver.py", *arguments)


@nox.session(python=DEFAULT_PYTHON)
def minimums(session: nox.Session) -> None:
    """The tests on the lowest versions that pyproject.toml allows."""
    session.install(
        "--resolution=lowest-direct", "-e", ".[bench,hub,viz]", *PYPROJECT["dependency-groups"]["test"]
    )
    session.run("pytest", *(session.posargs or ["tests/unit"]))
