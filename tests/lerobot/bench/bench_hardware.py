"""Feetech servos behind a fake serial port, and fake OpenCV cameras: everything above them is lerobot's own.

What happens is appended to `EVENTS`: ``("open", port)``, ``("close", port)``, ``("torque", port, id,
value)``, ``("camera", index, "open" or "release")``, each with the name of the thread at the end.
"""

from __future__ import annotations

import threading
import time

import numpy as np

EVENTS: list[tuple] = []
MEMORIES: dict[str, dict[int, bytearray]] = {}
DEAD_PORTS: set[str] = set()
"""Ports that answer nothing any more, as after the cable was pulled."""
DEAD_MOTORS: set[tuple[str, int]] = set()
DEAD_CAMERAS: set[object] = set()
ON_READ: list = []
"""Called with (port, number) at every sync read of positions."""

PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 1, 2, 3, 0x82, 0x83
MODEL, MIN, MAX, TORQUE, GOAL, POSITION = 3, 9, 11, 40, 42, 56
IDS = range(1, 7)
RANGE = (1000, 3000)


def note(*event) -> None:
    EVENTS.append((*event, threading.current_thread().name))


def put(memory: bytearray, address: int, value: int) -> None:
    memory[address : address + 2] = int(value).to_bytes(2, "little")


def get(memory: bytearray, address: int) -> int:
    return int.from_bytes(memory[address : address + 2], "little")


def motors(port: str) -> dict[int, bytearray]:
    """The registers of an STS3215 chain (firmware 3.9, model number 777), calibrated to `RANGE`."""
    if port not in MEMORIES:
        MEMORIES[port] = {}
        for motor in IDS:
            memory = MEMORIES[port][motor] = bytearray(256)
            memory[0:2] = bytes((3, 9))
            for address, value in ((MODEL, 777), (MIN, RANGE[0]), (MAX, RANGE[1]), (POSITION, 2000)):
                put(memory, address, value)
    return MEMORIES[port]


def torque(port: str) -> list[int]:
    return [memory[TORQUE] for memory in motors(port).values()]


class Serial:
    """Stands for `serial.Serial` with a chain of servos at the other end (Feetech protocol 0)."""

    def __init__(self, port, **_) -> None:
        if "missing" in port:
            raise FileNotFoundError(2, "No such file or directory", port)
        self.port = port
        self._out = bytearray()
        self._reads = 0
        note("open", port)

    @property
    def in_waiting(self) -> int:
        return len(self._out)

    def flush(self) -> None:
        pass

    def reset_input_buffer(self) -> None:
        self._out.clear()

    def close(self) -> None:
        note("close", self.port)

    def read(self, length: int) -> bytes:
        data = bytes(self._out[:length])
        del self._out[:length]
        return data

    def write(self, packet) -> int:
        packet = bytes(packet)
        assert packet[:2] == b"\xff\xff"
        assert packet[-1] == ~sum(packet[2:-1]) & 0xFF
        if self.port not in DEAD_PORTS:
            self._handle(packet[2], packet[4], packet[5:-1])
        return len(packet)

    def _handle(self, motor: int, instruction: int, parameters: bytes) -> None:
        chain = motors(self.port)
        if instruction == SYNC_READ:
            address, length, *ids = parameters
            if address == POSITION:
                self._reads += 1
                for hook in list(ON_READ):
                    hook(self.port, self._reads)
                if "leader" in self.port or "swept" in self.port:  # moved by hand, to and fro
                    for each, memory in chain.items():
                        step = (self._reads * 10 + each * 20) % 1600
                        put(memory, POSITION, 1200 + min(step, 1600 - step))
            for each in ids:
                self._answer(each, chain[each][address : address + length])
        elif instruction == SYNC_WRITE:
            address, length, *rest = parameters
            for at in range(0, len(rest), length + 1):
                self._store(rest[at], address, bytes(rest[at + 1 : at + 1 + length]))
        elif motor in chain:
            if instruction == READ:
                self._answer(motor, chain[motor][parameters[0] : parameters[0] + parameters[1]])
            else:
                if instruction == WRITE:
                    self._store(motor, parameters[0], parameters[1:])
                self._answer(motor, b"")

    def _store(self, motor: int, address: int, data: bytes) -> None:
        if (self.port, motor) in DEAD_MOTORS:
            return
        memory = motors(self.port)[motor]
        memory[address : address + len(data)] = data
        if address == TORQUE:
            note("torque", self.port, motor, data[0])
        if address == GOAL and memory[TORQUE]:
            put(memory, POSITION, get(memory, GOAL))

    def _answer(self, motor: int, data: bytes) -> None:
        if (self.port, motor) in DEAD_MOTORS:
            return
        body = bytes((motor, len(data) + 2, 0)) + bytes(data)
        self._out += b"\xff\xff" + body + bytes((~sum(body) & 0xFF,))


class VideoCapture:
    """Stands for `cv2.VideoCapture`: a camera that gives 30 different pictures a second."""

    def __init__(self, index, backend=0) -> None:
        self.index = str(index)
        self._open = self.index not in DEAD_CAMERAS
        self._settings: dict[int, float] = {3: 640.0, 4: 480.0, 5: 30.0}  # width, height, rate
        self._taken = 0
        if self._open:
            note("camera", self.index, "open")

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self._open and self.index not in DEAD_CAMERAS

    def set(self, setting, value) -> bool:
        self._settings[setting] = value
        return True

    def get(self, setting) -> float:
        return self._settings.get(setting, 0.0)

    def read(self):
        # What the bench measures: a driver's read blocks until the sensor has the next picture. No test
        # waits for it.
        time.sleep(1 / 60)
        self._taken += 1
        image = np.zeros((int(self._settings[4]), int(self._settings[3]), 3), np.uint8)
        image[:, :, 0] = 200  # blue, in OpenCV's order
        image[:, : self._taken % image.shape[1], 2] = 255
        return self.isOpened(), image

    def release(self) -> None:
        if self._open:
            note("camera", self.index, "release")
        self._open = False


def install(replace=setattr) -> None:
    """Put the fakes where lerobot and the Feetech SDK look for the real ones."""
    import cv2
    import serial

    replace(serial, "Serial", Serial)
    replace(cv2, "VideoCapture", VideoCapture)


def reset() -> None:
    for state in (EVENTS, MEMORIES, DEAD_PORTS, DEAD_MOTORS, DEAD_CAMERAS, ON_READ):
        state.clear()
