"""Checks at the start of a command that the files it writes at its end can be written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import ConfigError


def check_output(path: Path, option: str) -> None:
    """Test that a file can be opened for writing, and leave everything unchanged.

    Args:
        path: the file.
        option: the flag that names it, without its dashes.

    Raises:
        ConfigError: it cannot be written; the message says why.
    """
    new = not os.path.lexists(path)
    try:
        if not str(path) or path == Path("."):
            raise IsADirectoryError("it names no file")
        if path.is_symlink() and not path.exists():
            raise FileNotFoundError("it is a link that leads nowhere")
        # A pipe without a reader then fails at once instead of blocking.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o666)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode) and new:
                path.unlink()
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise ConfigError(f"--{option}={path} cannot be written: {reason}.", option=option) from error
