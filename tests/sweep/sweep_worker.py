"""Tries faults: ``python sweep_worker.py WORK``, under fault_shim.c; tasks and verdicts are JSON lines.

Everything is imported once; each program and each judging is a fork of this process, so that a crash or a
hang ends only that.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import shutil
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import pyarrow.parquet  # noqa: F401 - imported once, in front of every fork
import sweep_scenes as scenes
from fault_disk import DiskLog, inodes_of
from sweep_judge import Announced, Verdict, copy_of, judge, judge_output

import aiorecord.encoding.camera_encoding  # noqa: F401

LIMIT_S = 90
"""Nothing here takes so long, also on a busy machine; a program that does hangs."""


def forked(call: Callable[[], int], output: Path, env: dict[str, str]) -> int | None:
    """Run something in a fork; returns its exit code, negative for a signal, None when it had to be ended."""
    modules = output.with_suffix(".modules")
    modules.unlink(missing_ok=True)
    known = set(sys.modules)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a thread of a library's allocator: harmless
        pid = os.fork()
    if pid == 0:
        code = scenes.BUG
        try:
            os.setsid()
            out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(out, 1)
            os.dup2(out, 2)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as the interpreter does
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            os.environ.update(env)
            code = scenes.guarded(call)
            sys.stdout.flush()
            sys.stderr.flush()
            names = " ".join(name for name in sys.modules if name not in known)
            output.with_suffix(".modules").write_text(names)
        finally:
            os._exit(code)
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, 9)
            _import_for_the_next(modules)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(pid, 9)
    os.waitpid(pid, 0)
    return None


def _import_for_the_next(modules: Path) -> None:
    """What a fork imported late is imported here, once."""
    for name in modules.read_text().split() if modules.exists() else ():
        with contextlib.suppress(Exception):
            importlib.import_module(name)


class Worker:
    """Does one task at a time.

    Args:
        work: the folder that all workers share: prepared scenes and logs.
    """

    def __init__(self, work: Path) -> None:
        self._work = work
        self._own = work / f"worker-{os.getpid()}"
        self._own.mkdir(parents=True)
        self._logs: dict[str, tuple[DiskLog, list[str]]] = {}
        self._disks: dict[object, dict[str, Any]] = {}

    def do(self, task: dict[str, Any]) -> dict[str, Any]:
        """Do a task; what it came to is JSON-ready."""
        scene = scenes.SCENES[task["scene"]]
        kind = task["kind"]
        if kind == "prepare":
            return self._prepare(scene)
        if kind == "once":
            return self._once(scene, task)
        if kind == "cut":
            return self._cut(scene, task)
        return self._fsync(scene, task)

    def _prepare(self, scene: scenes.Scene) -> dict[str, Any]:
        """Make the scene, list the calls of its program, and log what it does to the disk."""
        made = self._prepared(scene)
        code = forked(lambda: scenes.prepare(scene, made) or 0, self._own / "output", {})
        assert code == 0, (self._own / "output").read_text()
        points = self._own / "points"
        points.unlink(missing_ok=True)
        self._run(scene, {"FAULT_POINTS": str(points)}, expect=True)
        log = self._run_logged(scene, self._work / f"log-{scene.name}", {}, expect=True)
        return {"points": points.read_text().splitlines(), "end": log.end}

    def _once(self, scene: scenes.Scene, task: dict[str, Any]) -> dict[str, Any]:
        """One call fails, once."""
        counter = self._own / "counter"
        counter.unlink(missing_ok=True)
        point = f"{task['call']}:{task['number']}:{task['how']}:{task['path']}"
        code = self._run(scene, {"FAULT_POINT": point, "FAULT_COUNTER": str(counter)})
        reached = struct.unpack("l", counter.read_bytes())[0] if counter.exists() else 0
        output = (self._own / "output").read_text(errors="replace")
        killed = task["how"] == "kill" and code == -9
        verdict = self._judge(scene, self._own / "run", self._lines(scene))
        if not killed:
            verdict["faults"] += judge_output(code, output, task["path"])
        return verdict | {"hit": reached >= task["number"], "code": code, "output": output[-800:]}

    def _cut(self, scene: scenes.Scene, task: dict[str, Any]) -> dict[str, Any]:
        """The power fails in front of a change."""
        if scene.name not in self._logs:
            folder = self._work / f"log-{scene.name}"
            inodes = json.loads((folder / "inodes").read_text())
            self._logs[scene.name] = self._load(scene, folder, inodes), self._told(folder)
        log, told = self._logs[scene.name]
        time_, loss = task["time"], task["loss"]
        return self._judge_disk(scene, log, told, time_, loss, f"{task['seed']} {time_} {loss}")

    def _fsync(self, scene: scenes.Scene, task: dict[str, Any]) -> dict[str, Any]:
        """An fsync fails once; the program goes on as it can and ends; then the power fails."""
        counter = self._own / "counter"
        counter.unlink(missing_ok=True)
        point = f"fsync:{task['number']}:5:{task['path']}"
        folder = self._own / "log"
        shutil.rmtree(folder, ignore_errors=True)
        log = self._run_logged(scene, folder, {"FAULT_POINT": point, "FAULT_COUNTER": str(counter)})
        reached = struct.unpack("l", counter.read_bytes())[0] if counter.exists() else 0
        seed = f"fsync {point}"
        verdict = self._judge_disk(scene, log, self._told(folder), log.end, task["loss"], seed)
        return verdict | {"hit": reached >= task["number"]}

    def _judge_disk(
        self, scene: scenes.Scene, log: DiskLog, told: list[str], time_: int, loss: str, seed: str
    ) -> dict[str, Any]:
        folder = self._own / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        disk = log.build(folder / "disk", time_, loss, random.Random(seed))
        ended = [line for line in log.marks_until(time_) if line[0] != "F"]
        lines = [line for line in told if line[0] == "F"] + ended  # the disk may hold more than was announced
        before = (self._prepared(scene) / "journal").read_text().splitlines()
        known = scene.name, disk, tuple(ended)
        if known not in self._disks or self._disks[known]["faults"]:
            self._disks[known] = self._judge(scene, folder, before + lines)
        return self._disks[known] | {"hit": True}

    def _judge(self, scene: scenes.Scene, folder: Path, lines: list[str]) -> dict[str, Any]:
        result = self._own / "verdict"
        result.unlink(missing_ok=True)
        root = folder / "disk" / "set"

        def call() -> int:
            verdict = judge(root, scene, Announced().add(lines))
            result.write_text(json.dumps(verdict.as_dict()))
            return 0

        output = self._own / "judged"
        code = forked(call, output, {"FAULT_ROOT": str(folder)})  # fsyncs cost nothing
        if code == 0:
            verdict = json.loads(result.read_text())
            if verdict["faults"]:
                verdict["recovery"] = output.read_text(errors="replace")[-1500:]
            return verdict
        fault = f"recovery hangs or crashes ({code}): {output.read_text(errors='replace')[-1500:]}"
        return Verdict(faults=[fault]).as_dict()

    def _run(self, scene: scenes.Scene, env: dict[str, str], *, expect: bool = False) -> int | None:
        folder = self._own / "run"
        disk = copy_of(self._prepared(scene), folder)
        code = self._program(scene, folder, disk, env)
        assert not expect or code == 0, (self._own / "output").read_text()
        return code

    def _program(self, scene: scenes.Scene, folder: Path, disk: Path, env: dict[str, str]) -> int | None:
        def call() -> int:
            return scene.run(disk / "set", scenes.Journal(folder / "journal"))

        return forked(call, self._own / "output", {"FAULT_ROOT": str(disk)} | env)

    def _run_logged(
        self, scene: scenes.Scene, folder: Path, env: dict[str, str], *, expect: bool = False
    ) -> DiskLog:
        disk = copy_of(self._prepared(scene), folder)
        (folder / "snapshots").mkdir()
        inodes = inodes_of(disk) | {"": disk.stat().st_ino}
        (folder / "inodes").write_text(json.dumps(inodes))
        (folder / "log").touch()
        shutil.copytree(disk, folder / "before")
        env = env | {"FAULT_LOG": str(folder / "log"), "FAULT_SNAPSHOTS": str(folder / "snapshots")}
        code = self._program(scene, folder, disk, env)
        assert not expect or code == 0, (self._own / "output").read_text()
        return self._load(scene, folder, inodes)

    def _load(self, scene: scenes.Scene, folder: Path, inodes: dict[str, int]) -> DiskLog:
        return DiskLog(folder / "disk", folder / "log", folder / "snapshots", folder / "before", inodes)

    def _prepared(self, scene: scenes.Scene) -> Path:
        return self._work / f"scene-{scene.name}"

    def _told(self, folder: Path) -> list[str]:
        path = folder / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def _lines(self, scene: scenes.Scene) -> list[str]:
        return self._told(self._prepared(scene)) + self._told(self._own / "run")


def main() -> None:
    """Serve until standard input ends."""
    worker = Worker(Path(sys.argv[1]))
    for session in range(1, 6):
        for step in range(12):
            scenes.content.yuv_of(session, step)
            scenes.content.yuv_of(session, step + scenes.WRIST_STEPS)
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            answer = worker.do(json.loads(line))
        except Exception:  # noqa: BLE001 - told
            answer = Verdict(faults=[f"the sweep itself failed: {traceback.format_exc()[-1500:]}"]).as_dict()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
