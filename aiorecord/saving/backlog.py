"""Computes how much is left to encode, and how long that will take. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY_S = 30.0
"""The speed is an average over about so many of the newest seconds in which something was encoded."""


@dataclass(frozen=True)
class Backlog:
    """What ended episodes still need.

    Attributes:
        frames: still to be encoded, over all cameras.
        seconds: how long that will take at the speed measured so far; None before there is one.
        bytes: what the episodes take in staging.
    """

    frames: int
    seconds: float | None
    bytes: int


class EncodeSpeed:
    """Measures frames per second over the time in which anything is encoded; idle time does not count."""

    def __init__(self) -> None:
        self._active = 0
        self._busy_s = 0.0  # up to `_since_s`
        self._since_s = 0.0
        self._ended_frames = 0.0
        self._seen_s = 0.0
        self._seen_frames = 0.0
        self._frames = 0.0  # of the average, and the seconds they took
        self._seconds = 0.0

    def began(self, now_s: float) -> None:
        """An encode began."""
        self._advance(now_s)
        self._active += 1

    def ended(self, now_s: float, frames: float) -> None:
        """An encode ended, well or not, after so many frames."""
        self._advance(now_s)
        self._active -= 1
        self._ended_frames += frames

    def per_second(self, now_s: float, running_frames: float) -> float | None:
        """Frames per second, over all encodes together; None while there is nothing to go by.

        Args:
            now_s: the time.
            running_frames: frames encoded so far of the encodes that run.
        """
        self._advance(now_s)
        frames = self._ended_frames + running_frames
        passed_s = self._busy_s - self._seen_s
        if passed_s > 0 and frames >= self._seen_frames:  # fewer: an encode began anew
            kept = max(0.0, 1 - passed_s / MEMORY_S)
            self._frames = kept * self._frames + frames - self._seen_frames
            self._seconds = kept * self._seconds + passed_s
        self._seen_s, self._seen_frames = self._busy_s, frames
        return self._frames / self._seconds if self._frames > 0 else None

    def _advance(self, now_s: float) -> None:
        if self._active:
            self._busy_s += now_s - self._since_s
        self._since_s = now_s
