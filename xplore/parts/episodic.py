"""What is remembered of the current episode: embeddings in a ring, and the ellipse they fill.

Both are moved one time step at a time, for N envs at once, and forget where `first` holds.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Ring(NamedTuple):
    """The last M embeddings of each env's episode, `[N, M, D]`, and how many there were `[N]`."""

    rows: jax.Array
    length: jax.Array


def init_ring(num_envs: int, capacity: int, size: int) -> Ring:
    """Empty memories of `capacity` embeddings of `size` numbers."""
    rows = jnp.zeros((num_envs, capacity, size), jnp.float32)
    return Ring(rows, jnp.zeros(num_envs, jnp.int32))


def forget(ring: Ring, first: jax.Array) -> Ring:
    """Empties the memories of the envs `[N]` whose episode begins."""
    return ring._replace(length=jnp.where(first, 0, ring.length))


def begin(ring: Ring, x: jax.Array, first: jax.Array) -> Ring:
    """Where `first` `[N]` holds, forgets all and remembers `x` `[N, D]`: an episode's start."""
    num_envs, capacity, _ = ring.rows.shape
    place = jnp.arange(num_envs), jnp.where(first, 0, capacity)  # out of range: dropped
    rows = ring.rows.at[place].set(x, mode="drop", unique_indices=True)
    return Ring(rows, jnp.where(first, 1, ring.length))


def capacity_for(memory_size: int, max_steps: int) -> int:
    """Rows a ring needs: `memory_size`, or fewer where episodes (0: endless) are shorter."""
    return min(memory_size, max_steps + 1) if max_steps else memory_size


def remember(ring: Ring, x: jax.Array) -> Ring:
    """Adds `x` `[N, D]`, in the place of the oldest where a memory is full."""
    num_envs, capacity, _ = ring.rows.shape
    place = jnp.arange(num_envs), ring.length % capacity
    return Ring(ring.rows.at[place].set(x, unique_indices=True), ring.length + 1)


def filled(ring: Ring) -> jax.Array:
    """Which rows hold something: bool `[N, M]`."""
    return jnp.arange(ring.rows.shape[1])[None] < ring.length[:, None]


def squared_distances(ring: Ring, x: jax.Array) -> jax.Array:
    """`|m - x|^2` `[N, M]` to all that is remembered; infinite where nothing is."""
    distance = jnp.sum(jnp.square(ring.rows - x[:, None]), axis=-1)
    return jnp.where(filled(ring), distance, jnp.inf)


def nearest(distance: jax.Array, k: int) -> jax.Array:
    """The k smallest of `[..., M]`, ascending; infinite where there are fewer.

    One minimum after the other, with its multiplicity: a sort (`top_k`) takes a CPU three times as
    long for the few that are asked for.
    """
    lead = distance.shape[:-1]
    rank = jnp.broadcast_to(jnp.arange(k), (*lead, k))
    found = jnp.full((*lead, k), jnp.inf, distance.dtype)
    have = jnp.zeros((*lead, 1), jnp.int32)
    last = jnp.full((*lead, 1), -jnp.inf, distance.dtype)
    for _ in range(k):
        left = jnp.where(distance > last, distance, jnp.inf)
        last = jnp.min(left, axis=-1, keepdims=True)
        times = jnp.sum(distance == last, axis=-1, keepdims=True)
        found = jnp.where((rank >= have) & (rank < have + times), last, found)
        have = have + times
    return found


def init_inverse(num_envs: int, size: int, ridge: float | jax.Array) -> jax.Array:
    """The inverse `[N, D, D]` of `C = ridge * I`."""
    return jnp.broadcast_to(jnp.eye(size) / ridge, (num_envs, size, size))


def enlarge(
    inverse: jax.Array,
    phi: jax.Array,
    first: jax.Array,
    ridge: float | jax.Array,
    start: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns the inverse of `C + phi phi^T`, and `phi^T C^-1 phi` `[N]` of before.

    By Sherman and Morrison: with `u = C^-1 phi` and `b = phi . u`, `C^-1 - u u^T / (1 + b)`, which
    stays symmetric exactly. Where `first` `[N]` holds, C starts anew from `ridge * I`, to which the
    episode's first observation, if given as `start` `[N, D]`, has been added.
    """
    size = phi.shape[-1]
    fresh = jnp.broadcast_to(jnp.eye(size), inverse.shape)
    if start is not None:
        square = jnp.sum(jnp.square(start), axis=-1)[:, None, None]
        fresh = fresh - start[:, :, None] * start[:, None, :] / (ridge + square)
    inverse = jnp.where(first[:, None, None], fresh / ridge, inverse)
    u = jnp.einsum("nij,nj->ni", inverse, phi)
    b = jnp.maximum(jnp.einsum("ni,ni->n", phi, u), 0.0)
    change = u[:, :, None] * u[:, None, :] / (1.0 + b)[:, None, None]
    return inverse - change, b
