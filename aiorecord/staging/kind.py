"""What a kind of capture has in common with the others: its file, its writer, and how its frames are read.

Each kind is a module of this folder with a `CaptureKind`, and a line in `kinds.KINDS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .manifest import Camera, Manifest
from .records import read_records
from .staged_file import Extent

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

SPILL_SUFFIX = ".spill"
"""Of the files of frames that a capture encoder could not take in time. They are raw, whatever the kind."""

type Frame = av.VideoFrame | NDArray[Any]


class FrameWriter(Protocol):
    """The file of a camera, written by one thread at a time.

    Attributes:
        path: of the file.
        size: bytes that are in it.
        frames: frames that are in it.
    """

    path: Path
    size: int
    frames: int

    @property
    def paths(self) -> list[Path]:
        """The file, and the file of its checksums if it has one."""

    @property
    def safe(self) -> int:
        """Frames that can be read from the file if the process is killed now."""

    def write(self, frame: Any, /) -> None:
        """Append a frame: an rgb24 `av.VideoFrame` for colour, an array for depth, or an `EncodedImage` where
        the camera's kind of capture `takes_encoded`."""

    def close(self) -> None:
        """Finish the file."""


type OpenWriter = Callable[[Path, Camera, int], FrameWriter]
"""Makes a camera's file: its path, how it is captured, and the frames per second. Blocking.

Raises `CodecUnavailableError` if the capture codec cannot be opened, `StorageError` if the disk refused."""


class CaptureKind(ABC):
    """One kind of capture.

    Attributes:
        name: in the manifest.
        suffix: of its files.
        is_depth: for depth cameras; the other kinds are for colour.
        is_final: its file holds the packets of the final video.
        has_sums: its file has a file of checksums next to it; other kinds have them in the file.
        takes_encoded: its file takes encoded images as they are.
        gives_arrays: its frames are read back as arrays; those of other kinds as `av.VideoFrame` in the
            camera's `pix_fmt`.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    is_depth: ClassVar[bool] = False
    is_final: ClassVar[bool] = False
    has_sums: ClassVar[bool] = False
    takes_encoded: ClassVar[bool] = False
    gives_arrays: ClassVar[bool] = False

    def camera(self, key: str, height: int, width: int, pix_fmt: str) -> Camera:
        """A camera that is captured so."""
        return Camera(
            capture=self.name,
            file=f"{key}{self.suffix}",
            pix_fmt=pix_fmt,
            height=height,
            width=width,
            spill=f"{key}{SPILL_SUFFIX}",
            histograms=None if self.is_depth else f"{key}.hist",
        )

    def shape(self, camera: Camera) -> tuple[int, ...]:
        """The shape of the arrays that a camera gives: (H, W, 3), or (H, W) for depth."""
        return (camera.height, camera.width) + (() if self.is_depth else (3,))

    @abstractmethod
    def writer(self, manifest: Manifest) -> OpenWriter:
        """What opens a camera's file in an episode."""

    @abstractmethod
    def read(self, path: Path, camera: Camera, manifest: Manifest) -> Iterator[Frame | None]:
        """The frames of a file in order; a file that does not exist has none.

        They end at the first that is torn, damaged or of another camera. An encoded image that is whole but
        cannot be decoded, because the camera sent it so, is None.
        """

    @abstractmethod
    def count(self, path: Path, camera: Camera, manifest: Manifest, extent: Extent) -> int:
        """The number of frames that `read` gives, found without decoding them where that is possible.

        Args:
            path: the file.
            camera: how it was captured.
            manifest: of its episode.
            extent: filled in with how far the file is whole.
        """

    def count_any(self, path: Path) -> int:
        """The frames of a file of which nothing is known but its name."""
        return sum(1 for _ in read_records(path))
