"""Bandits: arms whose means are drawn for each level, with the regret of every pull."""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate, stats

from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, Key, Outcomes, Starts, TimeStep

Prior = Literal["bernoulli", "gaussian"]


class BanditState(NamedTuple):
    """The mean of each arm, float32 `[A]`, and the pulls so far, int32 `[]`."""

    means: jax.Array
    time: jax.Array


@final
@component
class Bandit:
    """A arms, and an episode of `num_steps` pulls of them; a level is the means, float32 `[A]`.

    See `bernoulli_bandit` and `gaussian_bandit`. Privileged: "state" is the bits of the means, as
    no two levels have the same.
    """

    num_arms: int = 10
    num_steps: int = 100
    prior: Prior = "bernoulli"
    noise: float = static(default=1.0)

    def __post_init__(self) -> None:
        for name, least in (("num_arms", 2), ("num_steps", 1), ("noise", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"{self.name}: {name} is {getattr(self, name)}: it must be at least {least}"
                )

    @property
    def name(self) -> str:
        """For the spec."""
        return f"{self.prior.capitalize()}Bandit-{self.num_arms}"

    @property
    def optimal_return(self) -> float:
        """The expected return of one who knows the means of every level."""
        best = self.num_arms / (self.num_arms + 1)
        if self.prior == "gaussian":
            best = _mean_of_largest_normal(self.num_arms)
        return self.num_steps * best

    @property
    def random_return(self) -> float:
        """The expected return of uniformly random pulls."""
        return self.num_steps * (0.5 if self.prior == "bernoulli" else 0.0)

    def spec(self) -> EnvSpec:
        return EnvSpec(
            name=self.name,
            observation=Discrete(1),
            action=Discrete(self.num_arms),
            max_steps=self.num_steps,
            stochastic=True,
            privileged=Dict({"state": Box((self.num_arms,), "uint32", 0.0, 2.0**32)}),
        )

    def sample_level(self, key: Key) -> jax.Array:
        draw = jax.random.uniform if self.prior == "bernoulli" else jax.random.normal
        return draw(key, (self.num_arms,), jnp.float32)

    def reset_to_level(self, key: Key, level: jax.Array) -> tuple[BanditState, jax.Array]:
        return BanditState(level, jnp.int32(0)), jnp.int32(0)

    def step(self, key: Key, state: BanditState, action: jax.Array) -> tuple[BanditState, TimeStep]:
        mean = state.means[action]
        if self.prior == "bernoulli":
            reward = (jax.random.uniform(key) < mean).astype(jnp.float32)
        else:
            reward = mean + self.noise * jax.random.normal(key)
        regret = jnp.max(state.means) - mean
        after = BanditState(state.means, state.time + 1)
        return after, TimeStep(
            obs=jnp.int32(0),
            reward=reward,
            terminated=jnp.zeros((), bool),
            truncated=after.time >= self.num_steps,
            info={"success": regret == 0.0, "regret": regret},
        )

    def privileged(self, state: BanditState) -> dict[str, jax.Array]:
        return {"state": jax.lax.bitcast_convert_type(state.means, jnp.uint32)}


@final
@component
class BanditInstance:
    """One level of a bandit, for good: a finite task of a single state.

    Privileged: "position" and "index" are 0, beside what the bandit has.

    Attributes:
        bandit: which.
        instance_seed: of the means, from the prior of the bandit.
    """

    bandit: Bandit
    instance_seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.instance_seed < 2**31:
            raise ConfigError(
                f"{self.bandit.name}: instance_seed is {self.instance_seed}: give a number from 0"
                " to 2^31 - 1, or None for fresh means in every level"
            )

    @property
    def means(self) -> tuple[float, ...]:
        """Of the arms."""
        return tuple(np.asarray(self._level(), np.float64).tolist())

    @property
    def optimal_return(self) -> float:
        """The expected return of always pulling the best arm."""
        return self.bandit.num_steps * max(self.means)

    @property
    def random_return(self) -> float:
        """The expected return of uniformly random pulls."""
        return self.bandit.num_steps * sum(self.means) / len(self.means)

    def spec(self) -> EnvSpec:
        spec = self.bandit.spec()
        one = {"position": Discrete(1), "index": Discrete(1)}
        both = Dict({**dict(spec.privileged.items), **one})
        return dataclasses.replace(spec, privileged=both)

    def sample_level(self, key: Key) -> jax.Array:
        return self._level()

    def reset_to_level(self, key: Key, level: jax.Array) -> tuple[BanditState, jax.Array]:
        return self.bandit.reset_to_level(key, level)

    def step(self, key: Key, state: BanditState, action: jax.Array) -> tuple[BanditState, TimeStep]:
        return self.bandit.step(key, state, action)

    def privileged(self, state: BanditState) -> dict[str, jax.Array]:
        zero = jnp.int32(0)
        return {**self.bandit.privileged(state), "position": zero, "index": zero}

    def starts(self) -> Starts:
        return Starts(jnp.ones(1), self._level()[None])

    def outcomes(self, state: BanditState, action: jax.Array) -> Outcomes:
        after = BanditState(state.means, state.time + 1)
        return Outcomes(
            probability=jnp.ones(1, jnp.float32),
            state=jax.tree.map(lambda x: x[None], after),
            reward=state.means[action][None],
            terminated=jnp.zeros(1, bool),
        )

    def _level(self) -> jax.Array:
        return self.bandit.sample_level(jax.random.key(self.instance_seed))


@register_env("BernoulliBandit-10-v0")
def bernoulli_bandit(
    num_arms: int = 10, num_steps: int = 100, instance_seed: int | None = None
) -> Bandit | BanditInstance:
    """Arms that pay 1 with probabilities of their own, drawn uniformly for each level.

    An episode is `num_steps` pulls of the same level, then truncated. Nothing is observed but the
    rewards. `info["regret"]` is the best arm's mean minus that of the arm pulled.

    Args:
        num_arms: A.
        num_steps: pulls of an episode.
        instance_seed: None for fresh means in each level; a number for one instance for good, whose
            values are exact (a `BanditInstance`).

    What it tests: the balance of exploring and exploiting, without states: of a learner within a
        run on an instance, of a learner with memory within an episode of fresh levels.
    Optimal return: `optimal_return`, of one who knows the means: num_steps * A / (A + 1) on average
        over levels. No learner reaches it in fresh levels.
    Random return: num_steps / 2 on average over levels.
    Solved when: the mean regret of a pull is below 0.05; `info["success"]` is a pull of the best
        arm.
    Reference: Thompson (1933); Lattimore and Szepesvári (2020), Bandit algorithms.
    Deviations: none.
    """
    return _made(Bandit(num_arms, num_steps, "bernoulli"), instance_seed)


@register_env("GaussianBandit-10-v0")
def gaussian_bandit(
    num_arms: int = 10,
    num_steps: int = 100,
    noise: float = 1.0,
    instance_seed: int | None = None,
) -> Bandit | BanditInstance:
    """Arms that pay a mean of their own, drawn from N(0, 1) for each level, with normal noise.

    An episode is `num_steps` pulls of the same level, then truncated. Nothing is observed but the
    rewards. `info["regret"]` is the best arm's mean minus that of the arm pulled.

    Args:
        num_arms: A.
        num_steps: pulls of an episode.
        noise: standard deviation of a reward.
        instance_seed: None for fresh means in each level; a number for one instance for good, whose
            values are exact (a `BanditInstance`).

    What it tests: as the Bernoulli bandit; rewards have no bounds.
    Optimal return: `optimal_return`, of one who knows the means: num_steps times the mean of the
        largest of A normal numbers, by numerical integration; 1.53875 a pull for 10 arms.
    Random return: 0 on average over levels.
    Solved when: the mean regret of a pull is below 0.15; `info["success"]` is a pull of the best
        arm.
    Reference: Sutton and Barto (2018), Reinforcement learning, section 2.3 (the 10-armed testbed).
    Deviations: the testbed lasts 1000 pulls.
    """
    return _made(Bandit(num_arms, num_steps, "gaussian", noise), instance_seed)


def _made(bandit: Bandit, instance_seed: int | None) -> Bandit | BanditInstance:
    return bandit if instance_seed is None else BanditInstance(bandit, instance_seed)


@functools.cache
def _mean_of_largest_normal(count: int) -> float:
    """E max of `count` standard normal numbers, from the density of the largest."""

    def integrand(x: float) -> float:
        return float(x * count * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1))

    return float(integrate.quad(integrand, -9.0, 9.0)[0])
