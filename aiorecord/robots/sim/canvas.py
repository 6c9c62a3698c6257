"""Antialiased drawing with numpy, fast enough for a control loop.

A colour pixel is one uint64 with red, green and blue in 16-bit lanes, so that one integer multiplication
blends or shades all three channels at once (8-bit value times a weight of at most 256 fits its lane). Every
shape works on its own bounding box only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

type Lanes = NDArray[np.uint64]
type Point = tuple[float, float]
type Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, the ends excluded."""

_LANE_MASK = np.uint64(0x00FF_00FF_00FF)
_SHIFT = np.uint64(8)
_ONE = np.uint64(256)

SHADES = 128
"""Entries across a shape in a colour table."""


def pack(rgb: Any) -> Lanes:
    """Lanes of colours: (..., 3) values in 0..255 to (...) uint64."""
    values = np.clip(np.rint(np.asarray(rgb, dtype=np.float64)), 0, 255).astype(np.uint64)
    lanes: Lanes = values[..., 0] | (values[..., 1] << np.uint64(16)) | (values[..., 2] << np.uint64(32))
    return lanes


def intersect(a: Box, b: Box) -> Box | None:
    """The intersection of two boxes, or None."""
    box = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return box if box[0] < box[2] and box[1] < box[3] else None


def union(boxes: list[Box]) -> Box | None:
    """The smallest box around all, or None without any."""
    if not boxes:
        return None
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def clusters(boxes: list[Box]) -> list[Box]:
    """A few boxes that together hold all of the given ones, without much empty space. They may overlap."""
    found: list[Box] = []
    for box in boxes:
        grown = box
        apart = []
        for other in found:
            if grown[0] < other[2] and other[0] < grown[2] and grown[1] < other[3] and other[1] < grown[3]:
                grown = (
                    min(grown[0], other[0]),
                    min(grown[1], other[1]),
                    max(grown[2], other[2]),
                    max(grown[3], other[3]),
                )
            else:
                apart.append(other)
        found = [*apart, grown]
    return found


def around(points: list[Point], margin: float) -> Box:
    """The box around points, widened by a margin."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    return (
        int(min(xs) - margin),
        int(min(ys) - margin),
        int(max(xs) + margin) + 2,
        int(max(ys) + margin) + 2,
    )


class Shape(Protocol):
    """Base class of shapes that can be drawn.

    Attributes:
        box: pixels it may touch, possibly outside the picture.
        depth: distance from the camera in metres, for painting the farthest first.
    """

    box: Box
    depth: float

    def cover(
        self, xs: NDArray[np.float32], ys: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.float32] | None]:
        """Evaluate the shape at pixel columns `xs` (w,) and rows `ys` (h, 1).

        Returns:
            Coverage (h, w), 1 inside and 0 outside with a soft edge, not clipped; the position across the
            shape from -1 to 1 for its colour table, or None for one colour; distance along it in pixels, or
            None.
        """
        ...

    @property
    def colours(self) -> Any:
        """One colour or a table of `SHADES`, packed."""
        ...

    def distance(
        self, across: NDArray[np.float32] | None, along: NDArray[np.float32] | None
    ) -> NDArray[np.float32] | float:
        """Millimetres from the camera."""
        ...


class Capsule:
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
        radius_m: float = 0.0,
    ) -> None:
        self.start, self.end, self.radii, self.depths = start, end, radii, depths
        self.colours = colours
        self.radius_m = radius_m
        self.box = around([start, end], max(radii) + 1.0)
        self.depth = (depths[0] + depths[1]) / 2
        dx, dy = end[0] - start[0], end[1] - start[1]
        self.length = max((dx * dx + dy * dy) ** 0.5, 1e-3)
        self.dx, self.dy = dx / self.length, dy / self.length

    def cover(
        self, xs: NDArray[np.float32], ys: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.float32] | None]:
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

    def distance(
        self, across: NDArray[np.float32] | None, along: NDArray[np.float32] | None
    ) -> NDArray[np.float32] | float:
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


class Ellipse:
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
        self.centre, self.minor, self.axes, self.depth = centre, minor, axes, depth
        self.colours = colours
        self.box = around([centre], axes[1] + 1.0)

    def cover(
        self, xs: NDArray[np.float32], ys: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.float32] | None]:
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

    def distance(
        self, across: NDArray[np.float32] | None, along: NDArray[np.float32] | None
    ) -> NDArray[np.float32] | float:
        """See `Shape.distance`."""
        return self.depth * 1000


class Polygon:
    """A convex polygon in one colour.

    Args:
        corners: pixels, in order, either way round.
        depth: metres.
        colour: packed.
        grow: pixels by which it is widened, so that no background shows between neighbours.
    """

    def __init__(self, corners: list[Point], depth: float, colour: Any, grow: float = 0.5) -> None:
        self.corners, self.depth, self.colours, self.grow = corners, depth, colour, grow
        self.box = around(corners, grow + 1.0)

    def cover(
        self, xs: NDArray[np.float32], ys: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.float32] | None]:
        """See `Shape.cover`."""
        corners = self.corners
        nexts = corners[1:] + corners[:1]
        area = sum(ax * by - bx * ay for (ax, ay), (bx, by) in zip(corners, nexts, strict=True))
        sign = 1.0 if area > 0 else -1.0
        cover: NDArray[np.float32] | None = None
        for (ax, ay), (bx, by) in zip(corners, nexts, strict=True):
            length = ((bx - ax) ** 2 + (by - ay) ** 2) ** 0.5
            if length < 1e-3:
                continue
            nx, ny = -(by - ay) * sign / length, (bx - ax) * sign / length
            offset = self.grow + 0.5 - nx * ax - ny * ay
            edge = xs * np.float32(nx) + (ys * np.float32(ny) + np.float32(offset))
            cover = edge if cover is None else np.minimum(cover, edge, out=cover)
        if cover is None:
            cover = np.zeros((len(ys), len(xs)), np.float32)
        return cover, None, None

    def distance(
        self, across: NDArray[np.float32] | None, along: NDArray[np.float32] | None
    ) -> NDArray[np.float32] | float:
        """See `Shape.distance`."""
        return self.depth * 1000


@dataclass(slots=True)
class Shadow:
    """A capsule of darkness with a soft edge.

    Attributes:
        start: pixels.
        end: pixels.
        radii: pixels at start and end.
        softness: pixels over which the edge fades.
    """

    start: Point
    end: Point
    radii: tuple[float, float]
    softness: float

    @property
    def box(self) -> Box:
        """Pixels it may touch."""
        return around([self.start, self.end], max(self.radii) + self.softness / 2)

    def cover(self, xs: NDArray[np.float32], ys: NDArray[np.float32]) -> NDArray[np.float32]:
        """Darkness from 0 to 1."""
        bar = Capsule(self.start, self.end, self.radii, (1.0, 1.0), None)
        cover, _, _ = bar.cover(xs, ys)
        cover *= np.float32(1.0 / self.softness)
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
        target = self._view(box)
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
        boxes = [box for shadow in shadows if (box := intersect(shadow.box, self.box))]
        whole = union(boxes)
        if whole is None:
            return
        dark = np.zeros((whole[3] - whole[1], whole[2] - whole[0]), np.float32)
        for shadow in shadows:
            box = intersect(shadow.box, self.box)
            if box is not None:
                x0, y0, x1, y1 = box
                part = dark[y0 - whole[1] : y1 - whole[1], x0 - whole[0] : x1 - whole[0]]
                np.maximum(part, shadow.cover(*_grid(box)), out=part)
        dark *= np.float32(-256.0 * strength)
        dark += np.float32(256.0)
        target = self._view(whole)
        light = dark.astype(np.uint16).astype(np.uint64)
        light *= target
        light >>= _SHIFT
        np.bitwise_and(light, _LANE_MASK, out=target)

    def _view(self, box: Box) -> Lanes:
        x0, y0 = self.box[:2]
        return self.lanes[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0]


class DepthCanvas:
    """A rectangle of a depth picture: the nearest surface wins.

    Args:
        box: where the rectangle is in the picture.
        millimetres: its pixels (h, w) float32; changed in place.
    """

    def __init__(self, box: Box, millimetres: NDArray[np.float32]) -> None:
        self.box, self.millimetres = box, millimetres

    def paint(self, shape: Shape) -> None:
        """Draw a shape in front of everything farther away."""
        box = intersect(shape.box, self.box)
        if box is None:
            return
        cover, across, along = shape.cover(*_grid(box))
        x0, y0 = self.box[:2]
        target = self.millimetres[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0]
        distance = np.broadcast_to(np.float32(shape.distance(across, along)), cover.shape)
        front = distance < target
        np.copyto(target, distance, where=front & (cover >= 0.5))

    def occlude(self, pixels: int) -> None:
        """Blank (0) what only one eye of a stereo camera sees: a strip to the left of near edges."""
        z = self.millimetres
        if z.shape[1] > pixels:
            z[:, :-pixels][z[:, :-pixels] - z[:, pixels:] > 30.0] = 0.0


def _grid(box: Box) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    x0, y0, x1, y1 = box
    return np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32)[:, None]
