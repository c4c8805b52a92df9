"""Work on a large rollout in blocks of time."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from xplore.contracts.types import PyTree

BLOCK_NUMBERS = 1 << 20


def steps_at_once(num_steps: int, numbers_per_step: int) -> int:
    """How many of `num_steps` make a block, as many in each: about a million numbers at most."""
    most = max(1, min(num_steps, BLOCK_NUMBERS // max(numbers_per_step, 1)))
    return next(b for b in range(most, 0, -1) if num_steps % b == 0)


def map_time(
    function: Callable[[PyTree], jax.Array], tree: PyTree, numbers_per_row: int
) -> jax.Array:
    """Maps `function`, of one time step `[N, ...]`, over a rollout `[T, N, ...]` in blocks of time.

    A block is about a million numbers: all of a small rollout, and of a large one what fits a cache
    (fresh memory for the whole rollout costs more than the arithmetic).
    """
    num_steps, num_envs = jax.tree.leaves(tree)[0].shape[:2]
    block = max(1, BLOCK_NUMBERS // max(numbers_per_row * num_envs, 1))
    if block >= num_steps:
        return jax.vmap(function)(tree)
    mapped: jax.Array = jax.lax.map(function, tree, batch_size=block)
    return mapped


def map_where(
    function: Callable[[PyTree], jax.Array], tree: PyTree, needed: jax.Array
) -> jax.Array:
    """As `map_time`, but only where `needed` `[T, N]` holds, N rows at a time; elsewhere 0.

    A while loop goes through the needed rows, so that few of them cost little.
    """
    num_steps, num_envs = needed.shape
    total = num_steps * num_envs
    flat = jax.tree.map(lambda x: x.reshape(total, *x.shape[2:]), tree)
    wanted = needed.reshape(total)
    # Positions of the needed rows come first, in their order.
    order = jnp.argsort(~wanted, stable=True)
    count = jnp.sum(wanted)

    def rows(start: jax.Array) -> tuple[jax.Array, PyTree]:
        index = jax.lax.dynamic_slice(order, (start,), (num_envs,))
        return index, jax.tree.map(lambda x: x[index], flat)

    def fill(loop: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        start, values = loop
        index, some = rows(start)
        # The last slice may reach past the needed rows: those stay 0.
        new = jnp.where(wanted[index][:, None], function(some), values[index])
        return start + num_envs, values.at[index].set(new)

    size = jax.eval_shape(function, jax.eval_shape(rows, jnp.int32(0))[1]).shape[-1]
    empty = (jnp.int32(0), jnp.zeros((total, size), jnp.float32))
    _, values = jax.lax.while_loop(lambda loop: loop[0] < count, fill, empty)
    return values.reshape(num_steps, num_envs, size)


def map_before(
    function: Callable[[PyTree], jax.Array],
    obs: PyTree,
    first: jax.Array,
    after: jax.Array,
) -> jax.Array:
    """`function` of `obs` `[T, N, ...]`, given what it is `after` each step, `[T, N, D]`.

    Within an episode an observation is the successor of the one before, so that only those which
    an episode, or the rollout, begins with have to be worked out.
    """
    begins = first.at[0].set(True)
    began = map_where(function, obs, begins)
    earlier = jnp.concatenate([after[:1], after[:-1]])
    return jnp.where(begins[..., None], began, earlier)
