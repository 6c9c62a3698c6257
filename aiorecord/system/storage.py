"""Durable writes: a file is either complete under its name, or not there at all.

The rule, used for every file that a reader may open: write under a temporary name in the same folder, fsync
the file, rename it, fsync the folder (see rename(2) and fsync(2): the rename is atomic, and the folder's own
fsync makes the name survive a power loss).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import StorageError

TEMPORARY_SUFFIX = ".aiorecord-tmp"
"""Suffix of every file that is being written. Such a file may be deleted when no writer is alive."""

MAX_FSYNCS = 8
"""Files that `fsync_files` makes durable at the same time."""

MAX_JSON_BYTES = 16 << 20
"""Largest JSON file that is read back; the largest that are written have some hundred kB."""


@contextlib.contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Map `OSError` to `StorageError`, saying what was being done to which file."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        path = _published(path)
        # The error may name another file: one in a folder, the target of a rename.
        given = [error.filename, error.filename2]
        names = [_published(Path(os.fsdecode(name))) for name in given if isinstance(name, str | bytes)]
        others = ", ".join(dict.fromkeys(str(name) for name in names if name != path))
        where = f" ({others})" if others else ""
        raise StorageError(
            f"Could not {doing} {path}: {error.strerror or error}{where}", path=path, reading=doing == "read"
        ) from error


def each[T](items: Iterable[T], action: Callable[[T], object]) -> None:
    """Call `action` with each item, also with those after one that failed.

    Raises:
        OSError: the first OSError that `action` raised.
    """
    first: OSError | None = None
    for item in items:
        try:
            action(item)
        except OSError as error:
            first = first or error
    if first is not None:
        raise first


def fsync_file(path: Path) -> None:
    """Make the file's content durable. Works on a file that another descriptor is writing.

    Raises:
        OSError: the disk refused; it names the file. The data then count as lost: the kernel may have marked
            them as written, so that a second fsync reports no error. Write them again.
    """
    # Windows flushes only through a writable descriptor; elsewhere any descriptor of the file will do.
    fd = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(fd)


def fsync_files(paths: Sequence[Path]) -> None:
    """Make the content of several files durable, all at once, which a disk does together.

    If no threads can be started, one after the other.

    Raises:
        StorageError: the disk refused, as in `fsync_file`; it names the first such file.
    """
    with ThreadPoolExecutor(MAX_FSYNCS, thread_name_prefix="aiorecord-fsync") as pool:
        calls: list[tuple[Path, Callable[[], None]]] = []
        for path in paths:
            call: Callable[[], None] = partial(fsync_file, path)
            with contextlib.suppress(RuntimeError):  # no thread can be started
                call = pool.submit(call).result
            calls.append((path, call))
        for path, call in calls:
            with storage_errors(path, "make durable"):
                call()


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable. Windows cannot, and does not need to."""
    if sys.platform == "win32":
        return
    fsync_file(path)


def fsync_folders(path: Path) -> None:
    """Make the names in a folder, and in every folder below it, durable."""
    for folder in [path, *path.rglob("*")]:
        if folder.is_dir():
            fsync_folder(folder)


def temporary_name(path: Path) -> Path:
    """The name under which `path` is written before it is published."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")


def _published(path: Path) -> Path:
    """The final name of a temporary one; any other name is returned unchanged."""
    match = re.fullmatch(rf"\.(.+)\.\d+{re.escape(TEMPORARY_SUFFIX)}", path.name)
    return path.with_name(match[1]) if match else path


def publish(temporary: Path, final: Path) -> None:
    """fsync `temporary`, rename it to `final` (same folder tree, same filesystem), fsync the folder."""
    fsync_file(temporary)
    os.replace(temporary, final)
    fsync_folder(final.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; publish it as `path` if the block succeeds, else delete it.

    Raises:
        StorageError: the disk refused.
    """
    temporary = temporary_name(path)
    with storage_errors(path, "write"):
        make_folder(path.parent)
        temporary.unlink(missing_ok=True)  # delete whatever has this name: it may be a link to another file
        try:
            yield temporary
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Durably replace a whole file."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Durably replace a JSON file, indented and in UTF-8 as lerobot writes it."""
    write_bytes(path, json.dumps(value, indent=4, ensure_ascii=False, allow_nan=False).encode())


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file that anybody may have written: in bounded time and memory, from a plain file only.

    A lone surrogate, which JSON can hold and file systems and Parquet files cannot, becomes ``?``.

    Raises:
        ValueError: it is not JSON, too large, nested too deeply, or not a plain file (a pipe, a folder).
        OSError: it is missing or cannot be read.
    """
    check_file(path)
    with path.open("rb") as file:
        text = file.read(max_bytes + 1)
        size = os.fstat(file.fileno()).st_size
    if len(text) > max_bytes:
        raise ValueError(f"it is larger than {max_bytes >> 20} MiB, it has {size} bytes")
    return parse_json(text)


def is_own_file(path: Path) -> bool:
    """Whether a path in aiorecord's own folder (``meta/aiorecord``) is a file, or may become one.

    A link might lead out of the dataset.
    """
    for folder in (path.parent.parent, path.parent):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            return False
    return not path.is_symlink() and (path.is_file() or not path.exists())


def check_file(path: Path) -> None:
    """Check that a path leads to a plain file before it is opened: opening a pipe may block for ever.

    Raises:
        ValueError: it is a folder, a pipe or a device.
        OSError: it is missing or cannot be examined.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is not a file")


def parse_json(text: bytes) -> Any:
    """Parse JSON that anybody may have written; see `read_json`.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        value = json.loads(text)
        if b"\\u" in text:  # a lone surrogate may be escaped so
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
        return value
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_there(path: Path) -> bool:
    """Whether a name exists, even as a broken link.

    Unlike `Path.exists`, which returns False if that cannot be determined.

    Raises:
        StorageError: it cannot be determined.
    """
    with storage_errors(path, "read"):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def make_folder(path: Path) -> None:
    """Create a folder and its parents; each new name is made durable."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        fsync_folder(folder.parent)


def remove_tree(path: Path) -> None:
    """Delete a folder so that no reader sees it half-deleted: it is renamed first, then removed.

    Symbolic links, including `path` itself, are removed as links: their targets are not touched.

    Raises:
        StorageError: the disk refused.
    """
    aside = temporary_name(path)
    with storage_errors(path, "remove"):
        if not path.exists() and not path.is_symlink():
            return
        os.replace(path, aside)
        # Make the new name durable first: a power loss during the removal must not leave half under the old
        # name.
        fsync_folder(path.parent)
        remove_entry(aside)
        fsync_folder(path.parent)


def remove_entry(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it; links are not followed.

    Raises:
        OSError: the disk refused.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextlib.contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A temporary folder where the system keeps such files; deleted when the block is left.

    Args:
        purpose: a word for its name.

    Raises:
        StorageError: no folder for temporary files can be written.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix=f"aiorecord-{purpose}-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StorageError(
            f"No folder for temporary files can be written ({error}). Set TMPDIR to one that can.",
            path=None if error.filename is None else Path(error.filename),
        ) from error
    with folder as name:
        yield Path(name)


def free_bytes(path: Path) -> int:
    """Bytes that an ordinary user may still write on the filesystem that holds (or will hold) `path`."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
