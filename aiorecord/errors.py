"""Every error aiorecord raises, in one tree.

Each error also derives from the built-in it specialises, so `except ValueError` keeps working for
callers who do not know aiorecord::

    AiorecordError
    ├── ConfigError(ValueError)            a setting that cannot work, found before anything is written
    ├── FeatureError(ValueError)           a feature dict that no dataset could hold
    ├── FrameError(ValueError)             a frame that does not fit the features; nothing was recorded of it
    ├── StateError(RuntimeError)           a call at the wrong time (a frame after the end, a second open)
    ├── StorageError(OSError)              the disk refused: full, read-only, missing, not writable
    │   ├── DatasetLockedError             another process records into this dataset
    │   └── DiskFullError                  less is free than `min_free_gb`: no episode can begin
    ├── DatasetError(ValueError)           what is on disk is not the dataset that was asked for
    │   └── DamageError                    a file of staging was read, and is not what was written
    ├── SourceError(RuntimeError)          a robot, teleoperator or camera failed
    │   └── SourceLostError                it failed for longer than its policy holds its last value
    ├── EncodeError(RuntimeError)          a video could not be encoded or does not hold every frame
    │   └── CodecUnavailableError          this build or machine cannot open the codec as configured
    └── SaveError(RuntimeError)            an ended episode was not committed; it stays in staging
        └── SaveTimeoutError(TimeoutError) the save made no progress for its time limit

Errors of third-party libraries are mapped here once, at the edge where they appear, and kept as
`__cause__`.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "AiorecordError",
    "CodecUnavailableError",
    "ConfigError",
    "DamageError",
    "DatasetError",
    "DatasetLockedError",
    "DiskFullError",
    "EncodeError",
    "FeatureError",
    "FrameError",
    "SaveError",
    "SaveTimeoutError",
    "SourceError",
    "SourceLostError",
    "StateError",
    "StorageError",
]


class AiorecordError(Exception):
    """Base of every error that aiorecord raises on purpose."""


class ConfigError(AiorecordError, ValueError):
    """A setting that cannot work.

    Attributes:
        option: the setting's name as the caller wrote it, or None.
    """

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class FeatureError(AiorecordError, ValueError):
    """A feature dict that no dataset could hold.

    Attributes:
        key: the feature, or None when it is the dict as a whole.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class FrameError(AiorecordError, ValueError):
    """A frame that does not fit the features. Nothing of that frame was recorded.

    Attributes:
        key: the offending feature, or None when keys are missing or unknown.
        frame_index: the index the frame would have had, or None if unknown.
    """

    def __init__(self, message: str, *, key: str | None = None, frame_index: int | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.frame_index = frame_index


class StateError(AiorecordError, RuntimeError):
    """A call that the object's state does not allow."""


class StorageError(AiorecordError, OSError):
    """The disk refused an operation.

    Attributes:
        path: the file or folder concerned, or None.
        reading: it was asked to read, so that what is there is not known; nothing was changed.
    """

    def __init__(self, message: str, *, path: Path | None = None, reading: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.reading = reading


class DatasetLockedError(StorageError):
    """Another live process is recording into the dataset.

    Attributes:
        path: the lock file.
        pid: the holder's process id, or None when it could not be read.
        host: the holder's host name, or None.
    """

    def __init__(self, message: str, *, path: Path, pid: int | None, host: str | None) -> None:
        super().__init__(message, path=path)
        self.pid = pid
        self.host = host


class DiskFullError(StorageError):
    """Less is free than is to stay free (`min_free_gb`), or the disk takes nothing: no episode can begin.

    Attributes:
        path: the dataset's folder.
        free_bytes: what is free on its disk.
    """

    def __init__(self, message: str, *, path: Path, free_bytes: int) -> None:
        super().__init__(message, path=path)
        self.free_bytes = free_bytes


class DatasetError(AiorecordError, ValueError):
    """What is on disk is not the dataset that was asked for.

    Attributes:
        path: the dataset root or the offending file.
    """

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class DamageError(DatasetError):
    """A file of staging was read, and is not what was written. The episode stays in staging."""


class SourceError(AiorecordError, RuntimeError):
    """A robot, teleoperator or camera failed.

    Attributes:
        source: its name, e.g. ``"robot"`` or ``"teleop"``.
        call: the method that failed, e.g. ``"get_observation"``.
    """

    def __init__(self, message: str, *, source: str, call: str) -> None:
        super().__init__(message)
        self.source = source
        self.call = call


class SourceLostError(SourceError):
    """A guarded source failed for longer than its policy lets its last good value stand in for it."""


class EncodeError(AiorecordError, RuntimeError):
    """A video could not be encoded, or does not hold every frame.

    Attributes:
        camera: the feature key of the video, or None.
        codec: the encoder's name, or None.
    """

    def __init__(self, message: str, *, camera: str | None = None, codec: str | None = None) -> None:
        super().__init__(message)
        self.camera = camera
        self.codec = codec

    def __reduce__(self) -> tuple[object, ...]:
        # Encode errors cross process boundaries; keyword-only attributes need help to be unpickled.
        return _rebuild_encode_error, (type(self), str(self), self.camera, self.codec)


def _rebuild_encode_error(
    kind: type[EncodeError], message: str, camera: str | None, codec: str | None
) -> EncodeError:
    return kind(message, camera=camera, codec=codec)


class CodecUnavailableError(EncodeError):
    """This build or machine cannot open the codec as configured."""


class SaveError(AiorecordError, RuntimeError):
    """An ended episode was not committed. Its data stays in staging.

    Attributes:
        episode_id: the staging id of the episode.
        staging: the folder that still holds it, or None.
    """

    def __init__(self, message: str, *, episode_id: str, staging: Path | None = None) -> None:
        super().__init__(message)
        self.episode_id = episode_id
        self.staging = staging


class SaveTimeoutError(SaveError, TimeoutError):
    """The save made no progress for its time limit."""
