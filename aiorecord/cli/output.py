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
"""Errors of write(2) for a terminal that was hung up, and for a pipe without a reader."""


_PLAINER = {"→": "->", "←": "<-", "…": "...", "µ": "u", "°": " degrees", "≤": "<=", "≥": ">="}  # noqa: RUF001 - a micro sign is meant
_PLAINER |= dict(zip("─━│┃╸╺●•█░✓✗", "--||--**#.+x", strict=True))
"""Replacements for characters that the terminal's encoding lacks."""


def _in_less(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that the encoding lacks (an error handler of `codecs`)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    said = (_PLAINER.get(char) or char.encode("ascii", "backslashreplace").decode() for char in text)
    return "".join(said), error.end


codecs.register_error("aiorecord-in-less", _in_less)


complaints: list[Callable[[str], None]] = []
"""Called with each message of `complain`."""


def say(text: str = "", *, file: IO[str] | None = None, flush: bool = False) -> None:
    """Print a text, lines and all, as plain text; default: to standard output."""
    print(plain_lines(text), file=file, flush=flush)


def complain(error: BaseException | str, prog: str = "aiorecord") -> None:
    """Print an error message to standard error."""
    text = error_text(error)
    for heard in complaints:
        heard(text)
    say(f"{prog}: {text}", file=sys.stderr)


def dataset_folder(text: str) -> Path:
    """Parse the argument that names a dataset's folder; an invalid path is wrong usage."""
    try:
        return resolve_root("", text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def open_standard_files() -> None:
    """Open a standard input, output and error if this process was started without them.

    Otherwise the next opened file, perhaps one of a dataset, gets their number, and a library's output is
    written into it.
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
    """A descriptor that becomes /dev/null when its reader is gone.

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
    """While the block runs, printing does not fail when standard output or error is closed.

    Streams that are not files (captured ones, a notebook's) are not changed.
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
    except (OSError, ValueError):  # no descriptor, or closed before the start
        return None
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=stream.encoding,
        # A character that the terminal's encoding lacks must not end the command, whatever the locale.
        errors="aiorecord-in-less",
        # With PYTHONUNBUFFERED streams write through and buffer no lines; the layer below buffers.
        line_buffering=stream.line_buffering or stream.write_through,
        write_through=stream.write_through,
    )
