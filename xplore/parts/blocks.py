"""Work on a large rollout in blocks of time."""

from __future__ import annotations

from collections.abc import Callable

import jax

from xplore.contracts.types import PyTree

BLOCK_NUMBERS = 1 << 20


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
