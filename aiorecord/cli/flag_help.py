"""Prints ``--help`` and ``--help-all`` of a command whose flags are parsed with draccus."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import draccus

from ..flags.flag_names import HELP_ALL, LOG_FLAGS, spelled
from ..flags.flag_types import group_classes
from ..flags.flag_values import FlagParser

_NAMES = {"int": "N", "float": "X", "str": "TEXT", "int|float": "X", "int|str": "N|TEXT"}
_INDENT = 26
_SAID = {
    f"--{draccus.utils.CONFIG_ARG}": "Read flags from this file; flags on the command line override them.",
}
"""Help texts of flags for which draccus has none."""


def asked_for(argv: Sequence[str]) -> Literal["short", "all"] | None:
    """Which help a command line requests."""
    argv = spelled(argv, [HELP_ALL])
    if HELP_ALL in argv:
        return "all"
    return "short" if {"-h", "--help"} & set(argv) else None


def short_help(
    kind: type[Any],
    argv: Sequence[str],
    prog: str,
    examples: str,
    needed: Mapping[str, str],
    common: Sequence[str],
) -> str:
    """The short help: what a command does, examples, and the most used flags.

    Args:
        kind: the dataclass of flags.
        argv: the flags of the device types that it selects are listed.
        prog: the program's name.
        examples: as they are printed.
        needed: required flags, each as an example with its meaning.
        common: more flags to list.
    """
    actions = _actions(kind)
    lines = [*_head(kind, prog, examples), "", "needed:"]
    for flag, what in needed.items():
        lines += _entry(flag, what)
    lines += ["", "often used:"]
    listed = {flag.partition("=")[0] for flag in needed} | set(common)
    for flag in common:
        lines += _described(flag, actions[flag])
    for group in ("robot", "teleop"):
        flag = f"--{group}.{draccus.CHOICE_TYPE_KEY}"
        chosen = next((a.partition("=")[2] for a in argv if a.startswith(f"{flag}=")), None)
        if chosen is not None and flag in actions:
            given = {group: {draccus.CHOICE_TYPE_KEY: chosen}}
            lines += ["", f"of {flag}={chosen}:"]
            for each in group_classes(kind, (group,), given):
                for name, action in _actions(each).items():
                    own = f"--{group}.{name.removeprefix('--')}"
                    if own in actions and own not in listed:
                        listed.add(own)
                        lines += _described(own, action)
    more = len(actions.keys() - listed)
    return "\n".join([*lines, "", f"`{prog} {HELP_ALL}` lists {more} more."])


def all_flags(kind: type[Any], prog: str, examples: str) -> str:
    """The long help: what a command does, examples, and every flag, group by group."""
    lines = _head(kind, prog, examples)
    groups: dict[str, list[str]] = {}
    for flag, action in _actions(kind).items():
        group = flag.rpartition(".")[0]
        groups.setdefault(f"{group}.*" if group else "", []).extend(_described(flag, action))
    for group in sorted(groups):
        lines += ["", f"{group}:" if group else "flags:", *groups[group]]
    lines += ["", "of every command:"]
    for flag, what in LOG_FLAGS.items():
        lines += _entry(f"{flag}=TEXT", f"{what[0].upper()}{what[1:]}.")
    return "\n".join(lines)


def _head(kind: type[Any], prog: str, examples: str) -> list[str]:
    about = (kind.__doc__ or "").strip().partition("\n")[0]
    about = re.sub(r"^`[^`]*`: ", "", about)
    return [f"usage: {prog} [flags]", "", about[:1].upper() + about[1:], "", examples]


def _actions(kind: type[Any]) -> dict[str, argparse.Action]:
    """Every flag with argparse's data on it, without flags that stand for a group as a whole."""
    parser = FlagParser(kind).parser
    return {
        flag: action
        for flag, action in parser._option_string_actions.items()
        if flag.startswith("--") and flag != "--help" and not str(action.help).startswith("Config file for")
    }


def _described(flag: str, action: argparse.Action) -> list[str]:
    name = "|".join(map(str, action.choices)) if action.choices else _kind_name(action.type)
    what = " ".join(str(action.help or "").split())
    what = _SAID.get(flag, what)
    if flag.endswith(f".{draccus.CHOICE_TYPE_KEY}"):
        what = "Type of the device."
    default = action.default
    if default is True:
        name = "false"  # the value that a user would give
    if default not in (None, argparse.SUPPRESS, "", [], {}) and not _made(default):
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        what = f"{what} (default: {shown})".strip()
    return _entry(f"{flag}={name}" if name else flag, what)


def _made(default: Any) -> bool:
    """Whether a default is an object whose text is meaningless to a user."""
    return not isinstance(default, str | int | float | list | dict | tuple)


def _kind_name(kind: Any) -> str:
    """The placeholder for a flag's value; empty for booleans, which need none."""
    name = str(getattr(kind, "__name__", kind)).replace(" | None", "")
    name = re.sub(r"^Optional\[(.*)\]$", r"\1", name).replace("<class '", "").replace("'>", "")
    if name == "bool":
        return ""
    return _NAMES.get(
        name.replace(" ", ""),
        "[...]" if "list" in name.lower() else "{...}" if "dict" in name.lower() else "TEXT",
    )


def _entry(flag: str, what: str) -> list[str]:
    width = min(max(40, shutil.get_terminal_size((100, 24)).columns), 110)
    indent = min(_INDENT, width // 2)
    lines = textwrap.wrap(what, width - indent) or [""]
    if len(flag) + 4 > indent:
        return [f"  {flag}", *(f"{'':{indent}}{line}".rstrip() for line in lines)]
    return [f"{f'  {flag}':<{indent}}{lines[0]}".rstrip(), *(f"{'':{indent}}{line}" for line in lines[1:])]
