"""What falls and rolls on a board, row by row from below, each row as the bits of a word."""

from __future__ import annotations

from typing import Final

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
    kinds = [[x[y] for y in range(num)] for x in (boulders, diamonds)]
    falls = [moving[y] for y in range(num)]
    crushed = [jnp.zeros_like(solid[0])] * num
    for y in range(num - 2, 0, -1):
        here, below = kinds[0][y] | kinds[1][y], kinds[0][y + 1] | kinds[1][y + 1]
        empty_below = ~(solid[y + 1] | below | agent[y + 1])
        crushes = here & falls[y] & agent[y + 1]
        drops = here & empty_below
        rests_on = here & ~drops & ~crushes & below
        target = ~(solid[y] | here | agent[y]) & empty_below
        may_left, may_right = rests_on & target << 1, rests_on & target >> 1
        left = may_left
        for _ in range(_IN_TURN):
            right = may_right & ~left
            left = may_left & ~(right << 2)
        right = may_right & ~left
        for kind in kinds:
            gone = kind[y] & (drops | left | right)
            kind[y + 1] = kind[y + 1] | kind[y] & drops | (kind[y] & right) << 1
            kind[y] = kind[y] & ~gone | (kind[y] & left) >> 1
        falls[y + 1] = falls[y + 1] | drops | right << 1
        falls[y] = jnp.zeros_like(falls[y])
        crushed[y] = crushes
    return jnp.stack([jnp.stack(x) for x in (*kinds, falls, crushed)])
