"""What the agent sees: the cells before it, those it has no line of sight to left out.

Axis 0 of a view runs from the agent's left to its right, axis 1 from far to near; the agent stands
in the middle of the nearest row and sees there what it carries. Upstream spreads visibility cell by
cell: along a row and from it to the next one. Here the cells of a row are the bits of a number, so
that a row costs a few operations. The stages are compiled apart: fused, every cell of a view would
compute again all the rows that its visibility depends on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.envs.minigrid import cells
from xplore.envs.minigrid.task import State
from xplore.parts.apart import apart

Read = Callable[[jax.Array], jax.Array]

VIEW_SIZE = 7
MAX_VIEW_SIZE = 9


def crop(
    grid: jax.Array,
    shape: tuple[int, int],
    position: jax.Array,
    direction: jax.Array,
    size: int = VIEW_SIZE,
) -> jax.Array:
    """The bytes `[size, size]` before the agent, as it sees them; walls outside the grid.

    Args:
        grid: uint8 `[height * width]`, a byte for each cell, row by row; the first is a wall.
        shape: `(width, height)`.
        position: int32 `[]`, index in `grid` of the agent's cell.
        direction: int32 `[]`, 0 to 3: right, down, left, up.
        size: side of the view, odd.
    """
    table = jnp.asarray(_crop_index(shape, size))
    index = table.at[position * 4 + direction].get(mode="promise_in_bounds")
    return grid.at[index].get(mode="promise_in_bounds")


@functools.cache
def _crop_index(shape: tuple[int, int], size: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """`[cells * 4, size, size]`: which cell each part of a view shows, by place and direction.

    A part outside the grid shows cell 0, a corner and so a wall: where every index is one of the
    grid, none needs to be checked. Reading this table takes half the time of computing it for each
    view.
    """
    width, height = shape
    num_cells = width * height
    position, direction = np.divmod(np.arange(num_cells * 4)[:, None, None], 4)
    right = np.arange(-(size // 2), size // 2 + 1)[:, None]
    forward = np.arange(size - 1, -1, -1)[None, :]
    along = direction % 2 == 0  # the agent looks along a row
    sign = np.where(direction < 2, 1, -1)
    # Facing (fx, fy), the agent's right is (-fy, fx).
    x = position % width + sign * np.where(along, forward, -right)
    y = position // width + sign * np.where(along, right, forward)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = np.where(inside, y * width + x, 0)
    return index.astype(np.uint8 if num_cells < 256 else np.uint16)


def visible_cells(view: jax.Array) -> jax.Array:
    """Whether the agent has a line of sight to each cell of a view: bool `[size, size]`."""
    return _unpacked(_rows_in_sight(view), view.shape[-1]) != 0


def _rows_in_sight(view: jax.Array) -> jax.Array:
    """The visible cells of each row as bits: unsigned `[size]`, far to near."""
    size = view.shape[-1]
    transparent, rows = _transparent(view), []
    visible = jnp.full((), 1 << size // 2, transparent.dtype)
    for row in reversed(range(size)):
        seen, visible = _spread(size)(transparent[row], visible)
        rows.append(seen)
    return _stacked(rows[::-1])


def _unpacked(rows: jax.Array, size: int) -> jax.Array:
    """Bits of rows as 0 and 1: `[size, rows]`."""
    return rows[None, :] >> np.arange(size, dtype=rows.dtype)[:, None] & 1


@apart
def _stacked(rows: list[jax.Array]) -> jax.Array:
    return jnp.stack(rows)


@apart
def _transparent(view: jax.Array) -> jax.Array:
    """The cells of each row that can be seen through, as bits: unsigned `[size]`."""
    size = view.shape[-1]
    bits = (1 << np.arange(size, dtype=np.int32))[:, None]
    rows = jnp.sum(jnp.where(cells.blocks_view(view), 0, bits), axis=0, dtype=jnp.int32)
    return rows.astype(jnp.uint8 if size < 8 else jnp.uint16)


@functools.cache
def _spread(size: int) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Of a row's transparent and visible cells, as bits: all that are visible, in it and above it.

    Upstream's rule: first left to right, then right to left, a visible cell that can be seen
    through makes its neighbour in that direction visible, and both their cells in the row above.
    """

    def spread(transparent: jax.Array, visible: jax.Array) -> tuple[jax.Array, jax.Array]:
        word = visible.dtype.type
        rightwards = _flood(visible & transparent, transparent, jnp.left_shift, size)
        rightwards &= word((1 << size - 1) - 1)
        visible |= rightwards << 1
        leftwards = _flood(visible & transparent, transparent, jnp.right_shift, size)
        leftwards &= word((1 << size) - 2)
        above = rightwards | rightwards << 1 | leftwards | leftwards >> 1
        return visible | leftwards >> 1, above

    return apart(spread)


def _flood(
    bits: jax.Array,
    through: jax.Array,
    shift: Callable[[jax.Array, int], jax.Array],
    size: int,
) -> jax.Array:
    """`bits` and those reached from them in one direction along bits of `through`."""
    step = 1
    while step < size:
        bits |= through & shift(bits, step)
        through &= shift(through, step)
        step *= 2
    return bits


def partial_view(
    shape: tuple[int, int],
    state: State,
    size: int = VIEW_SIZE,
    see_through_walls: bool = False,
    read: Read | None = None,
) -> jax.Array:
    """The bytes `[size, size]` that the agent sees: 0 out of sight, and in its place its load.

    Args:
        shape: `(width, height)` of the grid.
        state: of one env.
        size: side of the view, odd.
        see_through_walls: whether all cells are visible.
        read: what to make of each byte in the last stage, such as a look-up; a function that is
            defined once, since every one is compiled by itself.
    """
    if see_through_walls and read is not None:
        look = _all_in_sight(shape, size, read)
        return look(state.grid, state.position, state.direction, state.carrying)
    view = _cropped(shape, size)(state.grid, state.position, state.direction)
    if see_through_walls:
        return _loaded(view, state.carrying)
    return _in_sight(read)(view, _rows_in_sight(view), state.carrying)


@functools.cache
def _all_in_sight(shape: tuple[int, int], size: int, read: Read) -> Callable[..., jax.Array]:
    # Without a look-up XLA does this in three times as long as cropping and loading apart.
    def look(
        grid: jax.Array, position: jax.Array, direction: jax.Array, carrying: jax.Array
    ) -> jax.Array:
        return read(_with_load(crop(grid, shape, position, direction, size), carrying))

    return apart(look)


@functools.cache
def _cropped(shape: tuple[int, int], size: int) -> Callable[..., jax.Array]:
    return apart(lambda grid, position, direction: crop(grid, shape, position, direction, size))


@functools.cache
def _in_sight(read: Read | None) -> Callable[..., jax.Array]:
    def look(view: jax.Array, rows: jax.Array, carrying: jax.Array) -> jax.Array:
        seen = view & -_unpacked(rows, view.shape[0]).astype(jnp.uint8)
        loaded = _with_load(seen, carrying)
        return loaded if read is None else read(loaded)

    return apart(look)


def _with_load(view: jax.Array, carrying: jax.Array) -> jax.Array:
    return view.at[view.shape[0] // 2, -1].set(carrying)


_loaded = apart(_with_load)
