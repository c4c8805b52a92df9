"""Pictures, with upstream's look of every tile: a table of tiles, then one look-up per cell.

A tile is painted at three times its size and averaged down, as upstream does, so that pictures are
equal to the last pixel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.envs.minigrid import cells
from xplore.envs.minigrid.task import State
from xplore.envs.minigrid.view import VIEW_SIZE, crop, visible_cells
from xplore.parts.mosaic import mosaic

_RGB = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (112, 39, 195), (255, 255, 0), (100, 100, 100))
_BLACK, _LINE, _LAVA, _AGENT = (0, 0, 0), (100, 100, 100), (255, 128, 0), (255, 0, 0)
_SUPERSAMPLING = 3
_HIGHLIGHT = 0.3
_FACING_UP = 3
NO_AGENT = 4

Mask = npt.NDArray[np.bool_]


class _Canvas:
    """A square painted by masks over coordinates in (0, 1), `x` to the right and `y` down."""

    def __init__(self, pixels: int) -> None:
        centre = (np.arange(pixels) + 0.5) / pixels
        self.x, self.y = np.meshgrid(centre, centre)
        self.image = np.zeros((pixels, pixels, 3), np.uint8)

    def paint(self, where: Mask, colour: tuple[float, ...]) -> None:
        self.image[where] = np.asarray(colour, np.float64).astype(np.uint8)

    def rectangle(self, left: float, right: float, top: float, bottom: float) -> Mask:
        return (self.x >= left) & (self.x <= right) & (self.y >= top) & (self.y <= bottom)

    def circle(self, x: float, y: float, radius: float) -> Mask:
        return (self.x - x) ** 2 + (self.y - y) ** 2 <= radius * radius

    def line(self, x0: float, y0: float, x1: float, y1: float, radius: float) -> Mask:
        # Single precision ends, as upstream has them: pixels on the rim depend on it.
        start, end = np.array([x0, y0], np.float32), np.array([x1, y1], np.float32)
        length = np.linalg.norm(end - start)
        way = (end - start) / length
        points = np.stack([self.x, self.y], axis=-1)
        along = np.clip((points - start) @ way, 0, length)
        apart = np.linalg.norm(points - (start + along[..., None] * way), axis=-1)
        box = self.rectangle(
            min(x0, x1) - radius, max(x0, x1) + radius, min(y0, y1) - radius, max(y0, y1) + radius
        )
        return box & (apart <= radius)

    def agent(self, direction: int) -> Mask:
        """A triangle that points right, turned clockwise `direction` times."""
        turn = -0.5 * math.pi * direction
        x, y = self.x - 0.5, self.y - 0.5
        turned = np.stack(
            [
                0.5 + x * math.cos(turn) - y * math.sin(turn),
                0.5 + y * math.cos(turn) + x * math.sin(turn),
            ],
            axis=-1,
        )
        a, b, c = np.array([[0.12, 0.19], [0.87, 0.50], [0.12, 0.81]], np.float32)
        to_c, to_b, to_point = c - a, b - a, turned - a
        cc, cb, bb = to_c @ to_c, to_c @ to_b, to_b @ to_b
        cp, bp = to_point @ to_c, to_point @ to_b
        scale = 1 / (cc * bb - cb * cb)
        u, v = (bb * cp - cb * bp) * scale, (cc * bp - cb * cp) * scale
        inside: Mask = (u >= 0) & (v >= 0) & (u + v < 1)
        return inside


def _paint_thing(on: _Canvas, byte: int) -> None:  # noqa: C901  (one case per kind)
    kind = cells.BOX if byte >= 1 << 7 else byte >> 3
    rgb = _RGB[(byte & 7) % len(_RGB)]
    everywhere = on.rectangle(0, 1, 0, 1)
    match kind:
        case cells.GOAL | cells.WALL:
            on.paint(everywhere, rgb)
        case cells.FLOOR:
            on.paint(on.rectangle(0.031, 1, 0.031, 1), tuple(c / 2 for c in rgb))
        case cells.LAVA:
            on.paint(everywhere, _LAVA)
            for wave in range(3):
                low, high = 0.3 + 0.2 * wave, 0.4 + 0.2 * wave
                for x0, y0, x1, y1 in (
                    (0.1, low, 0.3, high),
                    (0.3, high, 0.5, low),
                    (0.5, low, 0.7, high),
                    (0.7, high, 0.9, low),
                ):
                    on.paint(on.line(x0, y0, x1, y1, 0.03), _BLACK)
        case cells.OPEN_DOOR:
            on.paint(on.rectangle(0.88, 1, 0, 1), rgb)
            on.paint(on.rectangle(0.92, 0.96, 0.04, 0.96), _BLACK)
        case cells.LOCKED_DOOR:
            on.paint(everywhere, rgb)
            on.paint(on.rectangle(0.06, 0.94, 0.06, 0.94), tuple(0.45 * c for c in rgb))
            on.paint(on.rectangle(0.52, 0.75, 0.50, 0.56), rgb)
        case cells.CLOSED_DOOR:
            for edge, colour in ((0.0, rgb), (0.04, _BLACK), (0.08, rgb), (0.12, _BLACK)):
                on.paint(on.rectangle(edge, 1 - edge, edge, 1 - edge), colour)
            on.paint(on.circle(0.75, 0.50, 0.08), rgb)
        case cells.KEY:
            on.paint(on.rectangle(0.50, 0.63, 0.31, 0.88), rgb)
            on.paint(on.rectangle(0.38, 0.50, 0.59, 0.66), rgb)
            on.paint(on.rectangle(0.38, 0.50, 0.81, 0.88), rgb)
            on.paint(on.circle(0.56, 0.28, 0.190), rgb)
            on.paint(on.circle(0.56, 0.28, 0.064), _BLACK)
        case cells.BALL:
            on.paint(on.circle(0.5, 0.5, 0.31), rgb)
        case cells.BOX:
            on.paint(on.rectangle(0.12, 0.88, 0.12, 0.88), rgb)
            on.paint(on.rectangle(0.18, 0.82, 0.18, 0.82), _BLACK)
            on.paint(on.rectangle(0.16, 0.84, 0.47, 0.53), rgb)


def _tile(byte: int, agent: int, highlight: bool, size: int) -> npt.NDArray[np.uint8]:
    canvas = _Canvas(size * _SUPERSAMPLING)
    canvas.paint(canvas.rectangle(0, 0.031, 0, 1), _LINE)
    canvas.paint(canvas.rectangle(0, 1, 0, 0.031), _LINE)
    _paint_thing(canvas, byte)
    if agent != NO_AGENT:
        canvas.paint(canvas.agent(agent), _AGENT)
    image = canvas.image
    if highlight:
        image = (image + _HIGHLIGHT * (255 - image)).clip(0, 255).astype(np.uint8)
    fine = image.reshape(size, _SUPERSAMPLING, size, _SUPERSAMPLING, 3)
    return fine.mean(axis=3).mean(axis=1).astype(np.uint8)


@functools.cache
def tiles(size: int) -> npt.NDArray[np.uint8]:
    """Every tile: uint8 `[2, 5, 256, size, size, 3]` by highlight, agent (4: none) and byte."""
    looks: dict[int, int] = {}
    for byte in range(256):
        # A box looks the same whatever it holds.
        looks[byte] = cells.cell(cells.BOX, byte & 7) if byte >= 1 << 7 else byte
    found = np.zeros((2, NO_AGENT + 1, 256, size, size, 3), np.uint8)
    for highlight in (False, True):
        for agent in range(NO_AGENT + 1):
            drawn = {b: _tile(b, agent, highlight, size) for b in set(looks.values())}
            found[int(highlight), agent] = np.stack([drawn[looks[b]] for b in range(256)])
    return found


@functools.cache
def _painter(tile_size: int, pixels: int | None = None) -> Callable[..., jax.Array]:
    return mosaic(tiles(tile_size).reshape(-1, tile_size, tile_size, 3), pixels)


def _numbers(
    lit: jax.Array, agent: jax.Array | npt.NDArray[np.int32], grid: jax.Array
) -> jax.Array:
    """Numbers of tiles, int32: an index of what `tiles` gives, its first three axes as one."""
    return (lit.astype(jnp.int32) * (NO_AGENT + 1) + agent) * 256 + grid.astype(jnp.int32)


def view_picture(view: jax.Array, tile_size: int) -> jax.Array:
    """A picture of an egocentric view, what is in sight lit up.

    Args:
        view: uint8 `[size, size]` of bytes, `UNSEEN` out of sight, as `view.partial_view` gives.
        tile_size: pixels of a side of a cell.

    Returns:
        uint8 `[size * tile_size, size * tile_size, 3]`.
    """
    size = view.shape[-1]
    bytes_ = view.T
    agent = np.full((size, size), NO_AGENT, np.int32)
    agent[-1, size // 2] = _FACING_UP
    return _painter(tile_size)(_numbers(bytes_ != cells.UNSEEN, agent, bytes_))


def picture(
    shape: tuple[int, int],
    state: State,
    tile_size: int = 32,
    view_size: int = VIEW_SIZE,
    see_through_walls: bool = False,
    highlight: bool = True,
    pixels: int | None = None,
) -> jax.Array:
    """A picture of the whole grid, the agent in it.

    Args:
        shape: `(width, height)` of the grid.
        state: of one env.
        tile_size: pixels of a side of a cell.
        view_size: side of what the agent sees.
        see_through_walls: whether it sees all of it.
        highlight: whether what it sees is lit up.
        pixels: side of the picture, the grid in the middle of a black frame; None: no frame.

    Returns:
        uint8 `[height * tile_size, width * tile_size, 3]`, or `[pixels, pixels, 3]`.
    """
    width, height = shape
    lit = jnp.zeros((height, width), bool)
    if highlight:
        view = crop(state.grid, shape, state.position, state.direction, view_size)
        seen = jnp.ones_like(view, bool) if see_through_walls else visible_cells(view)
        # Where each cell of the grid lies in the view: the way there in the agent's own axes.
        dx = np.arange(width)[None, :] - state.position % width
        dy = np.arange(height)[:, None] - state.position // width
        along = state.direction & 1 == 0
        sign = jnp.where(state.direction & 2 == 0, 1, -1)
        forward = sign * jnp.where(along, dx, dy)
        right = sign * jnp.where(along, dy, -dx)
        i, j = right + view_size // 2, view_size - 1 - forward
        inside = (i >= 0) & (i < view_size) & (j >= 0) & (j < view_size)
        lit = inside & seen[i, j]
    here = np.arange(width * height).reshape(height, width) == state.position
    agent = jnp.where(here, state.direction, NO_AGENT)
    return _painter(tile_size, pixels)(_numbers(lit, agent, state.grid.reshape(height, width)))
