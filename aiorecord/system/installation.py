"""Finds out how this program was installed, and which command adds an extra to it.

A hint must work where it is read: a checkout needs ``uv sync``, everything else the installer and the source
that it came from (PEP 610's ``direct_url.json``). No package index is queried.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

NAME = "aiorecord"
EXTRAS = "{extras}"


@dataclass(frozen=True)
class Installation:
    """How a program was installed.

    Attributes:
        checkout: the folder of its source, if it runs from one.
        source: the argument for an installer, with `EXTRAS` where extras are named.
        prefix: the environment.
        python: its interpreter.
    """

    checkout: Path | None
    source: str
    prefix: Path
    python: Path

    def install(self, extra: str) -> str:
        """The command that adds an extra, for a shell."""
        here = Path.cwd()
        if self.checkout is not None and self.prefix.resolve() == _environment(self.checkout):
            inside = here == self.checkout or self.checkout in here.parents
            where = "" if inside else f"--project {shlex.quote(str(self.checkout))} "
            # Inexact: other extras stay.
            return f"uv sync {where}--extra {extra} --inexact"
        editable = "-e " if self.checkout is not None else ""
        what = editable + shlex.quote(self.source.replace(EXTRAS, f"[{extra}]"))
        if (self.prefix / "uv-receipt.toml").is_file():
            return f"uv tool install --force {what}"
        if (self.prefix / "pipx_metadata.json").is_file():
            return f"pipx install --force {what}"
        pip = shutil.which("pip")
        if pip is not None and Path(pip).parent == self.python.parent:
            return f"pip install {what}"
        if find_spec("pip") is not None:
            return f"{shlex.quote(str(self.python))} -m pip install {what}"
        return f"uv pip install --python {shlex.quote(str(self.python))} {what}"

    def described(self) -> str:
        """Where it runs from, in words."""
        if self.checkout is not None:
            return f"a checkout, {self.checkout}"
        return f"installed from {self.source.partition(' @ ')[2] or 'an index'}"


def _environment(checkout: Path) -> Path:
    """The environment that uv keeps for a checkout."""
    return (checkout / os.environ.get("UV_PROJECT_ENVIRONMENT", ".venv")).resolve()


def installation() -> Installation:
    """How this program was installed."""
    package = Path(__file__).resolve().parents[1]
    prefix, python = Path(sys.prefix), Path(sys.executable)
    if (package.parent / "pyproject.toml").is_file():
        checkout = package.parent
        return Installation(checkout, f"{checkout}{EXTRAS}", prefix, python)
    from importlib.metadata import (
        PackageNotFoundError,
        distribution,
    )  # imported here: it takes 30 ms, and only hints need it

    record = None
    with contextlib.suppress(PackageNotFoundError):  # copied here by hand
        record = distribution(NAME).read_text("direct_url.json")
    return Installation(None, _source(record), prefix, python)


def install_hint(extra: str) -> str:
    """The command that adds one of aiorecord's extras where this program runs, such as ``lerobot``."""
    return installation().install(extra)


def _source(direct_url: str | None) -> str:
    """The argument for an installer, from PEP 610's record; without a record it came from an index."""
    bare = NAME + EXTRAS
    try:
        record: Any = json.loads(direct_url or "")
        url = str(record["url"])
    except (ValueError, TypeError, KeyError):
        return bare
    parts = urlsplit(url)
    if "@" in parts.netloc:  # PEP 610 requires that secrets are stripped; a hint must never show one
        url = url.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1)
    vcs = record.get("vcs_info")
    if isinstance(vcs, dict) and "vcs" in vcs:
        revision = vcs.get("requested_revision") or vcs.get("commit_id")
        url = f"{vcs['vcs']}+{url}" + (f"@{revision}" if revision else "")
    elif parts.scheme == "file" and "dir_info" in record:
        return unquote(parts.path) + EXTRAS
    return f"{bare} @ {url}"
