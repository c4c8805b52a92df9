"""Running statistics, and the ways of bringing an intrinsic reward to a common scale."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

NormaliserKind = Literal["none", "std", "return_std", "zscore_ema", "minmax"]
NORMALISER_KINDS: tuple[NormaliserKind, ...] = get_args(NormaliserKind)


class Moments(NamedTuple):
    """How many values were seen `[]`, their mean and their (population) variance `[*D]`."""

    total: jax.Array
    mean: jax.Array
    var: jax.Array


def init_moments(shape: tuple[int, ...] = ()) -> Moments:
    """Nothing seen: total 0."""
    return Moments(jnp.float32(0), jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))


def add_values(moments: Moments, values: jax.Array) -> Moments:
    """Merges values `[..., *D]` into the moments of what was seen before.

    Reference: Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance.

    >>> moments = add_values(add_values(init_moments(), jnp.arange(4.0)), jnp.arange(4.0, 10.0))
    >>> float(moments.total), float(moments.mean), round(float(moments.var), 4)
    (10.0, 4.5, 8.25)
    """
    axes = tuple(range(values.ndim - moments.mean.ndim))
    count = math.prod(values.shape[: len(axes)])
    return merge_moments(
        moments, Moments(jnp.float32(count), jnp.mean(values, axes), jnp.var(values, axes))
    )


def merge_moments(a: Moments, b: Moments) -> Moments:
    """The moments of two sets of values together."""
    total = a.total + b.total
    share = jnp.where(total > 0, b.total / jnp.maximum(total, 1), 0.0)
    delta = b.mean - a.mean
    mean = a.mean + delta * share
    var = a.var * (1 - share) + b.var * share + jnp.square(delta) * share * (1 - share)
    return Moments(total, mean, var)


class RewardStats(NamedTuple):
    """What the normalisers of a reward remember: moments, and each env's running return `[N]`."""

    moments: Moments
    returns: jax.Array


def init_reward_stats(num_envs: int) -> RewardStats:
    """Nothing seen."""
    return RewardStats(init_moments(), jnp.zeros((num_envs,), jnp.float32))


def normalise_reward(
    kind: NormaliserKind,
    stats: RewardStats,
    reward: jax.Array,
    discount: float | jax.Array = 0.99,
    momentum: float | jax.Array = 0.9,
) -> tuple[RewardStats, jax.Array]:
    """Brings rewards `[T, N]` to a common scale; the statistics take them in first.

    * `none`: `r`.
    * `std`: `r / std`, over all values so far.
    * `return_std`: `r / std(R)`, with `R_t = discount R_{t-1} + r_t` per env, which runs on over
      the ends of episodes and rollouts, over all R so far.
    * `zscore_ema`: `(r - mean) / (std + 1e-5)`, averaged over rollouts with `momentum` (the first
      rollout sets them); may be negative.
    * `minmax`: `(r - min) / (max - min)` of this rollout; 0 where all are equal.

    References: `return_std`: Burda et al. (2018), arXiv:1810.12894; `zscore_ema`: Wan et al.
    (2023), arXiv:2304.10770.
    """
    moments, returns = stats
    if kind == "std":
        moments = add_values(moments, reward)
        return RewardStats(moments, returns), reward * jax.lax.rsqrt(moments.var + 1e-8)
    if kind == "return_std":

        def forward(carry: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
            carry = discount * carry + r
            return carry, carry

        returns, all_returns = jax.lax.scan(forward, returns, reward)
        moments = add_values(moments, all_returns)
        return RewardStats(moments, returns), reward * jax.lax.rsqrt(moments.var + 1e-8)
    if kind == "zscore_ema":
        mean, std = jnp.mean(reward), jnp.std(reward)
        keep = jnp.where(moments.total > 0, momentum, 0.0)
        mean = keep * moments.mean + (1 - keep) * mean
        std = keep * jnp.sqrt(moments.var) + (1 - keep) * std
        stats = RewardStats(Moments(moments.total + reward.size, mean, jnp.square(std)), returns)
        return stats, (reward - mean) / (std + 1e-5)
    if kind == "minmax":
        low, high = jnp.min(reward), jnp.max(reward)
        return stats, jnp.where(
            high > low, (reward - low) / jnp.where(high > low, high - low, 1), 0
        )
    return stats, reward


def standardise(
    moments: Moments, values: jax.Array, least_std: float = 1e-2, limit: float = 5.0
) -> jax.Array:
    """`clip((x - mean) / max(std, least_std), -limit, limit)`.

    The floor is what lets a feature that was always 0, as one-hot features are, stand out by
    `limit` and no more when it first appears.
    """
    axes = range(values.ndim - moments.mean.ndim)
    mean = jnp.expand_dims(moments.mean, axes)
    std = jnp.expand_dims(jnp.maximum(jnp.sqrt(moments.var), least_std), axes)
    return jnp.clip((values - mean) / std, -limit, limit)
