"""Damages a dataset in seeded ways and reads it: ``python fuzz_driver.py PREPARED FOLDER SEED CASES``.

In a process of its own, with bounded memory: a crash of a library, a hang or a hunger for memory ends it, and
not the tests. Each case is printed before it is run; the exit code is 1 after a bug.
"""

from __future__ import annotations

import hashlib
import random
import resource
import shutil
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "dataset"))
sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from subject import read_everything

MEMORY_BYTES = 6 << 30
"""Of address space; Arrow and libav reserve much more of it than they use."""

GROWTH_BYTES = 700 << 20
"""By how much the memory really used may grow over all cases."""

JSON_VALUES = [
    *("null", "true", "-1", "0", "1e999", "1000000000000", "-0.5", '"x"', "[]", "{}", '"\\u0000"'),
    *('"../../x"', '"/etc/passwd"', "[" * 50_000 + "]" * 50_000, "9" * 5000, '"\\ud800"', "NaN", "[[[1]]]"),
]


def mutate(data: bytes, rng: random.Random, name: str) -> tuple[str, bytes]:
    """One way to damage a file."""
    how = rng.choice(["truncate", "flip", "flips", "zeros", "grow", "repeat", "swap", "value", "drop"])
    if how == "truncate" or not data:
        return f"truncate {name}", data[
            : rng.choice([0, 1, 4, 8, len(data) // 2, rng.randrange(len(data) + 1)])
        ]
    out = bytearray(data)
    if how in ("flip", "flips"):
        for _ in range(1 if how == "flip" else rng.randint(2, 50)):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif how == "zeros":
        start = rng.randrange(len(out))
        end = min(len(out), start + rng.choice([1, 16, 512, 4096]))
        out[start:end] = bytes(end - start)
    elif how == "grow":
        out += rng.choice([bytes(1 << 16), rng.randbytes(1 << 12), b"\xff" * 64])
    elif how == "repeat":
        out += bytes(out)
    elif how == "swap":
        middle = rng.randrange(len(out))
        out = out[middle:] + out[:middle]
    elif how == "drop":
        start = rng.randrange(len(out))
        del out[start : start + rng.choice([1, 7, 100])]
    elif name.endswith(".json"):
        return f"value in {name}", replace_value(data, rng)
    else:
        at = rng.randrange(len(out))
        out[at : at + 8] = rng.choice(
            [b"\xff" * 8, b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x00\x00\x00\x80" * 2]
        )
    return f"{how} {name}", bytes(out)


def replace_value(data: bytes, rng: random.Random) -> bytes:
    """Put something else behind one colon of a JSON file."""
    places = [n for n, byte in enumerate(data) if byte == ord(":")]
    if not places:
        return data
    start = rng.choice(places) + 1
    end = start
    depth = 0
    while end < len(data) and (depth or data[end : end + 1] not in b",}\n"):
        depth += data[end : end + 1] in b"[{"
        depth -= data[end : end + 1] in b"]}"
        end += 1
    return data[:start] + rng.choice(JSON_VALUES).encode() + data[end:]


def digest(folder: Path) -> str:
    parts = [
        f"{p.relative_to(folder)} {p.read_bytes() if p.is_file() else ''}" for p in sorted(folder.rglob("*"))
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def main() -> int:
    prepared, folder, seed, cases = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    outside = folder / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    shutil.copytree(prepared, folder / "warm")
    print("untouched:", read_everything(folder / "warm"), flush=True)
    before, used = digest(outside), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = sorted(path.relative_to(prepared) for path in prepared.rglob("*") if path.is_file())
    bugs = 0
    for case in range(cases):
        rng = random.Random(f"{seed}-{case}")
        root = folder / f"case-{case}"
        shutil.copytree(prepared, root)
        done = []
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            file = root / rng.choice(files)
            how, data = mutate(file.read_bytes(), rng, file.relative_to(root).as_posix())
            file.write_bytes(data)
            done.append(how)
        print(f"case {seed}-{case}: {'; '.join(done)}", end=" -> ", flush=True)
        try:
            print(read_everything(root), flush=True)
        except Exception:  # noqa: BLE001 - that is what is looked for
            bugs += 1
            print("BUG", flush=True)
            traceback.print_exc(file=sys.stdout)
        if digest(outside) != before:
            print("BUG: something outside was touched", flush=True)
            return 1
        shutil.rmtree(root)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used) << 10
    print(f"memory grew by {grown >> 20} MiB")
    if grown > GROWTH_BYTES:
        print("BUG: unbounded memory")
        bugs += 1
    return 1 if bugs else 0


if __name__ == "__main__":
    sys.exit(main())
