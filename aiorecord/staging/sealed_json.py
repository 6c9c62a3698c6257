"""JSON files that hold their own checksum, under the key ``crc32``: of all other keys in canonical form."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import DamageError
from ..system.storage import MAX_JSON_BYTES, parse_json, write_json
from .checksum_owner import owner_seed
from .staged_file import read_whole

SEAL = "crc32"


def seal_of(path: Path, data: Mapping[str, Any]) -> str:
    """The checksum of a file's content except its own checksum; begun with `owner_seed`."""
    rest = {name: value for name, value in data.items() if name != SEAL}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode(), owner_seed(path)):08x}"


def write_sealed(path: Path, data: Mapping[str, Any]) -> None:
    """Durably replace a JSON file, with its checksum."""
    plain: dict[str, Any] = json.loads(
        json.dumps(data, allow_nan=False)
    )  # as it will be read back: keys are text
    write_json(path, {**plain, SEAL: seal_of(path, plain)})


def read_sealed(
    path: Path, *, required: Callable[[dict[str, Any]], bool] = lambda data: False
) -> dict[str, Any]:
    """Read what `write_sealed` wrote, without the checksum.

    Args:
        path: the file.
        required: returns whether this content is refused without a checksum.

    Raises:
        DamageError: it is missing, not a plain file, or it does not match its checksum.
        ValueError: it is not JSON, or no object.
        StorageError: it cannot be read.
    """
    data = parse_json(read_whole(path, MAX_JSON_BYTES))
    if not isinstance(data, dict):
        raise ValueError("it is not an object")
    if SEAL in data or required(data):
        try:
            sound = data.get(SEAL) == seal_of(path, data)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        if not sound:
            raise DamageError(f"{path} is damaged: it does not match its checksum.", path=path)
    data.pop(SEAL, None)
    return data
