"""Frame and status types of a camera capture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
from numpy.typing import NDArray

from ..encoded_image import EncodedImage
from ..errors import AiorecordError
from ..quality import CameraQuality


@dataclass(slots=True)
class TakenFrame:
    """One image, owned by the capture.

    Attributes:
        pixels: (H, W, 3) uint8 or (H, W) depth; of an encoded image its bytes, (n,) uint8.
        video: the frame whose memory `pixels` uses; None for depth, for images taken without a copy, and for
            encoded ones.
        encoded: the encoded image whose bytes `pixels` are.
        index: in the episode, set when it is queued.
        given: the encoder has received it.
        queued_ns: when it was queued, on Python's monotonic clock.
    """

    pixels: NDArray[Any]
    video: av.VideoFrame | None
    encoded: EncodedImage | None = None
    index: int = -1
    given: bool = False
    queued_ns: int = 0

    @property
    def content(self) -> NDArray[Any] | av.VideoFrame | EncodedImage:
        """The image as a `FrameWriter` takes it."""
        if self.encoded is not None:
            return self.encoded
        return self.pixels if self.video is None else self.video


@dataclass(frozen=True)
class CameraStatus:
    """The status of a camera at one moment.

    Attributes:
        captured: frames taken.
        queued_frames: of those, frames that wait, including those being worked on.
        queued_bytes: their size.
        spilled: frames that are in the spill and not in the encoder's file.
        bytes_written: on disk so far, spill included.
        error: what stopped the capture, None if nothing did.
        encoder_error: what stopped the capture encoder; the frames that follow are spilled.
        late: frames recorded at a late tick (`LATE_AFTER_S`), where ticks are known.
        repeated: frames with the same pixels as the frame before, among those that do not wait.
        stale: frames not newer than the frame before by the camera's own time; None if that is not known.
        lost: frames taken that are not on disk and will not be, 0 unless the capture failed.
        longest_freeze_s: the longest run of repeated frames, in seconds.
        corrupt: encoded images that the capture had to decode and could not; the frame before stands in.
    """

    captured: int
    queued_frames: int
    queued_bytes: int
    spilled: int
    bytes_written: int
    error: AiorecordError | None
    late: int = 0
    repeated: int = 0
    stale: int | None = None
    lost: int = 0
    longest_freeze_s: float = 0.0
    corrupt: int = 0
    encoder_error: AiorecordError | None = None

    def quality(self, *, ticked: bool) -> CameraQuality:
        """What the episode's quality record says of the camera.

        Args:
            ticked: frames were recorded at ticks; otherwise it is not known which were late.
        """
        return CameraQuality(
            captured=self.captured,
            spilled=self.spilled,
            late=self.late if ticked else None,
            repeated=self.repeated,
            stale=self.stale,
            lost=self.lost,
            longest_freeze_s=round(self.longest_freeze_s, 6),
            corrupt=self.corrupt,
        )
