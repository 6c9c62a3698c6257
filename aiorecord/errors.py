"""Every error aiorecord raises, in one tree.

Each error also derives from the built-in it specialises, so `except ValueError` keeps working for
callers who do not know aiorecord::

    AiorecordError
    ├── ConfigError(ValueError)            an invalid or unusable setting, found before anything is written
    ├── FeatureError(ValueError)           a feature dict that no dataset can hold
    ├── FrameError(ValueError)             a frame that does not fit the features; it was not recorded
    ├── StateError(RuntimeError)           a call at the wrong time (a frame after the end, a second open)
    ├── StorageError(OSError)              the disk is full, read-only or missing, or no permission
    │   ├── DatasetLockedError             another process records into this dataset
    │   └── DiskFullError                  free space is below `min_free_gb`: no episode can begin
    ├── DatasetError(ValueError)           the files on disk are not a valid or not the expected dataset
    │   └── DamageError                    the content of a staging file is not what was written
    ├── SourceError(RuntimeError)          a robot, teleoperator or camera failed
    │   └── SourceLostError                it failed for longer than its policy repeats its last value
    ├── EncodeError(RuntimeError)          a video could not be encoded or does not hold every frame
    │   └── CodecUnavailableError          this build or machine cannot open the codec as configured
    └── SaveError(RuntimeError)            an ended episode was not committed; it stays in staging
        └── SaveTimeoutError(TimeoutError) the save made no progress within its time limit

Errors of third-party libraries are mapped to these where they are raised, and kept as `__cause__`.
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
    """A setting with an invalid or unusable value, found before anything is written.

    Attributes:
        option: the setting's name as the caller wrote it, or None.
    """

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class FeatureError(AiorecordError, ValueError):
    """A feature dict that no dataset can hold.

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
    """The operating system refused to read or write a file.

    Attributes:
        path: the file or folder concerned, or None.
        reading: the failed operation was a read: the content is not known, and nothing was changed.
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
    """Free space is below `min_free_gb`, or the disk accepts no more data: no episode can begin.

    Attributes:
        path: the dataset's folder.
        free_bytes: free bytes on its disk.
    """

    def __init__(self, message: str, *, path: Path, free_bytes: int) -> None:
        super().__init__(message, path=path)
        self.free_bytes = free_bytes


class DatasetError(AiorecordError, ValueError):
    """The files on disk are not a valid dataset, or not the expected one.

    Attributes:
        path: the dataset root or the offending file.
    """

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class DamageError(DatasetError):
    """The content of a file in staging is not what was written. The episode stays in staging."""


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
    """A guarded source failed for longer than its policy allows its last good value to be repeated."""


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
    """The codec cannot be opened with these settings in this build or on this machine."""


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
    """The save made no progress within its time limit."""
