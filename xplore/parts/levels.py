"""Level ids: a level is reproduced from its uint32 id, and held-out ids never meet training ids."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from xplore.contracts.types import Environment, Key, LevelBatch, PyTree
from xplore.parts.hashing import hash_pytree

HELD_OUT_BIT = 1 << 31
_MASK = HELD_OUT_BIT - 1


def _permute31(x: jax.Array, seed: jax.Array) -> jax.Array:
    # A bijection of 31-bit integers for every seed (odd multipliers and xor-shifts are invertible):
    # the ids of one seed are distinct, not just probably so.
    for shift, multiplier in ((15, 0x2C1B3C6D), (12, 0x297A2D39), (15, 0x7FEB352D)):
        x = (x + seed) & _MASK
        x = x ^ (x >> shift)
        x = (x * jnp.uint32(multiplier | 1)) & _MASK
        seed = seed * jnp.uint32(0x9E3779B1) + jnp.uint32(0x7F4A7C15)
    return x ^ (x >> 16)


def train_ids(seed: int | jax.Array, index: jax.Array) -> jax.Array:
    """Ids of training levels `index` of `seed`: nested prefixes, distinct, top bit clear.

    >>> ids = train_ids(0, jnp.arange(1000))
    >>> int(jnp.unique(ids).size), bool(jnp.any(ids >> 31))
    (1000, False)
    """
    return _permute31(index.astype(jnp.uint32) & _MASK, jnp.asarray(seed).astype(jnp.uint32))


def held_out_ids(seed: int | jax.Array, num_levels: int) -> jax.Array:
    """Ids `[num_levels]` that no training set can contain: their top bit is set."""
    return train_ids(seed, jnp.arange(num_levels)) | jnp.uint32(HELD_OUT_BIT)


def level_from_id(env: Environment, level_id: jax.Array) -> PyTree:
    """The level that `level_id` (uint32 `[]`) names; the same in every process and batch size."""
    return env.sample_level(level_key(level_id))


def level_key(level_id: jax.Array) -> Key:
    """The key from which the level `level_id` (uint32 `[]`) is drawn."""
    return jax.random.wrap_key_data(
        jnp.stack([jnp.uint32(0x78706C72), level_id.astype(jnp.uint32)]), impl="threefry2x32"
    )


def levels_from_ids(env: Environment, level_ids: jax.Array) -> LevelBatch:
    """The batch of levels that `level_ids` `[n]` name."""
    return LevelBatch(jax.vmap(lambda i: level_from_id(env, i))(level_ids), level_ids)


def fresh_ids(key: Key, num_levels: int) -> jax.Array:
    """Ids `[num_levels]` of new levels, up to a 1 in 2^31 chance of a repeat; top bit clear."""
    return jax.random.bits(key, (num_levels,), jnp.uint32) >> 1


def content_ids(levels: PyTree) -> jax.Array:
    """Ids `[n]` of levels `[n, ...]` that no seed draws: a hash of what is in them, top bit clear.

    Equal levels have equal ids; different ones have the same in 1 of 2^31 cases.
    """
    plain = jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        levels,
    )
    return hash_pytree(plain, 1, salt=1) >> 1
