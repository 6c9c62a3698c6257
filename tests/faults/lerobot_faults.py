"""The same faults on lerobot: ``/path/to/python-with-lerobot lerobot_faults.py <folder> [report.json]``.

Records episodes with lerobot's own `LeRobotDataset`, guarded as its own `lerobot-record` guards it
(`VideoEncodingManager`, `finalize` at the end whatever happens), lets a fault strike, and counts what lerobot
reads afterwards. An episode has ended when `save_episode` is called. Disks that refuse need fault_shim.c as
LD_PRELOAD, and are left out without it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import fault_content as content
from fault_report import Row

MODES = {
    "PNG": {"streaming_encoding": False},
    "streaming": {"streaming_encoding": True},
}
LENGTH, FPS = 12, 30
MIDDLE = LENGTH // 2


@dataclass
class Case:
    """One fault.

    Attributes:
        fault: its row.
        injected: how.
        saved: episodes that are saved before.
        number: the signal, None for what the program does to itself.
        moment: after which announcement the signal comes: ``m``, the middle of the next episode; ``r``, when
            all its frames are there; ``e``, when `save_episode` is called.
        after_s: and how long after.
        inside: what happens in the program: in the middle of the episode, or, for the codec, before it.
        refuse: an errno with which the disk refuses everything from there on.
    """

    fault: str
    injected: str
    saved: int = 3
    number: int | None = None
    moment: str = "m"
    after_s: float = 0.0
    inside: Callable[[Any], None] | None = None
    refuse: int | None = None


def robot_fails(dataset: Any) -> None:
    """As a driver does."""
    raise ConnectionError("the robot does not answer")


def codec_fails(dataset: Any) -> None:
    """The next encoder that is opened is one that this machine has not."""
    encoder = dataset.writer._rgb_encoder
    object.__setattr__(encoder, "vcodec", "h264_nvenc")
    streaming = dataset.writer._streaming_encoder
    if streaming is not None:
        object.__setattr__(streaming._rgb_encoder, "vcodec", "h264_nvenc")


def cases() -> Iterator[Case]:
    """All of them."""
    for saved in (1, 4):
        yield Case(
            "SIGKILL while recording",
            "after 1 and 4 saved episodes, at the end of the next",
            saved,
            signal.SIGKILL,
            "r",
        )
    for after_s in (0.0, 0.05, 0.15):
        yield Case(
            "SIGKILL while an episode is saved",
            "0, 50 and 150 ms after `save_episode` was called",
            number=signal.SIGKILL,
            moment="e",
            after_s=after_s,
        )
    yield Case("SIGINT", "in the middle of an episode", number=signal.SIGINT)
    for number in (signal.SIGTERM, signal.SIGHUP):
        yield Case("SIGTERM, SIGHUP", "in the middle of an episode, one run each", number=number)
    yield Case("a robot call raises", "in the middle of an episode", inside=robot_fails)
    yield Case("a codec does not open any more", "from the beginning of an episode on", inside=codec_fails)
    if os.environ.get("LD_PRELOAD"):
        yield Case("the disk is full (ENOSPC)", "from the middle of an episode on", refuse=errno.ENOSPC)
        yield Case("the disk is broken (EIO)", "from the middle of an episode on", refuse=errno.EIO)


def record(root: Path, mode: str, case: Case, told: int) -> None:
    """Record as `lerobot-record` does, telling ``s`` saved, ``m`` middle, ``r`` all frames, ``e`` end."""
    from lerobot.datasets import LeRobotDataset
    from lerobot.datasets.video_utils import VideoEncodingManager

    dataset = LeRobotDataset.create(
        "demo/faults", fps=FPS, root=root, features=content.features(), use_videos=True, **MODES[mode]
    )
    try:
        with VideoEncodingManager(dataset):
            for episode in range(case.saved + 1):
                if episode == case.saved and case.inside is codec_fails:
                    codec_fails(dataset)
                for step in range(LENGTH):
                    if (episode, step) == (case.saved, MIDDLE):
                        os.write(told, b"m")
                        if case.inside is robot_fails:
                            robot_fails(dataset)
                        if case.refuse is not None:
                            root.with_suffix(".switch").touch()
                        if case.number is not None and case.moment == "m":
                            signal.pause()
                    dataset.add_frame(content.frame(episode, step) | {"task": "Show the code"})
                if episode == case.saved:
                    os.write(told, b"r")
                    if case.moment == "r":
                        signal.pause()
                    os.write(told, b"e")
                dataset.save_episode()
                os.write(told, b"s")
    finally:
        dataset.finalize()


def readable(root: Path) -> tuple[int, str]:
    """How many episodes lerobot reads whole, and why it does not open the dataset if it does not."""
    from lerobot.datasets import LeRobotDataset

    whole = 0
    try:
        dataset = LeRobotDataset("demo/faults", root=root)
        for episode in range(dataset.num_episodes):
            frames = [dataset[episode * LENGTH + step] for step in range(LENGTH)]
            whole += all(_is_right(frame, episode, step) for step, frame in enumerate(frames))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        cause: BaseException = error
        while cause.__context__ is not None:  # what came first: then it asked the Hub
            cause = cause.__context__
        return whole, f"{type(cause).__name__}: {cause}".splitlines()[0]
    return whole, ""


def _is_right(frame: dict[str, Any], episode: int, step: int) -> bool:
    picture = frame["observation.images.front"].numpy().mean(axis=0) * 255
    state_is_right = (frame["observation.state"].numpy() == content.state(episode, step)).all()
    return bool(state_is_right) and content.read_code(picture) == (episode, step)


def strike(folder: Path, number: int, mode: str, case: Case) -> tuple[int, bytes, str]:
    """Strike once; returns the episodes that are readable, what was announced, and what lerobot says."""
    root = folder / f"{number}-{mode}" / "set"
    root.parent.mkdir(parents=True)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.close(reading)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if case.refuse is not None:
                os.environ |= {
                    "FAULT_ROOT": str(root),
                    "FAULT_REFUSE": f"{case.refuse}:1:{1 << 40}",
                    "FAULT_COUNTER": str(root.with_suffix(".counter")),
                    "FAULT_SWITCH": str(root.with_suffix(".switch")),
                }
            record(root, mode, case, writing)
        except BaseException:  # noqa: BLE001 - printed, as the interpreter does
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    said = b""
    while byte := os.read(reading, 1):
        said += byte
        if case.number is not None and byte == case.moment.encode():
            # Into the pause in front of a frame, or so long after the save began.
            time.sleep(max(case.after_s, 0.0 if case.moment == "e" else 0.1))
            os.killpg(pid, case.number)
            break
    _, status = _wait(pid)
    while select.select([reading], [], [], 0)[0] and (byte := os.read(reading, 1)):
        said += byte
    os.close(reading)
    if case.number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP):
        assert os.waitstatus_to_exitcode(status) in (-case.number, 1), (case, status)
    assert said.startswith(b"s" * case.saved), (case, said)
    whole, error = readable(root)
    return whole, said, error


def _wait(pid: int) -> tuple[int, int]:
    """Wait for its end; one that hangs for a minute is killed."""
    deadline_s = time.monotonic() + 60
    while (done := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline_s:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        time.sleep(0.01)
    return done


def rows(folder: Path) -> list[Row]:
    """Run everything."""
    result: dict[str, Row] = {}
    for number, case in enumerate(cases()):
        for mode in MODES:
            name = f"{case.fault}, {mode} mode"
            row = result.setdefault(name, Row(name, case.injected, recorder="lerobot"))
            whole, said, error = strike(folder, number, mode, case)
            # What a disk refused in the middle of had not ended, also if it was saved as if it had.
            ended = case.saved + (b"e" in said and case.refuse is None)
            row.times += 1
            row.episodes += ended
            row.lost += max(0, ended - whole)
            if ended == case.saved:
                frames = LENGTH if b"r" in said else MIDDLE
                lost = 0 if whole > ended else frames
                row.running += frames
                row.running_lost += lost
                row.most_lost = max(row.most_lost, lost)
            if error:
                row.note = f"it does not open ({error.split(':')[0]})"
    return sorted(result.values(), key=lambda row: row.fault.endswith("streaming mode"))


if __name__ == "__main__":
    import lerobot.datasets  # noqa: F401 - once, for every fork

    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(row) for row in rows(Path(sys.argv[1]))], indent=1)
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(text)
    print(text)
