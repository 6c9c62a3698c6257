"""Worker processes in which chosen encodes meet a fault: killed, crashing, hanging, refusing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "unit" / "faults_encode"))

from injected_faults import encode_with

from aiorecord.encoding.camera_encoding import encode_camera
from aiorecord.workers.pool import WorkerPool


@dataclass
class Strike:
    """What goes wrong.

    Attributes:
        episode: number of the episode whose encode meets the fault, from 0, in the order of encoding.
        fault: its name and frame; see injected_faults.py.
        times: how many of its attempts.
    """

    episode: int
    fault: str
    times: int = 1


class StruckPool(WorkerPool):
    """The real pool of real processes; chosen encodes run into something.

    Args:
        max_workers: as of `WorkerPool`.
        strikes: what goes wrong.
    """

    def __init__(self, max_workers: int, strikes: Sequence[Strike], **options: Any) -> None:
        super().__init__(max_workers, **options)
        self._strikes = {strike.episode: strike for strike in strikes}
        self._folders: list[Path] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if fn is encode_camera:
            folder = args[0].folder
            if folder not in self._folders:
                self._folders.append(folder)
            strike = self._strikes.get(self._folders.index(folder))
            if strike is not None and strike.times > 0:
                strike.times -= 1
                return super().submit(encode_with, *args, strike.fault)
        return super().submit(fn, *args, **kwargs)
