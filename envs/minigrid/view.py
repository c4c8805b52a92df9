"""What the agent sees: the cells before it, those it has no line of sight to left out.

Axis 0 of a view runs from the agent's left to its right, axis 1 from far to near; the agent stands
in the middle of the nearest row and sees there what it carries. Upstream spreads visibility cell by
cell: along a row and from it to the next one. What one row does is a function of two bits per cell
(who is visible, who is transparent), kept in a table, so that a view costs a look-up per row.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.envs.minigrid import cells
from xplore.envs.minigrid.task import State

VIEW_SIZE = 7
MAX_VIEW_SIZE = 9  # its table has 2**18 entries


@functools.cache
def row_table(size: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """`[4**size]`: at `transparent << size | visible`, bits of a row, `above << size | visible`.

    Upstream's rule: first left to right, then right to left, a visible cell that can be seen
    through makes its neighbour in that direction visible, and both their cells in the row above.
    """
    index = np.arange(1 << 2 * size)
    visible, transparent = index & (1 << size) - 1, index >> size
    above = np.zeros_like(index)
    sweeps = [(i, i + 1) for i in range(size - 1)] + [(i, i - 1) for i in range(size - 1, 0, -1)]
    for here, beside in sweeps:
        spreads = (visible & transparent) >> here & 1
        visible = visible | spreads << beside
        above = above | spreads << here | spreads << beside
    return (above << size | visible).astype(np.uint16 if size < 8 else np.uint32)


def crop(
    grid: jax.Array,
    shape: tuple[int, int],
    position: jax.Array,
    direction: jax.Array,
    size: int = VIEW_SIZE,
) -> jax.Array:
    """The bytes `[size, size]` before the agent, as it sees them; walls outside the grid.

    Args:
        grid: uint8 `[height * width]`, a byte for each cell, row by row.
        shape: `(width, height)`.
        position: int32 `[]`, index in `grid` of the agent's cell.
        direction: int32 `[]`, 0 to 3: right, down, left, up.
        size: side of the view, odd.
    """
    index = jnp.asarray(_crop_index(shape, size))[position * 4 + direction].astype(jnp.int32)
    return grid.at[index].get(mode="fill", fill_value=cells.GREY_WALL)


@functools.cache
def _crop_index(shape: tuple[int, int], size: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """`[cells * 4, size, size]`: which cell each part of a view shows, by place and direction.

    A part outside the grid shows cell number `width * height`, which is none. Reading this table
    takes half the time of computing it for each view.
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
    index = np.where(inside, y * width + x, num_cells)
    return index.astype(np.uint8 if num_cells < 256 else np.uint16)


def visible_cells(view: jax.Array) -> jax.Array:
    """Whether the agent has a line of sight to each cell of a view: bool `[size, size]`."""
    size = view.shape[-1]
    bits = (1 << np.arange(size, dtype=np.int32))[:, None]
    transparent = jnp.sum(jnp.where(cells.blocks_view(view), 0, bits), axis=0, dtype=jnp.int32)
    table = jnp.asarray(row_table(size))

    def next_row(i: jax.Array, rows: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        visible, seen = rows
        row = size - 1 - i
        found = table[transparent[row] << size | visible].astype(jnp.int32)
        return found >> size, seen.at[row].set(found & (1 << size) - 1)

    first = jnp.int32(1 << size // 2), jnp.zeros(size, jnp.int32)
    # A loop, not seven lines: unrolled, XLA computes every row again for each row above it.
    last: tuple[jax.Array, jax.Array] = jax.lax.fori_loop(0, size, next_row, first)
    return last[1][None, :] & bits != 0


def partial_view(
    shape: tuple[int, int], state: State, size: int = VIEW_SIZE, see_through_walls: bool = False
) -> jax.Array:
    """The bytes `[size, size]` that the agent sees: 0 out of sight, and in its place its load.

    Args:
        shape: `(width, height)` of the grid.
        state: of one env.
        size: side of the view, odd.
        see_through_walls: whether all cells are visible.
    """
    view = crop(state.grid, shape, state.position, state.direction, size)
    if not see_through_walls:
        view = jnp.where(visible_cells(view), view, jnp.uint8(cells.UNSEEN))
    own = np.zeros((size, size), bool)
    own[size // 2, -1] = True
    return jnp.where(own, state.carrying, view)
