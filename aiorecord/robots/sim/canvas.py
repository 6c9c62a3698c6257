"""Antialiased drawing with numpy, fast enough for a control loop.

A colour pixel is one uint64 with red, green and blue in 16-bit lanes, so that one integer multiplication
blends or shades all three channels at once (8-bit value times a weight of at most 256 fits its lane). Every
shape works on its own bounding box only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float32]
type Lanes = NDArray[np.uint64]
type Point = tuple[float, float]
type Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, the ends excluded."""

_LANE_MASK = np.uint64(0x00FF_00FF_00FF)
_SHIFT = np.uint64(8)
_ONE = np.uint64(256)

SHADES = 128
"""Entries across a shape in a colour table."""


def pack(rgb: NDArray[np.uint8]) -> Lanes:
    """Lanes of colours: (..., 3) to (...) uint64."""
    packed = np.zeros((*rgb.shape[:-1], 8), np.uint8)
    for channel in range(3):
        packed[..., 2 * channel] = rgb[..., channel]
    # "<u8" so that the order holds on any machine; it costs nothing where it is the native one.
    lanes: Lanes = packed.view("<u8")[..., 0].astype(np.uint64, copy=False)
    return lanes


def unpack(lanes: Lanes) -> NDArray[np.uint8]:
    """A view of packed pixels as their colours: (...) to (..., 3)."""
    as_bytes = lanes.astype("<u8", copy=False).view(np.uint8)
    return as_bytes.reshape(*lanes.shape, 8)[..., 0:6:2]


def intersect(a: Box, b: Box) -> Box | None:
    """The intersection of two boxes, or None."""
    box = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return box if box[0] < box[2] and box[1] < box[3] else None


def union(boxes: list[Box]) -> Box:
    """The smallest box around all."""
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def clusters(boxes: list[Box]) -> list[Box]:
    """A few boxes that together hold all of the given ones, without much empty space. They may overlap."""
    found: list[Box] = []
    for box in boxes:
        grown = box
        apart = []
        for other in found:
            if intersect(grown, other) is None:
                apart.append(other)
            else:
                grown = union([grown, other])
        found = [*apart, grown]
    return found


def slices(box: Box, origin: Box = (0, 0, 0, 0)) -> tuple[slice, slice]:
    """Rows and columns of a box in an array that begins at the corner of `origin`."""
    left, top = origin[:2]
    return slice(box[1] - top, box[3] - top), slice(box[0] - left, box[2] - left)


def _around(points: list[Point], margin: float) -> Box:
    """The box around points, widened by a margin."""
    xs, ys = zip(*points, strict=True)
    return (
        int(min(xs) - margin),
        int(min(ys) - margin),
        int(max(xs) + margin) + 2,
        int(max(ys) + margin) + 2,
    )


class Shape(ABC):
    """A shape that can be drawn.

    Args:
        box: pixels it may touch, possibly outside the picture.
        depth: distance from the camera in metres, for painting the farthest first.
        colours: one colour or a table of `SHADES`, packed.
    """

    def __init__(self, box: Box, depth: float, colours: Any) -> None:
        self.box, self.depth, self.colours = box, depth, colours

    @abstractmethod
    def cover(self, xs: Floats, ys: Floats) -> tuple[Floats, Floats | None, Floats | None]:
        """Evaluate the shape at pixel columns `xs` (w,) and rows `ys` (h, 1).

        Returns:
            Coverage (h, w), 1 inside and 0 outside with a soft edge, not clipped; the position across the
            shape from -1 to 1 for its colour table, or None for one colour; distance along it in pixels, or
            None.
        """

    def distance(self, across: Floats | None, along: Floats | None) -> Floats | float:
        """Millimetres from the camera at the positions that `cover` returned."""
        return self.depth * 1000


class Capsule(Shape):
    """A tapering bar with round ends, shaded across like a cylinder.

    Args:
        start: pixels.
        end: pixels.
        radii: pixels at start and end.
        depths: metres from the camera at start and end.
        colours: packed table of `SHADES`.
        radius_m: metres, for the bulge in depth.
    """

    def __init__(
        self,
        start: Point,
        end: Point,
        radii: tuple[float, float],
        depths: tuple[float, float],
        colours: Any,
        radius_m: float,
    ) -> None:
        super().__init__(_around([start, end], max(radii) + 1.0), (depths[0] + depths[1]) / 2, colours)
        self.start, self.radii, self.depths = start, radii, depths
        self.radius_m = radius_m
        dx, dy = end[0] - start[0], end[1] - start[1]
        self.length = max((dx * dx + dy * dy) ** 0.5, 1e-3)
        self.dx, self.dy = dx / self.length, dy / self.length

    def cover(self, xs: Floats, ys: Floats) -> tuple[Floats, Floats | None, Floats | None]:
        """See `Shape.cover`."""
        x, y = xs - np.float32(self.start[0]), ys - np.float32(self.start[1])
        along = x * np.float32(self.dx) + y * np.float32(self.dy)
        across = y * np.float32(self.dx) - x * np.float32(self.dy)
        inside = np.clip(along, np.float32(0.0), np.float32(self.length))
        along -= inside
        along *= along
        square = across * across
        along += square
        np.sqrt(along, out=along)
        first, last = self.radii
        if abs(last - first) < 0.5:
            np.subtract(np.float32(first + 0.5), along, out=along)
            across *= np.float32(1.0 / first)
        else:
            radius = inside * np.float32((last - first) / self.length)
            radius += np.float32(first)
            across /= radius
            np.subtract(radius, along, out=along)
            along += np.float32(0.5)
        return along, across, inside

    def distance(self, across: Floats | None, along: Floats | None) -> Floats | float:
        """See `Shape.distance`."""
        assert across is not None
        assert along is not None
        slope = (self.depths[1] - self.depths[0]) / self.length * 1000
        z = along * np.float32(slope)
        z += np.float32(self.depths[0] * 1000)
        bulge = np.float32(1.0) - across * across
        np.maximum(bulge, np.float32(0.0), out=bulge)
        np.sqrt(bulge, out=bulge)
        bulge *= np.float32(self.radius_m * 1000)
        z -= bulge
        return z


class Ellipse(Shape):
    """A disc seen at an angle; its colour table runs from the centre (index 0) to the rim.

    Args:
        centre: pixels.
        minor: direction of the minor axis, unit vector in pixels.
        axes: semi-axes in pixels, minor then major.
        depth: metres.
        colours: packed table of `SHADES`.
    """

    def __init__(
        self, centre: Point, minor: Point, axes: tuple[float, float], depth: float, colours: Any
    ) -> None:
        super().__init__(_around([centre], axes[1] + 1.0), depth, colours)
        self.centre, self.minor, self.axes = centre, minor, axes

    def cover(self, xs: Floats, ys: Floats) -> tuple[Floats, Floats | None, Floats | None]:
        """See `Shape.cover`."""
        (short, long), (mx, my) = self.axes, self.minor
        x, y = xs - np.float32(self.centre[0]), ys - np.float32(self.centre[1])
        u = x * np.float32(mx / short) + y * np.float32(my / short)
        v = y * np.float32(mx / long) - x * np.float32(my / long)
        u *= u
        v *= v
        u += v
        np.sqrt(u, out=u)
        cover = np.float32(1.0) - u
        cover *= np.float32(short)
        cover += np.float32(0.5)
        u *= np.float32(2.0)
        u -= np.float32(1.0)
        return cover, u, None


class Polygon(Shape):
    """A convex polygon in one colour, widened by `GROW` so that no background shows between neighbours.

    Args:
        corners: pixels, in order, either way round.
        depth: metres.
        colour: packed.
    """

    GROW = 0.5

    def __init__(self, corners: list[Point], depth: float, colour: Any) -> None:
        super().__init__(_around(corners, self.GROW + 1.0), depth, colour)
        self.corners = corners

    def cover(self, xs: Floats, ys: Floats) -> tuple[Floats, Floats | None, Floats | None]:
        """See `Shape.cover`."""
        edges = list(zip(self.corners, self.corners[1:] + self.corners[:1], strict=True))
        area = sum(ax * by - bx * ay for (ax, ay), (bx, by) in edges)
        sign = 1.0 if area > 0 else -1.0
        cover = np.full((len(ys), len(xs)), np.inf, np.float32)
        for (ax, ay), (bx, by) in edges:
            length = max(((bx - ax) ** 2 + (by - ay) ** 2) ** 0.5, 1e-3)
            nx, ny = -(by - ay) * sign / length, (bx - ax) * sign / length
            offset = self.GROW + 0.5 - nx * ax - ny * ay
            edge = xs * np.float32(nx) + (ys * np.float32(ny) + np.float32(offset))
            np.minimum(cover, edge, out=cover)
        return cover, None, None


class Shadow:
    """A capsule of darkness with a soft edge.

    Args:
        start: pixels.
        end: pixels.
        radii: pixels at start and end.
        softness: pixels over which the edge fades.
    """

    def __init__(self, start: Point, end: Point, radii: tuple[float, float], softness: float) -> None:
        self.box = _around([start, end], max(radii) + softness / 2)
        self._bar = Capsule(start, end, radii, (1.0, 1.0), None, 0.0)
        self._softness = softness

    def cover(self, xs: Floats, ys: Floats) -> Floats:
        """Darkness from 0 to 1."""
        cover, _, _ = self._bar.cover(xs, ys)
        cover *= np.float32(1.0 / self._softness)
        cover += np.float32(0.5)
        np.clip(cover, np.float32(0.0), np.float32(1.0), out=cover)
        return cover


class Canvas:
    """A rectangle of a picture being painted.

    Args:
        box: where the rectangle is in the picture.
        lanes: its pixels, packed (h, w); painted on in place.
    """

    def __init__(self, box: Box, lanes: Lanes) -> None:
        self.box, self.lanes = box, lanes

    def paint(self, shape: Shape) -> None:
        """Blend a shape over the picture."""
        box = intersect(shape.box, self.box)
        if box is None:
            return
        cover, across, _ = shape.cover(*_grid(box))
        cover *= np.float32(256.0)
        np.clip(cover, np.float32(0.0), np.float32(256.0), out=cover)
        alpha = cover.astype(np.uint16).astype(np.uint64)
        if across is None:
            colour: Lanes = alpha * shape.colours
        else:
            across *= np.float32(SHADES / 2 - 1)
            across += np.float32(SHADES / 2)
            colour = np.take(shape.colours, across.astype(np.intp), mode="clip")
            colour *= alpha
        np.subtract(_ONE, alpha, out=alpha)
        target = self.lanes[slices(box, self.box)]
        alpha *= target
        alpha += colour
        alpha >>= _SHIFT
        np.bitwise_and(alpha, _LANE_MASK, out=target)

    def shade(self, shadows: list[Shadow], strength: float) -> None:
        """Darken by the deepest of the shadows at each pixel.

        Args:
            shadows: any number.
            strength: 0 to 1; how much of the light a full shadow takes.
        """
        inside = [(shadow, box) for shadow in shadows if (box := intersect(shadow.box, self.box))]
        if not inside:
            return
        whole = union([box for _, box in inside])
        target = self.lanes[slices(whole, self.box)]
        dark = np.zeros(target.shape, np.float32)
        for shadow, box in inside:
            part = dark[slices(box, whole)]
            np.maximum(part, shadow.cover(*_grid(box)), out=part)
        dark *= np.float32(-256.0 * strength)
        dark += np.float32(256.0)
        light = dark.astype(np.uint16).astype(np.uint64)
        light *= target
        light >>= _SHIFT
        np.bitwise_and(light, _LANE_MASK, out=target)


class DepthCanvas:
    """A rectangle of a depth picture: the nearest surface wins.

    Args:
        box: where the rectangle is in the picture.
        millimetres: its pixels (h, w) float32; changed in place.
    """

    def __init__(self, box: Box, millimetres: Floats) -> None:
        self.box, self.millimetres = box, millimetres

    def paint(self, shape: Shape) -> None:
        """Draw a shape in front of everything farther away."""
        box = intersect(shape.box, self.box)
        if box is None:
            return
        cover, across, along = shape.cover(*_grid(box))
        target = self.millimetres[slices(box, self.box)]
        distance = np.broadcast_to(np.float32(shape.distance(across, along)), cover.shape)
        front = distance < target
        np.copyto(target, distance, where=front & (cover >= 0.5))

    def occlude(self, pixels: int) -> None:
        """Blank (0) what only one eye of a stereo camera sees: a strip to the left of near edges."""
        z = self.millimetres
        if z.shape[1] > pixels:
            z[:, :-pixels][z[:, :-pixels] - z[:, pixels:] > 30.0] = 0.0


def _grid(box: Box) -> tuple[Floats, Floats]:
    x0, y0, x1, y1 = box
    return np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32)[:, None]
