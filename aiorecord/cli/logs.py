"""``--log_level`` and ``--log_file``: log lines with times, for fault reports.

Each line of the file is a JSON object. A separate thread writes the lines from a bounded queue, so a disk
that stalls neither delays a tick nor uses memory. Lines that found no room are counted, and the count is
logged at the end.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import platform
import queue
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..flags.flag_names import CONFIG_FLAG, LOG_FLAGS, spelled
from ..printable import get_logger, json_text
from ..system.startup import STOPPED
from .output import complaints, say
from .output_files import check_output

LEVELS = ("debug", "info", "warning", "error")
LINES = 10_000
"""Lines that may wait to be written."""

FIELDS = "aiorecord_fields"
"""Attribute of a log record: a dict of facts that become keys of the file's line."""

PRINTED = "aiorecord_printed"
"""Attribute of a log record: the message was already printed on the terminal."""

logger = get_logger("aiorecord.cli")


@dataclass(frozen=True)
class LogFlags:
    """The logging flags of a command line.

    Attributes:
        level: the lowest level to log, one of `LEVELS`; None is ``info`` for a file, else ``warning``.
        file: the log file; None is the terminal.
    """

    level: str | None = None
    file: Path | None = None


def take_log_flags(argv: Sequence[str]) -> tuple[LogFlags, list[str]]:
    """Remove the logging flags from a command line, for every command.

    A file of flags (``--config_path``) may have them too, but no pipe; the command line counts more. A file
    that cannot be read is left to the command to report.

    Raises:
        ConfigError: a value is invalid.
    """
    given: dict[str, str] = {}
    rest: list[str] = []
    waiting: str | None = None
    config: str | None = None
    arguments = spelled(argv, [*LOG_FLAGS, CONFIG_FLAG])
    ended = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        ended = ended or argument == "--"
        if waiting in LOG_FLAGS:
            given[waiting], waiting = argument, None
            continue
        if waiting is not None:
            config, waiting = argument, None
        if name in LOG_FLAGS and not ended:
            if equals:
                given[name] = value
            else:
                waiting = name
            continue
        if name == CONFIG_FLAG and not ended:
            config, waiting = (value, None) if equals else (config, name)
        rest.append(argument)
    if waiting in LOG_FLAGS:
        raise ConfigError(f"{waiting} needs a value: {waiting}=...", option=waiting.removeprefix("--"))
    places = {} if config is None else _of_file(config, given)
    level = given.get("--log_level")
    if level is not None and level.lower() not in LEVELS:
        where = places.get("--log_level", "--log_level")
        raise ConfigError(f"{where} is {', '.join(LEVELS)}, not {level!r}.", option="log_level")
    file = given.get("--log_file")
    if file is not None:
        check_output(Path(file), "log_file")
    return LogFlags(level and level.lower(), None if file is None else Path(file)), rest


def _of_file(path: str, given: dict[str, str]) -> dict[str, str]:
    """Add the logging flags of a config file that the command line does not give.

    Returns:
        The place in the file of each flag that it gave.

    Raises:
        ConfigError: a value that is no text.
    """
    from draccus.utils import DraccusException

    from ..flags.config_lines import places
    from ..flags.yaml_values import read_file

    if not Path(path).is_file():  # what a pipe gives can be read once, and that is for the command
        return {}
    try:
        file = read_file(path)
    except (OSError, ValueError, RecursionError, DraccusException):
        return {}
    found: dict[str, str] = {}
    for flag in LOG_FLAGS:
        name = flag.removeprefix("--")
        value = file.get(name) if isinstance(file, Mapping) else None
        if value is None or flag in given:
            continue
        found[flag] = f"{places(path).get((name,), path)}: {name}"
        if not isinstance(value, str):
            raise ConfigError(f"{found[flag]} is text, not {value!r}.", option=name)
        given[flag] = value
    return found


@contextlib.contextmanager
def logging_as(flags: LogFlags, arguments: Sequence[str]) -> Iterator[None]:
    """Within the block, log as the flags ask for. Without flags, nothing changes.

    Args:
        flags: of the command line.
        arguments: the command line, noted in the first line.
    """
    if flags == LogFlags():
        yield
        return
    level = getattr(logging, (flags.level or ("warning" if flags.file is None else "info")).upper())
    terminal = _Terminal()
    terminal.setLevel(level if flags.file is None else logging.WARNING)
    handlers: list[logging.Handler] = [terminal]
    ours = logging.getLogger("aiorecord")
    before = ours.level, ours.propagate
    with contextlib.ExitStack() as stack:
        if flags.file is not None:
            written = stack.enter_context(_written(flags.file))
            written.setLevel(level)
            handlers.append(written)
        # Not passed on to the root logger: lerobot's scripts remove the handlers there.
        for target in (ours, logging.getLogger()):
            for handler in handlers:
                target.addHandler(handler)
                stack.callback(target.removeHandler, handler)
        ours.setLevel(min(level, logging.WARNING))
        ours.propagate = False
        stack.callback(setattr, ours, "propagate", before[1])
        stack.callback(ours.setLevel, before[0])
        facts = {
            "arguments": list(arguments),
            "aiorecord": version("aiorecord"),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()}",
        }
        complaints.append(_log_complaint)
        stack.callback(complaints.remove, _log_complaint)
        logger.info("started", extra={FIELDS: facts})
        yield


def _log_complaint(text: str) -> None:
    logger.error("%s", text, extra={PRINTED: True})


@contextlib.contextmanager
def ended_said() -> Iterator[list[int]]:
    """Log at the end of the block how the command ended; the block appends its exit code to the list.

    Raises:
        BaseException: the block's error, which is logged with its traceback.
    """
    started_s, code = time.monotonic(), list[int]()
    try:
        yield code
    except SystemExit as end:
        code.append(end.code if isinstance(end.code, int) else 2)
        raise
    except KeyboardInterrupt:
        code.append(STOPPED)
        raise
    except Exception:
        code.append(1)
        logger.critical("ended by an error", exc_info=True, extra={PRINTED: True})
        raise
    finally:
        facts = {"exit_code": code[0] if code else 1, "seconds": round(time.monotonic() - started_s, 3)}
        logger.info("ended", extra={FIELDS: facts})


class _Terminal(logging.Handler):
    """Writes lines to the current standard error: a live view prints them above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, PRINTED, False):
            return
        with contextlib.suppress(OSError, ValueError):
            clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
            say(f"{clock} {record.levelname.lower()}: {record.getMessage()}", file=sys.stderr)


class _Lines(logging.Formatter):
    """A record as one object of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone()
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "thread": record.threadName,
        }
        if task := getattr(record, "taskName", None):
            line["task"] = task
        line |= getattr(record, FIELDS, {})
        if record.exc_info or record.exc_text:
            line["traceback"] = record.exc_text or self.formatException(record.exc_info)  # type: ignore[arg-type]
        return json_text(line, indent=None)


class _Queued(logging.handlers.QueueHandler):
    """Puts formatted lines into the queue; never waits."""

    def __init__(self, waiting: queue.Queue[Any]) -> None:
        super().__init__(waiting)
        self.lost = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Format the record now: the objects it refers to may change."""
        made = logging.makeLogRecord({"msg": self.format(record), "levelno": record.levelno})
        return made

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.lost += 1


class _File(logging.FileHandler):
    """Appends lines to the file; only the first failure to write is reported."""

    refused = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if not self.refused:
            self.refused = True
            say(f"aiorecord: the log cannot be written: {sys.exception()}", file=sys.stderr)


@contextlib.contextmanager
def _written(path: Path) -> Iterator[logging.Handler]:
    file = _File(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(message)s"))
    waiting: queue.Queue[Any] = queue.Queue(LINES)
    handler = _Queued(waiting)
    handler.setFormatter(_Lines())
    listener = logging.handlers.QueueListener(waiting, file)
    listener.start()
    try:
        yield handler
    finally:
        if handler.lost:
            lost = logging.LogRecord("aiorecord.cli", logging.WARNING, "", 0, "%s", (), None)
            lost.msg, lost.args = f"{handler.lost} lines are missing: the disk was too slow", ()
            waiting.put(handler.prepare(lost))
        listener.stop()
        file.close()
