"""The moving objects of the simulated scene, projected into shapes for one camera. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arm import CUBE_SIDE, ArmPose
from .canvas import SHADES, Capsule, Ellipse, Lanes, Polygon, Shadow, Shape, pack
from .world import BRIGHTEST, DARKEST

type Vector = NDArray[np.float64]

_to_light = np.array([0.42, -0.38, 0.95])
TO_LIGHT = _to_light / np.linalg.norm(_to_light)
"""Direction of the lamp."""

NEAR_M = 0.025
ANGLES = 24

_PRINTED = (236.0, 128.0, 36.0)
_SERVO = (58.0, 60.0, 66.0)
_JAW = (240.0, 150.0, 62.0)
_METAL = (150.0, 152.0, 156.0)
_CUBE = (206.0, 48.0, 44.0)


class Lens:
    """A pinhole camera at a position.

    Args:
        position: world coordinates, metres.
        target: a point in the middle of the picture.
        up: roughly upwards in the picture.
        focal: focal length in pixels.
        width: pixels.
        height: pixels.
    """

    def __init__(
        self, position: Vector, target: Vector, up: Vector, focal: float, width: int, height: int
    ) -> None:
        forward = target - position
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, up)
        right = right / np.linalg.norm(right)
        self.position = position
        self.axes = np.stack([right, np.cross(forward, right), forward])
        """Rows: right, down and forward in world coordinates."""
        self.focal = focal
        self.centre = ((width - 1) / 2, (height - 1) / 2)
        self.to_light = self.axes @ TO_LIGHT

    def project(self, point: Vector) -> tuple[float, float, float]:
        """Pixel x and y, and metres along the optical axis (negative behind the camera)."""
        (rx, ry, rz), (ux, uy, uz), (fx, fy, fz) = self.axes.tolist()
        x, y, z = (point - self.position).tolist()
        depth = fx * x + fy * y + fz * z
        scale = self.focal / depth if depth > 1e-6 else 0.0
        return (
            self.centre[0] + scale * (rx * x + ry * y + rz * z),
            self.centre[1] + scale * (ux * x + uy * y + uz * z),
            depth,
        )


@cache
def bar_colours(rgb: tuple[float, float, float], flatness: float, gloss: float) -> Lanes:
    """Colours across a bar for every direction of the light.

    Args:
        rgb: the material, 0..255.
        flatness: 0 for a cylinder; towards 1 for a flat face with rounded edges.
        gloss: brightness of the highlight, 0..255.

    Returns:
        (2 `ANGLES` + 1, `SHADES`) packed; the row is for light from one edge (0) to the other.
    """
    v = np.linspace(-1.0, 1.0, SHADES)
    slope = np.sign(v) * np.clip((np.abs(v) - flatness) / (1.0 - flatness), 0.0, 1.0)
    facing = np.sqrt(np.clip(1.0 - slope**2, 0.0, 1.0))
    rows = []
    for a in np.linspace(-1.0, 1.0, 2 * ANGLES + 1):
        light = np.clip(slope * a * 0.85 + facing * 0.62, 0.0, None)
        shade = 0.36 + 0.78 * light - 0.16 * np.clip(np.abs(v) - 0.86, 0.0, None) / 0.14
        rows.append(np.outer(shade, rgb) + (gloss * np.clip(light, 0.0, 1.0) ** 18)[:, None])
    return _packed(rows)


def _packed(rgb: Any) -> Lanes:
    return pack(np.rint(np.clip(rgb, DARKEST, BRIGHTEST)).astype(np.uint8))


@cache
def horn_colours() -> Lanes:
    """From the centre to the rim of a servo's horn: screw, metal, black rim."""
    r = np.linspace(0.0, 1.0, SHADES)[:, None]
    metal, dark, screw = np.array(_METAL), np.array(_SERVO), np.array((92.0, 92.0, 98.0))
    colours = np.where(r < 0.2, screw, np.where(r < 0.62, metal * (1.12 - 0.3 * r), dark * (1.3 - 0.4 * r)))
    return _packed(colours)


@dataclass(slots=True)
class Cube:
    """The cube.

    Attributes:
        centre: world coordinates, metres.
        yaw: degrees about the vertical.
    """

    centre: Vector
    yaw: float


def shapes(lens: Lens, pose: ArmPose, cube: Cube, *, on_gripper: bool = False) -> list[Shape]:
    """Everything that moves, the farthest first.

    Args:
        lens: the camera.
        pose: of the arm.
        cube: the cube.
        on_gripper: the camera is on the gripper, and sees only the jaws of the arm.
    """
    out: list[Shape] = _cube(lens, cube)
    out += _gripper(lens, pose, body=not on_gripper)
    if not on_gripper:
        out += _arm(lens, pose)
    out.sort(key=lambda shape: -shape.depth)
    return out


def base_shapes(lens: Lens) -> list[Shape]:
    """The static part of the arm: the clamp plate and the block under the shoulder."""
    out = _box(lens, np.array([0.0, 0.0, 0.006]), (0.075, 0.06, 0.006), 0.0, (70.0, 72.0, 78.0))
    out += _box(lens, np.array([-0.008, 0.0, 0.048]), (0.042, 0.036, 0.036), 0.0, _PRINTED)
    out += _box(lens, np.array([-0.052, 0.0, 0.03]), (0.012, 0.026, 0.018), 0.0, (48.0, 92.0, 66.0))
    return sorted(out, key=lambda shape: -shape.depth)


def shadows(lens: Lens, pose: ArmPose, cube: Cube, *, on_gripper: bool = False) -> list[Shadow]:
    """The shadows of the arm and the cube on the table."""
    knuckle = pose.wrist + 0.05 * pose.forward
    bars = [(knuckle, pose.tip, 0.017, 0.012)]
    if not on_gripper:
        bars += [
            (pose.shoulder, pose.elbow, 0.022, 0.021),
            (pose.elbow, pose.wrist, 0.021, 0.019),
            (pose.wrist, knuckle, 0.022, 0.022),
        ]
    side = CUBE_SIDE * 0.5
    top = cube.centre + np.array([0.0, 0.0, side])
    bottom = cube.centre - np.array([0.0, 0.0, side])
    bars.append((bottom, top, side * 1.12, side * 1.12))
    out: list[Shadow] = []
    for start, end, r0, r1 in bars:
        height = max(0.0, float(start[2] + end[2]) / 2)
        out += _shadow(lens, start, end, r0, r1, 0.008 + 0.07 * height)
    return out


def base_shadows(lens: Lens) -> list[Shadow]:
    """The shadows of the base on the table."""
    ends = np.array([-0.01, 0.0, 0.0]), np.array([-0.01, 0.0, 0.1])
    plate = np.array([-0.03, 0.0, 0.0]), np.array([0.03, 0.0, 0.0])
    return _shadow(lens, *ends, 0.045, 0.03, 0.02) + _shadow(lens, *plate, 0.068, 0.068, 0.02)


def _shadow(lens: Lens, start: Vector, end: Vector, r0: float, r1: float, soft_m: float) -> list[Shadow]:
    x0, y0, z0 = lens.project(start - TO_LIGHT * (start[2] / TO_LIGHT[2]))
    x1, y1, z1 = lens.project(end - TO_LIGHT * (end[2] / TO_LIGHT[2]))
    if min(z0, z1) < NEAR_M:
        return []
    s0, s1 = lens.focal / z0, lens.focal / z1
    # A shadow lies flat: seen at an angle it is narrower than the bar that casts it.
    flat = 0.55 + 0.45 * abs(float(lens.axes[2, 2]))
    return [Shadow((x0, y0), (x1, y1), (r0 * s0 * flat, r1 * s1 * flat), max(1.5, soft_m * (s0 + s1)))]


def _bar(
    lens: Lens, start: Vector, end: Vector, r0: float, r1: float, colours: Lanes, nearer: float = 0.0
) -> list[Shape]:
    x0, y0, z0 = lens.project(start)
    x1, y1, z1 = lens.project(end)
    if min(z0, z1) < NEAR_M:
        return []
    dx, dy = x1 - x0, y1 - y0
    length = math.hypot(dx, dy) or 1.0
    lx, ly = float(lens.to_light[0]), float(lens.to_light[1])
    light = (ly * dx - lx * dy) / length
    row = colours[round((max(-1.0, min(1.0, light)) + 1.0) * ANGLES)]
    radii = max(0.6, lens.focal * r0 / z0), max(0.6, lens.focal * r1 / z1)
    bar = Capsule((x0, y0), (x1, y1), radii, (z0, z1), row, (r0 + r1) / 2)
    bar.depth -= nearer
    return [bar]


def _servo(lens: Lens, centre: Vector, axis: Vector, half: float, radius: float) -> list[Shape]:
    """A round housing along a joint's axis, with the horn on the side that faces the camera."""
    start, end = centre - half * axis, centre + half * axis
    out = _bar(lens, start, end, radius, radius, bar_colours(_SERVO, 0.2, 40.0), 0.012)
    facing = axis if float(axis @ (lens.position - centre)) > 0 else -axis
    cap = centre + (half + 0.6 * radius) * facing
    x, y, z = lens.project(cap)
    if z < NEAR_M:
        return out
    ray = cap - lens.position
    cosine = abs(float(facing @ ray)) / float(np.linalg.norm(ray))
    nx, ny = float(lens.axes[0] @ facing), float(lens.axes[1] @ facing)
    length = math.hypot(nx, ny)
    minor = (nx / length, ny / length) if length > 1e-6 else (1.0, 0.0)
    long = lens.focal * radius * 0.86 / z
    if long * cosine > 1.0:
        out.append(Ellipse((x, y), minor, (long * cosine, long), z - 0.03, horn_colours()))
    return out


def _arm(lens: Lens, pose: ArmPose) -> list[Shape]:
    printed, dark = bar_colours(_PRINTED, 0.55, 30.0), bar_colours(_SERVO, 0.1, 30.0)
    foot, head = np.array([0.0, 0.0, 0.085]), pose.shoulder - np.array([0.0, 0.0, 0.008])
    side = pose.axis * 0.004
    out = _bar(lens, foot, head, 0.034, 0.024, dark)
    out += _bar(lens, pose.shoulder + side, pose.elbow + side, 0.021, 0.0185, printed)
    out += _bar(lens, pose.elbow - side, pose.wrist - side, 0.0185, 0.0155, printed)
    out += _servo(lens, pose.shoulder, pose.axis, 0.016, 0.023)
    out += _servo(lens, pose.elbow, pose.axis, 0.014, 0.0205)
    out += _servo(lens, pose.wrist, pose.axis, 0.012, 0.0175)
    return out


def _gripper(lens: Lens, pose: ArmPose, *, body: bool) -> list[Shape]:
    jaw = bar_colours(_JAW, 0.5, 36.0)
    out: list[Shape] = []
    knuckle = pose.wrist + 0.046 * pose.forward
    if body:
        printed, dark = bar_colours(_PRINTED, 0.55, 30.0), bar_colours(_SERVO, 0.35, 36.0)
        across = 0.017 * pose.lateral
        out += _bar(lens, pose.wrist + 0.008 * pose.forward, knuckle, 0.018, 0.021, dark)
        out += _bar(lens, knuckle - across, knuckle + across, 0.016, 0.016, printed, 0.004)
    gap = pose.opening / 2
    for side in (-1.0, 1.0):
        root = knuckle + side * 0.02 * pose.lateral
        bend = knuckle + 0.026 * pose.forward + side * (gap + 0.010) * pose.lateral
        tip = pose.wrist + 0.106 * pose.forward + side * (gap + 0.0045) * pose.lateral
        out += _bar(lens, root, bend, 0.0088, 0.008, jaw)
        out += _bar(lens, bend, tip, 0.008, 0.0045, jaw)
    return out


def _cube(lens: Lens, cube: Cube) -> list[Shape]:
    half = CUBE_SIDE / 2
    return _box(lens, cube.centre, (half, half, half), cube.yaw, _CUBE)


def _box(
    lens: Lens, centre: Vector, half: tuple[float, float, float], yaw: float, rgb: tuple[float, float, float]
) -> list[Shape]:
    """The faces of a box that the camera sees."""
    c, s = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    axes = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    sides = axes * np.array(half)[:, None]
    out: list[Shape] = []
    for number, axis in enumerate(axes):
        distance = float((lens.position - centre) @ axis)
        if abs(distance) <= half[number]:
            continue
        towards = 1.0 if distance > 0 else -1.0
        middle = centre + towards * sides[number]
        u, v = sides[(number + 1) % 3], sides[(number + 2) % 3]
        corners = [lens.project(middle + a * u + b * v) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        depths = [depth for _, _, depth in corners]
        if min(depths) < NEAR_M:
            continue
        shade = 0.42 + 0.68 * max(0.0, float(towards * axis @ TO_LIGHT))
        colour = _packed(np.array(rgb) * shade)
        out.append(Polygon([(x, y) for x, y, _ in corners], sum(depths) / 4, colour))
    return out
