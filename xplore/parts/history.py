"""Summaries of what was seen so far in an episode, with nothing to learn in them."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def summarise(
    summary: jax.Array,
    start: jax.Array,
    after: jax.Array,
    first: jax.Array,
    keep: float | jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Moving averages `h <- keep h + (1 - keep) x` over each episode, from `h = 0`.

    Args:
        summary: `[N, D]`, where the rollout before ended.
        start: `[T, N, D]`, x of `obs`; read where `first`.
        after: `[T, N, D]`, x of `next_obs`.
        first: bool `[T, N]`.
        keep: in [0, 1).

    Returns:
        The summary the rollout ends with, and those of all up to `obs`, and up to `next_obs`:
        `[N, D]`, `[T, N, D]`, `[T, N, D]`.
    """

    def step(
        h: jax.Array, x: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        start_t, after_t, first_t = x
        before = jnp.where(first_t[:, None], (1 - keep) * start_t, h)
        h = keep * before + (1 - keep) * after_t
        return h, (before, h)

    summary, (before, after) = jax.lax.scan(step, summary, (start, after, first))
    return summary, before, after
