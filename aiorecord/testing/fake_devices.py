"""A robot, a teleoperator and a camera that number what they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..robots.protocols import Values

BITS = 16
"""Bits of a frame number in an image, one to a vertical bar; the number of frame 65,536 is 0 again."""

DARK, BRIGHT = 16, 235
"""The two grey values of the bars: within the range that a video's lossy codec keeps apart."""


def numbered_image(number: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """An image that shows a number as bars, which `frame_number` reads again after a lossy codec.

    Args:
        number: what to show; of it modulo 65,536 is shown.
        height: pixels.
        width: pixels, 32 or more.

    Returns:
        The image, (height, width, 3) uint8 RGB.

    Raises:
        ValueError: the image is too narrow for the bars.
    """
    if width < 2 * BITS:
        raise ValueError(f"A numbered image is {2 * BITS} pixels wide or more, not {width}.")
    shown = (number >> np.arange(BITS)) & 1
    line = np.where(shown, BRIGHT, DARK).astype(np.uint8)[np.arange(width) * BITS // width]
    return np.broadcast_to(line[None, :, None], (height, width, 3)).copy()


def frame_number(image: NDArray[np.uint8]) -> int:
    """The number that an image of `numbered_image` shows.

    Args:
        image: (height, width, 3) uint8, as it was made or as it was decoded from a video.

    Returns:
        The number, 0 to 65,535.
    """
    width = image.shape[1]
    edges = -(-np.arange(BITS + 1) * width // BITS)
    grey = image.mean(axis=(0, 2))
    middle = (DARK + BRIGHT) / 2
    return sum(int(grey[edges[bit] : edges[bit + 1]].mean() > middle) << bit for bit in range(BITS))


class NumberedCamera:
    """A camera whose image k shows the number k.

    Args:
        height: pixels.
        width: pixels, 32 or more.

    Attributes:
        images: how many images it has given.
    """

    def __init__(self, height: int = 48, width: int = 64) -> None:
        self.height, self.width = height, width
        self.images = 0

    @property
    def feature(self) -> dict[str, Any]:
        """Its LeRobot feature."""
        names = ["height", "width", "channels"]
        return {"dtype": "video", "shape": (self.height, self.width, 3), "names": names}

    def read(self) -> NDArray[np.uint8]:
        """The next image, (height, width, 3) uint8 RGB."""
        self.images += 1
        return numbered_image(self.images - 1, self.height, self.width)


class _NumberedDevice:
    def __init__(self, joints: Sequence[str], name: str) -> None:
        self.joints = list(joints)
        self.name = name
        self.is_connected = False

    @property
    def action_features(self) -> dict[str, Any]:
        """A target for each joint."""
        return {"action": {"dtype": "float32", "shape": (len(self.joints),), "names": self.joints}}

    async def connect(self) -> None:
        """Count as connected."""
        self.is_connected = True

    async def disconnect(self) -> None:
        """Count as disconnected."""
        self.is_connected = False

    def _numbered(self, number: int) -> NDArray[np.float32]:
        return np.full(len(self.joints), number, np.float32)


class NumberedRobot(_NumberedDevice):
    """A robot whose observation k has k in each joint and in the image of each camera.

    Args:
        joints: names of the joints.
        cameras: the name of each camera and its (height, width) in pixels; one named ``front`` by default.
        name: the robot's type.

    Attributes:
        observations: how many observations it has given.
        sent: the actions it was sent, in order.
    """

    def __init__(
        self,
        joints: Sequence[str] = ("a", "b", "c"),
        cameras: Mapping[str, tuple[int, int]] | None = None,
        name: str = "numbered",
    ) -> None:
        super().__init__(joints, name)
        sizes = {"front": (48, 64)} if cameras is None else cameras
        self.cameras = {f"observation.images.{key}": NumberedCamera(*size) for key, size in sizes.items()}
        self.observations = 0
        self.sent: list[Values] = []

    @property
    def observation_features(self) -> dict[str, Any]:
        """Its joints as ``observation.state`` and its cameras."""
        cameras = {key: camera.feature for key, camera in self.cameras.items()}
        return {"observation.state": self.action_features["action"], **cameras}

    @property
    def features(self) -> dict[str, Any]:
        """Those of its observations and of its actions together, as a recorder takes them."""
        return {**self.observation_features, **self.action_features}

    async def get_observation(self) -> Values:
        """The next observation."""
        self.observations += 1
        images = {key: camera.read() for key, camera in self.cameras.items()}
        return {"observation.state": self._numbered(self.observations - 1), **images}

    async def send_action(self, action: Values) -> Values:
        """Keep the action in `sent`, and return it as what was sent."""
        self.sent.append(dict(action))
        return action


class NumberedTeleoperator(_NumberedDevice):
    """A teleoperator whose action k has k in each joint.

    Args:
        joints: names of the joints.
        name: the teleoperator's type.

    Attributes:
        actions: how many actions it has given.
    """

    def __init__(self, joints: Sequence[str] = ("a", "b", "c"), name: str = "numbered") -> None:
        super().__init__(joints, name)
        self.actions = 0

    async def get_action(self) -> Values:
        """The next action."""
        self.actions += 1
        return {"action": self._numbered(self.actions - 1)}
