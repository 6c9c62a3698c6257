"""The thread that makes a running episode durable once a second, so that a kill loses about one second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import AiorecordError, EncodeError
from ..staging.folder import EpisodeFolder
from ..staging.rows import RowsJournal
from ..staging.synced import SyncedLog
from ..system.storage import fsync_file, fsync_files, storage_errors
from ..system.threads import start_thread
from .background import join_started, wait_set
from .camera import CameraCapture

FLUSH_PERIOD_S = 1.0
"""How much of a running episode a power loss may take.

Frames wait for their encoder no longer than that (`MAX_WAIT_S`): then they are spilled."""


class EpisodeJournal:
    """Flushes rows, makes files durable and saves the manifest once a second, while frames come.

    It also lets a camera's spill take over where a frame waits for too long. Between episodes it sleeps.

    Args:
        folder: of the episode.
        rows: its rows.
        cameras: its cameras, by feature key.
        facts: returns the cameras' counts so far, for the manifest; called in the thread.

    Attributes:
        error: what ended the thread early, None if nothing did.
        sync_error: the disk's error when data was made durable; that data may be lost.
    """

    def __init__(
        self,
        folder: EpisodeFolder,
        rows: RowsJournal,
        cameras: Mapping[str, CameraCapture],
        facts: Callable[[], dict[str, Any]],
    ) -> None:
        self.error: AiorecordError | None = None
        self.sync_error: AiorecordError | None = None
        self._folder, self._rows, self._cameras, self._facts = folder, rows, cameras, facts
        self._synced = SyncedLog(folder.path)
        self._rows_size = 0  # that an fsync made durable
        self._noted = False  # facts that the manifest on disk does not have
        self._frames_came = threading.Event()
        self._closing = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"aiorecord-journal-{folder.id}")

    def start(self) -> None:
        """Start the thread, which sleeps until a frame comes."""
        start_thread(self.thread)

    def frame_came(self) -> None:
        """Tell the thread that there is something to write. Called with each frame; sets a flag at most."""
        if not self._frames_came.is_set():
            self._frames_came.set()

    def fact_noted(self) -> None:
        """Tell the thread that the manifest changed; it is saved with the next flush. Never blocks."""
        self._noted = True

    def stop(self) -> None:
        """End the thread; `finish` writes what is left. Blocking, idempotent."""
        self._closing.set()
        self._frames_came.set()
        join_started(self.thread)
        self._synced.close()

    def sync(self) -> None:
        """Make the cameras' files durable, all at once; for the end of the episode. Blocking.

        Raises:
            StorageError: the disk refused; the error is in `sync_error`, too.
        """
        try:
            fsync_files([path for camera in self._cameras.values() for path in camera.paths()])
        except AiorecordError as error:
            self.sync_error = error
            raise

    def _sync(self) -> bool:
        """Make the cameras' files durable, and record the durable size of each.

        One file after the other, so as not to disturb the loop; False if the episode ended meanwhile.
        """
        try:
            sizes: dict[str, int] = {}
            for camera in self._cameras.values():
                sizes |= camera.sizes()
                for path in camera.paths():
                    if self._closing.is_set():
                        return False
                    with storage_errors(path, "make durable"):
                        fsync_file(path)
            self._synced.note({self._rows.path.name: self._rows_size, **sizes})
        except AiorecordError as error:
            self.sync_error = error
            raise
        return True

    def _run(self) -> None:
        try:
            saved: dict[str, Any] | None = None
            while wait_set(self._frames_came):
                for _ in range(2):
                    if self._closing.wait(FLUSH_PERIOD_S / 2):
                        return  # finish() writes the rest
                    for camera in self._cameras.values():
                        camera.look()
                self._frames_came.clear()
                if self._closing.is_set():
                    return  # finish() came since: its wake-up may have been the one just cleared
                self._rows.flush()
                self._rows_size = self._rows.size
                if not self._sync():
                    return
                facts = self._facts()
                # Frames alone, which every flush has more of, are no reason to write.
                found = {key: {**counts, "captured": 0} for key, counts in facts.items()}
                if self._noted or found != saved:
                    self._noted, saved = False, found
                    # Saved now, so that a killed episode has these counts too.
                    self._folder.save({"cameras": facts})
        except AiorecordError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - raised with the next frame
            self.error = EncodeError(f"Rows could not be written: {error!r}")
            self.error.__cause__ = error
