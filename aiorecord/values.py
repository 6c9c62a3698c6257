"""Checks whether values from files, flags and callers are whole or finite numbers. Pure."""

from __future__ import annotations

import math
from typing import TypeGuard


def is_whole(value: object, least: int | None = None, most: int | None = None) -> TypeGuard[int]:
    """Whether the value is an int within limits; bools do not count."""
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return (least is None or value >= least) and (most is None or value <= most)


def is_number(value: object) -> TypeGuard[float]:
    """Whether the value is a finite int or float; bools do not count."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int too large for a float
        return False
