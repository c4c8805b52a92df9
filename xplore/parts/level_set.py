"""A fixed set of levels, and how an agent does in each of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from xplore.contracts.types import Key, Trajectory
from xplore.parts.levels import train_ids


def sorted_ids(key: Key, num_levels: int) -> jax.Array:
    """The ids of a set drawn from `key`, in increasing order: uint32 `[W]`."""
    return jnp.sort(train_ids(jax.random.bits(key, (), jnp.uint32), jnp.arange(num_levels)))


def outcomes(ids: jax.Array, traj: Trajectory) -> tuple[jax.Array, jax.Array]:
    """Episodes that ended in each level of sorted `ids` `[W]` and their successes, float32 `[W]`.

    An episode that began in an earlier rollout counts where it ends; levels that are not of the
    set do not.
    """
    num = ids.shape[0]
    place = jnp.clip(jnp.searchsorted(ids, traj.level_id), 0, num - 1)
    ended = (traj.terminated | traj.truncated) & (ids[place] == traj.level_id)
    zeros = jnp.zeros(num, jnp.float32)
    episodes = zeros.at[place].add(ended.astype(jnp.float32))
    successes = zeros.at[place].add((ended & traj.info["success"]).astype(jnp.float32))
    return episodes, successes
