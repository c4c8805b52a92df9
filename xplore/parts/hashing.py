"""Hashes of observations: any pytree of arrays to uint32, the same on every device."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.types import PyTree


def avalanche(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which each input bit flips each output bit half of the time.

    Reference: Appleby (2011), MurmurHash3 (the 32-bit finaliser).

    >>> int(avalanche(jnp.uint32(1)))
    1364076727
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def words(array: jax.Array, batch_ndim: int) -> jax.Array:
    """The bits of an array as uint32 `[*batch, W]`; narrow types are packed, several to a word.

    Floats go in as they are, but for -0.0, which equals 0.0 and so must hash like it.
    """
    if jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(jnp.float32)
        array = jnp.where(array == 0, jnp.float32(0), array)
    if array.dtype == jnp.bool_:
        array = array.astype(jnp.uint8)
    batch = array.shape[:batch_ndim]
    flat = array.reshape(*batch, -1)
    lanes = max(1, 4 // flat.dtype.itemsize)
    if lanes == 1:
        return jax.lax.bitcast_convert_type(flat, jnp.uint32).reshape(*batch, -1)
    # What does not fill a word goes in a word an entry: padding it took twice as long.
    whole = flat.shape[-1] - flat.shape[-1] % lanes
    lanes_last = flat[..., :whole].reshape(*batch, whole // lanes, lanes)
    packed = jax.lax.bitcast_convert_type(lanes_last, jnp.uint32)
    return jnp.concatenate([packed, flat[..., whole:].astype(jnp.uint32)], axis=-1)


def hash_words(packed: jax.Array, salt: int = 0) -> jax.Array:
    """Hashes uint32 `[..., W]` to `[...]`: `h = avalanche(sum_i mix(w_i ^ c_i) + W)`.

    Every word is scrambled by a bijection of its own (`c_i` depends on its place and on the salt)
    before the sum, which unlike a chained hash is one vectorised reduction whatever W is. Two
    inputs that differ collide with probability of about 2^-32.
    """
    num_words = packed.shape[-1]
    place = jnp.arange(num_words, dtype=jnp.uint32) + jnp.uint32(1)
    place = avalanche(place * jnp.uint32(0x9E3779B1) + jnp.uint32(salt & 0xFFFFFFFF))
    mixed = (packed ^ jnp.expand_dims(place, range(packed.ndim - 1))) * jnp.uint32(0xCC9E2D51)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0x1B873593)
    mixed = mixed ^ (mixed >> 13)
    total = jnp.sum(mixed, axis=-1, dtype=jnp.uint32)
    return avalanche(total + jnp.uint32(num_words))


def hash_pytree(tree: PyTree, batch_ndim: int, salt: int = 0) -> jax.Array:
    """Hashes each element of a batched pytree: uint32 of the first `batch_ndim` axes.

    Leaves may have any shapes and dtypes; their order is the pytree's own.

    >>> observations = {"image": jnp.zeros((5, 7, 7, 3), jnp.uint8), "heading": jnp.arange(5)}
    >>> int(jnp.unique(hash_pytree(observations, 1)).size)
    5
    """
    packed = jnp.concatenate([words(leaf, batch_ndim) for leaf in jax.tree.leaves(tree)], axis=-1)
    return hash_words(packed, salt)


def joined(halves: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Two hashes uint32 `[..., 2]` as one of the host, uint64 `[...]`.

    >>> int(joined([[1, 2]])[0]) == 2**32 + 2
    True
    """
    wide = np.asarray(halves).astype(np.uint64)
    found: npt.NDArray[np.uint64] = wide[..., 0] << np.uint64(32) | wide[..., 1]
    return found
