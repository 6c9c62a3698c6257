"""Simulated cameras: their position, and the rendering of a picture.

A colour picture consists of a copied background (or, for the camera on the gripper, a table top that is
sampled through the lens), the moving shapes, painted into the rectangle that they touch, and sensor noise.
"""

from __future__ import annotations

import math
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from ...options import check_number
from ...values import is_whole
from .arm import ArmPose
from .canvas import Box, Canvas, DepthCanvas, Lanes, clusters, intersect, pack, slices, unpack
from .image_pool import PictureMemory
from .scene import Cube, Lens, base_shadows, base_shapes, shadows, shapes
from .table import TableSampler, table_depth
from .world import look, table_texture

SHADOW_STRENGTH = 0.46
NOISE_LIMIT = 12
"""Largest deviation of a pixel; the scene's colours leave this much room, so 8-bit sums cannot wrap."""

MAX_NOISE = 4.0
_TILE_MARGIN = 64
_SUPERSAMPLING = 3
_DRAWING_THREADS = 2
_BAND = 64
"""Rows that are drawn at a time: their intermediate arrays fit into the processor's cache, and are small
enough that the allocator reuses their memory."""

_FIXED_VIEWS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float], float]] = {
    "front": ((0.63, -0.25, 0.40), (0.145, 0.0, 0.075), 44.0),
    "side": ((0.17, -0.74, 0.30), (0.15, 0.0, 0.10), 42.0),
    "top": ((0.205, 0.0, 0.78), (0.2, 0.0, 0.0), 43.0),
}
"""Name: position, target, vertical field of view in degrees."""

_GRIPPER_VIEWS = ("wrist", "gripper", "hand")
_GRIPPER_FIELD = 64.0


@dataclass
class CameraSpec:
    """One simulated camera.

    Attributes:
        width: pixels, even.
        height: pixels, even.
        fps: pictures per second; below the robot's rate a picture is repeated until the next is due.
        view: ``front``, ``side``, ``top``, ``wrist`` or any other word, which selects a viewpoint of its own.
            If empty, the camera's name.
    """

    width: int = 640
    height: int = 480
    fps: int = 30
    view: str = ""


def check_spec(name: str, spec: CameraSpec) -> None:
    """Check a camera's settings.

    Raises:
        ConfigError: a size or rate is out of range.
    """
    for side in ("width", "height"):
        value = getattr(spec, side)
        if not is_whole(value, 32, 4096) or value % 2:
            raise ConfigError(
                f"Camera {name!r}: {side} must be an even number of pixels from 32 to 4096, not {value!r}.",
                option=f"cameras.{name}.{side}",
            )
    check_number(f"cameras.{name}.fps", spec.fps, above=0)


class Viewpoint:
    """The position and view of a camera.

    Args:
        name: the camera's name, which chooses the view unless the spec does.
        spec: its settings.
    """

    def __init__(self, name: str, spec: CameraSpec) -> None:
        words = (spec.view or name).lower()
        self.width, self.height = spec.width, spec.height
        self.on_gripper = any(word in words for word in _GRIPPER_VIEWS)
        view = next((view for word, view in _FIXED_VIEWS.items() if word in words), None)
        position, target, field = view or _somewhere(words)
        self._position, self._target = np.array(position), np.array(target)
        field = _GRIPPER_FIELD if self.on_gripper else field
        self._focal = spec.height / 2 / math.tan(math.radians(field / 2))

    def lens(self, pose: ArmPose | None = None) -> Lens:
        """The camera's lens for a pose of the arm; fixed cameras ignore the pose."""
        if self.on_gripper:
            assert pose is not None
            position = pose.wrist + 0.08 * pose.up - 0.03 * pose.forward
            target = pose.wrist + 0.11 * pose.forward + 0.036 * pose.up
            return Lens(position, target, pose.up, self._focal, self.width, self.height)
        up = np.array([0.0, 0.0, 1.0])
        if abs(self._target[2] - self._position[2]) > 2.5 * math.dist(self._target[:2], self._position[:2]):
            up = np.array([-1.0, 0.0, 0.0])
        return Lens(self._position, self._target, up, self._focal, self.width, self.height)


def _somewhere(words: str) -> tuple[tuple[float, float, float], tuple[float, float, float], float]:
    """A viewpoint of its own for any name, in front of and above the table."""
    number = zlib.crc32(words.encode())
    bearing = math.radians(-75.0 + (number % 1000) * 0.15)
    height = 0.26 + (number // 1000 % 100) * 0.0035
    return (0.12 + 0.62 * math.cos(bearing), 0.68 * math.sin(bearing), height), (0.14, 0.0, 0.08), 44.0


class _Camera:
    """What a colour and a depth camera share: where it looks, and its random values.

    Args:
        name: of the camera.
        spec: its settings, checked.
        seed: of textures, noise and holes.
        kind: a number by which the random values of two kinds of cameras differ.
    """

    def __init__(self, name: str, spec: CameraSpec, seed: int, kind: int) -> None:
        self._view = Viewpoint(name, spec)
        self._rng = np.random.default_rng([seed, kind, zlib.crc32(name.encode())])
        self._size = spec.height, spec.width
        self._tile = spec.height + _TILE_MARGIN, spec.width + _TILE_MARGIN
        """Rows and columns of a pattern of noise: each picture takes it from another place."""

    def _window(self) -> tuple[slice, slice]:
        """Rows and columns of a pattern of noise for one picture."""
        row, column = self._rng.integers(0, _TILE_MARGIN, 2)
        return slice(row, row + self._size[0]), slice(column, column + self._size[1])

    def _touched(self, boxes: list[Box]) -> list[Box]:
        """The parts of the picture in which there is something to draw."""
        frame = (0, 0, self._view.width, self._view.height)
        return clusters([box for each in boxes if (box := intersect(each, frame))])


class ColourCamera(_Camera):
    """Renders colour pictures, with sensor noise whose standard deviation is given in grey levels."""

    def __init__(self, name: str, spec: CameraSpec, seed: int, noise: float) -> None:
        super().__init__(name, spec, seed, 5)
        self._noise = _noise_tile(self._rng, self._tile, noise)
        on_gripper = self._view.on_gripper
        self._still = None if on_gripper else _still(self._view, seed)
        self._sampler = TableSampler(spec.width, spec.height, seed) if on_gripper else None
        self._memory = PictureMemory((*self._size, 3))

    def render(self, pose: ArmPose, cube: Cube) -> NDArray[np.uint8]:
        """One picture (height, width, 3) uint8, which belongs to the caller."""
        view = self._view
        lens = view.lens(pose)
        things = shapes(lens, pose, cube, on_gripper=view.on_gripper)
        dark = shadows(lens, pose, cube, on_gripper=view.on_gripper)
        noise = self._noise[self._window()]
        boxes = self._touched([*(shape.box for shape in things), *(shadow.box for shadow in dark)])
        image = self._memory.take()
        if self._still is not None:
            rgb, packed = self._still
            np.add(rgb, noise, out=image)
            parts = [packed[slices(box)].copy() for box in boxes]
        else:
            assert self._sampler is not None
            self._sampler.draw(lens, image)
            parts = [pack(image[slices(box)]) for box in boxes]
            image += noise
        for box, lanes in zip(boxes, parts, strict=True):
            canvas = Canvas(box, lanes)
            canvas.shade(dark, SHADOW_STRENGTH)
            for shape in things:
                canvas.paint(shape)
            colours, part, grain = unpack(lanes), image[slices(box)], noise[slices(box)]
            for channel in range(3):
                np.add(colours[..., channel], grain[..., channel], out=part[..., channel])
        return image


class DepthCamera(_Camera):
    """Renders depth pictures with holes, and with noise whose scale is given: 1 is about 1.5 mm."""

    def __init__(self, name: str, spec: CameraSpec, seed: int, noise: float) -> None:
        super().__init__(name, spec, seed, 6)
        grain = self._rng.normal(0.0, 1.5 * noise, self._tile)
        self._noise = np.rint(grain).astype(np.int16).view(np.uint16)
        self._keep = _hole_tile(self._rng, self._tile)
        on_gripper = self._view.on_gripper
        self._plane = np.zeros(self._size, np.float32) if on_gripper else _still_depth(self._view, seed)
        self._millimetres = self._plane.astype(np.uint16)

    def render(self, pose: ArmPose, cube: Cube) -> NDArray[np.uint16]:
        """One picture (height, width, 1) uint16 millimetres, 0 where nothing was measured."""
        view = self._view
        lens = view.lens(pose)
        things = shapes(lens, pose, cube, on_gripper=view.on_gripper)
        if view.on_gripper:
            table_depth(lens, self._plane)
            image = self._plane.astype(np.uint16)
        else:
            image = self._millimetres.copy()
        for box in self._touched([shape.box for shape in things]):
            deep = self._plane[slices(box)].copy()
            canvas = DepthCanvas(box, deep)
            for shape in things:
                canvas.paint(shape)
            canvas.occlude(max(2, view.width // 90))
            image[slices(box)] = deep
        window = self._window()
        empty = image == 0
        image += self._noise[window]
        image *= self._keep[window]
        image[empty] = 0
        return image[..., None]


def _still(view: Viewpoint, seed: int) -> tuple[NDArray[np.uint8], Lanes]:
    """A fixed camera's view of everything that never moves: colours (h, w, 3), and the same packed."""
    rgb, _ = _background(view, seed)
    lanes = pack(rgb)
    lens = view.lens()
    canvas = Canvas((0, 0, view.width, view.height), lanes)
    canvas.shade(base_shadows(lens), SHADOW_STRENGTH)
    for shape in base_shapes(lens):
        canvas.paint(shape)
    return np.ascontiguousarray(unpack(lanes)), lanes


def _still_depth(view: Viewpoint, seed: int) -> NDArray[np.float32]:
    """Millimetres (h, w) to everything that never moves, for a fixed camera."""
    _, millimetres = _background(view, seed)
    deep = DepthCanvas((0, 0, view.width, view.height), millimetres)
    for shape in base_shapes(view.lens()):
        deep.paint(shape)
    return millimetres


def _background(view: Viewpoint, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Colours (h, w, 3) of the table and the walls, and millimetres (h, w) to them, without the robot."""
    lens = view.lens()
    table_texture(seed)  # by one thread, for all
    with ThreadPoolExecutor(_DRAWING_THREADS, "aiorecord-sim") as threads:
        starts = range(0, view.height, _BAND)
        bands = [slice(start, min(start + _BAND, view.height)) for start in starts]
        parts = list(threads.map(lambda band: _look_at(lens, view.width, band, seed), bands))
    return np.concatenate([rgb for rgb, _ in parts]), np.concatenate([depth for _, depth in parts])


def _look_at(lens: Lens, width: int, band: slice, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Colours (h, w, 3) and millimetres (h, w) of a band of rows, without shadows."""
    n = _SUPERSAMPLING
    total: NDArray[np.float32] = np.zeros((1, 3), np.float32)
    depth: NDArray[np.float32] = np.empty(0, np.float32)
    for number in range(n * n):
        shift = ((number % n + 0.5) / n - 0.5, (number // n + 0.5) / n - 0.5)
        rays = _rays(lens, width, band, shift)
        colours, reach = look(lens.position.astype(np.float32), rays, seed)
        total = total + colours
        if number == n * n // 2:
            depth = reach
    total /= np.float32(n * n)
    rgb = total.astype(np.uint8).reshape(-1, width, 3)
    return rgb, (depth * np.float32(1000)).reshape(-1, width)


def _rays(lens: Lens, width: int, band: slice, shift: tuple[float, float]) -> NDArray[np.float32]:
    """Directions (h*w, 3) of a band of rows, with one metre along the optical axis."""
    x = ((np.arange(width) + shift[0] - lens.centre[0]) / lens.focal).astype(np.float32)
    rows = np.arange(band.start, band.stop)
    y = ((rows + shift[1] - lens.centre[1]) / lens.focal).astype(np.float32)[:, None]
    right, down, forward = lens.axes.astype(np.float32)
    return np.stack([x * right[i] + (y * down[i] + forward[i]) for i in range(3)], axis=-1).reshape(-1, 3)


def _noise_tile(rng: np.random.Generator, size: tuple[int, int], noise: float) -> NDArray[np.uint8]:
    """Noise (*size, 3) to add modulo 256."""
    luma = rng.normal(0.0, 0.8 * noise, (*size, 1)).astype(np.float32)
    tile = luma + rng.normal(0.0, 0.6 * noise, (*size, 3)).astype(np.float32)
    return np.clip(np.rint(tile), -NOISE_LIMIT, NOISE_LIMIT).astype(np.int8).view(np.uint8)


def _hole_tile(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint16]:
    """1 where depth is measured, 0 in small patches where it is not."""
    keep = np.ones(size, np.uint16)
    for _ in range(size[0] * size[1] // 2600):
        y, x = int(rng.integers(0, size[0])), int(rng.integers(0, size[1]))
        keep[y : y + int(rng.integers(1, 6)), x : x + int(rng.integers(1, 9))] = 0
    return keep
