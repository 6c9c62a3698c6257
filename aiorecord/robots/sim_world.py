"""What stands still in the simulated scene: the table top as a texture, and the room around it. Pure.

Made once per seed and kept, since a camera that moves samples the table at every frame.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .sim_motion import GOAL

type Floats = NDArray[np.float32]

TEXELS = 2048
TEXEL_M = 0.0004
ORIGIN = (-0.27, -TEXELS * TEXEL_M / 2)
"""World x and y of the texture's first texel; rows run along y, columns along x."""

TABLE = (-0.27, 0.545, -0.405, 0.405)
"""Extent of the table top: x from, x to, y from, y to."""

MAT = (0.075, 0.345, -0.235, 0.235)
GOAL_RADIUS = 0.042
FLOOR_Z = -0.72
WALL_TEXELS = 64

DARKEST, BRIGHTEST = 26.0, 238.0
"""Range of scene colours. Sensor noise is added in 8 bits without a check, so it needs room at both ends."""

_WALLS = (("x", -0.95), ("x", 1.9), ("y", -1.3), ("y", 1.3))


def value_noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Floats:
    """Smooth noise in [-1, 1]: a grid of random values, interpolated.

    Args:
        rng: source of randomness.
        shape: rows and columns of the result.
        cells: random cells down and across; unequal numbers give streaks.
    """
    grid = rng.uniform(-1.0, 1.0, (cells[0] + 2, cells[1] + 2)).astype(np.float32)

    def weights(length: int, count: int) -> tuple[NDArray[np.intp], Floats]:
        at = np.arange(length, dtype=np.float32) * np.float32(count / length)
        index = at.astype(np.intp)
        t = at - index
        return index, t * t * (3 - 2 * t)

    rows, ty = weights(shape[0], cells[0])
    columns, tx = weights(shape[1], cells[1])
    down = grid[rows] + (grid[rows + 1] - grid[rows]) * ty[:, None]
    out: Floats = down[:, columns] + (down[:, columns + 1] - down[:, columns]) * tx
    return out


@lru_cache(maxsize=2)
def table_texture(seed: int) -> NDArray[np.uint8]:
    """The table top seen straight from above: planks, the cutting mat with its grid, the circle.

    Returns:
        (`TEXELS` + `WALL_TEXELS`, `TEXELS`, 3) uint8, read-only; the last rows are plaster, for what a
        moving camera sees above the horizon.
    """
    rng = np.random.default_rng([seed, 3])
    n = TEXELS
    at = np.arange(n, dtype=np.float32) * np.float32(TEXEL_M)
    x, y = at + np.float32(ORIGIN[0]), (at + np.float32(ORIGIN[1]))[:, None]
    # Planks run along x; each has its own tone and its own place in the log.
    plank_m = 0.098
    plank = np.floor(y / plank_m).astype(np.intp)
    tone = rng.uniform(-1.0, 1.0, 64).astype(np.float32)[plank]
    log = rng.uniform(-1.0, 1.0, 64).astype(np.float32)[plank]
    warp = value_noise(rng, (n, n), (24, 5))
    warp *= np.float32(1.6)
    warp += y * np.float32(95.0)
    warp += log * np.float32(9.0)
    rings = np.sin(warp)
    rings *= np.float32(0.55)
    rings += value_noise(rng, (n, n), (700, 18))
    rings += np.float32(0.6) * value_noise(rng, (n, n), (1024, 60))
    seam = np.abs(y - np.round(y / plank_m) * np.float32(plank_m)) < 0.0007
    light = np.float32(1.0) + np.float32(0.075) * rings + np.float32(0.10) * tone
    light *= np.where(seam, np.float32(0.62), np.float32(1.0))
    grain = rng.normal(0.0, 0.018, (n, n // 4)).astype(np.float32)
    light += np.repeat(grain, 4, axis=1)
    texture = np.empty((n + WALL_TEXELS, n, 3), np.uint8)
    wood = (178.0, 132.0, 86.0)
    mat = _mat(rng, x, y)
    for channel in range(3):
        plane = light * np.float32(wood[channel])
        top, left = mat.row, mat.column
        part = plane[top : top + mat.height, left : left + mat.width]
        part *= mat.keep
        part += mat.colour[channel]
        texture[:n, :, channel] = np.clip(plane, DARKEST, BRIGHTEST)
    plaster = value_noise(rng, (WALL_TEXELS, n), (16, 512)) * np.float32(7.0)
    texture[n:] = (plaster[..., None] + np.array([190.0, 192.0, 190.0], np.float32)).astype(np.uint8)
    texture.flags.writeable = False
    return texture


@lru_cache(maxsize=2)
def coarse_table_texture(seed: int) -> NDArray[np.uint8]:
    """`table_texture` at half the resolution, each texel the mean of four; read-only."""
    full = table_texture(seed)
    total = full[0::2, 0::2].astype(np.uint16)
    for row, column in ((0, 1), (1, 0), (1, 1)):
        total += full[row::2, column::2]
    half = (total >> 2).astype(np.uint8)
    half.flags.writeable = False
    return half


class _Mat:
    """The mat's part of the texture: wood is multiplied by `keep` and `colour` is added."""

    def __init__(self, row: int, column: int, keep: Floats, colour: list[Floats]) -> None:
        self.row, self.column, self.keep, self.colour = row, column, keep, colour
        self.height, self.width = keep.shape


def _mat(rng: np.random.Generator, x: Floats, y: Floats) -> _Mat:
    x0, x1, y0, y1 = MAT
    columns = np.flatnonzero((x >= x0) & (x <= x1))
    rows = np.flatnonzero((y[:, 0] >= y0) & (y[:, 0] <= y1))
    x, y = x[columns], y[rows]
    shape = (len(rows), len(columns))
    wear = value_noise(rng, shape, (160, 90)) * np.float32(0.05) + value_noise(
        rng, shape, (9, 6)
    ) * np.float32(0.07)
    light = np.float32(1.0) + wear
    colour = [light * np.float32(value) for value in (44.0, 92.0, 84.0)]
    line = np.zeros(shape, np.float32)

    def rules(step_m: float, half_m: float, strength: float) -> None:
        for values in (x - np.float32(x0), y - np.float32(y0)):
            near = np.abs(values - np.round(values / step_m) * np.float32(step_m)) < half_m
            np.maximum(line, np.where(near, np.float32(strength), np.float32(0.0)), out=line)

    rules(0.01, 0.00035, 0.16)
    rules(0.05, 0.0006, 0.5)
    edge = np.minimum(np.minimum(x - x0, x1 - x), np.minimum(y - y0, y1 - y))
    np.maximum(line, ((edge > 0.004) & (edge < 0.0052)).astype(np.float32) * np.float32(0.7), out=line)
    distance = np.sqrt((x - np.float32(GOAL[0])) ** 2 + (y - np.float32(GOAL[1])) ** 2)
    disc = (distance < GOAL_RADIUS).astype(np.float32) * np.float32(0.9)
    ring = (np.abs(distance - np.float32(GOAL_RADIUS)) < 0.0022).astype(np.float32)
    ring = np.maximum(ring, (np.abs(distance - np.float32(0.012)) < 0.001).astype(np.float32))
    for channel, (rule, inner, outer) in enumerate(
        zip((205.0, 214.0, 190.0), (226.0, 222.0, 208.0), (40.0, 74.0, 150.0), strict=True)
    ):
        plane = colour[channel]
        plane += line * (np.float32(rule) - plane)
        plane += disc * (np.float32(inner) * (1 + wear) - plane)
        plane += ring * (np.float32(outer) - plane)
    # A few cut marks, as on any mat that is used.
    for _ in range(26):
        row, column = int(rng.integers(0, shape[0] - 1)), int(rng.integers(0, shape[1] - 120))
        slope = rng.uniform(-0.8, 0.8)
        span = np.arange(int(rng.integers(30, 120)))
        track = np.clip(row + (slope * span).astype(np.intp), 0, shape[0] - 1)
        for plane in colour:
            plane[track, column + span] *= np.float32(1.25)
    return _Mat(int(rows[0]), int(columns[0]), np.zeros(shape, np.float32), colour)


@lru_cache(maxsize=2)
def room_noise(seed: int) -> Floats:
    """Noise (512, 512) for walls and floor, in about [-1, 1]."""
    rng = np.random.default_rng([seed, 4])
    noise = value_noise(rng, (512, 512), (8, 8)) + np.float32(0.6) * value_noise(rng, (512, 512), (64, 64))
    noise += np.float32(0.5) * value_noise(rng, (512, 512), (256, 256))
    noise *= np.float32(0.5)
    return noise


def look(position: Floats, direction: Floats, seed: int) -> tuple[Floats, Floats]:
    """What rays from a point meet first.

    Args:
        position: (3,) world coordinates.
        direction: (n, 3) ray directions, of any length.
        seed: of the textures.

    Returns:
        Colours (n, 3) in 0..255, and how many times `direction` the ray went (n,).
    """
    texture, noise = table_texture(seed), room_noise(seed)
    px, py, pz = (np.float32(value) for value in position)
    dx, dy, dz = direction[:, 0], direction[:, 1], direction[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        nearest = np.where(dz < -1e-6, (np.float32(FLOOR_Z) - pz) / dz, np.float32(1e6))
        plane = np.zeros(len(dz), np.int8)
        for number, (axis, at) in enumerate(_WALLS, 1):
            d, p = (dx, px) if axis == "x" else (dy, py)
            t = np.where(np.abs(d) > 1e-9, (np.float32(at) - p) / d, np.float32(1e6))
            nearer = (t > 1e-6) & (t < nearest)
            np.copyto(nearest, t, where=nearer)
            plane[nearer] = number
        t = np.where(dz < -1e-6, -pz / dz, np.float32(1e6))
    x, y = px + t * dx, py + t * dy
    on_table = (t > 0) & (t < nearest) & (x > TABLE[0]) & (x < TABLE[1]) & (y > TABLE[2]) & (y < TABLE[3])
    np.copyto(nearest, t, where=on_table)
    plane[on_table] = -1
    colour = np.empty((len(dz), 3), np.float32)
    for number in np.unique(plane):
        rays = np.flatnonzero(plane == number)
        reach = nearest[rays]
        x, y, z = px + reach * dx[rays], py + reach * dy[rays], pz + reach * dz[rays]
        if number == -1:
            rows = np.clip(((y - ORIGIN[1]) / TEXEL_M).astype(np.intp), 0, TEXELS - 1)
            columns = np.clip(((x - ORIGIN[0]) / TEXEL_M).astype(np.intp), 0, TEXELS - 1)
            # Light falls off away from the lamp above the mat.
            fall = np.float32(1.0) - np.float32(0.55) * ((x - 0.2) ** 2 + (y + 0.1) ** 2)
            colour[rays] = texture[rows, columns] * np.clip(fall, 0.6, 1.0)[:, None]
        elif number == 0:
            tiles = noise[((y * 150).astype(np.intp)) & 511, ((x * 150).astype(np.intp)) & 511]
            joint = (np.abs(np.mod(x, 0.3) - 0.15) > 0.146) | (np.abs(np.mod(y, 0.3) - 0.15) > 0.146)
            tone = (np.float32(84.0) + np.float32(12.0) * tiles) * np.where(joint, 0.75, 1.0)
            colour[rays] = tone[:, None] * np.array([1.0, 0.97, 0.92], np.float32)
        else:
            along = y if _WALLS[number - 1][0] == "x" else x
            rough = noise[((z * 190).astype(np.intp)) & 511, ((along * 190).astype(np.intp)) & 511]
            colour[rays] = _wall(int(number), along, z, rough)
    return np.clip(colour, DARKEST, BRIGHTEST), nearest


type _Rgb = tuple[float, float, float]


@lru_cache(maxsize=4)
def _decoration(wall: int) -> list[tuple[float, float, float, float, _Rgb]]:
    """Rectangles on a wall in the order of painting: along from, to, z from, to, colour."""
    out: list[tuple[float, float, float, float, _Rgb]] = [(-9.0, 9.0, -0.72, -0.64, (96.0, 92.0, 88.0))]
    if wall == 2:  # behind most cameras
        return out
    at = {1: 0.0, 3: 0.2, 4: 0.35}[wall]
    out.append((at - 0.62, at - 0.12, 0.10, 0.125, (122.0, 92.0, 64.0)))
    books = np.random.default_rng(wall)
    left = at - 0.60
    while left < at - 0.18:
        width, height = float(books.uniform(0.022, 0.05)), float(books.uniform(0.12, 0.2))
        base = books.uniform(62.0, 150.0)
        red, green, blue = (float(v) for v in np.clip(base + books.normal(0.0, 32.0, 3), 40.0, 190.0))
        label = (red * 0.5 + 90, green * 0.5 + 90, blue * 0.5 + 90)
        out.append((left, left + width, 0.125, 0.125 + height, (red, green, blue)))
        out.append((left, left + width, 0.165, 0.175, label))
        left += width + 0.004
    out.append((at + 0.10, at + 0.52, 0.0, 0.34, (70.0, 80.0, 96.0)))
    out.append((at + 0.12, at + 0.50, 0.02, 0.32, (222.0, 218.0, 204.0)))
    for line in range(7):
        right, z = at + 0.46 - 0.05 * ((line * 3) % 4), 0.255 - 0.033 * line
        out.append((at + 0.15, right, z, z + 0.008, (96.0, 98.0, 110.0)))
    out.append((at + 0.36, at + 0.46, 0.04, 0.11, (190.0, 84.0, 58.0)))
    return out


def _wall(wall: int, along: Floats, z: Floats, rough: Floats) -> Floats:
    """Plaster with a skirting, and on some walls a shelf with books and a poster."""
    tone = np.float32(176.0) + np.float32(9.0) * rough + np.float32(26.0) * np.clip(z, -0.8, 0.9)
    colour: Floats = tone[:, None] * np.array([1.0, 0.99, 0.96], np.float32)
    for a0, a1, z0, z1, rgb in _decoration(wall):
        inside = np.flatnonzero((along > a0) & (along < a1) & (z > z0) & (z < z1))
        colour[inside] = np.array(rgb, np.float32) + np.float32(5.0) * rough[inside, None]
    return colour
