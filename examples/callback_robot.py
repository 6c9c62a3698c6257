"""Record a robot that delivers its data in callbacks in a thread, as a ROS node does.

    uv run python examples/callback_robot.py [FOLDER]

`CallbackRobot` is the part to copy: it keeps the newest message of each topic, returns those to the recorder,
reports when each image was taken, and raises an error when a topic has no new messages, so that `Session`
repeats the last value, ends the episode and waits for the topic to return. With rclpy, `Node` is your node,
`subscribe` its `create_subscription`, and a thread runs `rclpy.spin(node)`.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import aiorecord

JOINTS = ("shoulder.pos", "elbow.pos")
STATE, IMAGE, COMMAND = "/joint_states", "/camera/image", "/joint_commands"


@dataclass
class Message:
    """A message with the time at which it was measured, as in a ROS header."""

    stamp_ns: int
    data: Any


@dataclass
class Node:
    """A stand-in for the middleware: calls back in its own thread, each topic at its own rate."""

    rates: Mapping[str, float]
    callbacks: dict[str, Callable[[Message], None]] = field(default_factory=dict)
    commanded: tuple[float, ...] = (0.0, 0.0)

    def subscribe(self, topic: str, callback: Callable[[Message], None]) -> None:
        self.callbacks[topic] = callback

    def publish(self, topic: str, command: tuple[float, ...]) -> None:
        self.commanded = command

    def spin(self, stop: threading.Event) -> None:
        due = dict.fromkeys(self.rates, time.monotonic())
        while not stop.wait(max(0.0, min(due.values()) - time.monotonic())):
            topic = min(due, key=lambda name: due[name])
            due[topic] += 1 / self.rates[topic]
            picture = np.full((96, 128, 3), int(50 + 50 * self.commanded[0]), np.uint8)
            data = self.commanded if topic == STATE else picture
            self.callbacks[topic](Message(time.monotonic_ns(), data))


class CallbackRobot:
    """A robot and a teleoperator of aiorecord over a node with callbacks.

    Args:
        node: the middleware.
        silence_s: seconds after which a topic without a message counts as failed.
    """

    name = "callback_arm"
    new_images = True  # each message has an array of its own

    def __init__(self, node: Node, silence_s: float = 0.5) -> None:
        self.observation_features: dict[str, Any] = dict.fromkeys(JOINTS, float) | {"front": (96, 128, 3)}
        self.action_features: dict[str, Any] = dict.fromkeys(JOINTS, float)
        self._node, self._silence_ns = node, int(silence_s * 1e9)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=node.spin, args=(self._stop,), name="spin", daemon=True)
        self._newest: dict[str, Message] = {}
        self._seen: dict[str, Message] = {}

    @property
    def is_connected(self) -> bool:
        return self._thread.is_alive()

    async def connect(self) -> None:
        """Subscribe, and wait for a message of every topic."""
        loop, all_there = asyncio.get_running_loop(), asyncio.Event()

        def keep(topic: str, message: Message) -> None:  # in the node's thread
            self._newest[topic] = message  # one assignment: readers see the old message or the new one
            if len(self._newest) == 2 and not all_there.is_set():
                loop.call_soon_threadsafe(all_there.set)

        for topic in (STATE, IMAGE):
            self._node.subscribe(topic, partial(keep, topic))
        self._thread.start()
        async with asyncio.timeout(5):
            await all_there.wait()

    async def disconnect(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    async def get_observation(self) -> dict[str, Any]:
        """The newest message of each topic. Never waits: the recorder's clock sets the rate."""
        self._seen = dict(self._newest)
        for topic, message in self._seen.items():
            silent_ns = time.monotonic_ns() - message.stamp_ns
            if silent_ns > self._silence_ns:
                raise aiorecord.SourceError(
                    f"{topic} has been silent for {silent_ns / 1e9:.1f} s.", source=topic, call="callback"
                )
        return {**dict(zip(JOINTS, self._seen[STATE].data, strict=True)), "front": self._seen[IMAGE].data}

    def frame_times_ns(self) -> dict[str, int]:
        """When the images of the last observation were taken, so that frozen cameras are counted."""
        return {"front": self._seen[IMAGE].stamp_ns}

    async def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self._node.publish(COMMAND, tuple(float(action[name]) for name in JOINTS))
        return action


class Wave:
    """The operator: moves the arm in waves."""

    name = "wave"
    is_connected = True

    def __init__(self) -> None:
        self.action_features: dict[str, Any] = dict.fromkeys(JOINTS, float)
        self.turn = 0

    async def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    async def get_action(self) -> dict[str, Any]:
        self.turn += 1
        return {name: math.sin(self.turn / 10 + k) for k, name in enumerate(JOINTS)}


async def show(recorder: aiorecord.Recorder) -> None:
    """Print the events of the recorder."""
    async for event in recorder.events():
        match event:
            case aiorecord.PhaseChanged(phase=phase, number=number, total=total):
                print(f"{phase}: take {number} of {total}")
            case aiorecord.SaveChanged(save=save, stage=stage):
                print(f"  {save.task}: {stage}")
            case aiorecord.SourceReported(message=message):
                print(f"  {message}")


async def main(root: Path) -> None:
    robot, teleop = CallbackRobot(Node({STATE: 200, IMAGE: 25})), Wave()
    features = aiorecord.dataset_features(robot.observation_features, teleop.action_features)
    plan = aiorecord.SessionPlan("Wave", num_episodes=2, episode_time_s=1, reset_time_s=0.3)
    async with (
        asyncio.TaskGroup() as group,
        aiorecord.Recorder("me/callbacks", root=root, fps=30, features=features) as recorder,
    ):
        group.create_task(show(recorder), name="show")
        records = await aiorecord.Session(recorder, robot, teleop, plan).run()
    for record in records:
        index = record.save.result().episode_index
        print(f"episode {index}: {record.frames} frames, at worst {record.lateness['worst_ms']} ms late")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/callback-arm")))
