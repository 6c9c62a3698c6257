"""What the tests of this folder look at."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from helpers import episodes_of, rows_of

from aiorecord.cli import main
from aiorecord.media.video_file import count_packets


def tree_hash(root: Path) -> dict[str, str]:
    """Every path below a folder, links and empty folders too, with what it holds."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


def recover(root: Path, *flags: str, capsys) -> tuple[int, dict]:
    """Run the command with --json; its exit code and what it printed."""
    capsys.readouterr()
    code = main(["recover", str(root), "--json", *flags])
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    return code, json.loads(out.out) if out.out else {"stderr": out.err}


def check_content(root: Path, lengths: list[int], contents: list[int] | None = None) -> None:
    """Check that episode n holds the first frames of recording n, and its video as many."""
    rows, start = rows_of(root), 0
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"]) == (len(lengths), sum(lengths))
    episodes = episodes_of(root)
    assert [episode["length"] for episode in episodes] == lengths
    assert len(rows) == sum(lengths)
    for index, length in enumerate(lengths):
        content = index if contents is None else contents[index]
        assert episodes[index]["tasks"] == [f"Task {content}"]
        for k in range(length):
            row = rows[start + k]
            assert (row["episode_index"], row["frame_index"], row["index"]) == (index, k, start + k)
            expected = np.array([k, content, k / info["fps"]], np.float32)
            np.testing.assert_array_equal(np.array(row["observation.state"], np.float32), expected)
        start += length
    for camera in root.glob("videos/*"):
        assert sum(count_packets(path) for path in camera.glob("*/*.mp4")) == sum(lengths)
