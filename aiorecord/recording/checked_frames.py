"""Checks frames against the dataset's features, and applies the policy for NaN and infinity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import FrameError
from ..features import CheckedFrame, Schema
from ..options import NonFinite
from ..printable import get_logger
from ..robots.schema import build_frame, from_flat

logger = get_logger(__name__)


class CheckedFrames:
    """Checks the frames of a recorder.

    Args:
        schema: of the dataset.
        policy: how to handle frames with NaN or infinity: ``accept`` counts them, ``refuse`` raises.

    Attributes:
        nonfinite: recorded frames that hold NaN or infinity.
    """

    def __init__(self, schema: Schema, policy: NonFinite) -> None:
        self._schema = schema
        self._specs = schema.as_dict(defaults=False)
        self._policy = policy
        self.nonfinite = 0

    def check(self, frame: Mapping[str, Any], action: Mapping[str, Any] | None = None) -> CheckedFrame:
        """Check a frame; see `Schema.check`. Only numbers gathered from flat values are copied.

        Args:
            frame: keyed as the features, or in LeRobot's flat style; with `action`, the observation alone.
            action: as the teleoperator returned it, in either style; None when it is in `frame`.

        Raises:
            FrameError: it does not fit the features, or holds NaN or infinity and the policy is ``refuse``.
        """
        if action is not None:
            whole = build_frame(self._specs, frame, action)
            frame = {**whole, "task": frame["task"]} if "task" in frame else whole
        elif isinstance(frame, Mapping) and not self._specs.keys() <= frame.keys():
            frame = from_flat(self._specs, frame)
        checked = self._schema.check(frame)
        if checked.nonfinite:
            keys = ", ".join(checked.nonfinite)
            if self._policy == "refuse":
                raise FrameError(f"The frame holds NaN or infinity in {keys}.", key=checked.nonfinite[0])
            self.nonfinite += 1
            if self.nonfinite == 1:
                logger.warning(
                    "A frame holds NaN or infinity in %s; recorded as it is, counted from now on.", keys
                )
        return checked
