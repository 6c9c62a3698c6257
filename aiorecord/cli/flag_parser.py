"""The argument parser of commands that take a folder and a few switches."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from ..flags.flag_names import HELP_ALL, LOG_FLAGS, nearest, spelled, unknown_flags
from .output import complain, say

_TITLES = {"positional arguments": "needed", "options": "flags"}


class FlagParser(argparse.ArgumentParser):
    """An argument parser whose errors take one line, and whose help begins with examples.

    Hyphens and underscores in flags are one. ``--help`` leaves out the flags that were added as rare ones;
    ``--help-all`` lists them too.

    Args:
        prog: the command.
        description: what it does.
        examples: the first part of its help.
    """

    def __init__(self, prog: str, *, description: str, examples: str) -> None:
        super().__init__(
            prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
        )
        self._examples = examples
        self._rare: list[tuple[argparse.Action, str | None]] = []
        self.add_argument("-h", "--help", action=_ShowHelp, help="show this help and end")
        for flag, what in LOG_FLAGS.items():  # `main` has removed them before; they are here to be listed
            self.rare(flag, default=argparse.SUPPRESS, metavar="TEXT", help=what)
        self.add_argument(HELP_ALL, action=_ShowHelp, help=argparse.SUPPRESS)

    def rare(self, *names: str, **options: Any) -> argparse.Action:
        """Add an argument that only ``--help-all`` lists; otherwise as `add_argument`."""
        action = self.add_argument(*names, **{**options, "help": argparse.SUPPRESS})
        self._rare.append((action, options.get("help")))
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's method, with hyphens and underscores equal in flags."""
        known = self._option_string_actions
        given = spelled(args or (), known)
        starts = tuple(known)
        for flag in unknown_flags(given, known):
            if not any(each.startswith(flag) for each in starts):  # argparse accepts the beginning of a flag
                self.error(f"There is no flag {flag}.{nearest(flag, known)}")
        return super().parse_known_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the arguments, and exit with code 2."""
        if match := re.fullmatch(r"the following arguments are required: (.*)", message):
            given = [name if name.startswith("-") else name.upper() for name in match[1].split(", ")]
            message = f"It needs {' and '.join(given)}"
        message = message.removeprefix("argument ").rstrip(".")
        complain(f"{message}{'' if message.endswith('?') else '.'} Try `{self.prog} --help`.", self.prog)
        raise SystemExit(2)

    def help_text(self, *, everything: bool) -> str:
        """The help: what the command does, examples, flags."""
        for action, text in self._rare:
            action.help = text if everything else argparse.SUPPRESS
        usage = self.usage or " ".join([self.prog, *self._needed(), "[flags]"])
        formatter = self._get_formatter()
        for group in self._action_groups:
            formatter.start_section(_TITLES.get(str(group.title), group.title))
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        lines = [f"usage: {usage}", "", *_wrapped(formatter, self.description or ""), "", self._examples, ""]
        text = "\n".join(lines) + "\n" + formatter.format_help()
        if self._rare and not everything:
            text += f"\n`{self.prog} {HELP_ALL}` lists {len(self._rare)} more.\n"
        return text

    def _needed(self) -> list[str]:
        """The required arguments in the usage line."""
        needed = []
        for action in self._actions:
            if action.option_strings and action.required:
                needed.append(f"{action.option_strings[0]}=...")
            elif not action.option_strings:
                name = str(action.metavar or action.dest).upper()
                needed.append(f"[{name}]" if action.nargs == "?" else name)
        return needed


class _ShowHelp(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        assert isinstance(parser, FlagParser)
        say(parser.help_text(everything=given[-1] == HELP_ALL).rstrip())
        parser.exit()


def _wrapped(formatter: argparse.HelpFormatter, text: str) -> list[str]:
    return argparse.HelpFormatter("", width=formatter._width)._split_lines(text, formatter._width)


def at_least_one(text: str) -> int:
    """Parse an argument that is a whole number of 1 or more."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number from 1 on, not {text!r}")
    return value
