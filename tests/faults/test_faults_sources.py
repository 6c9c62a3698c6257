"""Cameras, robots and teleoperators that fail while `aiorecord record` runs: no take is lost."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from fault_outcome import in_lanes, settle
from fault_runs import record_argv
from fault_verify import CAMERA

FPS, SECONDS, EPISODES = 60, 0.5, 2
SEEDS = 3
HERE = {"FAULT_ENCODE_HERE": "1"}
FOREVER = 100_000
FLAGS = [
    f"--dataset.fps={FPS}",
    f"--dataset.num_episodes={EPISODES}",
    f"--dataset.episode_time_s={SECONDS}",
    "--dataset.reset_time_s=0.05",
    "--source_timeout_s=0.05",
]
SHORT = "--max_hold_s=0.1"
NEVER = [SHORT, "--reconnect_s=0.3"]
KINDS = {
    # source: kinds, what they are called, whether the teleoperator has them
    "a camera": [("front", kind) for kind in ("none", "missing", "shape", "dtype")],
    "a robot": [("robot", kind) for kind in ("raise", "hang", "disconnect", "returns_none")]
    + [("robot.send_action", kind) for kind in ("raise", "hang")],
    "a teleoperator": [("teleop", kind) for kind in ("raise", "hang", "disconnect", "returns_none")]
    + [("action", "nan"), ("action", "none")],
}


def run_failing(zygote, folder, faults: list[dict], *more: str):
    """Record with these faults; returns the program, its dataset and the report."""
    folder.mkdir()
    root, said = folder / "set", folder / "report.json"
    of_teleop = [fault for fault in faults if fault["source"] in ("teleop", "action")]
    of_robot = [fault for fault in faults if fault not in of_teleop]
    flags = [f"--robot.faults={json.dumps(of_robot)}", f"--teleop.faults={json.dumps(of_teleop)}"]
    program = zygote.run(record_argv(root, 1, *FLAGS, *flags, f"--report={said}", *more), env=HERE)
    return program, root, json.loads(said.read_text())


def episodes_agree(program, report: dict) -> None:
    """What the report says of each episode is what was given to `add_frame`."""
    told = [len(frames) for frames in program.told.frames.values()]
    assert [episode["frames"] for episode in report["episodes"]] == told, report["episodes"]


def cases(name: str):
    rng = random.Random(name)
    for source, kind in KINDS[name]:
        for seed in range(SEEDS):
            yield source, kind, rng.randrange(1, 25), seed


@pytest.mark.parametrize("name", KINDS)
def test_it_fails_for_a_moment(zygote, tmp_path, report, name):
    """Held and marked: every tick has its frame, and the report says which ones are held."""
    row = report.row(
        f"{name} that fails for a moment",
        f"{', '.join(dict.fromkeys(kind for _, kind in KINDS[name]))}: at seeded calls, 1 to 4 of them",
    )

    def step(case) -> None:
        source, kind, at, seed = case
        calls = 1 if kind in ("hang", "disconnect") else 1 + seed
        folder = tmp_path / f"{source}-{kind}-{seed}"
        fault = {"source": source, "kind": kind, "at": at, "calls": calls}
        program, root, said = run_failing(zygote, folder, [fault], "--max_hold_s=2", "--source_retries=0")
        episodes_agree(program, said)
        assert settle(zygote, program, root, row).lost() == 0
        assert len(said["episodes"]) == EPISODES
        assert all(episode["end_reason"] is None for episode in said["episodes"])
        key = CAMERA if source == "front" else source
        assert said["sources"][key]["errors"] >= 1, said["sources"]
        if source == "front" and said["sources"][key]["held"]:
            # What was held is told in the report, and is what the video repeats.
            for episode, frames in zip(said["episodes"], program.told.frames.values(), strict=True):
                ranges = episode["sources"].get(key, {}).get("held_frames", [])
                held = {k for start, stop in ranges for k in range(start, stop)}
                assert held == {k for k, code in enumerate(frames) if len(code) == 4 and code[2] < code[1]}

    in_lanes(step, cases(name))


def test_a_camera_repeats_its_last_frame(zygote, tmp_path, report):
    """It delivers, but nothing new: recorded as it came, and counted."""
    row = report.row("a camera that stalls", "delivers its last frame again, for 3 to 20 frames")
    rng = random.Random(6)

    def step(case) -> None:
        n, at, calls = case
        fault = {"source": "front", "kind": "repeat", "at": at, "calls": calls}
        program, root, said = run_failing(zygote, tmp_path / str(n), [fault])
        episodes_agree(program, said)
        repeated = 0
        for frames in program.told.frames.values():
            shown = [code[2] if len(code) == 4 else code[1] for code in frames]
            repeated += sum(one == other for one, other in itertools.pairwise(shown))
        counted = [episode["cameras"][CAMERA]["repeated"] for episode in said["episodes"]]
        assert sum(counted) == repeated > 0
        assert settle(zygote, program, root, row).lost() == 0

    in_lanes(step, [(n, rng.randrange(1, 10), rng.randrange(3, 20)) for n in range(6)])


ALWAYS = [
    ("robot", "raise"),
    ("robot", "hang"),
    ("robot", "disconnect"),
    ("teleop", "raise"),
    ("front", "none"),
]
# How long it is away: longer than it is held for.
CALLS = {"raise": 10, "none": 10, "hang": 4, "disconnect": 2}


def test_it_goes_and_comes_back(zygote, tmp_path, report):
    """Held for too long: the episode is ended and kept; the next one begins when the source is back."""
    row = report.row(
        "a source that is lost and comes back",
        "unplugged, or failing longer than `--max_hold_s`",
    )
    rng = random.Random(7)

    def step(case) -> None:
        source, kind, at, seed = case
        fault = {"source": source, "kind": kind, "at": at, "calls": CALLS[kind]}
        calls = ["--source_retries=0", "--reconnect_s=30", "--max_hold_s=0.1"]
        program, root, said = run_failing(zygote, tmp_path / f"{source}-{kind}-{seed}", [fault], *calls)
        episodes_agree(program, said)
        assert settle(zygote, program, root, row).lost() == 0
        assert len(said["episodes"]) == EPISODES
        assert sum(reason is not None for reason in (e["end_reason"] for e in said["episodes"])) == 1

    in_lanes(step, [(*pair, rng.randrange(2, 15), seed) for pair in ALWAYS for seed in range(2)])


@pytest.mark.parametrize("policy", ["hold", "end", "raise"])
def test_it_fails_for_good(zygote, tmp_path, report, policy):
    """Whatever the policy: the recording ends with an error, and what was recorded is kept."""
    row = report.row(
        "a source that fails for good",
        "from a seeded call on; `--on_source_error` hold, end, raise",
    )
    rng = random.Random(policy)

    def step(case) -> None:
        source, kind, at = case
        fault = {"source": source, "kind": kind, "at": at, "calls": FOREVER}
        policed = [f"--on_source_error={policy}", *NEVER, "--dataset.num_episodes=3"]
        program, root, said = run_failing(zygote, tmp_path / f"{source}-{kind}", [fault], *policed)
        assert said["error"], program.output
        # With `raise` the episode under way stays in staging, for `recover`.
        expected = settle(zygote, program, root, row, codes=(1,))
        assert expected.frames
        assert expected.lost() == 0

    in_lanes(step, [(*pair, rng.randrange(5, 40)) for pair in ALWAYS])


@pytest.mark.smoke
def test_a_camera_gives_nothing_and_comes_back(zygote, tmp_path):
    """The short form, for everyday runs."""
    from fault_report import Row

    fault = {"source": "front", "kind": "none", "at": 5, "calls": 3}
    program, root, said = run_failing(zygote, tmp_path / "one", [fault])
    episodes_agree(program, said)
    expected = settle(zygote, program, root, Row("", ""))
    assert expected.lost() == 0
    assert said["episodes"][0]["sources"][CAMERA]["held_frames"] == [[5, 8]]
