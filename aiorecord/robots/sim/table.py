"""The table top as a moving camera sees it: its texture through the lens, and its distance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arm import Vector
from .scene import Lens
from .world import FLOOR_Z, ORIGIN, TEXEL_M, TEXELS, WALL_TEXELS, coarse_table_texture, table_texture

_BAND = 64
HORIZON = 0.02
"""Rays less steep than this (metres down per metre) meet a wall before the table."""


class TableSampler:
    """Samples the table texture for a moving camera: a plane seen through a pinhole.

    Every second row is sampled, the rows between are the mean of their neighbours: half the work, and the
    texture's finest grain does not flicker. Indices are computed in bands of rows, so that the intermediate
    arrays stay in the processor's cache.

    Args:
        width: pixels.
        height: pixels, even.
        seed: of the texture.
    """

    def __init__(self, width: int, height: int, seed: int) -> None:
        self._xs = np.arange(width, dtype=np.float32)
        self._ys = np.arange(0, height + 2, 2, dtype=np.float32)[:, None]
        self._index = np.empty((height // 2 + 1, width), np.intp)
        self._sampled = np.empty((height // 2 + 1, width, 3), np.uint8)
        self._textures = table_texture(seed), coarse_table_texture(seed)

    def draw(self, lens: Lens, image: NDArray[np.uint8]) -> None:
        """Fill a picture, (h, w, 3) uint8, with the table as it is seen through the lens."""
        # Far away a pixel spans several texels, and picking one of them would flicker.
        pixel_m = float(lens.position[2]) / max(0.2, -float(lens.axes[2, 2])) / lens.focal
        texture = self._textures[1 if pixel_m > TEXEL_M else 0]
        index = self._indices(lens, texture.shape[1])
        sampled = np.take(texture.reshape(-1, 3), index, axis=0, mode="clip", out=self._sampled)
        image[0::2] = sampled[:-1]
        sampled >>= 1
        np.add(sampled[:-1], sampled[1:], out=image[1::2])

    def _indices(self, lens: Lens, texels: int) -> NDArray[np.intp]:
        """Flat texel index of each pixel of every second row; the array is used again at the next call.

        Args:
            lens: the camera.
            texels: columns of the texture, a power of two.
        """
        down = -_over_pixels(lens, lens.axes[:, 2])
        height = float(lens.position[2])
        columns = _over_pixels(lens, lens.axes[:, 0]) * height + down * (float(lens.position[0]) - ORIGIN[0])
        rows = _over_pixels(lens, lens.axes[:, 1]) * height + down * (float(lens.position[1]) - ORIGIN[1])
        texel_m = TEXEL_M * TEXELS / texels
        columns, rows = columns / texel_m, rows / texel_m
        corners = [down @ (x, y, 1.0) for x in (0.0, self._xs[-1]) for y in (0.0, self._ys[-1, 0])]
        horizon = min(corners) < HORIZON
        for start in range(0, len(self._ys), _BAND):
            y = self._ys[start : start + _BAND]
            w = _affine(down, self._xs, y)
            above = None
            if horizon:
                above = w < np.float32(HORIZON)
                np.maximum(w, np.float32(HORIZON), out=w)
            np.reciprocal(w, out=w)
            u = _affine(columns, self._xs, y)
            u *= w
            v = _affine(rows, self._xs, y)
            v *= w
            column, row = u.astype(np.int32), v.astype(np.int32)
            column &= texels - 1
            row &= texels - 1
            row <<= texels.bit_length() - 1
            row |= column
            if above is not None:
                np.copyto(row, self._wall(texels, start, len(y)), where=above)
            self._index[start : start + _BAND] = row
        return self._index

    def _wall(self, texels: int, start: int, rows: int) -> NDArray[np.int32]:
        """Indices of the plaster texture that is shown above the horizon."""
        strip = WALL_TEXELS * texels // TEXELS
        row = np.arange(start, start + rows, dtype=np.int32)[:, None] % strip + texels
        wall: NDArray[np.int32] = row * texels + np.arange(len(self._xs), dtype=np.int32) % texels
        return wall


def table_depth(lens: Lens, out: NDArray[np.float32]) -> None:
    """Millimetres to the table (and, past its edge, to the floor's level at most) for every pixel."""
    height, width = out.shape
    down = -_over_pixels(lens, lens.axes[:, 2])
    out[...] = _affine(down, np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None])
    np.maximum(out, np.float32(HORIZON), out=out)
    np.reciprocal(out, out=out)
    out *= np.float32(float(lens.position[2]) * 1000)
    np.minimum(out, np.float32(-FLOOR_Z * 4000), out=out)


def _over_pixels(lens: Lens, weights: Any) -> Vector:
    """The ray direction's component as (per column, per row, constant); `weights` are of the lens axes."""
    right, down, forward = (float(value) for value in weights)
    a, b = right / lens.focal, down / lens.focal
    return np.array([a, b, forward - a * lens.centre[0] - b * lens.centre[1]])


def _affine(terms: Vector, xs: NDArray[np.float32], ys: NDArray[np.float32]) -> NDArray[np.float32]:
    out: NDArray[np.float32] = xs * np.float32(terms[0]) + (ys * np.float32(terms[1]) + np.float32(terms[2]))
    return out
