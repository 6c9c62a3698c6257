"""What is left after a fault, judged by readers of its own: pyarrow, libav and the frames themselves."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fault_content as content
from fault_verify import _decode, _rows, _video, read_dataset
from sweep_scenes import BUG, FPS, WRIST, WRIST_STEPS, Scene


@dataclass
class Verdict:
    """What one fault came to.

    Attributes:
        durable: frames of episodes that had been announced as durable.
        lost: of them, those that are gone.
        mispaired: episodes whose rows and pictures are not what was recorded.
        undetermined: frames that are neither in the dataset nor gone: what holds them was left alone.
        faults: everything that is wrong, a sentence each.
    """

    durable: int = 0
    lost: int = 0
    mispaired: int = 0
    undetermined: int = 0
    faults: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass
class Announced:
    """What a journal says.

    Attributes:
        frames: by episode, what was recorded; of a durable one, what its save says there is.
        durable: episodes that had been announced as durable.
        damaged: episodes that the scene damaged.
    """

    frames: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    durable: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)

    def add(self, lines: list[str]) -> Announced:
        """Take more lines."""
        for line in lines:
            kind, id_, *rest = line.split()
            if kind == "F":
                self.frames.setdefault(id_, []).append((int(rest[0]), int(rest[1])))
            elif kind == "D":
                self.durable.add(id_)
                del self.frames[id_][int(rest[0]) :]
            else:
                self.damaged.add(id_)
        return self


def judge(root: Path, scene: Scene, announced: Announced) -> Verdict:
    """Open what a fault left, recover it twice, and compare it with what was announced."""
    verdict = Verdict()
    must = announced.durable - announced.damaged
    verdict.durable = sum(len(announced.frames[id_]) for id_ in must)
    if not announced.damaged and (root / "meta/info.json").exists():
        try:
            read_all(root, whole=False)
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            verdict.faults.append(f"does not open before it is recovered: {_said(error)}")
    if not (root / "meta/info.json").exists() and not (root / ".aiorecord/episodes").is_dir():
        if must:
            verdict.lost = verdict.durable
            verdict.faults.append("the dataset is gone")
        return verdict  # nothing was made: there is nothing to recover
    try:
        code = scene.finish(root)
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        verdict.faults.append(f"recovery: {_said(error)}")
        return verdict
    if code not in (0, 3) and (must or (root / "meta/info.json").exists()):
        verdict.faults.append(f"recovery ends with exit code {code}")
    if not (root / "meta/info.json").exists():
        if must:
            verdict.lost = verdict.durable
            verdict.faults.append("no info.json")
        return verdict
    try:
        episodes = read_all(root, whole=True)
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        verdict.mispaired += 1
        verdict.faults.append(f"what was recovered is not what was recorded: {_said(error)}")
        return verdict
    by_first = {frames[0]: id_ for id_, frames in announced.frames.items()}
    found: set[str] = set()
    for codes in episodes:
        id_ = by_first.get(codes[0])
        if id_ is None or id_ in found or codes != announced.frames[id_][: len(codes)]:
            verdict.mispaired += 1
            verdict.faults.append(f"an episode of {codes} was never recorded, or is there twice")
            continue
        found.add(id_)
        lost = len(announced.frames[id_]) - len(codes) if id_ in must else 0
        if lost:
            verdict.lost += lost
            verdict.faults.append(f"{id_} lost {lost} frames")
    for id_ in sorted(must - found):
        where = root / ".aiorecord/episodes" / id_
        if where.exists():
            verdict.undetermined += len(announced.frames[id_])
            verdict.faults.append(f"{id_} is left in staging")
        else:
            verdict.lost += len(announced.frames[id_])
            verdict.faults.append(f"{id_} is gone")
    before = tree_hash(root)
    scene.finish(root)
    if tree_hash(root) != before:
        verdict.faults.append("a second recovery changed something")
    return verdict


def judge_output(code: int | None, output: str, path: str) -> list[str]:
    """What is wrong with how a program ended that met a fault on a path.

    Args:
        code: its exit code, None when it had to be ended, negative for a signal.
        output: what it printed.
        path: without what differs from run to run.
    """
    if code is None:
        return ["it hangs"]
    if code == BUG or "Traceback" in output or code < 0:
        return [f"it ends with exit code {code}: {output[-1500:]}"]
    name = Path(path).name.removesuffix(".aiorecord-tmp")
    name = name.removeprefix(".").removesuffix(".*") if name != Path(path).name else name
    names = [part for part in name.split("*") if part]
    if code not in (0, 3) and not all(part in output for part in names):
        return [f"the error does not name {path}: {output[-600:]}"]
    return []


def read_all(root: Path, *, whole: bool) -> list[list[tuple[int, ...]]]:
    """Every episode, each row and each picture of both cameras checked bit for bit."""
    episodes = read_dataset(root, whole=whole)
    info = json.loads((root / "meta/info.json").read_bytes())
    for row, codes in zip(_rows(root, "meta/episodes"), episodes, strict=False):
        first = round(row[f"videos/{WRIST}/from_timestamp"] * FPS)
        pictures = _decode(_video(root, info, row, WRIST).read_bytes())[first : first + len(codes)]
        shown = [content.yuv_of(session, step + WRIST_STEPS) for session, step in codes]
        assert pictures == shown, f"the wrist of an episode of {codes} shows other frames"
    return episodes


def tree_hash(root: Path) -> str:
    """All names and contents."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        digest.update(f"{path.relative_to(root)}\0{path.is_symlink()}\0".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def copy_of(prepared: Path, folder: Path) -> Path:
    """A fresh copy of a prepared scene; returns the folder that is watched."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    disk = folder / "disk"
    disk.mkdir()
    if (prepared / "set").exists():
        shutil.copytree(prepared / "set", disk / "set")
    return disk


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:400]}"
