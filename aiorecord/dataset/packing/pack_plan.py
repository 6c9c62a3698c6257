"""Chooses which files a packing merges. Pure: sizes and numbers in, groups out.

A group takes loose files in order up to the size limit. It also takes back the last packed files as long as
each is at most twice as large as everything after it in the group. So a byte is rewritten only when its file
grows by half or more: the number of rewrites is logarithmic in the file size, and small files do not pile up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..format import layout
from ..format.layout import FileIndex

_MAX_TAKEN_BACK = 32


@dataclass(frozen=True)
class Unit:
    """A file and the consecutive episodes in it.

    Attributes:
        index: its number.
        first: its first episode.
        end: one more than its last episode.
        size: bytes.
    """

    index: FileIndex
    first: int
    end: int
    size: int


@dataclass(frozen=True)
class Group:
    """Files that are merged into one.

    Attributes:
        target: number of the new file; that of the first unit when packed files are taken back.
        units: in the order of their episodes.
    """

    target: FileIndex
    units: tuple[Unit, ...]

    @property
    def size(self) -> int:
        """Bytes of all units."""
        return sum(unit.size for unit in self.units)

    def first_alone(self, last: FileIndex | None, chunks_size: int) -> Group:
        """The group reduced to its first loose file, for files that cannot be joined.

        Args:
            last: the last packed file.
            chunks_size: files per folder.
        """
        unit = next(unit for unit in self.units if unit.index.is_loose)
        return Group(layout.next_packed(last, chunks_size), (unit,))


def highest(*indices: FileIndex | None) -> FileIndex | None:
    """The highest of some numbers, None if there is none."""
    return max((index for index in indices if index is not None), default=None)


def plan_groups(
    units: Sequence[Unit],
    *,
    limit: int,
    chunks_size: int,
    joinable: Callable[[Unit, Unit], bool],
    fits_after: Callable[[Sequence[Unit], Unit], bool] = lambda before, unit: True,
    taken: FileIndex | None = None,
    new_names: bool = False,
) -> Iterator[Group]:
    """The groups that make every loose file a packed one, lazily.

    Args:
        units: all files of one kind, in the order of their episodes: packed ones, then loose ones.
        limit: upper limit of a file in bytes, unless one unit alone is larger.
        chunks_size: files per folder.
        joinable: returns whether two neighbours can be in one file.
        fits_after: returns whether a unit can be read when it follows these others in one file.
        taken: new files get numbers after this one.
        new_names: existing files are not changed; a group with packed files becomes a new file.

    Raises:
        DatasetError: there is no number left.
    """
    packed = [unit for unit in units if not unit.index.is_loose]
    loose = [unit for unit in units if unit.index.is_loose]
    last = packed[-1].index if packed else None
    group = _take_back(packed, loose, limit, joinable, fits_after)
    if group is not None and not new_names:
        yield group
        if len(group.units) and group.target != last:
            return  # names of merged packed files are free only after this group
    last = highest(last, taken)
    if group is not None and new_names:
        last = layout.next_packed(last, chunks_size)
        yield Group(last, group.units)
    if group is not None:
        loose = loose[sum(unit.index.is_loose for unit in group.units) :]
    while loose:
        members = _fill(loose, limit, joinable, fits_after) or loose[:1]
        last = layout.next_packed(last, chunks_size)
        yield Group(last, tuple(members))
        loose = loose[len(members) :]


def _take_back(
    packed: list[Unit],
    loose: list[Unit],
    limit: int,
    joinable: Callable[[Unit, Unit], bool],
    fits_after: Callable[[Sequence[Unit], Unit], bool],
) -> Group | None:
    """The group that takes back the most packed files, None if it would take none."""
    tail: list[Unit] = []
    best: Group | None = None
    for unit in reversed(packed[-_MAX_TAKEN_BACK:]):
        following = tail[0] if tail else (loose[0] if loose else None)
        if following is None or not joinable(unit, following):
            break
        tail.insert(0, unit)
        room = limit - sum(unit.size for unit in tail)
        if room <= 0 or not all(fits_after(tail[:place], tail[place]) for place in range(len(tail))):
            break
        members = _fill(loose, room, joinable, fits_after, tail)
        if members and _is_balanced(tail, sum(unit.size for unit in members)):
            best = Group(tail[0].index, (*tail, *members))
    return best


def _is_balanced(tail: list[Unit], following: int) -> bool:
    for unit in reversed(tail):
        if unit.size > 2 * following:
            return False
        following += unit.size
    return True


def _fill(
    loose: list[Unit],
    room: int,
    joinable: Callable[[Unit, Unit], bool],
    fits_after: Callable[[Sequence[Unit], Unit], bool],
    before: Sequence[Unit] = (),
) -> list[Unit]:
    members: list[Unit] = []
    for unit in loose:
        if unit.size >= room or (members and not joinable(members[-1], unit)):
            break
        if not fits_after([*before, *members], unit):
            break
        members.append(unit)
        room -= unit.size
    return members
