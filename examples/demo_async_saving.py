"""Compares saving in the foreground and in the background: how long the operator waits.

    uv run python examples/demo_async_saving.py [FOLDER]
    uv run --extra bench python examples/demo_async_saving.py [FOLDER] --plot saving.svg

Prints the waiting time after each episode, and both timelines in text: `#` recording, `.` waiting for a save,
`-` saving in the background. `--plot` draws them (.svg, .png or .pdf; needs matplotlib).
"""

import argparse
import asyncio
import shutil
import time
from itertools import pairwise
from pathlib import Path

import aiorecord
from aiorecord.robots import SimRobot, SimRobotConfig, SimTeleopConfig, SimTeleoperator

EPISODES, SECONDS, FPS = 3, 2.0, 30
COLUMNS = 72


async def record(root, async_saving):
    """Record the episodes.

    Returns:
        When each was recorded, when each was saved, and when all was in the dataset; seconds from the first
        frame.
    """
    robot, teleop = SimRobot(SimRobotConfig(seed=1)), SimTeleoperator(SimTeleopConfig(seed=1))
    features = aiorecord.dataset_features(robot.observation_features, teleop.action_features)
    spans, saves = [], []
    async with aiorecord.Recorder(
        "demo/saving", root=root, fps=FPS, features=features, async_saving=async_saving
    ) as recorder:
        await robot.connect()
        await teleop.connect()
        start = time.perf_counter()
        for _ in range(EPISODES):
            async with recorder.episode(task="Pick up the cube") as episode:
                begun = time.perf_counter() - start
                async for _ in recorder.ticks(seconds=SECONDS):
                    episode.add_frame(await aiorecord.control_step(robot, teleop, recorder.features))
                ended = time.perf_counter() - start
            spans.append((begun, ended))
            saves.append(episode.save)
        await recorder.drain()
        total = time.perf_counter() - start
        await robot.disconnect()
        await teleop.disconnect()
    ends = [ended for _, ended in spans]
    saved = [(end, end + save.result().committed_s) for end, save in zip(ends, saves, strict=True)]
    return spans, saved, total


def timeline(spans, total, scale, idle):
    """One line of text for one run."""
    line = list((idle * round(total * scale)).ljust(COLUMNS))
    for begun, ended in spans:
        for column in range(round(begun * scale), max(round(begun * scale) + 1, round(ended * scale))):
            line[min(column, COLUMNS - 1)] = "#"
    return "".join(line).rstrip()


def draw(runs, path):
    """One picture: when each mode records, waits for a save, and saves in the background."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(9, 2.8), layout="constrained")

    def bar(label, colour, times, lane, height):
        known = panel.get_legend_handles_labels()[1]
        pieces = [(begun, ended - begun) for begun, ended in times]
        shown = "" if label in known else label
        panel.broken_barh(pieces, (lane, height), color=colour, edgecolor="white", label=shown)

    labels, rows = [], []
    for row, (name, (spans, saved, total)) in enumerate(runs.items()):
        waits = [(earlier[1], later[0]) for earlier, later in pairwise(spans)]
        if "background" in name:
            bar("recording", "tab:green", spans, row, 0.3)
            for n, save in enumerate(saved):  # several at a time
                bar("saving in the background", "tab:blue", [save], row + 0.3 + 0.12 * n, 0.12)
        else:
            bar("recording", "tab:green", spans, row, 0.3)
            bar("waiting for a save", "tab:red", [*waits, (spans[-1][1], total)], row, 0.3)
        waited = sum(ended - begun for begun, ended in waits)
        labels.append(f"saved {name}\nwaited {waited:.2f} s between episodes\nall saved after {total:.1f} s")
        rows.append(row + 0.15)
    panel.set_yticks(rows, labels)
    panel.invert_yaxis()
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_xlabel(f"seconds since the first frame of {EPISODES} episodes of {SECONDS:g} s")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=3, frameon=False)
    figure.savefig(path)
    pyplot.close(figure)


async def main(root, plot=None):
    runs = {}
    for name, async_saving in (("in the foreground", False), ("in the background", True)):
        folder = root / name.replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        runs[name] = await record(folder, async_saving)
    scale = (COLUMNS - 1) / max(total for _, _, total in runs.values())
    for name, (spans, _, total) in runs.items():
        waits = [later[0] - earlier[1] for earlier, later in pairwise(spans)]
        shown = ", ".join(f"{wait * 1000:.0f} ms" for wait in waits)
        print(f"saved {name}: waited {shown} between episodes; all in the dataset after {total:.1f} s")
        print("  " + timeline(spans, total, scale, "-" if "background" in name else "."))
    if plot is not None:
        draw(runs, plot)
        print(f"drawn: {plot}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("data/demo-async-saving"))
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw both timelines")
    options = parser.parse_args()
    if options.plot is not None:
        from aiorecord.bench.plot import check_plot

        try:
            check_plot(options.plot)  # before anything is recorded
        except aiorecord.ConfigError as error:
            parser.error(str(error))
    asyncio.run(main(options.folder, options.plot))
