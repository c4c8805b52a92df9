"""How many of a row of flags are set up to each of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from xplore.parts.apart import apart

_WORD = 32
_MOST_COMPARED = 64  # words: each with each, which is one program's work


def running_count(flags: jax.Array) -> jax.Array:
    """How many of `flags` `[N]` are set up to and with each: int32 `[N]`, as `cumsum` has it.

    Of the bits of words, where N is a multiple of 32: a cumulative sum over all flags is nine small
    programs on CPU, which take longer to start than to run.

    >>> running_count(jnp.array([True, False, True])).tolist()
    [1, 1, 2]
    """
    (num,) = flags.shape
    if num % _WORD:
        return jnp.cumsum(flags.astype(jnp.int32))
    words = _words(flags.reshape(-1, _WORD))
    counts = jax.lax.population_count(words).astype(jnp.int32)
    if len(counts) > _MOST_COMPARED:
        before = jnp.cumsum(counts) - counts
    else:
        i = np.arange(len(counts))
        before = jnp.sum(jnp.where(i[None] < i[:, None], counts[None], 0), axis=1)
    return _within(words, before).reshape(num)


@apart
def _words(flags: jax.Array) -> jax.Array:
    bits = np.uint32(1) << np.arange(_WORD, dtype=np.uint32)
    return jnp.sum(jnp.where(flags, bits, np.uint32(0)), axis=1, dtype=jnp.uint32)


@apart
def _within(words: jax.Array, before: jax.Array) -> jax.Array:
    up_to = ((2 << np.arange(_WORD, dtype=np.uint64)) - 1).astype(np.uint32)
    inside = jax.lax.population_count(words[:, None] & up_to[None])
    return before[:, None] + inside.astype(jnp.int32)
