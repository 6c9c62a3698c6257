"""What a session that met a fault came to: checked frame by frame, recovered, counted into the table."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fault_report import Row
from fault_runs import Program, Zygote
from fault_verify import Expected, check_opens

LANES = 2
_lock = threading.Lock()


def in_lanes[T](step: Callable[[T], None], cases: Iterable[T]) -> None:
    """Try the cases, two at once; the first failure says of which case it is."""

    def one(case: T) -> None:
        try:
            step(case)
        except BaseException as error:
            error.add_note(f"the case: {case}")
            raise

    with ThreadPoolExecutor(LANES) as pool:
        done = [pool.submit(one, case) for case in cases]
        try:
            for future in done:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def settle(
    zygote: Zygote,
    program: Program,
    root: Path,
    row: Row,
    *,
    times: int = 1,
    codes: tuple[int, ...] = (0,),
    lossless: bool = True,
    embedded: bool = False,
) -> Expected:
    """Check a session after its end, recover what it left, check again, and count it.

    Args:
        zygote: starts the recovery, of a program that meets no fault.
        program: has ended.
        root: its dataset.
        row: where it counts.
        times: faults that struck.
        codes: exit codes that are right.
        lossless: see `Expected.check`.
        embedded: it was no command, which would name what finishes the rest.

    Returns:
        What had to be there, and is.
    """
    told, output = program.told, program.output
    assert program.code in codes, f"exit code {program.code}: {output}"
    assert "Traceback" not in output, output
    assert told.lines.count("D") >= (1 if "C" in told.lines else 0), f"the robot was not let go of: {output}"
    expected = Expected()
    expected.add(told)
    check_opens(root, lossless=lossless)
    took_s = None
    if (root / "meta/info.json").exists():
        if any(told.stages.get(id_) not in ("committed", "discarded") for id_ in told.frames):
            assert embedded or (program.code != 0 and "aiorecord recover" in output), output
        if (root / ".aiorecord").exists():
            took_s = recover(zygote, root)
        expected.check(root, lossless=lossless)
    else:
        assert not expected.ended, expected
    with _lock:
        count(row, expected, times)
        if took_s is not None:
            row.recover_s.append(took_s)
    return expected


def recover(zygote: Zygote, root: Path) -> float:
    """Recover everything; returns the seconds it took."""
    started_s = time.monotonic()
    program = zygote.run(["recover", str(root)], env={"FAULT_ENCODE_HERE": "1"})
    took_s = time.monotonic() - started_s
    assert program.code in (0, 3), program.output
    assert "Traceback" not in program.output, program.output
    assert not (root / ".aiorecord").exists(), list((root / ".aiorecord").rglob("*"))
    return took_s


def count(row: Row, expected: Expected, times: int) -> None:
    """Add one session to a row. An episode that the disk cut short counts as one that was running."""
    row.times += times
    for id_, frames in expected.frames.items():
        found, cut = expected.found.get(id_, 0), expected.cut.get(id_, 0)
        if id_ in expected.ended and not cut:
            row.episodes += 1
            row.lost += found < len(frames)
            continue
        lost = len(frames) + cut - found
        row.running += len(frames) + cut
        row.running_lost += lost
        row.most_lost = max(row.most_lost, lost)
