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
    """The k smallest of `[..., M]`, ascending; infinite where there are fewer."""
    k_there = min(k, distance.shape[-1])
    found = -jax.lax.top_k(-distance, k_there)[0]
    missing = jnp.full((*distance.shape[:-1], k - k_there), jnp.inf)
    return jnp.concatenate([found, missing], axis=-1)


def init_inverse(num_envs: int, size: int, ridge: float | jax.Array) -> jax.Array:
    """The inverse `[N, D, D]` of `C = ridge * I`."""
    return jnp.broadcast_to(jnp.eye(size) / ridge, (num_envs, size, size))


def enlarge(
    inverse: jax.Array, phi: jax.Array, first: jax.Array, ridge: float | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the inverse of `C + phi phi^T`, and `phi^T C^-1 phi` `[N]` of before.

    By Sherman and Morrison: with `u = C^-1 phi` and `b = phi . u`, `C^-1 - u u^T / (1 + b)`, which
    stays symmetric exactly. Where `first` `[N]` holds, C starts anew from `ridge * I`.
    """
    size = phi.shape[-1]
    fresh = jnp.broadcast_to(jnp.eye(size) / ridge, inverse.shape)
    inverse = jnp.where(first[:, None, None], fresh, inverse)
    u = jnp.einsum("nij,nj->ni", inverse, phi)
    b = jnp.maximum(jnp.einsum("ni,ni->n", phi, u), 0.0)
    change = u[:, :, None] * u[:, None, :] / (1.0 + b)[:, None, None]
    return inverse - change, b
