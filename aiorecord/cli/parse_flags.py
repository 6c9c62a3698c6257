"""Parses command lines with draccus, in the same way for every command."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import draccus
import yaml
from draccus.wrappers import docstring

from ..flags.flag_values import MissingFlagsError, letter_by_letter
from .flag_errors import explain, explain_usage
from .flag_help import all_flags, asked_for, short_help
from .output import complain, say


def parse_flags[T](
    kind: type[T],
    argv: Sequence[str],
    *,
    prog: str,
    examples: str,
    needed: Mapping[str, str] | None = None,
    common: Sequence[str] = (),
) -> T | int:
    """Parse a command line into a dataclass, as `lerobot-record` does (``--config_path`` YAML too).

    Text is taken literally, see `aiorecord.flags.yaml_values`.

    Args:
        kind: the dataclass of flags.
        argv: the arguments.
        prog: the program's name for usage lines.
        examples: the first part of ``--help``.
        needed: the required flags, each as an example with its meaning.
        common: other flags that ``--help`` lists; ``--help-all`` lists them all. None lists all in both.

    Returns:
        The flags, or an exit code when there is nothing to run: 0 after ``--help``, 2 after an error, which
        was printed.
    """
    needed = needed or {}
    if (wanted := asked_for(argv)) is not None:
        if wanted == "all" or not common:
            say(all_flags(kind, prog, examples))
        else:
            say(short_help(kind, argv, prog, examples, needed, common))
        return 0
    err = io.StringIO()
    error: BaseException | str
    try:
        names = [_name(flag) for flag in needed]
        with contextlib.redirect_stderr(err), letter_by_letter(names), _comments_unread():
            flags: T = draccus.parse(kind, args=list(argv), prog=prog)
        return flags
    except SystemExit:
        # argparse prints a usage with every flag; only its last line says what is wrong.
        error = explain_usage(err.getvalue().strip().rpartition("error: ")[2])
    except MissingFlagsError as missing:
        _ask_for(missing.flags, needed, prog, examples)
        return 2
    except (draccus.utils.DraccusException, argparse.ArgumentError, yaml.YAMLError, OSError, ValueError) as e:
        error = explain(e, kind)
    complain(error, prog)
    say(f"Try `{prog} --help`.", file=sys.stderr)
    return 2


@contextlib.contextmanager
def _comments_unread() -> Iterator[None]:
    """Within the block, draccus does not read the comments of fields. Only help shows them, and parsing the
    source of every class of flags takes twice as long as parsing the command line.
    """
    theirs: Any = docstring
    original = theirs.get_attribute_docstring
    theirs.get_attribute_docstring = lambda *_: docstring.AttributeDocString()
    try:
        yield
    finally:
        theirs.get_attribute_docstring = original


def _ask_for(missing: Sequence[str], needed: Mapping[str, str], prog: str, examples: str) -> None:
    """Print which flags a command line lacks, and an example that works."""
    complain(
        "these flags are needed:" if len(missing) == len(needed) else "these flags are needed too:", prog
    )
    width = max(map(len, needed))
    for flag, what in needed.items():
        if _name(flag) in missing:
            say(f"  {flag:<{width}}  {what}", file=sys.stderr)
    if len(missing) == len(needed):
        say(f"\n{_first(examples)}\n", file=sys.stderr)
    say(f"Try `{prog} --help`.", file=sys.stderr)


def _name(flag: str) -> str:
    return flag.partition("=")[0]


def _first(examples: str) -> str:
    """The first example: up to the first empty line."""
    return examples.partition("\n\n")[0].replace("examples:", "For a first try, without a robot:")
