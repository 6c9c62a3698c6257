"""Starting, watching and killing the real program."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
TIMEOUT_S = 120
"""Nothing here takes so long; a program that does hangs."""

LOSSLESS = [
    "--dataset.rgb_encoder.vcodec=h264",
    "--dataset.rgb_encoder.crf=0",
    "--dataset.rgb_encoder.preset=ultrafast",
]
"""Final videos whose pixels are those that the camera gave, in yuv420p, bit for bit."""


def record_argv(root: Path, session: int, *flags: str, codec: list[str] | None = None) -> list[str]:
    """`aiorecord record` with the coded robot; what is not there yet is not resumed."""
    if not root.is_dir() or not any(root.iterdir()):
        flags = tuple(flag for flag in flags if flag != "--resume=true")
    return [
        "record",
        f"--dataset.root={root}",
        "--robot.type=coded",
        f"--robot.session={session}",
        "--teleop.type=coded",
        f"--teleop.session={session}",
        "--dataset.repo_id=demo/faults",
        "--dataset.single_task=Show the code",
        "--play_sounds=false",
        "--display=plain",
        "--encode_workers=1",
        *(LOSSLESS if codec is None else codec),
        *flags,
    ]


@dataclass
class Told:
    """What a program has announced, in order.

    Attributes:
        lines: every line.
        frames: by episode id, what each frame that `add_frame` took says of itself; see `code_of`.
        flushed: by episode id, frames that a flush announced as written.
        stages: by episode id, the last stage.
        durable: episodes that were announced as being on disk.
        failed: episodes whose save failed at some time.
        cut: by episode id, what an episode was cut to, because the disk took no more.
    """

    lines: list[str] = field(default_factory=list)
    frames: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    flushed: dict[str, int] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    durable: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)

    def add(self, line: str) -> None:
        """Take one line."""
        self.lines.append(line)
        kind, *words = line.split()
        if kind == "F":
            self.frames.setdefault(words[0], []).append(tuple(map(int, words[1:])))
        elif kind == "Y":
            self.flushed[words[0]] = max(self.flushed.get(words[0], 0), int(words[1]))
        elif kind == "S":
            self.stages[words[0]] = words[1]
            if words[1] == "durable":
                self.durable.add(words[0])
            elif words[1] == "failed":
                self.failed.add(words[0])
        elif kind == "U":
            self.cut[words[0]] = int(words[1])

    def ended(self) -> set[str]:
        """Episodes that were announced as being on disk, and not taken back."""
        return {id_ for id_ in self.durable if self.stages[id_] != "discarded"}


class Zygote:
    """Starts programs as forks of one process that has imported everything; see fault_zygote.py.

    Args:
        preload: a library to load before libc.
    """

    def __init__(self, preload: Path | None = None) -> None:
        self._folder = tempfile.mkdtemp(prefix="fault")
        self._path = f"{self._folder}/socket"
        self._programs: list[Program] = []
        self._lock = threading.Lock()
        self._started = 0
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        if preload is not None:
            environment["LD_PRELOAD"] = str(preload)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fault_zygote.py"), self._path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=HERE.parent.parent,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == b"ready\n", line

    def start(
        self,
        argv: list[str],
        *,
        env: dict[str, str] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        output: Path | None = None,
    ) -> Program:
        """Start a program.

        Args:
            argv: its arguments.
            env: changes to its environment.
            stdin: its standard input, by default empty.
            stdout: its standard output and error, by default the file `output`.
            output: by default a temporary file.
        """
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        reading, writing = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        with self._lock:
            self._started += 1
            target = output or Path(self._folder, f"{self._started}.out")
        target.touch()  # also where nothing goes there
        out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666) if stdout is None else stdout
        message = json.dumps({"argv": argv, "env": env or {}}).encode()
        socket.send_fds(connection, [message], [null if stdin is None else stdin, out, out, writing])
        answers = connection.makefile("r")
        pid = int(answers.readline())
        for fd in {writing, null, *(() if stdout is not None else (out,))}:
            os.close(fd)
        program = Program(pid, reading, connection, answers, target)
        with self._lock:
            self._programs = [p for p in self._programs if p.code is None] + [program]
        return program

    def end_all(self) -> None:
        """Kill what a failed test left running."""
        for program in self._programs:
            if program.code is None:
                program.kill()
        self._programs = []

    def run(self, argv: list[str], **options) -> Program:
        """Run a program to its end."""
        program = self.start(argv, **options)
        program.wait()
        return program

    def close(self) -> None:
        """End it."""
        self.end_all()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(TIMEOUT_S)
        shutil.rmtree(self._folder, ignore_errors=True)


class Program:
    """A running program.

    Attributes:
        told: what it has announced so far.
        killed: whether it was ended by SIGKILL.
        code: its exit code once it has ended, negative for a signal.
        peak_rss_kb: the most memory that it held.
    """

    def __init__(self, pid: int, events: int, connection: socket.socket, answers, output: Path) -> None:
        self.pid = pid
        self.told = Told()
        self.code: int | None = None
        self.peak_rss_kb = 0
        self._events = events
        self._connection = connection
        self._answers = answers
        self._output = output
        self._rest = b""
        self._deadline_s = time.monotonic() + TIMEOUT_S

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._output.read_text(errors="replace")

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    def until(self, wanted: Callable[[str], bool]) -> bool:
        """Read its announcements up to one that is wanted; False when it ended without."""
        while True:
            line = self._read_line()
            if line is None:
                return False
            if wanted(line):
                return True

    def read_for(self, seconds: float) -> None:
        """Read what it announces within a time."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and self._events >= 0:
            if select.select([self._events], [], [], left_s)[0] and not self._fill():
                return

    def told_so_far(self) -> list[str]:
        """Every announcement that has been read, without waiting for more."""
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            self.told.add(line.decode())
        return self.told.lines

    def signal(self, number: int) -> None:
        """Send a signal to its process group, which does not hold its encoders."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        if self.code is None:
            self.until(lambda line: False)
            self._connection.settimeout(max(1.0, self._deadline_s - time.monotonic()))
            try:
                status, self.peak_rss_kb = map(int, self._answers.readline().split())
            except TimeoutError:
                self.signal(signal.SIGKILL)
                raise AssertionError(f"It does not end:\n{self.output}") from None
            self._answers.close()
            self._connection.close()
            self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.signal(signal.SIGKILL)
        self.wait()

    def _read_line(self) -> str | None:
        while b"\n" not in self._rest:
            if self._events < 0:
                return None
            left_s = self._deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([self._events], [], [], left_s)[0]:
                self.signal(signal.SIGKILL)
                raise AssertionError(f"It does not go on after {self.told.lines[-3:]}:\n{self.output}")
            if not self._fill():
                return None
        line, self._rest = self._rest.split(b"\n", 1)
        self.told.add(line.decode())
        return line.decode()

    def _fill(self) -> bool:
        data = os.read(self._events, 1 << 16)
        if not data:
            os.close(self._events)
            self._events = -1
        self._rest += data
        return bool(data)
