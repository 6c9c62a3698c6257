"""What a disk may hold after a power loss, worked out from the log that fault_shim.c wrote.

A file's content is there as it was at its last fsync. A name (made, moved, removed) is there if its folder
was fsynced afterwards; whether a later one is there too is for the disk to choose, and each
kind of loss is one choice:

- ``strict``: nothing that was not fsynced;
- ``ordered``: the names up to some moment after the last fsync of anything, as a journal that is committed in
  order has it, but no content that was not fsynced;
- ``names``: every name, but no content that was not fsynced: a rename in front of its fsync shows itself;
- ``scattered``: each folder up to a moment of its own;
- ``torn``: every name, and files that were being written end somewhere between what was fsynced and what was
  written, with zeros or half a write at the end;
- ``zeros``: every name, and the size of what was written, but zeros where it was not fsynced;
- ``independent``: each name by itself, as a file system without a journal has it, and files as in ``torn``.

After an fsync that failed, what it should have written counts as lost, also if a later fsync of the same file
succeeds: the kernel has marked those pages as written (see fsync(2) and https://lwn.net/Articles/752063/).

A move between two folders is one step on every file system that has a journal: it is there in both or in
neither.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LOSSES = ("strict", "ordered", "names", "scattered", "torn", "zeros", "independent")


@dataclass(eq=False)
class File:
    """A file's content over time."""

    versions: list[tuple[int, Path | None]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)

    def failed(self, time: int) -> None:
        """An fsync failed: what was written since the last one that did not is gone for good."""
        kept = self.durable(time)
        self.lost.append((0 if kept is None else kept.stat().st_size, self.size(time)))

    def synced(self, time: int, content: Path) -> None:
        """An fsync succeeded."""
        if self.lost:
            data = bytearray(content.read_bytes())
            for start, end in self.lost:
                end = min(end, len(data))
                data[start:end] = bytes(max(0, end - start))
            content.write_bytes(data)
        self.versions.append((time, content))

    def durable(self, time: int) -> Path | None:
        """The content that an fsync made durable last, None for an empty file."""
        found = [path for at, path in self.versions if at <= time]
        return found[-1] if found else None

    def next(self, time: int) -> Path | None:
        """The content at the first fsync after a time."""
        return next((path for at, path in self.versions if at > time), None)

    def size(self, time: int) -> int:
        """Its size, as far as writes told."""
        found = [size for at, size in self.sizes if at <= time]
        return found[-1] if found else 0


@dataclass(eq=False)
class Folder:
    """A folder's names over time: (time, name, what it now is or None)."""

    edits: list[tuple[int, str, File | Folder | None]] = field(default_factory=list)
    fsyncs: list[int] = field(default_factory=list)
    names: dict[str, File | Folder] = field(default_factory=dict)

    def set(self, time: int, name: str, node: File | Folder | None) -> None:
        """Change a name, now."""
        self.edits.append((time, name, node))
        if node is None:
            self.names.pop(name, None)
        else:
            self.names[name] = node

    def at(self, time: int, undone: frozenset[int] | set[int] = frozenset()) -> dict[str, File | Folder]:
        """The names at a time, without the steps that were undone."""
        names: dict[str, File | Folder] = {}
        for at, name, node in self.edits:
            if at > time:
                break
            if at in undone:
                continue
            if node is None:
                names.pop(name, None)
            else:
                names[name] = node
        return names


class DiskLog:
    """The log of one run, replayed.

    Args:
        base: the folder that was watched.
        log: what the shim wrote.
        snapshots: the contents that it kept.
        before: a copy of what was in `base` when the run began, all of it durable.
        inodes: the inode numbers in `base` when the run began, by relative path; see `inodes_of`.

    Attributes:
        end: the time after the last change; times are line numbers of the log.
        marks: what the program announced, and when.
    """

    def __init__(
        self,
        base: Path,
        log: Path,
        snapshots: Path,
        before: Path | None = None,
        inodes: dict[str, int] | None = None,
    ) -> None:
        self.base = base
        self.root = Folder()
        self.marks: list[tuple[int, str]] = []
        self._snapshots = snapshots
        self._inodes: dict[int, File | Folder] = {}
        self._pairs: list[tuple[int, Folder, Folder]] = []
        self._folders: list[Folder] = [self.root]
        self._inodes[base.stat().st_ino] = self.root
        if before is not None:
            self._load(self.root, before, before, inodes or {})
        lines = log.read_text().splitlines()
        for time, line in enumerate(lines, 1):
            self._take(time, line.split("\t"))
        self.end = len(lines)

    def fsync_times(self) -> list[int]:
        """When anything was fsynced."""
        return sorted(t for folder in self._folders for t in folder.fsyncs)

    def marks_until(self, time: int) -> list[str]:
        """What had been announced."""
        return [text for at, text in self.marks if at <= time]

    def build(self, target: Path, time: int, loss: str, rng: random.Random) -> tuple[object, ...]:
        """Make what the disk holds after a power loss.

        Args:
            target: takes the place of the watched folder; must not exist.
            time: when the power fails.
            loss: one of `LOSSES`.
            rng: what the disk chose.

        Returns:
            Something that is equal for equal disks.
        """
        until = {folder: self._until(folder, time, loss, rng) for folder in self._folders}
        if loss == "ordered":
            last = max((t for t in self.fsync_times() if t <= time), default=0)
            common = rng.randint(last, time)
            until = {folder: max(at, common) for folder, at in until.items()}
        changed = True
        while changed:  # moves between folders are there in both
            changed = False
            for at, a, b in self._pairs:
                if at <= time and (until[a] >= at) != (until[b] >= at):
                    until[a], until[b] = max(until[a], at), max(until[b], at)
                    changed = True
        undone = self._undone(time, rng) if loss == "independent" else set()
        made: dict[File, Path] = {}
        content: list[object] = []
        self._write(self.root, target, time, loss, rng, until, undone, made, content)
        return tuple(content)

    def live(self) -> dict[str, File | Folder]:
        """The tree after the last change, by path relative to `base`."""
        return dict(_walk(self.root, ""))

    def _until(self, folder: Folder, time: int, loss: str, rng: random.Random) -> int:
        last = max((t for t in folder.fsyncs if t <= time), default=0)
        if loss in ("names", "torn", "zeros", "independent"):
            return time
        if loss == "scattered":
            return rng.choice([last, time, rng.randint(last, time)])
        return last

    def _undone(self, time: int, rng: random.Random) -> set[int]:
        """Steps in names that no fsync of a folder made durable, each of them done or not."""
        kept: dict[int, bool] = {}
        for folder in self._folders:
            last = max((t for t in folder.fsyncs if t <= time), default=0)
            for at, _, _ in folder.edits:
                kept[at] = kept.get(at, False) or at <= last
        return {at for at, durable in kept.items() if not durable and rng.random() < 0.5}

    def _write(self, folder, target, time, loss, rng, until, undone, made, content) -> None:
        target.mkdir()
        for name, node in sorted(folder.at(until[folder], undone).items()):
            path = target / name
            if isinstance(node, Folder):
                content.append(name)
                self._write(node, path, time, loss, rng, until, undone, made, content)
                content.append(None)
            elif node in made:
                os.link(made[node], path)
                content.append((name, list(made).index(node), None))
            else:
                data = self._content(node, time, loss, rng)
                path.write_bytes(data)
                made[node] = path
                content.append((name, hash(data)))

    def _content(self, file: File, time: int, loss: str, rng: random.Random) -> bytes:
        version = file.durable(time)
        durable = version.read_bytes() if version is not None else b""
        size = file.size(time)
        if loss not in ("torn", "zeros", "independent") or size <= len(durable):
            return durable
        if loss == "zeros":
            return durable + bytes(size - len(durable))
        later = file.next(time)
        more = (later.read_bytes() if later is not None else b"")[len(durable) : size]
        written = more + bytes(size - len(durable) - len(more))
        cut = rng.randint(0, len(written))
        tail = written[:cut] if rng.random() < 0.6 else bytes(cut)
        return durable + tail

    def _load(self, folder: Folder, source: Path, top: Path, inodes: dict[str, int]) -> None:
        for path in sorted(source.iterdir()):
            number = inodes[str(path.relative_to(top))]
            if path.is_dir():
                inner = Folder()
                self._inodes[number] = inner
                self._folders.append(inner)
                self._load(inner, path, top, inodes)
            else:
                self._inodes.setdefault(number, File([(0, path)]))
            folder.set(0, path.name, self._inodes[number])

    def _find(self, path: str) -> tuple[Folder, str]:
        parts = Path(path).relative_to(self.base).parts
        folder = self.root
        for part in parts[:-1]:
            step = folder.names[part]
            assert isinstance(step, Folder)
            folder = step
        return folder, parts[-1]

    def _take(self, time: int, words: list[str]) -> None:
        kind, *rest = words
        if kind == "K":
            self.marks.append((time, rest[0]))
        elif kind in ("C", "M"):
            node: File | Folder = File() if kind == "C" else Folder()
            if isinstance(node, Folder):
                self._folders.append(node)
            self._inodes[int(rest[1])] = node
            folder, name = self._find(rest[0])
            folder.set(time, name, node)
        elif kind == "W":
            file = self._inodes[int(rest[0])]
            assert isinstance(file, File)
            file.sizes.append((time, int(rest[1])))
        elif kind == "Y":
            node = self._inodes[int(rest[0])]
            if isinstance(node, Folder):
                node.fsyncs.append(time)
            else:
                node.synced(time, self._snapshots / rest[1])
        elif kind == "F":
            node = self._inodes[int(rest[0])]
            if isinstance(node, File):
                node.failed(time)
        elif kind in ("U", "D"):
            folder, name = self._find(rest[0])
            folder.set(time, name, None)
        else:
            self._move(time, kind, *rest)

    def _move(self, time: int, kind: str, old: str, new: str) -> None:
        source, name = self._find(old)
        target, to = self._find(new)
        node = source.names[name]
        if kind == "L":
            target.set(time, to, node)
            return
        other = target.names.get(to)
        if kind == "X":
            source.set(time, name, other)
        elif node is other:
            return  # two names of one file: rename(2) does nothing
        else:
            source.set(time, name, None)
        target.set(time, to, node)
        if source is not target:
            self._pairs.append((time, source, target))


def inodes_of(base: Path) -> dict[str, int]:
    """The inode number of everything in a folder, by relative path."""
    return {str(path.relative_to(base)): path.stat().st_ino for path in base.rglob("*")}


def _walk(folder: Folder, prefix: str) -> Iterator[tuple[str, File | Folder]]:
    for name, node in folder.names.items():
        yield prefix + name, node
        if isinstance(node, Folder):
            yield from _walk(node, f"{prefix}{name}/")
