"""Steps that a level of Miner takes at the least, under jit: a tour by the places of diamonds."""

from __future__ import annotations

from typing import Final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.envs.families import boards
from xplore.parts.tour import FAR, shortest_tour

MOST: Final = 12  # diamonds that a tour goes by
# Parts of a region that are told apart: so many where there are few regions, otherwise two.
_MANY, _FEW_REGIONS = 16, 6


def least_steps(
    walls: jax.Array,
    boulders: jax.Array,
    diamonds: jax.Array,
    position: jax.Array,
    exit_: jax.Array,
    num: int,
) -> jax.Array:
    """A lower bound of the steps to success, int32 `[]`.

    Before a diamond is taken or moves, the agent enters its region (`miner_bounds.region` says
    why): the cells that have to be emptied. The bound is the shortest tour by the regions of all
    diamonds to the exit, as the crow digs. Of large regions parts are told apart: a tour may enter
    one in one cell of it and leave it from another.

    Args:
        walls: words `[H]`, as those of `MinerState`.
        boulders: words `[H]`, none of which falls.
        diamonds: words `[H]`, the same.
        position: int32 `[]`, the agent's cell.
        exit_: int32 `[]`.
        num: of diamonds that are gone by; those beyond are left out.
    """
    side = len(walls)
    shape = (side, side)
    (cells,) = jnp.nonzero(boards.to_mask(diamonds, side).ravel(), size=num, fill_value=-1)
    # For one that is not there, the agent's cell: that is no way round.
    cells = jnp.where(cells < 0, position, cells).astype(jnp.int32)
    itself = jax.vmap(lambda cell: boards.one_cell(cell, shape))(cells)
    whole = _regions(itself, boulders | diamonds) & ~walls[None]
    ways = _MANY if num <= _FEW_REGIONS else 2
    sets = boards.to_mask(whole.ravel(), side).reshape(num, -1)
    # In parts of equal size, from above; with as many parts as cells, each cell is one.
    rank, size = jnp.cumsum(sets, axis=1) - 1, jnp.sum(sets, axis=1, keepdims=True)
    part = rank * ways // size
    masks = sets[:, None] & (part[:, None] == np.arange(ways)[None, :, None])
    masks = masks.reshape(-1, side, side)
    away = _away(masks)
    between = jnp.min(jnp.where(masks[None], away[:, None], FAR), axis=(2, 3))
    to_agent, to_exit = (away[:, x // side, x % side].reshape(num, ways) for x in (position, exit_))
    return shortest_tour(to_agent, between.reshape(num, ways, num, ways), to_exit)


def _regions(cells: jax.Array, things: jax.Array) -> jax.Array:
    """`miner_bounds.region` of each of `cells`, words `[N, H]`."""
    things = things[None]
    stacked = things & boards.raised(things, 1)  # on another thing

    def grow(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        found, _ = carry
        on = found & stacked
        beside = on << 1 | on >> 1
        grown = found | beside | boards.lowered(found & things | beside, 1)
        return grown, jnp.any(grown != found)

    return jax.lax.while_loop(lambda carry: carry[1], grow, (cells, jnp.bool_(True)))[0]


def _away(masks: jax.Array) -> jax.Array:
    """Steps from sets of cells, bool `[M, H, W]`, to each cell, with nothing in the way."""
    apart = abs(np.arange(masks.shape[1])[:, None] - np.arange(masks.shape[1]))
    in_row = jnp.min(jnp.where(masks[:, :, None], apart[None, None], FAR), axis=3)
    return jnp.min(in_row[:, None] + apart[None, :, :, None], axis=2)
