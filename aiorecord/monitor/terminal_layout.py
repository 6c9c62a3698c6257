"""Fits text, tables and sections into a terminal's columns and rows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

GAP = "   "
"""The separator between facts on a line, and between the columns of a table."""


@dataclass
class Section:
    """Lines that belong together.

    Attributes:
        lines: none longer than the screen.
        rank: if there is no room for all, the section with the lowest rank is left out first.
        least: the fewest lines that are still useful: a list is shortened to them before it is left out.
    """

    lines: list[Text]
    rank: int
    least: int = 0


def flow(facts: Sequence[Text | str], width: int) -> list[Text]:
    """Facts in lines that break only between two facts. One that is too long is cut."""
    lines: list[Text] = []
    for fact in facts:
        text = fact if isinstance(fact, Text) else Text(fact)
        if not text.plain:
            continue
        if lines and lines[-1].cell_len + len(GAP) + text.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], GAP, text)
        else:
            lines.append(cut(text, width))
    return lines


def cut(text: Text, width: int) -> Text:
    """A text in one line of at most this many cells; a longer one ends in an ellipsis."""
    text = text.copy()
    text.truncate(max(width, 1), overflow="ellipsis")
    return text


def wrapped(text: Text, width: int, most: int) -> list[Text]:
    """A text in lines that break between words; the last line is cut if it is too long."""
    words, lines = text.plain.split(), [""]
    for word in words:
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(longer) <= width or not lines[-1] or len(lines) == most:
            lines[-1] = longer
        else:
            lines.append(word)
    return [cut(Text(line, style=text.style), width) for line in lines]


def table(
    heads: Sequence[str], rows: Sequence[Sequence[Text]], right: Sequence[bool], width: int
) -> list[Text] | None:
    """Rows under headings, in columns as wide as their widest cell; empty columns are left out.

    Args:
        heads: of the columns; the first column is never left out.
        rows: cells, as many in each row as `heads` has; the last column is cut where it is too long.
        right: by column, whether it is aligned to the right.
        width: in cells.

    Returns:
        The lines; None if the columns do not fit.
    """
    shown = [0, *(at for at in range(1, len(heads)) if any(row[at].plain for row in rows))]
    cells = [[Text(heads[at], style="dim") for at in shown], *([row[at] for at in shown] for row in rows)]
    widths = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
    fixed = sum(widths[:-1]) + len(GAP) * (len(shown) - 1)
    if width - fixed < min(widths[-1], 8):
        return None
    lines = []
    for row in cells:
        line = Text()
        for column, size, cell in zip(shown, widths, [*row[:-1], cut(row[-1], width - fixed)], strict=True):
            space = " " * max(0, size - cell.cell_len)
            line = Text.assemble(
                line, GAP if column else "", *((space, cell) if right[column] else (cell, space))
            )
        line.rstrip()
        lines.append(line)
    return lines


def bar(share: float, width: int, style: str = "cyan") -> Text:
    """A progress bar.

    Args:
        share: 0 to 1.
        width: in cells.
        style: of the part that is done.
    """
    done = round(2 * width * min(max(share, 0.0), 1.0))
    full, half = divmod(done, 2)
    rest = width - full - half
    return Text.assemble(("━" * full + "╸" * half, style), ("─" * rest, "grey30"))


def fit(sections: Sequence[Section], height: int) -> list[Text]:
    """The lines of all sections that fit into this many rows, in their order.

    From the lowest rank on, a list is shortened, then the section is left out; the highest rank stays.
    """
    kept = [Section(list(section.lines), section.rank, section.least) for section in sections]
    for section in sorted(kept, key=lambda section: section.rank)[:-1]:
        excess = sum(len(other.lines) for other in kept) - height
        if excess <= 0:
            break
        left = len(section.lines) - excess
        if 0 < section.least <= left:
            hidden = len(section.lines) - left + 1
            section.lines[left - 1 :] = [Text(f"and {hidden} more", style="dim")]
        else:
            section.lines.clear()
    return [line for section in kept for line in section.lines]
