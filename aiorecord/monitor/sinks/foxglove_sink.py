"""Serves views to the Foxglove app, under lerobot's topics.

Topics and messages follow lerobot 0.6.1 (`lerobot/utils/foxglove_visualization.py`): the numbers of each side
as a list of labelled values on ``/observation/state`` and ``/action/state``, each camera on
``/observation/images/<name>``.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ...errors import ConfigError
from ..entities import Entity
from ..thumbnails import jpeg, stretched
from ..view import View

PORT = 8765
"""The port to which the Foxglove app connects by default."""

SCALARS_SCHEMA = {
    "title": "lerobot.Scalars",
    "type": "object",
    "properties": {
        "scalars": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"label": {"type": "string"}, "value": {"type": "number"}},
            },
        }
    },
}
"""One schema for every robot; Foxglove names the curves after ``label``."""

_DEPTH_MAX = {"32FC1": 1.0, "16UC1": 10_000.0}
"""The value that Foxglove shows by default as the far end of each depth encoding."""


class FoxgloveSink:
    """Serves views over a WebSocket.

    Args:
        session_name: the server's name.
        ip: the interface to serve on, None for this machine only.
        port: its port, None for Foxglove's own.
        compressed: send colour images as JPEG.
    """

    def __init__(
        self, session_name: str, ip: str | None = None, port: int | None = None, compressed: bool = False
    ) -> None:
        self._name = session_name
        self._ip = ip or "127.0.0.1"
        self._port = PORT if port is None else port
        self._compressed = compressed
        self.hint: str | None = None
        self._context: Any = None
        self._server: Any = None
        self._channels: dict[str, Any] = {}

    def open(self) -> str | None:
        """Start the server; see `Sink`.

        Raises:
            ConfigError: the port is taken, or the interface is not there.
        """
        import foxglove

        self._context = foxglove.Context()
        try:
            self._server = foxglove.start_server(
                name=self._name, host=self._ip, port=self._port, context=self._context
            )
        except Exception as error:  # the package raises several types
            raise ConfigError(
                f"The Foxglove server cannot listen on {self._ip}:{self._port}: {error}",
                option="display_port",
            ) from error
        host = f"[{self._ip}]" if ":" in self._ip else self._ip
        self.hint = f"Foxglove: open a connection to ws://{host}:{self._server.port} in the app."
        return None

    def show(self, view: View) -> None:
        """Send a view to all connected clients."""
        now_ns = time.time_ns()
        for side, shown in view.entities().items():
            numbers: dict[str, float] = {}
            for entity in shown:
                name = entity.path.removeprefix(f"{side}.")
                if entity.kind != "numbers":
                    self._send_image(f"/{side}/images/{name.replace('.', '_')}", name, entity, now_ns)
                elif entity.value.size == 1:
                    numbers[name] = entity.value.item()
                else:
                    numbers |= {f"{name}_{i}": value for i, value in enumerate(entity.value.tolist())}
            if numbers:
                message = {"scalars": [{"label": k, "value": v} for k, v in numbers.items()]}
                self._channel(f"/{side}/state").log(message, log_time=now_ns)

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.stop()

    def abandon(self) -> None:
        """Nothing to do: the server's threads end with the process."""

    def _send_image(self, topic: str, name: str, entity: Entity, now_ns: int) -> None:
        from foxglove import messages

        stamp = messages.Timestamp(sec=now_ns // 10**9, nsec=now_ns % 10**9)
        picture, encoding = _displayable(entity)
        if self._compressed and encoding == "rgb8":
            image: Any = messages.CompressedImage(
                timestamp=stamp, frame_id=name, data=jpeg(picture, (2, 4)), format="jpeg"
            )
        else:
            height, width = picture.shape[:2]
            image = messages.RawImage(
                timestamp=stamp,
                frame_id=name,
                width=width,
                height=height,
                encoding=encoding,
                step=picture.strides[0],
                data=picture.tobytes(),
            )
        self._channel(topic, type(image).__name__).log(image, log_time=now_ns)

    def _channel(self, topic: str, message: str | None = None) -> Any:
        import foxglove

        if topic not in self._channels:
            if message is None:
                made: Any = foxglove.Channel(
                    topic, schema=SCALARS_SCHEMA, message_encoding="json", context=self._context
                )
            else:
                made = getattr(foxglove.channels, f"{message}Channel")(topic, context=self._context)
            self._channels[topic] = made
        return self._channels[topic]


def _displayable(entity: Entity) -> tuple[np.ndarray[Any, Any], str]:
    """The picture as contiguous bytes that Foxglove can show, and Foxglove's name for their layout.

    Depth is stretched from its nearest to its farthest point over what Foxglove shows, as lerobot does.
    """
    picture = entity.value
    channels = picture.shape[2]
    if channels == 1 and picture.dtype != np.uint8:
        encoding = "32FC1" if np.issubdtype(picture.dtype, np.floating) else "16UC1"
        full = stretched(picture, _DEPTH_MAX[encoding])
        return np.ascontiguousarray(full, np.float32 if encoding == "32FC1" else np.uint16), encoding
    if np.issubdtype(picture.dtype, np.floating):
        picture = (picture * 255.0).clip(0, 255)
    return np.ascontiguousarray(picture, np.uint8), {1: "mono8", 3: "rgb8", 4: "rgba8"}[channels]
