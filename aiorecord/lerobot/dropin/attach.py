"""Replaces the writer of an existing `LeRobotDataset` with aiorecord's."""

from __future__ import annotations

from typing import Any, Unpack

from lerobot.datasets import LeRobotDataset

from ...errors import StateError
from ...options import RecorderKeywords
from .dataset_writer import AsyncDatasetWriter

_becomes: list[type[Any]] = []


def becomes[T: type[Any]](kind: T) -> T:
    """Decorator that registers the class that a dataset becomes, without importing its module here."""
    _becomes[:] = [kind]
    return kind


def replace_writer(dataset: Any, **options: Unpack[RecorderKeywords]) -> Any:
    """Let a `LeRobotDataset` write through aiorecord; does nothing if it does already.

    Args:
        dataset: made by ``create`` or ``resume``, without unsaved frames.
        options: of `Recorder`, see `RecorderOptions`.

    Returns:
        The same object, which is now an `AsyncLeRobotDataset`.

    Raises:
        StateError: the dataset is read-only or finalized, or has unsaved frames.
        AiorecordError: as raised by `Recorder.open`.
    """
    [attached] = _becomes
    if getattr(dataset, "writer", None) is None:
        raise StateError("This dataset is read-only; make it with create() or resume().")
    if dataset._is_finalized:
        raise StateError("The dataset is finalized; `resume` it to record more.")
    if not isinstance(dataset.writer, AsyncDatasetWriter):
        dataset.writer = AsyncDatasetWriter.take_over(dataset.writer, **options)
    if not isinstance(dataset, attached):
        kind = type(dataset)
        if kind is LeRobotDataset:
            dataset.__class__ = attached
        else:
            dataset.__class__ = type(f"Async{kind.__name__}", (kind, attached), {})
    return dataset
