"""What falls and rolls on a board, row by row from below, each row as the bits of a word."""

from __future__ import annotations

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp

from xplore.envs.families.boards import trailing

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
    found = _fallen(solid, boulders, diamonds, moving, agent)
    return found[0], found[1], found[2], found[3]


@trailing
def _fallen(
    solid: jax.Array, boulders: jax.Array, diamonds: jax.Array, moving: jax.Array, agent: jax.Array
) -> jax.Array:
    num = solid.shape[0]
    none = jnp.zeros_like(moving)
    before = _Row(solid, boulders, diamonds, moving, agent)
    rows, below = (jax.tree.map(lambda x, k=k: x[k : k + num - 2], before) for k in (1, 2))
    found = boulders, diamonds, moving, none
    # A loop, not a chain of rows: XLA would compute all rows below again for each.
    first, others = jax.lax.scan(_row, tuple(x[-1] for x in found), (rows, below), reverse=True)
    return jnp.stack(
        [jnp.concatenate([x[:1], y[None], z]) for x, y, z in zip(found, first, others, strict=True)]
    )


_Found = tuple[jax.Array, ...]


class _Row(NamedTuple):
    """The arguments of `fallen`, of a row or of all: words `[..., B]`."""

    solid: jax.Array
    boulders: jax.Array
    diamonds: jax.Array
    moving: jax.Array
    agent: jax.Array


def _row(below: _Found, rows: tuple[_Row, _Row]) -> tuple[_Found, _Found]:
    """A row when its own things have moved, and the one below when they have come into it.

    Both are words `[B]`, in the order of what `fallen` returns; `below` is so before. `rows` are
    both as they were, of which what stands still counts.
    """
    (solid, boulders, diamonds, moving, agent), fixed_below = rows
    boulders_below, diamonds_below, moving_below, crushed_below = below
    here, things_below = boulders | diamonds, boulders_below | diamonds_below
    empty_below = ~(fixed_below.solid | things_below | fixed_below.agent)
    crushes = here & moving & fixed_below.agent
    drops = here & empty_below
    rests_on = here & ~drops & ~crushes & things_below
    target = ~(solid | here | agent) & empty_below
    may_left, may_right = rests_on & target << 1, rests_on & target >> 1
    left = may_left
    for _ in range(_IN_TURN):
        right = may_right & ~left
        left = may_left & ~(right << 2)
    right = may_right & ~left
    gone = drops | left | right

    def stays(kind: jax.Array) -> jax.Array:
        return kind & ~gone | (kind & left) >> 1

    def falls(kind: jax.Array) -> jax.Array:
        return kind & drops | (kind & right) << 1

    return (
        (stays(boulders), stays(diamonds), jnp.zeros_like(moving), crushes),
        (
            boulders_below | falls(boulders),
            diamonds_below | falls(diamonds),
            moving_below | falls(here),
            crushed_below,
        ),
    )
