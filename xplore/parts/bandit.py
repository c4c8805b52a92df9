"""What is believed of the arms of bandits: one posterior an arm, in each context."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import Key, RunSpec, Trajectory

Family = Literal["bernoulli", "gaussian"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Arms:
    """Pulls of the A arms in S contexts (the numbers of the observation): float32 `[S, A]`.

    Attributes:
        pulls: how often.
        rewards: their sums.
    """

    pulls: jax.Array
    rewards: jax.Array


def untried(spec: RunSpec, agent: str) -> Arms:
    """Arms of which none has been pulled.

    Raises:
        ConfigError: contexts or arms are not numbers.
    """
    env = spec.env
    if not isinstance(env.observation, Discrete) or not isinstance(env.action, Discrete):
        raise ConfigError(
            f"{agent} pulls Discrete arms in Discrete contexts; {env.name} has {env.action} and"
            f" {env.observation}: make it as tabular/ID, or choose a bandit"
        )
    zeros = jnp.zeros((env.observation.num, env.action.num), jnp.float32)
    return Arms(zeros, zeros)


def check_family(agent: str, family: str) -> None:
    """Raises ConfigError for a family that is neither "bernoulli" nor "gaussian"."""
    if family not in ("bernoulli", "gaussian"):
        raise ConfigError(f"{agent}: family is {family!r}: use 'bernoulli' or 'gaussian'")


def pull(
    arms: Arms, traj: Trajectory, r_int: jax.Array, intrinsic_weight: float | jax.Array
) -> Arms:
    """Counts the pulls of a rollout."""
    reward = traj.reward + intrinsic_weight * r_int
    return Arms(
        pulls=arms.pulls.at[traj.obs, traj.action].add(1.0),
        rewards=arms.rewards.at[traj.obs, traj.action].add(reward),
    )


def beta_posterior(arms: Arms) -> tuple[jax.Array, jax.Array]:
    """Parameters of the posterior of each arm's probability from a uniform prior."""
    won = jnp.clip(arms.rewards, 0.0, arms.pulls)
    return 1.0 + won, 1.0 + arms.pulls - won


def gaussian_posterior(
    arms: Arms, prior_std: float | jax.Array, noise_std: float | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of each arm's mean, from a prior with mean 0."""
    precision = 1.0 / prior_std**2 + arms.pulls / noise_std**2
    return arms.rewards / noise_std**2 / precision, 1.0 / jnp.sqrt(precision)


def posterior_means(
    arms: Arms, family: Family, prior_std: float | jax.Array, noise_std: float | jax.Array
) -> jax.Array:
    """Means of the posteriors `[S, A]`."""
    if family == "gaussian":
        return gaussian_posterior(arms, prior_std, noise_std)[0]
    a, b = beta_posterior(arms)
    return a / (a + b)


def draw_means(
    key: Key,
    arms: Arms,
    family: Family,
    prior_std: float | jax.Array,
    noise_std: float | jax.Array,
) -> jax.Array:
    """A draw from the posterior of every arm, `[S, A]`."""
    if family == "gaussian":
        mean, std = gaussian_posterior(arms, prior_std, noise_std)
        return mean + std * jax.random.normal(key, mean.shape)
    a, b = beta_posterior(arms)
    return jax.random.beta(key, a, b)
