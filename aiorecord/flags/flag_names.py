"""Normalises flag names: hyphens equal underscores, switches need no value, and typos get suggestions.

Only the part before a ``=`` is changed. Values stay as they are, and so does everything after ``--``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Sequence

HELP_ALL = "--help-all"
"""The flag that prints a command's complete help; ``--help`` is short."""

CONFIG_FLAG = "--config_path"
"""The flag that names a config file, in commands that read one."""

LOG_FLAGS = {
    "--log_level": "the lowest level to log: debug, info, warning or error",
    "--log_file": "log to this file: lines of JSON with times, for a bug report",
}
"""The flags of every command, and their meanings."""

_FLAG = re.compile(r"--[A-Za-z][\w.-]*")


def spelled(argv: Sequence[str], known: Collection[str]) -> list[str]:
    """Respell the flags in command-line arguments as their parser knows them.

    Args:
        argv: such as ``--dataset.async-saving=true``.
        known: flags as the parser spells them, such as ``--dataset.async_saving`` or ``--dry-run``. Other
            arguments are not changed.
    """
    spellings = {_folded(flag): flag for flag in known}
    return [
        argument if name is None or name in known else spellings.get(_folded(name), name) + value
        for argument, name, value in _split(argv, known)
    ]


def bare_flags(argv: Sequence[str]) -> list[int]:
    """The positions in `argv` of flags without a value."""
    found = []
    for position, (_, name, value) in enumerate(_split(argv, argv)):
        after = argv[position + 1] if position + 1 < len(argv) else "--"
        if name is not None and not value and (after.startswith("--") or after == "-h"):
            found.append(position)
    return found


def unknown_flags(argv: Sequence[str], known: Collection[str]) -> list[str]:
    """The flags of a command line that its parser does not know, without their values."""
    return [name for _, name, _ in _split(argv, known) if name is not None and name not in known]


def nearest(name: str, known: Collection[str]) -> str:
    """``" Did you mean ...?"`` if a known name is similar, else an empty string.

    The last part of a dotted name is compared too: ``--num_episodes`` is near ``--dataset.num_episodes``.
    """
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    if not close:
        last = name.lstrip("-").rpartition(".")[2]
        tails: dict[str, str] = {}
        for each in known:
            tails.setdefault(each.lstrip("-").rpartition(".")[2], each)
        close = [tails[tail] for tail in difflib.get_close_matches(last, tails, n=1, cutoff=0.8)]
    return f" Did you mean {close[0]}?" if close else ""


def _folded(name: str) -> str:
    return "--" + name.removeprefix("--").replace("-", "_")


def _split(argv: Sequence[str], known: Collection[str]) -> Iterator[tuple[str, str | None, str]]:
    """Each argument, the flag that it names (None if none), and its rest from ``=`` on.

    As in argparse, an argument with a space that follows a flag is that flag's value, unless it names a
    known flag itself: a task may begin with ``--``.
    """
    ended = waiting = False
    for argument in argv:
        ended = ended or argument == "--"
        name, equals, value = argument.partition("=")
        is_value = waiting and " " in argument and name not in known
        if ended or is_value or not _FLAG.fullmatch(name):
            waiting = False
            yield argument, None, ""
        else:
            waiting = not equals
            yield argument, name, equals + value
