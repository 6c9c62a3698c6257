"""Damage by structure: what a file is made of is taken apart and put together in another way."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

VALUES: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        1,
        2**31,
        2**63,
        10**30,
        1e308,
        -0.5,
        "",
        "x",
        "../../outside/precious",
        "/etc/passwd",
    ),
    *([], {}, [[[]]], {"a": {"b": None}}, "\x1b[2J", "a" * 300, "\x00", "é\ud800"),
]
NUMBERS = [0, 1, 7, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
HUGE = 5 << 30

DOUBLES = ["file-001", "file-002", "\x1b[31m", "x" * 200]


def damage(root: Path, outside: Path, rng: random.Random) -> list[str]:
    """Damage one to three things; returns what was done, for a person to read."""
    done = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        files = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
        path = rng.choice(files)
        how = _entries(path, files, outside, rng) if rng.random() < 0.35 else _inside(path, rng)
        done.append(f"{how} {path.relative_to(root)}")
    return done


def _inside(path: Path, rng: random.Random) -> str:
    kinds: dict[str, Callable[[Path, random.Random], str]] = {
        ".json": _json,
        ".jsonl": _lines,
        ".parquet": _parquet,
        ".mp4": _boxes,
        ".mkv": _numbers,
    }
    if rng.random() < 0.25:
        return _bytes(path, rng)
    try:
        return kinds.get(path.suffix, _numbers)(path, rng)
    except (ValueError, OSError, pa.ArrowException, IndexError):
        return _bytes(path, rng)  # damaged already, or nothing of that kind is in it


def _json(path: Path, rng: random.Random) -> str:
    value = json.loads(path.read_bytes())
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(value)
    node, key = rng.choice(places)
    how = rng.choice(["value", "value", "remove", "swap", "number"])
    if how == "remove":
        del node[key]
    elif how == "swap":
        other, there = rng.choice(places)
        node[key] = other.get(there) if isinstance(other, dict) else None
    elif how == "number" and isinstance(node[key], int):
        node[key] += rng.choice([-1, 1, 10**6])
    else:
        node[key] = rng.choice(VALUES)
    path.write_text(json.dumps(value))
    return f"json {how} {key!r:.40} in"


def _lines(path: Path, rng: random.Random) -> str:
    lines = path.read_bytes().splitlines(keepends=True)
    rng.shuffle(lines)
    path.write_bytes(b"".join(lines[: rng.randint(0, len(lines))]) + rng.choice([b"", b"{", b"[" * 50_000]))
    return "lines of"


def _parquet(path: Path, rng: random.Random) -> str:
    data = path.read_bytes()
    how = rng.choice(["column", "values", "rows", "footer", "length", "bomb", "metadata", "page", "type"])
    if how == "length":
        path.write_bytes(data[:-8] + struct.pack("<I", rng.choice(NUMBERS)) + data[-4:])
        return "parquet footer length of"
    if how == "footer":
        size = struct.unpack("<I", data[-8:-4])[0]
        at = len(data) - 8 - rng.randrange(1, size)
        path.write_bytes(data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :])
        return "parquet footer of"
    if how == "page":
        at = rng.randrange(4, len(data) // 2)
        path.write_bytes(data[:at] + rng.randbytes(4) + data[at + 4 :])
        return "parquet page of"
    table = pq.read_table(path)
    number = rng.randrange(table.num_columns)
    field = table.schema.field(number)
    if how == "column":
        table = table.remove_column(number)
    elif how == "rows":
        order = list(range(table.num_rows))
        choice = rng.choice(["reverse", "repeat", "drop"])
        order = {"reverse": order[::-1], "repeat": order * 2, "drop": order[1:]}[choice]
        table = table.take(order)
    elif how == "metadata":
        table = table.replace_schema_metadata({"huggingface": rng.choice(["", "{", "null", "[" * 10_000])})
    elif how == "type":
        values = pa.array([f"{v}"[:20] for v in table[number].to_pylist()])
        table = table.set_column(number, field.name, values)
    elif how == "bomb":
        zeros = pa.chunked_array([pa.array([bytes(1 << 20)]).take(pa.array([0] * table.num_rows))])
        pq.write_table(table.set_column(number, field.name, zeros), path, compression="zstd")
        return f"parquet bomb in {field.name!r} of"
    elif pa.types.is_integer(field.type):
        values = table[number].to_pylist()
        values[rng.randrange(len(values))] = rng.choice([None, -1, 0, 2**62, values[0]])
        table = table.set_column(number, field, pa.array(values, field.type))
    else:
        table = table.set_column(number, field.name, pa.nulls(table.num_rows, field.type))
    pq.write_table(table, path)
    return f"parquet {how} {field.name!r} of"


def _boxes(path: Path, rng: random.Random) -> str:
    """ISO base media boxes (ISO/IEC 14496-12): size, type, content."""
    data, boxes, at = path.read_bytes(), [], 0
    while at + 8 <= len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        size = size if 8 <= size <= len(data) - at else len(data) - at
        boxes.append(data[at : at + size])
        at += size
    how = rng.choice(["drop", "double", "size", "type", "order", "inner"])
    number = rng.randrange(len(boxes))
    box = boxes[number]
    if how == "drop":
        del boxes[number]
    elif how == "double":
        boxes.insert(number, box)
    elif how == "size":
        boxes[number] = struct.pack(">I", rng.choice(NUMBERS)) + box[4:]
    elif how == "type":
        boxes[number] = box[:4] + rng.choice([b"free", b"moov", b"\x00\xff\x1b[", b"uuid"]) + box[8:]
    elif how == "order":
        rng.shuffle(boxes)
    else:
        names = [b"stts", b"stsz", b"stco", b"stsc", b"mdhd", b"elst", b"avcC", b"tkhd"]
        places = [p for name in names if (p := data.find(name)) >= 0]
        at = rng.choice(places) + 4 * rng.randint(1, 5)
        boxes = [data[:at] + struct.pack(">I", rng.choice(NUMBERS)) + data[at + 4 :]]
    path.write_bytes(b"".join(boxes))
    return f"box {how} in"


def _numbers(path: Path, rng: random.Random) -> str:
    """A number of a header: records, Arrow streams and Matroska begin with them and repeat them."""
    data = bytearray(path.read_bytes())
    at = min(rng.choice([0, 4, 8, 12, 16, 24, 32, rng.randrange(len(data))]), len(data) - 1)
    order = rng.choice("<>")
    data[at : at + 4] = struct.pack(f"{order}I", rng.choice(NUMBERS))
    path.write_bytes(data)
    return f"number at {at} of"


def _bytes(path: Path, rng: random.Random) -> str:
    data = bytearray(path.read_bytes())
    if not data:
        path.write_bytes(b"\0")
        return "byte in"
    how = rng.choice(["flip", "cut", "zeros", "tail"])
    at = rng.randrange(len(data))
    if how == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del data[at:]
    elif how == "zeros":
        data[at : at + 512] = bytes(len(data[at : at + 512]))
    else:
        data += rng.randbytes(100)
    path.write_bytes(data)
    return f"{how} at {at} of"


def _entries(path: Path, files: list[Path], outside: Path, rng: random.Random) -> str:
    how = rng.choice(
        [
            "missing",
            "swap",
            "double",
            "link",
            "device",
            "pipe",
            "folder",
            "dangling",
            "sparse",
            "empty",
            "hard",
        ]
    )
    alike = [other for other in files if other.suffix == path.suffix and other != path]
    if how == "swap" and alike:
        other = rng.choice(alike)
        aside = path.with_name("aside")
        os.rename(path, aside)
        os.rename(other, path)
        os.rename(aside, other)
        return f"swap with {other.name}:"
    if how == "double":
        name = rng.choice([name for name in DOUBLES if name != path.stem])
        shutil.copyfile(path, path.with_name(name + path.suffix))
        return f"double as {name!r:.20}:"
    if how == "sparse":
        with path.open("r+b") as file:
            file.truncate(HUGE)
        return "sparse"
    path.unlink()
    if how == "link":
        path.symlink_to(outside / "precious")
    elif how == "device":
        path.symlink_to("/dev/zero")
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "dangling":
        path.symlink_to(outside / "nothing")
    elif how == "hard":
        os.link(outside / "precious", path)
    elif how == "empty":
        path.touch()
    return how
