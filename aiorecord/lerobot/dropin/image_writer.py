"""A stand-in for the image writer that lerobot's scripts expect; it writes nothing."""

from __future__ import annotations

from pathlib import Path
from queue import Queue
from typing import Any

from lerobot.datasets.image_writer import AsyncImageWriter

from ...errors import StateError


class IdleImageWriter(AsyncImageWriter):  # type: ignore[misc]  # lerobot is not typed
    """A stand-in for lerobot's image writer, which writes nothing and has neither threads nor processes."""

    def __init__(self, num_processes: int = 0, num_threads: int = 1) -> None:
        if num_threads <= 0 and num_processes <= 0:
            raise ValueError("Number of threads and processes must be greater than zero.")
        self.num_processes = num_processes
        self.num_threads = num_threads
        self.queue: Queue[Any] = Queue()  # stays empty: nothing waits
        self.threads: list[Any] = []
        self.processes: list[Any] = []
        self._stopped = True  # `stop` then does nothing

    def save_image(self, image: Any, fpath: Path, compress_level: int = 1) -> None:
        """Refuse the image.

        Raises:
            StateError: always; frames are added with `add_frame`.
        """
        raise StateError("Images are captured by add_frame; this dataset has no image writer.")
