"""Prints what commands say, as plain text, to standard output and error, either of which may be closed.

A closed terminal or pipe must not end a recording, and text from a dataset must not control the terminal.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from ..errors import ConfigError
from ..options import resolve_root
from ..printable import error_text, plain_lines

_GONE = {errno.EIO, errno.EPIPE, errno.ENXIO, errno.EBADF}
"""What write(2) says of a terminal that was hung up, and of a pipe that nobody reads."""


_PLAINER = {"→": "->", "←": "<-", "…": "...", "µ": "u", "°": " degrees", "≤": "<=", "≥": ">="}
_PLAINER |= dict(zip("─━│┃╸╺●•█░✓✗", "--||--**#.+x", strict=True))
"""What stands for a character where the terminal's encoding does not have it."""


def _in_less(error: UnicodeError) -> tuple[str, int]:
    """Say a text in the characters that there are (an error handler of `codecs`)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    said = (_PLAINER.get(char) or char.encode("ascii", "backslashreplace").decode() for char in text)
    return "".join(said), error.end


codecs.register_error("aiorecord-in-less", _in_less)


complaints: list[Callable[[str], None]] = []
"""Called with what `complain` says."""


def say(text: str = "", *, file: IO[str] | None = None, flush: bool = False) -> None:
    """Print a text, lines and all, as plain text; default: to standard output."""
    print(plain_lines(text), file=file, flush=flush)


def complain(error: BaseException | str, prog: str = "aiorecord") -> None:
    """Say on standard error what went wrong."""
    text = error_text(error)
    for heard in complaints:
        heard(text)
    say(f"{prog}: {text}", file=sys.stderr)


def dataset_folder(text: str) -> Path:
    """A dataset's folder as an argument; what cannot be one is wrong usage."""
    try:
        return resolve_root("", text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def open_standard_files() -> None:
    """Give this process a standard input, output and error where it was started without.

    Otherwise the next file that is opened, one of a dataset perhaps, gets their number, and what a library
    prints is written into it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            fd = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            if fd != number:
                os.dup2(fd, number)
                os.close(fd)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="replace", closefd=False))  # noqa: SIM115


class _LastingFile(io.FileIO):
    """A descriptor that is written to as long as somebody is there, and is /dev/null from then on.

    Any other failure, such as a full disk, is raised once.
    """

    _failed = False

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        if self._failed:
            return view.nbytes
        try:
            return super().write(view)
        except OSError as error:
            if error.errno not in _GONE:
                self._failed = True
                raise
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        return view.nbytes


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """While the block runs, nobody has to care whether standard output and error are still there.

    Streams that are no files (captured ones, a notebook's) are left as they are.
    """
    before = sys.stdout, sys.stderr
    made: list[io.TextIOWrapper] = []
    try:
        for name in ("stdout", "stderr"):
            if (stream := _lasting(getattr(sys, name))) is not None:
                made.append(stream)
                setattr(sys, name, stream)
        yield
    finally:
        for stream in made:
            stream.flush()
        sys.stdout, sys.stderr = before


def _lasting(stream: object) -> io.TextIOWrapper | None:
    if not isinstance(stream, io.TextIOWrapper):
        return None
    try:
        stream.flush()
        file = _LastingFile(stream.fileno(), "wb", closefd=False)
    except (OSError, ValueError):  # no descriptor, or gone before we began
        return None
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=stream.encoding,
        # What the terminal's encoding does not have is no reason to end, whatever the locale says of errors.
        errors="aiorecord-in-less",
        # PYTHONUNBUFFERED gives streams that write through and buffer no lines; there is a buffer below here.
        line_buffering=stream.line_buffering or stream.write_through,
        write_through=stream.write_through,
    )
