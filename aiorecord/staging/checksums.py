"""Checksums of files that have none of their own: live captures (Matroska) and histograms.

Next to ``<file>`` is ``<file>.crc``, with an entry of 16 bytes, little-endian, for each append::

    end      uint64     bytes of the file up to and with this append
    crc32    uint32     of the bytes that it appended, begun with `checksum_owner.owner_seed`
    check    uint32     CRC-32 of the 12 bytes before

A checksum is computed from the bytes in memory, and written right after them: a kill leaves at most the last
append without one. That is a torn tail. Bytes that have an entry and do not match it are damage.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path

from .checksum_owner import owner_seed
from .records import MAX_PAYLOAD, AppendFile
from .staged_file import Extent, StagedFile

SUMS_SUFFIX = ".crc"

_ENTRY = struct.Struct("<QII")
_CHECKED = struct.Struct("<QI")
_ENTRIES_AT_ONCE = 4096
_PLAIN_CHUNK = 1 << 16


def sums_path(path: Path) -> Path:
    """The path of a file's checksums."""
    return path.with_name(path.name + SUMS_SUFFIX)


class CheckedFile(AppendFile):
    """An `AppendFile` with a file of checksums, as this module describes.

    Args:
        path: the file; neither it nor its checksums may exist.
    """

    def __init__(self, path: Path) -> None:
        self._seed = owner_seed(path)
        self._sums = AppendFile(sums_path(path))
        try:
            super().__init__(path)
        except BaseException:
            self._sums.close()
            raise

    @property
    def paths(self) -> list[Path]:
        """The file and its checksums."""
        return [self.path, self._sums.path]

    def append(self, *parts: bytes | memoryview) -> None:
        """Append bytes and their checksum."""
        before = self.size
        super().append(*parts)
        crc = self._seed
        for part in parts:
            crc = zlib.crc32(part, crc)
        entry = _CHECKED.pack(self.size, crc)
        try:
            self._sums.append(entry + zlib.crc32(entry).to_bytes(4, "little"))
        except BaseException:
            self.cut(before)
            raise

    def close(self) -> None:
        """Close both files. Idempotent."""
        self._sums.close()
        super().close()


def checked_chunks(
    path: Path, extent: Extent, *, checked: bool, chunk: int = _PLAIN_CHUNK
) -> Generator[bytes]:
    """The bytes of a file in order, as far as they are verified.

    Args:
        path: the file; one that does not exist has no bytes.
        extent: filled in with how far it is verified, and why no further.
        checked: it has checksums; otherwise all of it counts as whole, in pieces of `chunk` bytes.
        chunk: bytes.
    """
    file = StagedFile.open(path, extent)
    if file is None:
        return
    with file:
        if not checked:
            while piece := file.read(chunk):
                extent.end = file.position
                yield piece
            return
        for end, crc in _entries(sums_path(path), extent):
            size = end - file.position
            if size > file.left:
                extent.fault = f"it ends at byte {file.size}, where {end} were written"
                return
            if not 0 < size <= MAX_PAYLOAD:
                extent.fault, extent.altered = f"its checksums are damaged at byte {extent.end}", True
                return
            piece = file.read(size)
            if zlib.crc32(piece, owner_seed(path)) != crc:
                extent.fault = f"the content between byte {extent.end} and {end} is not what was written"
                extent.altered = True
                return
            extent.end = end
            yield piece


def _entries(path: Path, extent: Extent) -> Iterator[tuple[int, int]]:
    sums = StagedFile.open(path)
    if sums is None:
        extent.fault = f"its checksums ({path.name}) are missing"
        return
    with sums:
        while True:
            block = sums.read(_ENTRY.size * _ENTRIES_AT_ONCE)
            for at in range(0, len(block) - _ENTRY.size + 1, _ENTRY.size):
                end, crc, check = _ENTRY.unpack_from(block, at)
                if zlib.crc32(block[at : at + _CHECKED.size]) != check:
                    extent.fault, extent.altered = f"its checksums ({path.name}) are damaged", True
                    return
                yield end, crc
            if not sums.left:
                return
