"""The `aiorecord` command: one module per subcommand, imported only when it is asked for."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ..errors import ConfigError
from ..flags.flag_names import HELP_ALL, nearest, spelled
from ..printable import plain
from ..system.memory import configure_allocator, keep_pandas_out_of_arrow
from ..system.startup import STOPPED, begun, ending
from ..system.threads import no_threads
from ..workers.pool import worker_ahead
from .output import complain, lasting_output, open_standard_files, say

COMMANDS = {
    "record": "record episodes with a robot and a teleoperator",
    "teleoperate": "move a robot with a teleoperator, recording nothing",
    "replay": "play the actions of a recorded episode on a robot",
    "doctor": "report what this machine has for recording, with advice",
    "bench": "measure what this machine can record",
    "check": "verify every part of a dataset, and repair what is safe to repair",
    "recover": "finish what an interrupted recording left in staging",
    "info": "show what is in a dataset, and how well each episode was recorded",
    "push": "upload a dataset to the Hugging Face Hub",
    "lerobot-record": "run lerobot's own recording script, unmodified, with aiorecord's writer",
    "lerobot-rollout": "run a policy with lerobot's own script, recording with aiorecord's writer",
}

USAGE = """usage: aiorecord <command> [flags]

{commands}

`aiorecord <command> --help` shows examples and the most used flags,
--help-all shows all flags.

example:
  aiorecord record --robot.type=sim --teleop.type=sim \\
      --dataset.repo_id=demo/pick-cube --dataset.root=data/pick-cube \\
      --dataset.single_task="Pick up the cube" --dataset.num_episodes=2 \\
      --dataset.episode_time_s=5 --dataset.reset_time_s=2"""


TRACEBACK = "AIORECORD_TRACEBACK"
"""Environment variable: if it is set, an unexpected error is shown with its traceback."""

OUT_OF_MEMORY = (
    "This process may not use as much memory as it needs; raise its limit (`ulimit -v`, MemoryMax of the "
    "service). Episodes that had ended are in staging: `aiorecord recover` finishes them."
)


def _scarcity(error: Exception) -> str | None:
    """The exhausted resource (memory, threads) that an error means, None for other errors."""
    if isinstance(error, MemoryError) or "failed to map segment" in str(
        error
    ):  # the message of the dynamic loader
        return OUT_OF_MEMORY
    if type(error) is RuntimeError and "can't start new thread" in str(error):  # CPython's words
        return str(no_threads(error))
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: arguments without the program's name; default: this process's.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped by the user.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    open_standard_files()
    with lasting_output():
        try:
            code = _stoppable(arguments)
            if sys.stdout is not None:
                sys.stdout.flush()  # if output goes to a file, the disk may be full
            return code
        except Exception as error:
            theirs = "".join(arguments[:1]).startswith("lerobot-") and _scarcity(error) is None
            if theirs or os.environ.get(TRACEBACK):
                raise
            complain(_unexpected(error))
            return 1


def _stoppable(arguments: list[str]) -> int:
    """Run a command line; Ctrl-C stops it unless the command handles it itself."""
    try:
        # A file of flags may say it too.
        if not any(argument.startswith(("--log", "--config")) for argument in arguments):
            return _run(arguments)
        return _logged(arguments)
    except KeyboardInterrupt:
        say("Stopped.", file=sys.stderr)
        return STOPPED
    finally:
        ending()


def _logged(arguments: list[str]) -> int:
    """Run a command line, with the logging that its flags ask for."""
    from .logs import ended_said, logging_as, take_log_flags

    try:
        flags, rest = take_log_flags(arguments)
    except ConfigError as error:
        complain(error)
        return 2
    with logging_as(flags, arguments), ended_said() as code:
        code.append(_run(rest))
    return code[0]


def _unexpected(error: Exception) -> str:
    """One line for an unexpected error: its message, and where it was raised."""
    if (reason := _scarcity(error)) is not None:
        return reason
    if isinstance(error, OSError):
        return f"The system refused: {plain(str(error))}."
    where, trace = "", error.__traceback__
    while trace is not None:
        where, trace = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}", trace.tb_next
    said = plain(f"{type(error).__name__}: {error}")
    return (
        f"This is a bug in aiorecord ({said}, in {where}). {TRACEBACK}=1 shows a traceback; please report it."
    )


def _run(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "--help"
    if name in ("--version", "-V"):
        from importlib.metadata import (
            version,
        )  # imported here: it takes 30 ms that commands do not need at their start

        say(f"aiorecord {version('aiorecord')}")
        return 0
    if name in ("--help", "-h", "help"):
        say(USAGE.format(commands="\n".join(f"  {key:<15} {text}" for key, text in COMMANDS.items())))
        return 0
    if name not in COMMANDS:
        complain(f"there is no command {name!r}.{nearest(name, COMMANDS)} Commands: {', '.join(COMMANDS)}.")
        return 2
    configure_allocator()  # before libraries start threads
    theirs = name.startswith("lerobot-")
    home = f".lerobot.{name.removeprefix('lerobot-')}" if theirs else f".cli.commands.{name}"
    with contextlib.ExitStack() as stack:
        helping = {"-h", "--help", HELP_ALL}.intersection(spelled(arguments, [HELP_ALL]))
        if name == "record" and arguments[1:] and not helping:
            # Importing libraries is the longest wait before the first frame: it happens here and in the
            # encoder's process at the same time.
            stack.enter_context(worker_ahead())
        run = import_module(home, "aiorecord").run
        if "pyarrow" in sys.modules and not theirs:
            keep_pandas_out_of_arrow()
        begun()
        given = arguments[1:]
        code: int = run(given, import_module(".flag_errors", __name__).explain) if theirs else run(given)
    return code
