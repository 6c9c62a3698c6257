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
"""Ends the name of every file that is being written. Such a file may be deleted when no writer lives."""

MAX_FSYNCS = 8
"""Files that `fsync_files` makes durable at the same time."""

MAX_JSON_BYTES = 16 << 20
"""Of a JSON file that is read back; the largest that are written have some hundred kB."""


@contextlib.contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Map `OSError` to `StorageError`, saying what was being done to which file."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        path = _published(path)
        # The name that the machine refused may be another one: a folder's file, the target of a rename.
        given = [error.filename, error.filename2]
        names = [_published(Path(os.fsdecode(name))) for name in given if isinstance(name, str | bytes)]
        others = ", ".join(dict.fromkeys(str(name) for name in names if name != path))
        where = f" ({others})" if others else ""
        raise StorageError(
            f"Could not {doing} {path}: {error.strerror or error}{where}", path=path, reading=doing == "read"
        ) from error


def each[T](items: Iterable[T], action: Callable[[T], object]) -> None:
    """Do something with each item, also with those after one that the disk refuses.

    Raises:
        OSError: the disk refused; the first of what `action` raised of that kind.
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
        OSError: the disk refused; it names the file. What was to be written counts as lost then: the kernel
            may have marked it as written, so that a second fsync says nothing. Write it again.
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
    """Make the content of several files durable, all at once: a disk takes them together.

    Where threads lack, one after the other.

    Raises:
        StorageError: the disk refused, as `fsync_file`; it names the first file of which it did.
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


def temporary_name(path: Path) -> Path:
    """The name under which `path` is written before it is published."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")


def _published(path: Path) -> Path:
    """The name that a temporary one stands for; any other is given back."""
    match = re.fullmatch(rf"\.(.+)\.\d+{re.escape(TEMPORARY_SUFFIX)}", path.name)
    return path.with_name(match[1]) if match else path


def publish(temporary: Path, final: Path) -> None:
    """fsync `temporary`, rename it to `final` (same folder tree, same filesystem), fsync the folder."""
    fsync_file(temporary)
    os.replace(temporary, final)
    fsync_folder(final.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write; publish it as `path` when the block ends well, else delete it.

    Raises:
        StorageError: the disk refused.
    """
    temporary = temporary_name(path)
    with storage_errors(path, "write"):
        make_folder(path.parent)
        temporary.unlink(missing_ok=True)  # whatever has this name: it may be a link to another file
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

    Half of a surrogate pair, which JSON can hold and no file system or Parquet file can, becomes ``?``.

    Raises:
        ValueError: it is not JSON, too large, nested too deeply, or not a plain file (a pipe, a folder).
        OSError: it is missing or cannot be read.
    """
    check_file(path)
    with path.open("rb") as file:
        text = file.read(max_bytes + 1)
    if len(text) > max_bytes:
        raise ValueError(f"it is larger than {max_bytes >> 20} MiB")
    return parse_json(text)


def is_own_file(path: Path) -> bool:
    """Whether a path in a folder of ours (``meta/aiorecord``) is a file, or may become one.

    A link might lead out of the dataset.
    """
    for folder in (path.parent.parent, path.parent):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            return False
    return not path.is_symlink() and (path.is_file() or not path.exists())


def check_file(path: Path) -> None:
    """Check that a path leads to a plain file before it is opened: a pipe would never answer.

    Raises:
        ValueError: it is a folder, a pipe or a device.
        OSError: it is missing or cannot be looked at.
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
        if b"\\u" in text:  # half of a surrogate pair can be written so
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
        return value
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_there(path: Path) -> bool:
    """Whether a name is there, be it a link that leads nowhere.

    Unlike `Path.exists`, which says no to what could not be found out.

    Raises:
        StorageError: it could not be found out.
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
    """Delete a folder so that no reader sees half of it: renamed aside first, then removed.

    Symbolic links are removed as links, `path` included: nothing of what they lead to is touched.

    Raises:
        StorageError: the disk refused.
    """
    aside = temporary_name(path)
    with storage_errors(path, "remove"):
        if not path.exists() and not path.is_symlink():
            return
        os.replace(path, aside)
        # Its new name first: a power loss in the removal must not leave half of it under the old one.
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
    """A folder for a while, where the system keeps temporary files; deleted when the block is left.

    Args:
        purpose: a word that its name holds.

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
