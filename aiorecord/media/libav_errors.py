"""Maps libav's errors to aiorecord's, for everything that reads, writes, encodes or decodes."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import av

from ..errors import EncodeError, StorageError

_DISK_ERRNOS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG),
    *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
}


@contextlib.contextmanager
def libav_errors(doing: str, path: Path | None = None, *, codec: str | None = None) -> Iterator[None]:
    """Map libav's errors.

    Args:
        doing: completes "Could not ...".
        path: the file being read or written, if there is one.
        codec: the codec at work, if any.

    Raises:
        StorageError: the disk is full, read-only or failing (only if there is a `path`: drivers of hardware
            encoders use the same error numbers).
        EncodeError: any other error of libav.
    """
    try:
        yield
    except av.FFmpegError as error:
        # PyAV's errors include libav's last log line, which often names the reason.
        message = f"Could not {doing}: {error}"
        if path is not None and error.errno in _DISK_ERRNOS:
            raise StorageError(message, path=path) from error
        raise EncodeError(message, codec=codec) from error
