"""What falls and rolls on a board, row by row from below, each row as the bits of a word."""

from __future__ import annotations

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp

from xplore.envs.families.boards import trailing
from xplore.parts.apart import apart

# In turn, the cells of a row give way to those on their left; so many of them are followed.
_IN_TURN: Final = 4


def fallen(
    solid: jax.Array, boulders: jax.Array, diamonds: jax.Array, moving: jax.Array, agent: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Boulders and diamonds one step later.

    One over an empty cell falls into it, and is moving. One that is moving over the agent crushes
    it. One that lies on another rolls to the left, or else to the right, if the cell beside it and
    the one below that are empty; to the right, it falls at once. All others come to rest.

    Args:
        solid: words `[H]`, walls and dirt.
        boulders: words `[H]`.
        diamonds: words `[H]`.
        moving: words `[H]`, which of both are falling.
        agent: words `[H]`, its cell, which is empty.

    Returns:
        `boulders`, `diamonds`, `moving`, and what crushes the agent, words `[H]` each.
    """
    found = _fallen(jnp.stack([solid, boulders, diamonds, moving, agent]))
    return found[0], found[1], found[2], found[3]


@apart
def _kept(planes: jax.Array) -> jax.Array:
    """As they are: where the batch's axis is moved once, and not in all that reads them."""
    return planes


@trailing
def _fallen(planes: jax.Array) -> jax.Array:
    """What `fallen` returns, `[4, H, B]`, of its arguments, `[5, H, B]`."""
    solid, boulders, diamonds, moving, agent = _kept(planes)
    # Of all rows but the first and the last, and of those below them.
    inner, below = slice(1, -1), slice(2, None)
    things = boulders | diamonds
    here, agent_below = things[inner], agent[below]
    crushes = here & moving[inner] & agent_below
    row = _Row(
        here=here,
        rests=here & ~crushes,
        free=~(solid[inner] | here | agent[inner]),
        free_below=~(solid[below] | agent_below),
    )
    # Only what is left in a row decides how the one above moves: all else is done for all at once.
    _, left_here = jax.lax.scan(_after, things[-1], row, reverse=True)
    things_below = jnp.concatenate([left_here[1:], things[-1:]])
    drops = here & row.free_below & ~things_below
    left, right = _rolls(row, things_below)
    none = jnp.zeros_like(moving[:1])

    def moved(kind: jax.Array) -> jax.Array:
        own = kind[inner]
        stays = own & ~(drops | left | right) | (own & left) >> 1
        falls = own & drops | (own & right) << 1
        return jnp.concatenate([kind[:1], stays, kind[-1:]]) | jnp.concatenate([none, none, falls])

    still = jnp.concatenate([moving[:1], jnp.zeros_like(here), moving[-1:]])
    falling = still | jnp.concatenate([none, none, drops | right << 1])
    crushed = jnp.concatenate([none, crushes, none])
    return _kept(jnp.stack([moved(boulders), moved(diamonds), falling, crushed]))


class _Row(NamedTuple):
    """What a row is like before anything moves, or several: words `[..., B]`.

    Attributes:
        here: boulders and diamonds.
        rests: those that crush nobody.
        free: neither solid nor one of them, nor the agent's.
        free_below: the cells below that are neither solid nor the agent's.
    """

    here: jax.Array
    rests: jax.Array
    free: jax.Array
    free_below: jax.Array


def _after(below: jax.Array, row: _Row) -> tuple[jax.Array, jax.Array]:
    """What is left in a row when its own things have moved, if `below` is left in the next."""
    left, right = _rolling(row, below)
    gone = left | right | row.here & row.free_below & ~below
    things = row.here & ~gone | left >> 1
    return things, things


def _rolling(row: _Row, below: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What rolls to the left, and to the right."""
    rests_on = row.rests & below
    target = row.free & row.free_below & ~below
    may_left, may_right = rests_on & target << 1, rests_on & target >> 1
    left = may_left
    for _ in range(_IN_TURN):
        left = may_left & ~((may_right & ~left) << 2)
    return left, may_right & ~left


@apart
def _rolls(row: _Row, below: jax.Array) -> jax.Array:
    return jnp.stack(_rolling(row, below))
