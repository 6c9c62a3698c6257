"""Standard output that may go away: a closed terminal or pipe must not end a recording."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator

_GONE = {errno.EIO, errno.EPIPE, errno.ENXIO, errno.EBADF}
"""What write(2) says of a terminal that was hung up, and of a pipe that nobody reads."""


class _LastingFile(io.FileIO):
    """A descriptor that is written to as long as somebody is there, and is /dev/null from then on."""

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        try:
            return super().write(view)
        except OSError as error:
            if error.errno not in _GONE:
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
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
