"""Keeps log messages off the terminal that the command prints itself."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from ..saving.handle import FLAG_LOGGER


def _is_not_a_flag(record: logging.LogRecord) -> bool:
    return record.name != FLAG_LOGGER


@contextlib.contextmanager
def flags_are_told() -> Iterator[None]:
    """While the block runs, flags of episodes are logged where somebody has set up logging, and nowhere else.

    Without any handler Python prints warnings on standard error, where the view and the summary have them.
    """
    resort = logging.lastResort
    if resort is not None:
        resort.addFilter(_is_not_a_flag)
    try:
        yield
    finally:
        if resort is not None:
            resort.removeFilter(_is_not_a_flag)
