"""Every I/O call of record, resume, recover, pack and repair fails once, and the power fails at every change.

``python tests/sweep/sweep.py --results build/sweep --part 1/4 --seconds 900`` tries a quarter of all points,
and goes on where an earlier run with the same results stopped; ``--sample 200 --seed 7`` tries some of them.
A point is the n-th call of one kind on one file (threads interleave, but those that share a file take turns),
counted in a run without a fault. Exit code 1 when a fault was found.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

from fault_disk import LOSSES

HERE = Path(__file__).parent
FAULTS = HERE.parent / "faults"

SCENES = ("record", "resume", "recover", "pack", "repair")
EINTR, EIO, ENOSPC = "4", "5", "28"
NAMES = {EINTR: "EINTR", EIO: "EIO", ENOSPC: "ENOSPC"}
HOW = {
    "open": [EIO, EINTR],
    "create": [EIO, ENOSPC, EINTR, "kill"],
    "read": [EIO, EINTR, "short"],
    "write": [EIO, ENOSPC, EINTR, "short", "kill"],
    "fsync": [EIO, ENOSPC, EINTR, "kill"],
    "rename": [EIO, ENOSPC, "kill"],
    "link": [EIO, ENOSPC, "kill"],
    "mkdir": [EIO, ENOSPC, "kill"],
    "unlink": [EIO, "kill"],
    "rmdir": [EIO, "kill"],
    "truncate": [EIO, EINTR, "kill"],
    "close": [EIO, EINTR],
    "stat": [EIO],
    "list": [EIO],
}
MEMORY = Path("/dev/shm")
"""Where files cost no disk: what an fsync would do is worked out, none is needed."""

COLUMNS = ("rounds", "hit", "durable", "lost", "mispaired", "undetermined", "faults")
FSYNC_LOSSES = ("strict", "zeros")


class Workers:
    """Processes that try faults, two at once by default."""

    def __init__(self, work: Path, number: int) -> None:
        shim = work / "fault_shim.so"
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise SystemExit("There is no C compiler (cc) to build the shim with.")
        source = str(FAULTS / "fault_shim.c")
        command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(shim), source, "-ldl", "-lpthread"]
        subprocess.run(command, check=True, capture_output=True)
        env = os.environ | {"LD_PRELOAD": str(shim), "OPENBLAS_NUM_THREADS": "1"}
        env |= {"PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, str(HERE / "sweep_worker.py"), str(work)]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
            for _ in range(number)
        ]

    def run(self, tasks: list[dict[str, Any]], deadline_s: float | None) -> Iterator[tuple[Any, Any]]:
        """Tasks and their verdicts as they come; what is not begun before the deadline is left out."""
        waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[Any, Any] | None] = queue.SimpleQueue()
        for task in tasks:
            waiting.put(task)
        threads = [
            threading.Thread(target=self._serve, args=(process, waiting, done, deadline_s))
            for process in self._processes
        ]
        for thread in threads:
            thread.start()
        left = len(threads)
        while left:
            found = done.get()
            if found is None:
                left -= 1
            else:
                yield found
        for thread in threads:
            thread.join()

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.wait()
            process.stdout.close()

    @staticmethod
    def _serve(process: Any, waiting: Any, done: Any, deadline_s: float | None) -> None:
        try:
            while deadline_s is None or time.monotonic() < deadline_s:
                try:
                    task = waiting.get_nowait()
                except queue.Empty:
                    return
                process.stdin.write(json.dumps(task) + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
                if not answer:
                    done.put((task, {"faults": ["the worker died"], "hit": False}))
                    return
                done.put((task, json.loads(answer)))
        finally:
            done.put(None)


def tasks_of(scene: str, prepared: dict[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """Every fault at every point of a scene."""
    for point, times in Counter(prepared["points"]).items():
        call, _, path = point.partition("\t")
        for number in range(1, times + 1):
            place = {"scene": scene, "call": call, "path": path, "number": number}
            for how in HOW[call]:
                yield {"kind": "once", **place, "how": how}
            if call == "fsync":
                for loss in FSYNC_LOSSES:
                    yield {"kind": "fsync", **place, "loss": loss}
    for moment in range(1, prepared["end"] + 1):
        for loss in LOSSES:
            yield {"kind": "cut", "scene": scene, "time": moment, "loss": loss, "seed": seed}


def in_turn(tasks: list[dict[str, Any]], end: int, rng: random.Random) -> list[dict[str, Any]]:
    """In random order, but one of each kind before the second of any: of each call, file and fault."""
    rng.shuffle(tasks)
    seen: Counter[str] = Counter()
    ranked = []
    for task in tasks:
        kind = {name: value for name, value in task.items() if name != "number"}
        if "time" in kind:
            kind["time"] = kind["time"] * 20 // end
        key = json.dumps(kind, sort_keys=True)
        ranked.append((seen[key], len(ranked), task))
        seen[key] += 1
    return [task for _, _, task in sorted(ranked, key=lambda item: item[:2])]


def fault_of(task: dict[str, Any]) -> str:
    """What a task does, for the table."""
    if task["kind"] == "cut":
        return f"power cut, {task['loss']}"
    if task["kind"] == "fsync":
        return "fsync fails once, then a power cut"
    how = task["how"]
    what = {"kill": "killed in front of it", "short": "half a read or write"}.get(how, NAMES.get(how, how))
    return f"one call fails: {what}" if how != "kill" else "SIGKILL at one call"


def table(results: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """One row for each scene and kind of fault."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for task, verdict in results:
        row = rows.setdefault((task["scene"], fault_of(task)), Counter())
        row["rounds"] += 1
        row["hit"] += bool(verdict.get("hit"))
        for name in ("durable", "lost", "mispaired", "undetermined"):
            row[name] += verdict.get(name, 0)
        row["faults"] += bool(verdict["faults"])
    lines = [
        "| scene | fault | rounds | struck | durable | lost | mispaired | undetermined | faults found |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (scene, fault), row in sorted(rows.items()):
        figures = [
            row[n] for n in ("rounds", "hit", "durable", "lost", "mispaired", "undetermined", "faults")
        ]
        lines.append(f"| {scene} | {fault} | {' | '.join(map(str, figures))} |")
    return "\n".join(lines)


def sweep(
    results: Path,
    *,
    part: tuple[int, int] = (1, 1),
    seconds: float | None = None,
    sample: int | None = None,
    seed: int = 1,
    workers: int = 2,
    scenes: tuple[str, ...] = SCENES,
    only: str = "",
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Try the points of a part; returns every task that was tried, also in earlier runs, and its verdict.

    Args:
        results: a folder that keeps what was found, one file for each part.
        part: which part of how many.
        seconds: no task begins later than this.
        sample: try so many points of each scene only, of as many kinds as possible.
        seed: chooses the sample, and what a disk keeps.
        workers: processes.
        scenes: which scenes.
        only: words that the JSON of a task must contain.
    """
    results.mkdir(parents=True, exist_ok=True)
    kept = results / f"part-{part[0]}-of-{part[1]}.jsonl"
    known = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    found = [(task, verdict) for task, verdict in known]
    have = {json.dumps(task, sort_keys=True) for task, _ in found}
    deadline_s = None if seconds is None else time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="sweep", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        pool = Workers(Path(folder), workers)
        try:
            lists: list[list[dict[str, Any]]] = []
            for task, prepared in pool.run([{"kind": "prepare", "scene": name} for name in scenes], None):
                assert "points" in prepared, prepared
                name = task["scene"]
                tasks = [task for task in tasks_of(name, prepared, seed) if only in json.dumps(task)]
                calls = len(prepared["points"])
                print(f"{name}: {calls} calls, {prepared['end']} changes, {len(tasks)} faults", flush=True)
                tasks = in_turn(tasks, prepared["end"], random.Random(f"{seed} {name}"))
                lists.append(tasks[:sample])
            rounds = itertools.zip_longest(*lists)  # a run that is cut short has tried some of each scene
            wanted: list[dict[str, Any]] = [task for tasks in rounds for task in tasks if task is not None]
            wanted = wanted[part[0] - 1 :: part[1]]
            wanted = [task for task in wanted if json.dumps(task, sort_keys=True) not in have]
            with kept.open("a") as file:
                for task, verdict in pool.run(wanted, deadline_s):
                    found.append((task, verdict))
                    file.write(json.dumps([task, verdict]) + "\n")
                    file.flush()
                    if verdict["faults"]:
                        print(f"FAULT {json.dumps(task)}\n  {verdict['faults'][0][:700]}", flush=True)
            print(f"{len(found)} of {len(have) + len(wanted)} points of part {part[0]}/{part[1]} were tried")
        finally:
            pool.close()
    return found


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=None, help="keeps what was found, to go on from")
    parser.add_argument("--part", default="1/1", help="which part of how many, such as 2/4")
    parser.add_argument("--seconds", type=float, default=None, help="begin nothing after so long")
    parser.add_argument("--sample", type=int, default=None, help="so many points of each scene")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--scene", choices=SCENES, action="append", default=None)
    parser.add_argument("--only", default="", help="words that the JSON of a task must contain")
    given = parser.parse_args()
    number, of = map(int, given.part.split("/"))
    with tempfile.TemporaryDirectory(prefix="sweep") as folder:
        found = sweep(
            given.results or Path(folder),
            part=(number, of),
            seconds=given.seconds,
            sample=given.sample,
            seed=given.seed,
            workers=given.workers,
            scenes=tuple(given.scene or SCENES),
            only=given.only,
        )
    print(table(found))
    bad = [(task, verdict) for task, verdict in found if verdict["faults"]]
    print(f"{len(found)} points, {sum(bool(v.get('hit')) for _, v in found)} struck, {len(bad)} faults found")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
