"""Makes untrusted text safe to display: names, tasks, library messages, the content of files.

A terminal takes commands from the text that it shows (ECMA-48: escape sequences and the C1 controls), and
text direction overrides can make a name look like another one. All printed or logged text is made safe at the
point where it is written: `aiorecord.cli.output.say`, `aiorecord.monitor.safe_console.PlainConsole`, and the
loggers of `get_logger`.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

_INSTEAD = "\N{REPLACEMENT CHARACTER}"
_ASCII = re.compile(r"[ -~]*")
_NOT_ASCII = re.compile(r"[^\n -~]")


def plain(text: str) -> str:
    """A text as one line, without anything that would control a terminal.

    Control characters, line ends, text direction overrides and lone surrogates (bytes of a path that are not
    UTF-8) become U+FFFD.
    """
    if _ASCII.fullmatch(text):
        return text
    return "".join(char if char.isprintable() else _INSTEAD for char in text)


def plain_lines(text: str) -> str:
    """A text of several lines, made safe as by `plain`; line ends stay."""
    return "\n".join(map(plain, text.split("\n")))


def error_text(error: BaseException | str) -> str:
    """The message of an error; lines after the first are indented, so that none looks like a new message."""
    first, *more = plain_lines(str(error)).rstrip("\n").split("\n")
    return "\n".join([first, *(line if line.startswith(" ") else f"  {line}" for line in more)])


def json_text(value: Any, indent: int | None = 2) -> str:
    """JSON in UTF-8 with every unprintable character in strings escaped; it is read back unchanged."""

    def escaped(match: re.Match[str]) -> str:
        char = match[0]
        if char.isprintable():
            return char
        units = char.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))

    # Outside of its strings, JSON is ASCII.
    return _NOT_ASCII.sub(escaped, json.dumps(value, indent=indent, ensure_ascii=False))


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; its output is plain text, whatever the arguments hold."""
    logger = logging.getLogger(name)
    logger.addFilter(_made_plain)
    return logger


def _made_plain(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    if (clean := error_text(text)) != text:
        record.msg, record.args = clean, ()
    if record.exc_info and not record.exc_text:
        record.exc_text = plain_lines(logging.Formatter().formatException(record.exc_info))
    return True
