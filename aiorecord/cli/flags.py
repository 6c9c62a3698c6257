"""Parsing flags with draccus: one way for every command."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Sequence

import draccus
import yaml

from ..errors import AiorecordError
from ..flag_values import letter_by_letter
from .output import complain, say


def parse_flags[T](kind: type[T], argv: Sequence[str], *, prog: str, examples: str) -> T | int:
    """Parse a command line into a dataclass, as `lerobot-record` does (``--config_path`` YAML too).

    Text is taken letter by letter, see `aiorecord.flag_values`.

    Args:
        kind: the dataclass of flags.
        argv: the arguments.
        prog: the program's name for usage lines.
        examples: shown at the end of ``--help``.

    Returns:
        The flags, or an exit code when there is nothing to run: 0 after ``--help``, 2 after an error, which
        was printed.
    """
    help_wanted = any(argument in ("-h", "--help") for argument in argv)
    out, err = io.StringIO(), io.StringIO()
    error: object = None
    try:
        with (
            contextlib.redirect_stdout(out if help_wanted else sys.stdout),
            contextlib.redirect_stderr(err),
            letter_by_letter(),
        ):
            flags: T = draccus.parse(kind, args=list(argv), prog=prog)
        return flags
    except SystemExit:
        if help_wanted:
            say(out.getvalue())
            say(examples)
            return 0
        # Of argparse's usage, which lists every flag, only the last line says what is wrong.
        error = err.getvalue().strip().rpartition("error: ")[2]
    except (draccus.utils.DraccusException, argparse.ArgumentError, yaml.YAMLError, OSError, ValueError) as e:
        # What a config class itself found wrong says more than draccus, which only names the class.
        error, cause = e, e.__cause__
        if isinstance(cause, AiorecordError):
            error = cause
        elif isinstance(cause, TypeError | ValueError) and str(cause) not in str(e):
            error = f"{e} {cause}"
    complain(error, prog)
    say(f"Try `{prog} --help`.", file=sys.stderr)
    return 2
