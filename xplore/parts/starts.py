"""What is true of the starts of episodes."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def mean_at_starts(values: jax.Array, first: jax.Array, otherwise: jax.Array) -> jax.Array:
    """The mean of `values` `[T, N]` where an episode is at its `first` step; float32 `[]`.

    `otherwise`, the mean so far, where no episode begins.

    >>> float(mean_at_starts(jnp.array([1.0, 5.0]), jnp.array([False, True]), jnp.float32(0)))
    5.0
    """
    mean = jnp.sum(jnp.where(first, values, 0.0)) / jnp.maximum(jnp.sum(first), 1)
    return jnp.where(jnp.any(first), mean, otherwise)
