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
    return outcomes_at(place, num, traj, among=ids[place] == traj.level_id)


def outcomes_at(
    place: jax.Array, num: int, traj: Trajectory, among: jax.Array | bool = True
) -> tuple[jax.Array, jax.Array]:
    """Episodes that ended in each of `num` places and their successes, float32 `[num]`.

    Args:
        place: whole numbers `[T, N]`, where each step was taken.
        num: how many places there are.
        traj: the steps.
        among: bool `[T, N]`, which of them count.
    """
    ended = (traj.terminated | traj.truncated) & among
    zeros = jnp.zeros(num, jnp.float32)
    episodes = zeros.at[place].add(ended.astype(jnp.float32))
    successes = zeros.at[place].add((ended & traj.info["success"]).astype(jnp.float32))
    return episodes, successes


def in_proportion(score: jax.Array, uniform: float | jax.Array) -> jax.Array:
    """Chances `[n]`: a share `uniform` alike, the rest in proportion to scores `[n]`, none below 0.

    All alike where every score is 0.

    >>> in_proportion(jnp.array([0.0, 3.0]), 0.5).tolist()
    [0.25, 0.75]
    """
    num, total = score.shape[0], jnp.sum(score)
    share = jnp.where(total > 0, score / jnp.maximum(total, 1e-9), 1.0 / num)
    return uniform / num + (1.0 - uniform) * share
