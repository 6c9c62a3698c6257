"""The static parts of the simulated scene: the table top as a texture, and the room around it. Pure.

Made once per seed and kept, since a moving camera samples the table at every frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .motion import GOAL

type Floats = NDArray[np.float32]

TEXELS = 2048
TEXEL_M = 0.0004
ORIGIN = (-0.27, -TEXELS * TEXEL_M / 2)
"""World x and y of the texture's first texel; rows run along y, columns along x."""

TABLE = (-0.27, 0.545, -0.405, 0.405)
"""Extent of the table top: x from, x to, y from, y to."""

MAT = (0.075, 0.345, -0.235, 0.235)
GOAL_RADIUS = 0.042
_MAT_GREEN, _MAT_RULE = (44.0, 92.0, 84.0), (205.0, 214.0, 190.0)
_MAT_DISC, _MAT_RING = (226.0, 222.0, 208.0), (40.0, 74.0, 150.0)
FLOOR_Z = -0.72
WALL_TEXELS = 64

DARKEST, BRIGHTEST = 26.0, 238.0
"""Range of scene colours. Sensor noise is added in 8 bits without a check, so it needs room at both ends."""

_BAND = 32

_WALLS = (("x", -0.95), ("x", 1.9), ("y", -1.3), ("y", 1.3))


class ValueNoise:
    """Smooth noise in [-1, 1]: a grid of random values, interpolated.

    Args:
        rng: source of randomness.
        shape: rows and columns of the whole.
        cells: random cells down and across; unequal numbers give streaks.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> None:
        self._grid = rng.uniform(-1.0, 1.0, (cells[0] + 2, cells[1] + 2)).astype(np.float32)
        self._rows, self._down = self._weights(shape[0], cells[0])
        self._columns, self._across = self._weights(shape[1], cells[1])

    @staticmethod
    def _weights(length: int, count: int) -> tuple[NDArray[np.intp], Floats]:
        at = np.arange(length, dtype=np.float32) * np.float32(count / length)
        index = at.astype(np.intp)
        t = at - index.astype(np.float32)
        return index, t * t * (3 - 2 * t)

    def __getitem__(self, band: slice) -> Floats:
        """The rows of a slice (rows, columns)."""
        rows = self._rows[band]
        down = self._grid[rows]
        down += (self._grid[rows + 1] - down) * self._down[band, None]
        out = np.take(down, self._columns, axis=1)
        step = np.take(down, self._columns + 1, axis=1)
        step -= out
        step *= self._across
        out += step
        return out


def _bands(rows: int) -> Iterator[slice]:
    """Slices of rows. Intermediate arrays of a slice stay in the processor's cache; whole textures do not,
    and the first write to each of their pages takes longer than the arithmetic.
    """
    for start in range(0, rows, _BAND):
        yield slice(start, min(start + _BAND, rows))


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
    warp, streaks, fibres = (ValueNoise(rng, (n, n), cells) for cells in ((24, 5), (700, 18), (1024, 60)))
    seam = np.abs(y - np.round(y / plank_m) * np.float32(plank_m)) < 0.0007
    grain = rng.normal(0.0, 0.018, (n, n // 4)).astype(np.float32)
    mat_rows, mat_columns, mat_planes = _cutting_mat(rng, x, y)
    texture = np.empty((n + WALL_TEXELS, n, 3), np.uint8)
    for band in _bands(n):
        rings = warp[band]
        rings *= np.float32(1.6)
        rings += y[band] * np.float32(95.0)
        rings += log[band] * np.float32(9.0)
        np.sin(rings, out=rings)
        rings *= np.float32(0.55)
        rings += streaks[band]
        rings += np.float32(0.6) * fibres[band]
        light = np.float32(1.0) + np.float32(0.075) * rings + np.float32(0.10) * tone[band]
        light *= np.where(seam[band], np.float32(0.62), np.float32(1.0))
        light += np.repeat(grain[band], 4, axis=1)
        for channel, wood in enumerate((178.0, 132.0, 86.0)):
            texture[band, :, channel] = np.clip(light * np.float32(wood), DARKEST, BRIGHTEST)
    for channel, plane in enumerate(mat_planes):
        texture[mat_rows, mat_columns, channel] = np.clip(plane, DARKEST, BRIGHTEST)
    plaster = ValueNoise(rng, (WALL_TEXELS, n), (16, 512))[:] * np.float32(7.0)
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


def _cutting_mat(rng: np.random.Generator, x: Floats, y: Floats) -> tuple[slice, slice, list[Floats]]:
    """The cutting mat on the table: grid, edge and circle on worn green.

    Args:
        rng: source of randomness.
        x: world x of the texture's columns (columns,).
        y: world y of its rows (rows, 1).

    Returns:
        The rows and columns of the texture that it covers, and its red, green and blue planes.
    """
    x0, x1, y0, y1 = MAT
    columns, rows = np.flatnonzero((x >= x0) & (x <= x1)), np.flatnonzero((y[:, 0] >= y0) & (y[:, 0] <= y1))
    shape = (len(rows), len(columns))
    fine, broad = ValueNoise(rng, shape, (160, 90)), ValueNoise(rng, shape, (9, 6))
    planes: list[Floats] = [np.empty(shape, np.float32) for _ in range(3)]
    for band in _bands(shape[0]):
        wear = fine[band] * np.float32(0.05) + broad[band] * np.float32(0.07)
        _print_mat([plane[band] for plane in planes], wear, x[columns], y[rows[band]])
    # A few cut marks, as on a used mat.
    for _ in range(26):
        row, column = int(rng.integers(0, shape[0] - 1)), int(rng.integers(0, shape[1] - 120))
        slope = rng.uniform(-0.8, 0.8)
        span = np.arange(int(rng.integers(30, 120)))
        track = np.clip(row + (slope * span).astype(np.intp), 0, shape[0] - 1)
        for plane in planes:
            plane[track, column + span] *= np.float32(1.25)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1), planes


def _print_mat(planes: list[Floats], wear: Floats, x: Floats, y: Floats) -> None:
    """Colour rows of the mat."""
    x0, x1, y0, y1 = MAT
    line = np.zeros(wear.shape, np.float32)

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
    for plane, green, rule, inner, outer in zip(
        planes, _MAT_GREEN, _MAT_RULE, _MAT_DISC, _MAT_RING, strict=True
    ):
        plane[...] = (np.float32(1.0) + wear) * np.float32(green)
        plane += line * (np.float32(rule) - plane)
        plane += disc * (np.float32(inner) * (1 + wear) - plane)
        plane += ring * (np.float32(outer) - plane)


@lru_cache(maxsize=2)
def room_noise(seed: int) -> Floats:
    """Noise (512, 512) for walls and floor, in about [-1, 1]."""
    rng = np.random.default_rng([seed, 4])
    shape = (512, 512)
    noise = ValueNoise(rng, shape, (8, 8))[:] + np.float32(0.6) * ValueNoise(rng, shape, (64, 64))[:]
    noise += np.float32(0.5) * ValueNoise(rng, shape, (256, 256))[:]
    noise *= np.float32(0.5)
    return noise


def look(position: Floats, direction: Floats, seed: int) -> tuple[Floats, Floats]:
    """The first surface that rays from a point hit.

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
    for number in range(-1, len(_WALLS) + 1):
        rays = np.flatnonzero(plane == number)
        if not len(rays):
            continue
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
            colour[rays] = _wall(number, along, z, rough)
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
