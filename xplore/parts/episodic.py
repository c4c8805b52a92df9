"""What is remembered of the current episode: its last embeddings, and the ellipse they fill."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from xplore.parts.blocks import BLOCK_NUMBERS, steps_at_once

# Of two embeddings, given number by number (arrays that broadcast), how far they are apart.
Distance = Callable[[Sequence[jax.Array], Sequence[jax.Array]], jax.Array]
_MOST_STEPS = 16


class Memory(NamedTuple):
    """The last M embeddings of each env's episode, `[D, M, N]`, and how many there are, `[N]`.

    The latest comes last, so that those which do not count come first. Envs are the last axis: D is
    too short for wide registers.
    """

    rows: jax.Array
    length: jax.Array


def init_memory(num_envs: int, capacity: int, size: int) -> Memory:
    """Empty memories of `capacity` embeddings of `size` numbers."""
    rows = jnp.zeros((size, capacity, num_envs), jnp.float32)
    return Memory(rows, jnp.zeros(num_envs, jnp.int32))


def capacity_for(memory_size: int, max_steps: int) -> int:
    """Rows a memory needs: `memory_size`, or fewer where episodes (0: endless) are shorter."""
    return min(memory_size, max_steps + 1) if max_steps else memory_size


def squared_distance(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> jax.Array:
    """`|a - b|^2`, the sum written out, which is one pass where a sum over an axis is many."""
    return functools.reduce(jnp.add, [jnp.square(x - y) for x, y in zip(a, b, strict=True)])


def recall(
    memory: Memory,
    start: jax.Array,
    after: jax.Array,
    first: jax.Array,
    k: int,
    distance: Distance = squared_distance,
) -> tuple[Memory, jax.Array]:
    """How far each step of a rollout led from what was seen before it in the episode.

    An episode begins with a memory of its `start`, and each `after` is compared, then remembered.
    What is remembered at step t are M rows of memory and rollout together, in order, from the t-th
    on: nothing has to be moved, and a block of steps is compared at once with the rows it shares.

    Args:
        memory: of the rollout before.
        start: `[T, N, D]`, embeddings of `obs`; read where `first`.
        after: `[T, N, D]`, embeddings of `next_obs`.
        first: bool `[T, N]`.
        k: how many of the nearest are asked for.
        distance: what is near.

    Returns:
        The memory after the rollout, and the k least distances, ascending, infinite where fewer are
        remembered: `[k, T, N]`.
    """
    capacity, num_envs = memory.rows.shape[1:]
    num_steps = after.shape[0]
    start, after = (jnp.moveaxis(x, 2, 0) for x in (start, after))
    # What an episode ended with is never asked for: its start takes that place.
    before = jnp.where(first[0], start[:, 0], memory.rows[:, -1])
    following = jnp.where(first[1:], start[:, 1:], after[:, :-1])
    rows = jnp.concatenate([memory.rows[:, :-1], before[:, None], following, after[:, -1:]], axis=1)
    # The earliest row that is of the episode.
    begins = jnp.where(first, jnp.arange(num_steps)[:, None] + capacity - 1, -1)
    at_first = jnp.where(first[0], capacity - 1, capacity - memory.length)
    since = jax.lax.cummax(begins.at[0].set(at_first), axis=0)

    # The longer a block, the fewer passes over the rows, and the more rows of no use to a step.
    block = steps_at_once(num_steps, max(capacity * num_envs, BLOCK_NUMBERS // _MOST_STEPS))
    shared = capacity + block - 1

    def compare(begin: jax.Array) -> jax.Array:
        seen = jax.lax.dynamic_slice_in_dim(rows, begin, shared, axis=1)
        here = jax.lax.dynamic_slice_in_dim(after, begin, block, axis=1)
        oldest = jax.lax.dynamic_slice_in_dim(since, begin, block, axis=0) - begin
        row, step = jnp.arange(shared)[:, None, None], jnp.arange(block)[:, None]
        there = (row >= jnp.maximum(oldest, step)[None]) & (row < capacity + step[None])
        far = distance(list(seen[:, :, None]), list(here[:, None]))
        return nearest(jnp.where(there, far, jnp.inf), k)

    found = jax.lax.map(compare, jnp.arange(0, num_steps, block))
    found = jnp.moveaxis(found, 1, 0).reshape(k, num_steps, num_envs)
    length = jnp.minimum(capacity + num_steps - since[-1], capacity)
    return Memory(rows[:, num_steps:], length), found


def nearest(distance: jax.Array, k: int) -> jax.Array:
    """The k smallest of `[M, ...]`, ascending, `[k, ...]`; infinite where there are fewer.

    Each goes to its place among the k least so far, all of what follows at once: a sort (`top_k`)
    takes a CPU four times as long for the few that are asked for.
    """
    if k == 1:
        return jnp.min(distance, axis=0, keepdims=True, initial=jnp.inf)

    def insert(least: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
        return least.at[1:].set(jnp.minimum(least[1:], jnp.maximum(least[:-1], x[None]))), None

    # Before the least there is one below all.
    least = jnp.full((k + 1, *distance.shape[1:]), jnp.inf).at[0].set(-jnp.inf)
    return jax.lax.scan(insert, least, distance)[0][1:]


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
