"""Keeps log messages off the terminal that the command prints itself."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from ..saving.job import FLAG_LOGGER


def _is_not_a_flag(record: logging.LogRecord) -> bool:
    return record.name != FLAG_LOGGER


@contextlib.contextmanager
def flags_are_told() -> Iterator[None]:
    """While the block runs, flagged episodes are logged only if logging is configured.

    Without a handler Python would print the warnings to standard error, where the view and the summary show
    them already.
    """
    resort = logging.lastResort
    if resort is not None:
        resort.addFilter(_is_not_a_flag)
    try:
        yield
    finally:
        if resort is not None:
            resort.removeFilter(_is_not_a_flag)
