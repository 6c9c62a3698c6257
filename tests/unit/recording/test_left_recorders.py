"""`aiorecord record` left at the end with its backlog staged, and `aiorecord recover` afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from helpers import episodes_of, rows_of

from aiorecord.media.video_file import count_packets
from aiorecord.staging.folder import Staging
from aiorecord.staging.sealed_json import write_sealed

FLAGS = [
    "--robot.type=sim",
    "--teleop.type=sim",
    "--robot.cameras={front: {width: 160, height: 120}}",
    "--dataset.repo_id=demo/test",
    "--dataset.single_task=Pick up the cube",
    # Slow enough that nobody can encode it while the keys are pressed.
    "--dataset.rgb_encoder.preset=0",
    "--dataset.episode_time_s=100",
    "--dataset.reset_time_s=100",
    "--dataset.num_episodes=5",
    "--play_sounds=false",
    "--encode_workers=1",
]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_q_twice_leaves_the_backlog_to_recover(tmp_path):
    import pty

    root = tmp_path / "set"
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "aiorecord", "record", f"--dataset.root={root}", *FLAGS],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "160", "LINES": "40"},
    )
    os.close(terminal)
    screen = b""

    def until(text: bytes) -> None:
        nonlocal screen
        while text not in screen:
            screen += os.read(main, 65536)
        screen = b""

    def until_frames(count: int) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            episodes = Staging(root).episode_paths()
            for path in episodes:
                rows = path / "rows.arrows"
                if rows.exists() and rows.stat().st_size > 3000:
                    count -= 1
            if count <= 0:
                return
            os.sched_yield()
        raise AssertionError("no frames came")

    until(b"RECORDING")
    until_frames(1)
    os.write(main, b"\x1b[C")  # →: ends the episode
    until(b"RESETTING")
    os.write(main, b"n")
    until(b"RECORDING")
    until(b"late")
    os.write(main, b"q")  # ends this one too
    until(b"SAVING")
    until(b"frames to encode")
    os.write(main, b"q")  # leaves the rest
    until(b"aiorecord recover")
    assert process.wait(timeout=60) == 130
    os.close(main)

    staged = Staging(root).episode_paths()
    assert len(staged) == 2
    manifests = [json.loads((path / "manifest.json").read_bytes()) for path in staged]
    assert [m["state"] for m in manifests] == ["complete", "complete"]
    lengths = [m["length"] for m in manifests]
    for path, manifest in zip(staged, manifests, strict=True):  # do not wait for preset 0
        manifest["rgb_encoder"]["preset"] = 12
        write_sealed(path / "manifest.json", manifest)

    recovered = subprocess.run(
        [sys.executable, "-m", "aiorecord", "recover", str(root)], capture_output=True, text=True, timeout=120
    )
    assert recovered.returncode == 0, recovered.stderr
    assert [e["length"] for e in episodes_of(root)] == lengths
    assert len(rows_of(root)) == sum(lengths)
    assert sum(count_packets(p) for p in (root / "videos").rglob("*.mp4")) == sum(lengths)
    assert not (root / ".aiorecord").exists()
