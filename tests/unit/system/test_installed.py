"""A hint on what to install works where the program was started from."""

import json
from pathlib import Path

import pytest

from aiorecord.system import installation
from aiorecord.system.installation import EXTRAS, Installation, _source, install_hint

SOURCE = f"aiorecord{EXTRAS}"


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.delenv("UV_PROJECT_ENVIRONMENT", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    checkout, prefix = tmp_path / "a check out", tmp_path / "env"
    for folder in (checkout / ".venv", prefix / "bin", tmp_path / "bin"):
        folder.mkdir(parents=True)
    return checkout, prefix


def test_a_checkout_with_its_own_environment_takes_uv_sync(places, monkeypatch):
    checkout, _ = places
    here = Installation(checkout, f"{checkout}{EXTRAS}", checkout / ".venv", checkout / ".venv/bin/python")
    monkeypatch.chdir(checkout)
    assert here.install("viz") == "uv sync --extra viz --inexact"
    monkeypatch.chdir(checkout.parent)  # from elsewhere it names the checkout
    assert here.install("viz") == f"uv sync --project '{checkout}' --extra viz --inexact"


def test_a_checkout_in_another_environment_takes_that_ones_installer(places, monkeypatch):
    checkout, prefix = places
    here = Installation(checkout, f"{checkout}{EXTRAS}", prefix, prefix / "bin/python")
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    monkeypatch.chdir(checkout)
    assert here.install("hub") == f"uv pip install --python {prefix}/bin/python -e '{checkout}[hub]'"
    monkeypatch.setattr(installation, "find_spec", lambda name: name)
    assert here.install("hub") == f"{prefix}/bin/python -m pip install -e '{checkout}[hub]'"


def test_a_package_takes_the_installer_and_the_source_that_it_came_by(places, monkeypatch):
    _, prefix = places
    here = Installation(None, SOURCE, prefix, prefix / "bin/python")
    pip = prefix / "bin/pip"
    pip.write_text("#!/bin/sh\n")
    pip.chmod(0o755)
    monkeypatch.setenv("PATH", str(prefix / "bin"))
    assert here.install("viz") == "pip install 'aiorecord[viz]'"
    (prefix / "pipx_metadata.json").touch()
    assert here.install("viz") == "pipx install --force 'aiorecord[viz]'"
    (prefix / "uv-receipt.toml").touch()
    assert here.install("viz") == "uv tool install --force 'aiorecord[viz]'"


@pytest.mark.parametrize(
    ("record", "source"),
    [
        (None, SOURCE),
        ("no json", SOURCE),
        ({"url": "file:///home/a%20b/src", "dir_info": {}}, f"/home/a b/src{EXTRAS}"),
        ({"url": "file:///a/x-1.whl", "archive_info": {}}, f"{SOURCE} @ file:///a/x-1.whl"),
        (
            {"url": "https://me:secret@host/r.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            f"{SOURCE} @ git+https://host/r.git@abc",
        ),
    ],
)
def test_where_a_package_came_from(record, source):
    assert _source(record if record is None or isinstance(record, str) else json.dumps(record)) == source


def test_the_hint_of_this_program_names_the_extra():
    hint = install_hint("lerobot")
    assert "lerobot" in hint
    assert "pip install 'aiorecord[" not in hint  # it is not on an index, and this is a checkout
    assert (Path(__file__).parents[3] / "pyproject.toml").is_file()
