"""The same kill on lerobot itself: ``/path/to/python-with-lerobot lerobot_faults.py <folder> [report.json]``.

Records episodes with lerobot's own `LeRobotDataset`, kills it (SIGKILL) after some saved episodes, in the
middle of the next one, and counts what lerobot reads afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import fault_content as content
from fault_report import Row

MODES = {
    "PNG": {"streaming_encoding": False},
    "streaming": {"streaming_encoding": True},
}
SAVED = (1, 4)
LENGTH, FPS = 12, 30


def record(root: Path, mode: str, episodes: int, saved: int) -> None:
    """Record, write a byte to `saved` after each saved episode, begin another one and wait to be killed."""
    from lerobot.datasets import LeRobotDataset

    dataset = LeRobotDataset.create(
        "demo/faults", fps=FPS, root=root, features=content.features(), use_videos=True, **MODES[mode]
    )
    for episode in range(episodes + 1):
        for step in range(LENGTH):
            dataset.add_frame(
                {
                    "observation.state": content.state(episode, step),
                    "observation.images.front": content.picture(episode, step),
                    "action": content.action(episode, step),
                    "task": "Show the code",
                }
            )
        if episode < episodes:
            dataset.save_episode()
            os.write(saved, b"s")
    os.write(saved, b"r")
    while True:
        signal.pause()


def readable(root: Path) -> tuple[int, str]:
    """How many episodes lerobot reads whole, and why it does not open the dataset if it does not."""
    from lerobot.datasets import LeRobotDataset

    whole = 0
    try:
        dataset = LeRobotDataset("demo/faults", root=root)
        for episode in range(dataset.num_episodes):
            frames = [dataset[episode * LENGTH + step] for step in range(LENGTH)]
            whole += all(
                (frame["observation.state"].numpy() == content.state(episode, step)).all()
                for step, frame in enumerate(frames)
            )
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        cause: BaseException = error
        while cause.__context__ is not None:  # what came first: then it asked the Hub
            cause = cause.__context__
        return whole, f"{type(cause).__name__}: {cause}".splitlines()[0]
    return whole, ""


def one_kill(folder: Path, mode: str, episodes: int) -> tuple[int, str]:
    """Kill once; returns the episodes that are readable, and what lerobot says."""
    root = folder / f"{mode}-{episodes}"
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.close(reading)
            record(root, mode, episodes, writing)
        finally:
            os._exit(1)
    os.close(writing)
    said = b""
    while not said.endswith(b"r"):
        said += os.read(reading, 1) or b"r died"
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)
    assert said == b"s" * episodes + b"r", said
    return readable(root)


def rows(folder: Path) -> list[Row]:
    """Run everything."""
    result = []
    for mode in MODES:
        row = Row(
            f"SIGKILL after saved episodes, {mode} mode",
            f"SIGKILL in the next episode, after {' and '.join(map(str, SAVED))} saved",
            recorder="lerobot",
        )
        for episodes in SAVED:
            whole, error = one_kill(folder, mode, episodes)
            row.times += 1
            row.episodes += episodes
            row.lost += episodes - whole
            row.running += LENGTH
            row.running_lost += LENGTH
            row.most_lost = LENGTH
            if error:
                row.note = f"it does not open ({error.split(':')[0]})"
        result.append(row)
    return result


if __name__ == "__main__":
    import lerobot.datasets  # noqa: F401 - once, for every fork

    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(row) for row in rows(Path(sys.argv[1]))], indent=1)
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(text)
    print(text)
