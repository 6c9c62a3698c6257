"""Sends views to the Rerun viewer, logged as lerobot does.

Entities, their archetypes and the blueprint follow lerobot 0.6.1 (`lerobot/utils/rerun_visualization.py`):
numbers as `Scalars` over time, images without history (``static``), depth as `DepthImage`, a grid with one
view per image and one plot each for observation and action.
"""

from __future__ import annotations

import ctypes
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...errors import ConfigError
from ..displays import display_problem, is_listening
from ..entities import Entity
from ..view import View

PORT = 9876
"""The port on which Rerun viewers listen by default."""

FLUSH_S = 2.0
MEMORY_LIMIT = "10%"
"""Memory limit of a viewer started here; $LEROBOT_RERUN_MEMORY_LIMIT overrides it, as in lerobot."""


class RerunSink:
    """Logs views to a Rerun viewer.

    Args:
        session_name: Rerun's application id.
        ip: address of a running viewer, None starts one here.
        port: its port, None for Rerun's own.
        compressed: log colour images as JPEG.
        connect: connects a recording stream, instead of `ip` and `port`: for files and tests.
    """

    def __init__(
        self,
        session_name: str,
        ip: str | None = None,
        port: int | None = None,
        compressed: bool = False,
        connect: Callable[[Any], None] | None = None,
    ) -> None:
        self._name = session_name
        self._ip = ip
        self._port = PORT if port is None else port
        self._compressed = compressed
        self._connect = connect
        self._stream: Any = None
        self._arranged = False
        self.hint: str | None = None

    def open(self) -> str | None:
        """Connect to the viewer, or start one; see `Sink`.

        Raises:
            ConfigError: the viewer program cannot be started.
        """
        import rerun as rr

        if self._connect is None and self._ip is None and (problem := display_problem()) is not None:
            return (
                f"{problem}, so no viewer is started. To watch from another machine, run "
                "`rerun` there and give its address: --display_ip=... --display_port=9876"
            )
        if self._connect is None and self._ip is not None and not is_listening(self._ip, self._port):
            self.hint = f"No viewer listens at {self._ip}:{self._port} yet: run `rerun` there."
        # An id of its own: Rerun would add a second session of this process to the first one's recording.
        self._stream = rr.RecordingStream(self._name, recording_id=uuid.uuid4())
        if self._connect is not None:
            self._connect(self._stream)
        elif self._ip is not None:
            self._stream.connect_grpc(f"rerun+http://{self._ip}:{self._port}/proxy")
        else:
            self._spawn()
        return None

    def show(self, view: View) -> None:
        """Log a view."""
        found = view.entities()
        for side in found.values():
            for entity in side:
                self._stream.log(
                    _escaped(entity.path), self._archetype(entity), static=entity.kind != "numbers"
                )
        if not self._arranged and any(found.values()):
            self._arranged = True
            self._stream.send_blueprint(_blueprint(found))

    def close(self) -> None:
        """Send the remaining data and disconnect.

        Raises:
            RuntimeError: the viewer did not accept it in time.
        """
        if self._stream is not None:
            self._stream.flush(timeout_sec=FLUSH_S)
            self._stream.disconnect()

    def abandon(self) -> None:
        """Keep Rerun from waiting, at the end of the process, for a viewer that accepts nothing."""
        import rerun as rr

        rr.unregister_shutdown()
        # The stream's destructor waits as well, without limit: so it must not run.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._stream))

    def _spawn(self) -> None:
        limit = os.environ.get("LEROBOT_RERUN_MEMORY_LIMIT", MEMORY_LIMIT)
        with _own_programs_on_path():
            try:
                self._stream.spawn(port=self._port, memory_limit=limit)
            except RuntimeError as error:
                reason = str(error).strip().partition("\n")[0]
                raise ConfigError(
                    f"The Rerun viewer cannot be started: {reason}", option="display_data"
                ) from error

    def _archetype(self, entity: Entity) -> Any:
        import rerun as rr

        if entity.kind == "numbers":
            return rr.Scalars(entity.value)
        if entity.kind == "depth":
            # As lerobot reads depth: integers are millimetres, floats metres.
            meter = 1.0 if np.issubdtype(entity.value.dtype, np.floating) else 1000.0
            return rr.DepthImage(entity.value, meter=meter, colormap=rr.components.Colormap.Viridis)
        image = rr.Image(entity.value)
        return image.compress() if self._compressed and entity.value.dtype == np.uint8 else image


def _blueprint(found: dict[str, list[Entity]]) -> Any:
    import rerun.blueprint as rrb

    images = sorted(entity.path for side in found.values() for entity in side if entity.kind != "numbers")
    views: list[Any] = [rrb.Spatial2DView(origin=_escaped(path), name=path) for path in images]
    for side, shown in found.items():
        plotted = sorted(_escaped(entity.path) for entity in shown if entity.kind == "numbers")
        if plotted:
            views.append(rrb.TimeSeriesView(name=side, contents=plotted))
    return rrb.Blueprint(rrb.Grid(*views))


def _escaped(path: str) -> str:
    """An entity path that Rerun accepts; a ``/`` in a name makes a level, as in lerobot."""
    import rerun as rr

    return "/".join(rr.escape_entity_path_part(part) for part in path.split("/") if part)


@contextmanager
def _own_programs_on_path() -> Iterator[None]:
    """Add Python's folder to the PATH, where Rerun finds its viewer even if the environment is not active."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([before, os.path.dirname(sys.executable)])
    try:
        yield
    finally:
        os.environ["PATH"] = before
