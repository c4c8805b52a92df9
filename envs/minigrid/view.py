"""What the agent sees: the 7x7 cells before it, those it has no line of sight to left out.

Axis 0 of a view runs from the agent's left to its right, axis 1 from far to near; the agent stands
in the middle of the nearest row and sees there what it carries. Upstream spreads visibility cell by
cell: along a row and from it to the next one. A row being 7 cells, what one row does is a function
of 14 bits (who is visible, who is transparent), kept in a table, so that a view costs seven
look-ups.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.envs.minigrid import cells

VIEW_SIZE = 7
_HALF = VIEW_SIZE // 2
_ROW_BITS = (1 << VIEW_SIZE) - 1


@functools.cache
def row_table() -> npt.NDArray[np.uint16]:
    """`[2**14]`: at `transparent << 7 | visible`, bits of a row, `above << 7 | visible after`.

    Upstream's rule: first left to right, then right to left, a visible cell that can be seen
    through makes its neighbour in that direction visible, and both their cells in the row above.
    """
    index = np.arange(1 << 2 * VIEW_SIZE)
    visible, transparent = index & _ROW_BITS, index >> VIEW_SIZE
    above = np.zeros_like(index)
    sweeps = [(i, i + 1) for i in range(VIEW_SIZE - 1)] + [
        (i, i - 1) for i in range(VIEW_SIZE - 1, 0, -1)
    ]
    for here, beside in sweeps:
        spreads = (visible & transparent) >> here & 1
        visible = visible | spreads << beside
        above = above | spreads << here | spreads << beside
    return (above << VIEW_SIZE | visible).astype(np.uint16)


def crop(
    grid: jax.Array, size: tuple[int, int], position: jax.Array, direction: jax.Array
) -> jax.Array:
    """The bytes `[7, 7]` of the cells before the agent, as it sees them; walls outside `size`."""
    width, height = size
    right = np.arange(-_HALF, _HALF + 1)[:, None]
    forward = np.arange(VIEW_SIZE - 1, -1, -1)[None, :]
    along = direction & 1 == 0  # the agent looks along a row
    sign = jnp.where(direction & 2 == 0, 1, -1)
    # Facing (fx, fy), the agent's right is (-fy, fx).
    dx = sign * jnp.where(along, forward, -right)
    dy = sign * jnp.where(along, right, forward)
    x, y = position % width + dx, position // width + dy
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return jnp.where(inside, grid[y * width + x], jnp.uint8(cells.GREY_WALL))


def visible_cells(view: jax.Array) -> jax.Array:
    """Whether the agent has a line of sight to each cell of a view: bool `[7, 7]`."""
    bits = (1 << np.arange(VIEW_SIZE, dtype=np.int32))[:, None]
    transparent = jnp.sum(jnp.where(cells.blocks_view(view), 0, bits), axis=0, dtype=jnp.int32)
    table = jnp.asarray(row_table())

    def next_row(i: jax.Array, rows: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        visible, seen = rows
        row = VIEW_SIZE - 1 - i
        found = table[transparent[row] << VIEW_SIZE | visible].astype(jnp.int32)
        return found >> VIEW_SIZE, seen.at[row].set(found & _ROW_BITS)

    first = jnp.int32(1 << _HALF), jnp.zeros(VIEW_SIZE, jnp.int32)
    # A loop, not seven lines: unrolled, XLA computes every row again for each row above it.
    last: tuple[jax.Array, jax.Array] = jax.lax.fori_loop(0, VIEW_SIZE, next_row, first)
    return last[1][None, :] & bits != 0


def observe(
    grid: jax.Array,
    size: tuple[int, int],
    position: jax.Array,
    direction: jax.Array,
    carrying: jax.Array,
    see_through_walls: bool = False,
) -> jax.Array:
    """Upstream's image of the view: uint8 `[7, 7, 3]` of object, colour and door state.

    Args:
        grid: uint8 `[height * width]`, a byte for each cell, row by row.
        size: `(width, height)`.
        position: int32 `[]`, index in `grid` of the agent's cell.
        direction: int32 `[]`, 0 to 3: right, down, left, up.
        carrying: uint8 `[]`, the byte of what the agent holds.
        see_through_walls: whether all cells are visible.
    """
    view = crop(grid, size, position, direction)
    if not see_through_walls:
        view = jnp.where(visible_cells(view), view, jnp.uint8(cells.UNSEEN))
    own = np.zeros((VIEW_SIZE, VIEW_SIZE), bool)
    own[_HALF, -1] = True
    view = jnp.where(own, carrying, view)
    return jnp.asarray(cells.UPSTREAM)[view.astype(jnp.int32)]
