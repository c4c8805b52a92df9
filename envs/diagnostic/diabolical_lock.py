"""DiabolicalLock: two good chains among bad actions, seen through a rotation and noise."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy.linalg import hadamard

from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, Key, Outcomes, Starts, TimeStep

_BAD = 2


class LockLevel(NamedTuple):
    """The chain an episode starts in, int32 `[]`, and the noise of its first observation."""

    chain: jax.Array
    noise: jax.Array


class LockState(NamedTuple):
    """The chain one is in, 2 for the bad one, and the step: int32 `[]` each."""

    chain: jax.Array
    time: jax.Array


@register_env("DiabolicalLock-10-v0")
@register_env("DiabolicalLock-20-v0", horizon=20)
@register_env("DiabolicalLock-100-v0", horizon=100)
@final
@component
class DiabolicalLock:
    """H steps along three chains, two of them good; one of A actions stays in the good ones.

    An episode starts in either good chain. In each of their states one action is right, another one
    in each: it leads to the next step of either good chain, with equal probability. All others lead
    to the bad chain, which nothing leaves. The right action of the last step pays 1. Going over to
    the bad chain pays 0.1 with probability 1/2: a small reward in the wrong direction.

    The observation is float32 `[d]`: the one-hot chain and the one-hot step (`[3]` and `[H + 1]`),
    with Gaussian noise on each entry, filled up with zeros to a power of two, and multiplied by the
    Hadamard matrix of that size (entries 1 and -1). No two observations are equal.

    Privileged: "position" and "index" are `step * 3 + chain` (at the end, as of the last step),
    "state" is `[chain, step]`.

    Attributes:
        horizon: H, the length of every episode.
        num_actions: A.
        noise: standard deviation, before the rotation.
        anti_shaped_reward: what is paid, half of the time, for going over to the bad chain.
        lock_seed: of the right actions, drawn once.

    What it tests: deep exploration where states must be told apart by learning to, and where a
        count of observations, or a reward on the way, leads astray.
    Optimal return: 1.
    Random return: A^-H + 0.05 (1 - A^-H).
    Solved when: the mean return exceeds 0.5; `info["success"]` is the last right action.
    Reference: Misra et al. (2020), Kinematic state abstraction and provably efficient rich-
        observation reinforcement learning, arXiv:1911.05815.
    Deviations: rewards are divided by 5; noise is on the state's entries alone.
    """

    horizon: int = 10
    num_actions: int = 10
    noise: float = static(default=0.1)
    anti_shaped_reward: float = static(default=0.1)
    lock_seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("horizon", 1), ("num_actions", 2), ("noise", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"DiabolicalLock: {name} is {getattr(self, name)}: it must be at least {least}"
                )
        if not 0 <= self.lock_seed < 2**32:
            raise ConfigError(f"DiabolicalLock: lock_seed is {self.lock_seed}: it must fit 32 bits")

    @property
    def optimal_return(self) -> float:
        """The expected return of the best policy: half the anti-shaped reward, should it be > 1."""
        return max(1.0, 0.5 * self.anti_shaped_reward)

    @property
    def random_success(self) -> float:
        """The probability that uniformly random actions end well."""
        return float(self.num_actions) ** -self.horizon

    @property
    def random_return(self) -> float:
        """The expected return of uniformly random actions."""
        return self.random_success + 0.5 * self.anti_shaped_reward * (1.0 - self.random_success)

    def right_actions(self) -> npt.NDArray[np.int32]:
        """The action that stays in a good chain: `[H, 2]`."""
        generator = np.random.RandomState(self.lock_seed)
        return generator.randint(self.num_actions, size=(self.horizon, 2)).astype(np.int32)

    def spec(self) -> EnvSpec:
        h = self.horizon
        return EnvSpec(
            name=f"DiabolicalLock-{h}",
            observation=Box((len(_rotation(h + 4)),), "float32"),
            action=Discrete(self.num_actions),
            max_steps=h,
            stochastic=True,
            privileged=Dict(
                {
                    "position": Discrete(3 * h),
                    "index": Discrete(3 * h),
                    "state": Box((2,), "int32", 0, max(h, _BAD)),
                }
            ),
            num_layers=h,
        )

    def sample_level(self, key: Key) -> LockLevel:
        key_chain, key_noise = jax.random.split(key)
        return LockLevel(
            jax.random.randint(key_chain, (), 0, 2, jnp.int32), self._draw_noise(key_noise)
        )

    def reset_to_level(self, key: Key, level: LockLevel) -> tuple[LockState, jax.Array]:
        state = LockState(level.chain, jnp.zeros((), jnp.int32))
        return state, self._observe(state, level.noise)

    def step(self, key: Key, state: LockState, action: jax.Array) -> tuple[LockState, TimeStep]:
        key_chain, key_reward, key_noise = jax.random.split(key, 3)
        right, over = self._is_right(state, action)
        chain = jnp.where(right, jax.random.randint(key_chain, (), 0, 2, jnp.int32), _BAD)
        after = LockState(chain, state.time + 1)
        success = right & (after.time == self.horizon)
        paid = over & jax.random.bernoulli(key_reward)
        reward = success + self.anti_shaped_reward * paid
        return after, TimeStep(
            obs=self._observe(after, self._draw_noise(key_noise)),
            reward=reward.astype(jnp.float32),
            terminated=after.time == self.horizon,
            truncated=jnp.zeros((), bool),
            info={"success": success},
        )

    def privileged(self, state: LockState) -> dict[str, jax.Array]:
        index = jnp.minimum(state.time, self.horizon - 1) * 3 + state.chain
        return {"position": index, "index": index, "state": jnp.stack(state)}

    def starts(self) -> Starts:
        noise = jnp.zeros((2, self.horizon + 4), jnp.float32)
        return Starts(jnp.full(2, 0.5), LockLevel(jnp.arange(2, dtype=jnp.int32), noise))

    def outcomes(self, state: LockState, action: jax.Array) -> Outcomes:
        right, over = self._is_right(state, action)
        chains = jnp.where(right, jnp.arange(2, dtype=jnp.int32), _BAD)
        ends = state.time + 1 == self.horizon
        reward = (right & ends) + 0.5 * self.anti_shaped_reward * over
        return Outcomes(
            probability=jnp.full(2, 0.5, jnp.float32),
            state=LockState(chains, jnp.broadcast_to(state.time + 1, (2,))),
            reward=jnp.broadcast_to(reward.astype(jnp.float32), (2,)),
            terminated=jnp.broadcast_to(ends, (2,)),
        )

    def _is_right(self, state: LockState, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Whether `action` stays in the good chains, and whether it leaves them."""
        good = state.chain != _BAD
        meant = jnp.asarray(self.right_actions()).reshape(-1)
        right = action == meant.at[state.time * 2 + state.chain].get(mode="clip")
        return good & right, good & ~right

    def _draw_noise(self, key: Key) -> jax.Array:
        return self.noise * jax.random.normal(key, (self.horizon + 4,), jnp.float32)

    def _observe(self, state: LockState, noise: jax.Array) -> jax.Array:
        entry = jnp.arange(self.horizon + 4)
        hot = (entry == state.chain) | (entry == 3 + state.time)
        rotation = jnp.asarray(_rotation(self.horizon + 4)[:, : self.horizon + 4])
        return jnp.dot(rotation, hot + noise, precision=jax.lax.Precision.HIGHEST)


@functools.cache
def _rotation(at_least: int) -> npt.NDArray[Any]:
    """The Hadamard matrix of the least power of two that is `at_least`."""
    size = 1 << (at_least - 1).bit_length()
    return np.asarray(hadamard(size), np.float32)
