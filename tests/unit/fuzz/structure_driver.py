"""Damages datasets and staging by structure: ``python structure_driver.py --cases 2000 --seed 1``.

Each case is a fork with bounded memory and time: `recover` or `check --repair` of a damaged copy. It must end
by itself, without a traceback, touch nothing outside, and **no episode that a strict reader could read before
is gone or paired anew**. Where `recover` says that all is well, every staged episode is whole in the dataset
or still in staging. Every row and every picture says which one it is, so that the reader knows. A case is
made from its kind, the seed and its number alone; exit code 1 when anything was found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "sweep"))
sys.path.insert(0, str(Path(__file__).parents[2] / "faults"))

import fault_content as content
import pyarrow.parquet as pq
import sweep_scenes as scenes
from fault_verify import _decode, _video
from structure_damage import damage
from sweep_judge import tree_hash
from sweep_worker import forked

from aiorecord.staging.folder import EpisodeFolder, Staging

KINDS = ("dataset", "lossless", "rgb", "raw", "live")
SPACE_BYTES = 4 << 30
"""Of address space beyond what is there; Arrow and libav reserve much more of it than they use."""
GROWTH_KB = 600 << 10
"""By how much the memory really used may grow."""
PRECIOUS = "canary " * 50
EXTRA = "observation.images.extra"


@dataclass
class Readable:
    """What a strict reader finds.

    Attributes:
        episodes: whole ones, by their first frame: what every frame says of itself.
        mispaired: (row, picture, camera) where they are not of one frame.
    """

    episodes: dict[tuple[int, int], list[tuple[int, int]]] = field(default_factory=dict)
    mispaired: set[tuple[Any, ...]] = field(default_factory=set)

    def as_json(self) -> str:
        """For another process."""
        return json.dumps([list(self.episodes.values()), sorted(self.mispaired, key=repr)])

    @classmethod
    def parse(cls, text: str) -> Readable:
        """Back from `as_json`."""
        episodes, mispaired = json.loads(text)
        codes = [[tuple(code) for code in episode] for episode in episodes]
        return cls({episode[0]: episode for episode in codes}, {_frozen(found) for found in mispaired})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def prepare(kind: str, root: Path, journal: scenes.Journal) -> int:
    """A dataset of packed and loose episodes; or one with staging of a kind, one of it interrupted."""
    if kind == "dataset":
        asyncio.run(scenes.record(root, 1, [3, 4], journal))
        asyncio.run(scenes.record(root, 2, [3, 2], journal, pack=False))
        return 0
    found = scenes.features()
    if kind == "raw":
        found[EXTRA] = {"dtype": "video", "shape": (content.HEIGHT, content.WIDTH, 1), "names": None}
        found[EXTRA] |= {"names": ["height", "width", "channels"], "info": {"is_depth_map": True}}
    if kind == "rgb":
        found[EXTRA] = found[scenes.FRONT] | {"dtype": "image"}
    plan = {"encode": "live"} if kind == "live" else {}
    frame = scenes.frame

    def extended(session: int, step: int) -> dict[str, Any]:
        more = {"raw": content.depth, "rgb": content.picture}.get(kind)
        return frame(session, step) | ({EXTRA: more(session, step)} if more else {})

    scenes.frame = extended
    asyncio.run(scenes.record(root, 1, [3], journal, features=found, **plan))
    asyncio.run(scenes.record(root, 2, [3, 4, 5], journal, save=False, features=found, **plan))
    folder = EpisodeFolder.load(Staging(root).episode_paths()[-1])
    folder.manifest.state, folder.manifest.length = "recording", None
    folder.save()
    return 0


def read(root: Path) -> Readable:
    """Every episode that is whole: its rows, and the frames of both cameras at their places, bit for bit."""
    found = Readable()
    try:
        info = json.loads(_plain(root / "meta/info.json").read_bytes())
        total, fps = info["total_episodes"], info["fps"]
        rows = [row for path in _files(root, "meta/episodes") for row in pq.read_table(path).to_pylist()]
    except Exception:  # noqa: BLE001 - no reader gets further
        return found
    for row in rows:
        try:
            if row["episode_index"] < total:
                _read_episode(root, info, fps, row, found)
        except Exception:  # noqa: BLE001 - not readable
            continue
    return found


def _read_episode(root: Path, info: dict[str, Any], fps: int, row: dict[str, Any], found: Readable) -> None:
    place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
    table = pq.read_table(_plain(root / info["data_path"].format(**place))).to_pylist()
    wanted = {name for name, spec in info["features"].items() if spec["dtype"] != "video"}
    assert all(None not in values.values() and values.keys() == wanted for values in table)
    rows = [values for values in table if values["episode_index"] == row["episode_index"]]
    assert len(rows) == row["length"] == row["dataset_to_index"] - row["dataset_from_index"]
    assert [values["frame_index"] for values in rows] == list(range(len(rows)))
    codes = [tuple(map(int, values["observation.state"][:2])) for values in rows]
    whole = True
    for key, ahead in ((scenes.FRONT, 0), (scenes.WRIST, scenes.WRIST_STEPS)):
        pictures = _decode(_plain(_video(root, info, row, key)).read_bytes())
        first = round(row[f"videos/{key}/from_timestamp"] * fps)
        shown = pictures[first : first + len(rows)]
        assert len(shown) == len(rows)
        for code, picture in zip(codes, shown, strict=True):
            if picture != content.yuv_of(code[0], code[1] + ahead):
                whole = False
                luma = content.np.frombuffer(picture, content.np.uint8)[: content.HEIGHT * content.WIDTH]
                seen = content.read_code(luma.reshape(content.HEIGHT, content.WIDTH))
                found.mispaired.add((code, seen, key))
    if whole:
        found.episodes[codes[0]] = codes


def _files(root: Path, folder: str) -> list[Path]:
    return [_plain(path) for path in sorted((root / folder).glob("chunk-*/file-*.parquet"))]


def _plain(path: Path) -> Path:
    """A strict reader of a damaged dataset waits for no pipe and follows no link."""
    assert path.is_file(), path
    assert not path.is_symlink(), path
    assert path.stat().st_size < 1 << 26, path
    return path


class Fuzz:
    """All cases of one run.

    Args:
        folder: for the bases and the copies.
        seed: with a case's number it decides what is done.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._outside = folder / "outside"
        self._outside.mkdir(parents=True)
        self._log = folder / "output"
        for kind in KINDS:
            journal = folder / f"{kind}.journal"
            code = self._fork(lambda k=kind, j=journal: prepare(k, folder / k / "set", scenes.Journal(j)))
            assert code == 0, self._log.read_text()

    def case(self, number: int) -> dict[str, Any]:
        """Run one; ``faults`` says what is wrong, a sentence each."""
        kind = KINDS[number % len(KINDS)]
        rng = random.Random(f"{self._seed} {number}")
        work = self._folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self._folder / kind, work, symlinks=True)
        root = work / "set"
        precious = self._outside / "precious"
        precious.write_text(PRECIOUS)
        done = damage(root, self._outside, rng)
        outside = tree_hash(self._outside)  # of two damages, one may go through the link of the other
        before = self._read(root)
        stats = self._folder / "stats"
        consents = rng.random() < 0.5
        argv = ["check", str(root), "--repair", "--workers=1", *(["--accept-loss"] if consents else [])]
        if kind != "dataset":
            argv = ["recover", str(root), "--encode_workers=1"]

        def call() -> int:
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + SPACE_BYTES, size + SPACE_BYTES))
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
            try:
                return scenes.command(*argv)
            finally:
                stats.write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used))

        stats.unlink(missing_ok=True)
        code = self._fork(call)
        output = self._log.read_text(errors="replace")
        faults = []
        if code is None:
            faults.append("it hangs")
        elif code in (scenes.BUG,) or code < 0 or "Traceback" in output:
            faults.append(f"it ends with exit code {code}: {output[-700:]}")
        if stats.exists() and int(stats.read_text()) > GROWTH_KB:
            faults.append(f"memory grew by {int(stats.read_text()) >> 10} MiB")
        if "\x1b[2J" in output or "\x1b[31m" in output:
            faults.append("an escape sequence of a name reaches the terminal")
        if PRECIOUS[:100] in output:
            faults.append("what is outside is printed")
        if tree_hash(self._outside) != outside:
            faults.append("something outside was changed")
        after = self._read(root)
        for first, codes in before.episodes.items():
            told = kind == "dataset" and consents and "may be readable and would drop out" in output
            if after.episodes.get(first) != codes and not told:
                faults.append(f"the episode of {first} could be read before and cannot be read now")
        if kind != "dataset" and code == 0:
            faults += self._unsaid(kind, root, after)
        if new := after.mispaired - before.mispaired:
            faults.append(f"paired anew: {sorted(new, key=repr)[:3]}")
        return {
            "case": number,
            "kind": kind,
            "done": done,
            "code": code,
            "faults": faults,
            "out": output[-300:],
        }

    def _unsaid(self, kind: str, root: Path, after: Readable) -> list[str]:
        """Staged episodes that are neither whole in the dataset nor in staging, without a word."""
        staged: dict[str, list[tuple[int, int]]] = {}
        for line in (self._folder / f"{kind}.journal").read_text().splitlines():
            letter, id_, *code = line.split()
            if letter == "F" and (self._folder / kind / "set/.aiorecord/episodes" / id_).exists():
                staged.setdefault(id_, []).append((int(code[0]), int(code[1])))
        return [
            f"{id_} is not whole in the dataset, nor in staging, and nothing says so"
            for id_, codes in staged.items()
            if after.episodes.get(codes[0]) != codes and not (root / ".aiorecord/episodes" / id_).exists()
        ]

    def _read(self, root: Path) -> Readable:
        """In a fork: a damaged file may crash a library, and that is not what is looked for here."""
        result = self._folder / "readable"
        result.unlink(missing_ok=True)
        self._fork(lambda: result.write_text(read(root).as_json()) * 0)
        return Readable.parse(result.read_text()) if result.exists() else Readable()

    def _fork(self, call: Any) -> int | None:
        return forked(call, self._log, {})


def run(cases: range, seed: int) -> list[dict[str, Any]]:
    """Run cases; what was found is printed as it comes."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="fuzz", dir=memory if memory.is_dir() else None) as folder:
        fuzz = Fuzz(Path(folder), seed)
        results = []
        for number in cases:
            result = fuzz.case(number)
            results.append(result)
            if result["faults"]:
                print(f"FAULT seed {seed} {json.dumps(result)}", flush=True)
        return results


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    results = run(range(given.first, given.first + given.cases), given.seed)
    bad = sum(bool(result["faults"]) for result in results)
    print(f"{len(results)} inputs {dict(Counter(r['kind'] for r in results))}, {bad} faults found")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
