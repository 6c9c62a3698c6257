"""Hands the frames of one camera from the loop to its encoder thread or its spill thread.

::

    put ─► queue ─► next(spill=False)   the encoder
              └───► next(spill=True)    once the budget was exceeded, a frame waited too long, or the
                                        encoder failed

The spill begins with the oldest frame that a killed process would lose: first those that the encoder was
given and that are not yet safe in its file, then everything that still waits. So there is never a gap before
the spill, and memory becomes free at the speed of the disk. The loop takes no lock: each value shared with
the threads is written by one side only, or is atomic.
"""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clock import NS_PER_S
from ..media.pixels import new_rgb_frame
from ..system.machine_time import monotonic_ns
from .background import next_token
from .budget import ByteBudget
from .frames import TakenFrame
from .repeats import Repeats

MAX_WAIT_S = 1.0
"""For how long a frame may wait for the encoder. A killed process loses waiting frames, and an encoder this
far behind also disturbs the loop."""

READY_FRAMES = 2
"""Frames whose memory is allocated before a camera's first frame."""


class FrameMemory:
    """Allocates and reuses memory for frames: colour in a layout that the encoder reads directly, depth as
    arrays.

    Any thread may call any method.

    Args:
        shape: of the frames: (H, W, 3), or (H, W) for depth.
        budget: keeps free memory for the next camera and episode with that shape.
    """

    def __init__(self, shape: tuple[int, ...], budget: ByteBudget) -> None:
        self._shape = shape
        self._free: deque[TakenFrame] = budget.spare(shape)

    def make_ready(self) -> None:
        """Allocate memory for the first frames."""
        while len(self._shape) == 3 and len(self._free) < READY_FRAMES:
            ready = self._frame_of_new_memory()
            ready.pixels.fill(0)  # here, and not on the loop, each page is touched for the first time
            self._free.append(ready)

    def copy_of(self, image: NDArray[Any]) -> TakenFrame:
        """A frame with the pixels of an image of the camera's shape, whatever its memory layout."""
        if len(self._shape) == 2:
            return TakenFrame(np.array(image, order="C"), None)
        frame = self._new_frame()
        pixels = frame.pixels
        if image.flags.c_contiguous and pixels.flags.c_contiguous:
            # numpy would leave the GIL to the camera threads meanwhile, and the loop would wait for it.
            memoryview(pixels).cast("B")[:] = memoryview(image).cast("B")
        elif image.strides[2] == 1:
            np.copyto(pixels, image)
        else:
            # Channels first, or in reverse: numpy would go pixel by pixel, five times as slowly.
            for channel in range(3):
                pixels[..., channel] = image[..., channel]
        return frame

    def for_encoder(self, frame: TakenFrame) -> TakenFrame:
        """A colour frame in memory that the encoder may read; an image taken without a copy is copied now."""
        if frame.video is not None or frame.encoded is not None or len(self._shape) == 2:
            return frame
        own = self._new_frame()
        np.copyto(own.pixels, frame.pixels)
        own.index = frame.index
        return own

    def give_back(self, frame: TakenFrame) -> None:
        """Take back the memory of a frame that is no longer used, if it was allocated here."""
        if frame.video is not None:
            self._free.append(frame)

    def _new_frame(self) -> TakenFrame:
        """Memory for a colour frame, reused if some is free."""
        try:
            return self._free.popleft()
        except IndexError:
            return self._frame_of_new_memory()

    def _frame_of_new_memory(self) -> TakenFrame:
        video, pixels = new_rgb_frame(*self._shape[:2])
        return TakenFrame(pixels, video)


class FrameQueue:
    """Passes each frame to the encoder or to the spill, in order.

    `put` and `takes` belong to the event loop and never wait; `wait`, `next` and `let_go` to the two threads.

    Args:
        budget: memory shared with the other cameras.
        memory: allocates frames and takes them back.
        repeats: compares the frames that are handed out.

    Attributes:
        account: counts the waiting bytes.
        spilling: the spill has taken over. Set once, by the first thread that finds it necessary.
    """

    def __init__(self, budget: ByteBudget, memory: FrameMemory, repeats: Repeats) -> None:
        self._budget, self._memory, self._repeats = budget, memory, repeats
        self.account = budget.open_account()
        self.spilling = False
        self._ended = False
        # Appended to by the loop; taken from by the two threads, one at a time.
        self._frames: deque[TakenFrame] = deque()
        self._taking = threading.Lock()
        # Given to the encoder, and lost if the process is killed now; shared by the two threads.
        self._given: deque[TakenFrame] = deque()
        # True for each frame, False at the end. SimpleQueue.put takes no lock that others hold.
        self._encoder_wake: SimpleQueue[bool] = SimpleQueue()
        self._spill_wake: SimpleQueue[bool] = SimpleQueue()

    def put(self, frame: TakenFrame) -> None:
        """Queue a frame. Never waits."""
        nbytes = frame.pixels.nbytes
        now_ns = monotonic_ns()
        if not self.spilling and (
            self._waits_too_long(now_ns) or not self._fits(nbytes, self._budget.limit_bytes)
        ):
            self.begin_spill()
        frame.given, frame.queued_ns = False, now_ns
        self.account.added += nbytes
        self._frames.append(frame)
        self.wake(spill=self.spilling)

    def takes(self, nbytes: int) -> bool:
        """Whether there is memory for one more frame; the limit is higher while the spill writes."""
        return self._fits(nbytes, self._budget.hard_limit_bytes)

    def look(self) -> None:
        """Let the spill take over if a frame waits too long, also when no further frame comes.

        Called by the thread that flushes; takes no lock, never blocks.
        """
        if not self.spilling and self._waits_too_long(monotonic_ns()):
            self.begin_spill()

    def begin_spill(self) -> None:
        """Let the spill take over. Any thread may call it, also twice; takes no lock."""
        self.spilling = True
        self._encoder_wake.put(False)  # its file ends here
        self._spill_wake.put(True)

    def wake(self, *, spill: bool, more: bool = True) -> None:
        """Wake one of the threads: for a frame, or (`more` False) for its end. Never blocks."""
        (self._spill_wake if spill else self._encoder_wake).put(more)

    def wait(self, *, spill: bool) -> bool:
        """Wait for `wake`, in one of the threads; False when it is to end, or the program has ended."""
        return next_token(self._spill_wake if spill else self._encoder_wake)

    def next(self, *, spill: bool) -> TakenFrame | None:
        """The next frame for one of the threads; None when there is none for it."""
        # Under the lock, so that the encoder cannot take a frame that follows one the spill has taken.
        with self._taking:
            if self._ended or spill != self.spilling:
                return None
            if spill and self._given:
                frame = self._given.popleft()
                self.account.kept = max(0, self.account.kept - frame.pixels.nbytes)
                return frame
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._repeats.add(frame.pixels)  # here, where frames are in order whichever thread takes them
            if not spill:
                frame.given = True
                self._given.append(frame)
            return frame

    def let_go(self, safe: int) -> None:
        """Release the memory of frames that the encoder was given and that are safe in its file.

        Args:
            safe: frames that can be read from the encoder's file if the process is killed now.
        """
        with self._taking:
            given = self._given
            if self.spilling or not given:
                return  # they are the spill's now
            # The newest is compared with the one that follows.
            nbytes = given[-1].pixels.nbytes
            self.account.kept = (len(given) - 1) * nbytes
            while len(given) > 1 and (given[0].index < safe or self._budget.keeps_too_much):
                frame = given.popleft()
                self.account.kept = (len(given) - 1) * nbytes
                self._memory.give_back(frame)

    def end(self) -> None:
        """Hand out no more frames, even if some wait."""
        self._ended = True

    def drop(self) -> None:
        """Hand out no more frames, and drop those that wait: no thread is left to take them."""
        self._ended = True
        with self._taking:
            self._frames.clear()
            self._given.clear()
        self._budget.close_account(self.account)

    def close(self) -> None:
        """Release the memory when the two threads have ended. Idempotent."""
        self._given.clear()
        self._repeats.forget()
        self._budget.close_account(self.account)

    def _fits(self, nbytes: int, limit: int) -> bool:
        return self.account.waiting == 0 or self._budget.used + nbytes <= limit

    def _waits_too_long(self, now_ns: int) -> bool:
        try:
            waited_ns = now_ns - self._frames[0].queued_ns
        except IndexError:
            return False
        # A single frame may wait twice as long: a pause of the whole process looks like one late frame.
        return waited_ns > MAX_WAIT_S * NS_PER_S * (1 if len(self._frames) > 1 else 2)
