"""What the suite measured, as a table: nothing in it is typed by hand.

Each test adds what it saw; the figures are written to ``FAULTS_REPORT`` (a JSON file) at the end of the run.
``python tests/faults/fault_report.py report.json`` prints the table (``--summary``: a short one), and with
``docs/reliability.md`` as a second argument puts it there, between the two marks.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


@dataclass
class Row:
    """One kind of fault.

    Attributes:
        fault: what happens.
        injected: how.
        times: how often it was tried.
        episodes: episodes that had ended before a fault, over all times.
        lost: of them, lost. A suite that passes has none.
        running: frames recorded of episodes that had not ended.
        running_lost: of them, lost.
        most_lost: of them, the most lost at once.
        recover_s: seconds that each recovery took.
        mispaired: episodes that came back with other frames than were recorded. A suite that passes has none.
        undetermined: episodes that recovery could neither keep nor give up, left as they are with a word.
        recorder: ``aiorecord`` or ``lerobot``.
        note: anything else worth saying.
    """

    fault: str
    injected: str
    times: int = 0
    episodes: int = 0
    lost: int = 0
    running: int = 0
    running_lost: int = 0
    most_lost: int = 0
    recover_s: list[float] = field(default_factory=list)
    mispaired: int = 0
    undetermined: int = 0
    recorder: str = "aiorecord"
    note: str = ""


class Report:
    """The rows of one run, in the order in which they were made."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def row(self, fault: str, injected: str, **values: str) -> Row:
        """The row of a fault, made when it is asked for first."""
        return self.rows.setdefault(fault, Row(fault, injected, **values))

    def write(self, path: Path) -> None:
        """Write the figures; rows of other tests that are in the file already are kept."""
        known = json.loads(path.read_text()) if path.exists() else {}
        known |= {name: asdict(row) for name, row in self.rows.items()}
        path.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| fault | injected | times | ended episodes: lost / recorded | frames of running episodes: lost / "
        "recorded (most at once) | time to recover, median (most) |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = sorted(row.recover_s)
        recover = f"{times[len(times) // 2]:.1f} s ({times[-1]:.1f} s)" if times else "-"
        running = f"{row.running_lost} / {row.running} ({row.most_lost})" if row.running else "-"
        ended = f"{row.lost} / {row.episodes}" if row.episodes else "-"
        name = row.fault + (f": {row.note}" if row.note else "")
        lines.append(f"| {name} | {row.injected} | {row.times} | {ended} | {running} | {recover} |")
    return "\n".join(lines)


def summary(data: dict) -> str:
    """One line for each fault: what was tried and what became of it. Episodes that had ended are durable."""
    rows = [Row(**values) for values in data.values()]
    names = [row.fault if row.recorder == "aiorecord" else f"{row.recorder}: {row.fault}" for row in rows]
    width = max(map(len, ["fault", *names]))
    lines = [f"{'fault':{width}}  rounds  durable  lost  mispaired  undetermined"]
    for name, row in zip(names, rows, strict=True):
        figures = f"{row.times:6}  {row.episodes:7}  {row.lost:4}  {row.mispaired:9}  {row.undetermined:12}"
        lines.append(f"{name:{width}}  {figures}")
    return "\n".join(lines)


def tables(data: dict) -> str:
    """Both tables: aiorecord's, and lerobot's under the same faults."""
    rows = [Row(**values) for values in data.values()]
    ours = [row for row in rows if row.recorder == "aiorecord"]
    theirs = [row for row in rows if row.recorder != "aiorecord"]
    text = table(ours)
    if theirs:
        text += "\n\nThe same on lerobot 0.6.1 (there is nothing to recover with):\n\n" + table(theirs)
    return text


def main(argv: list[str]) -> None:
    """Print the tables, or put them into a page."""
    data = json.loads(Path(argv[0]).read_text())
    text = tables(data)
    if argv[1:] == ["--summary"]:
        print(summary(data))
        return
    if len(argv) == 1:
        print(text)
        return
    page = Path(argv[1])
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main(sys.argv[1:])
