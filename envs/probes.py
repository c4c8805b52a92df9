"""Probe environments: each needs one ability, so that a failure names the part that is broken.

Run them in order: each needs what the ones before it test, and one thing more. All know the optimal
value of every observation (`observations()` and `values(discount)`), to hold a learned one against.
"""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, Key, PyTree, TimeStep

Values = npt.NDArray[np.float32]


class ProbeState(NamedTuple):
    """`position` int32 `[]` along the episode, `sign` float32 `[]` of the level (1 or -1)."""

    position: jax.Array
    sign: jax.Array


def _spec(name: str, positions: int) -> EnvSpec:
    return EnvSpec(
        name=name,
        observation=Box((1,), "float32", -1.0, 1.0),
        action=Discrete(2),
        max_steps=positions,
        privileged=Dict(
            {"position": Discrete(positions + 1), "state": Box((2,), "int32", -1, positions)}
        ),
    )


def _privileged(state: ProbeState) -> dict[str, jax.Array]:
    both = jnp.stack([state.position, state.sign.astype(jnp.int32)])
    return {"position": state.position, "state": both}


def _start(level: jax.Array) -> ProbeState:
    return ProbeState(jnp.zeros((), jnp.int32), level)


def _random_sign(key: Key) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key), 1.0, -1.0).astype(jnp.float32)


def _constant_sign(key: Key) -> jax.Array:
    return jnp.ones((), jnp.float32)


def _obs(value: jax.Array) -> jax.Array:
    return value.astype(jnp.float32)[None]


def _time_step(obs: jax.Array, reward: jax.Array, ended: jax.Array, success: jax.Array) -> TimeStep:
    info = {"success": success}
    return TimeStep(obs, reward.astype(jnp.float32), ended, jnp.zeros((), bool), info)


def _last_step(
    state: ProbeState, obs: jax.Array, reward: jax.Array, success: jax.Array
) -> tuple[ProbeState, TimeStep]:
    state = state._replace(position=state.position + 1)
    return state, _time_step(obs, reward, jnp.ones((), bool), success)


@register_env("Probe-Constant-v0")
@final
@component
class ProbeConstant:
    """Probe 1, the value of a constant: one step, one observation, reward 1 whatever is done.

    A failure means that the value loss, the learning rate or the optimiser is broken: nothing else
    is asked for.

    What it tests: V(0) = 1.
    Optimal return: 1. Random return: 1.
    Solved when: the learned value is within 0.05 of 1; no action succeeds, so `success` is False.
    """

    @property
    def optimal_return(self) -> float:
        """The return of every policy."""
        return 1.0

    def observations(self) -> Values:
        """The distinct observations, `[S, 1]`."""
        return np.zeros((1, 1), np.float32)

    def values(self, discount: float) -> Values:
        """Their optimal values, `[S]`."""
        return np.ones(1, np.float32)

    def spec(self) -> EnvSpec:
        return _spec("Probe-Constant", 1)

    def sample_level(self, key: Key) -> PyTree:
        return _constant_sign(key)

    def reset_to_level(self, key: Key, level: PyTree) -> tuple[ProbeState, jax.Array]:
        return _start(level), jnp.zeros((1,), jnp.float32)

    def step(self, key: Key, state: ProbeState, action: jax.Array) -> tuple[ProbeState, TimeStep]:
        never = jnp.zeros((), bool)
        return _last_step(state, jnp.zeros((1,), jnp.float32), jnp.ones(()), never)

    def privileged(self, state: ProbeState) -> dict[str, jax.Array]:
        return _privileged(state)


@register_env("Probe-Observation-v0")
@final
@component
class ProbeObservation:
    """Probe 2, the value of an observation: one step, the reward is the observation, 1 or -1.

    A failure where `Probe-Constant-v0` passes means that the network does not see the observation
    (its encoding, a gradient cut on its way), or that observations and returns are paired wrongly.

    What it tests: V(o) = o.
    Optimal return: 0, the mean over levels. Random return: 0.
    Solved when: both learned values are within 0.05; no action succeeds, so `success` is False.
    """

    @property
    def optimal_return(self) -> float:
        """The mean return of every policy over levels."""
        return 0.0

    def observations(self) -> Values:
        """The distinct observations, `[S, 1]`."""
        return np.array([[-1.0], [1.0]], np.float32)

    def values(self, discount: float) -> Values:
        """Their optimal values, `[S]`."""
        return np.array([-1.0, 1.0], np.float32)

    def spec(self) -> EnvSpec:
        return _spec("Probe-Observation", 1)

    def sample_level(self, key: Key) -> PyTree:
        return _random_sign(key)

    def reset_to_level(self, key: Key, level: PyTree) -> tuple[ProbeState, jax.Array]:
        return _start(level), _obs(level)

    def step(self, key: Key, state: ProbeState, action: jax.Array) -> tuple[ProbeState, TimeStep]:
        return _last_step(state, _obs(state.sign), state.sign, jnp.zeros((), bool))

    def privileged(self, state: ProbeState) -> dict[str, jax.Array]:
        return _privileged(state)


@register_env("Probe-Discount-v0")
@final
@component
class ProbeDiscount:
    """Probe 3, discounting: two steps, observations 0 then 1, and reward 1 at the end.

    A failure where `Probe-Observation-v0` passes means that the discount, the bootstrapped value or
    the direction of time in the return is wrong (a value of 1 at the start: no discount; of 0: no
    bootstrap; values above: bootstrapping past the end).

    What it tests: V(0) = discount, V(1) = 1.
    Optimal return: 1. Random return: 1.
    Solved when: both learned values are within 0.05; no action succeeds, so `success` is False.
    """

    @property
    def optimal_return(self) -> float:
        """The return of every policy."""
        return 1.0

    def observations(self) -> Values:
        """The distinct observations, `[S, 1]`."""
        return np.array([[0.0], [1.0]], np.float32)

    def values(self, discount: float) -> Values:
        """Their optimal values, `[S]`."""
        return np.array([discount, 1.0], np.float32)

    def spec(self) -> EnvSpec:
        return _spec("Probe-Discount", 2)

    def sample_level(self, key: Key) -> PyTree:
        return _constant_sign(key)

    def reset_to_level(self, key: Key, level: PyTree) -> tuple[ProbeState, jax.Array]:
        return _start(level), jnp.zeros((1,), jnp.float32)

    def step(self, key: Key, state: ProbeState, action: jax.Array) -> tuple[ProbeState, TimeStep]:
        state = state._replace(position=state.position + 1)
        ended = state.position == 2
        obs = _obs(jnp.minimum(state.position, 1))
        return state, _time_step(obs, ended, ended, jnp.zeros((), bool))

    def privileged(self, state: ProbeState) -> dict[str, jax.Array]:
        return _privileged(state)


@register_env("Probe-Choice-v0")
@final
@component
class ProbeChoice:
    """Probe 4, choice: one step, one observation, action 1 pays 1 and action 0 pays -1.

    A failure where the value probes pass means that the policy is not improved: the sign of its
    loss, the advantage, the log-probability of the action taken, or the entropy bonus is wrong.

    What it tests: a policy that prefers the better action.
    Optimal return: 1. Random return: 0.
    Solved when: the mean return exceeds 0.95; `success` is action 1.
    """

    @property
    def optimal_return(self) -> float:
        """The return of choosing action 1."""
        return 1.0

    def observations(self) -> Values:
        """The distinct observations, `[S, 1]`."""
        return np.zeros((1, 1), np.float32)

    def values(self, discount: float) -> Values:
        """Their optimal values, `[S]`."""
        return np.ones(1, np.float32)

    def spec(self) -> EnvSpec:
        return _spec("Probe-Choice", 1)

    def sample_level(self, key: Key) -> PyTree:
        return _constant_sign(key)

    def reset_to_level(self, key: Key, level: PyTree) -> tuple[ProbeState, jax.Array]:
        return _start(level), jnp.zeros((1,), jnp.float32)

    def step(self, key: Key, state: ProbeState, action: jax.Array) -> tuple[ProbeState, TimeStep]:
        right = action == 1
        return _last_step(state, jnp.zeros((1,), jnp.float32), jnp.where(right, 1.0, -1.0), right)

    def privileged(self, state: ProbeState) -> dict[str, jax.Array]:
        return _privileged(state)


@register_env("Probe-ChoiceByObservation-v0")
@final
@component
class ProbeChoiceByObservation:
    """Probe 5, choice by observation: one step, the right action is 1 for observation 1, else 0.

    A failure where `Probe-Choice-v0` passes means that the policy does not depend on what is seen,
    or that observations, actions and advantages are shuffled against each other in the batch.

    What it tests: a policy that reads its observation.
    Optimal return: 1. Random return: 0.
    Solved when: the mean return exceeds 0.95; `success` is the right action.
    """

    @property
    def optimal_return(self) -> float:
        """The return of the right action for each observation."""
        return 1.0

    def observations(self) -> Values:
        """The distinct observations, `[S, 1]`."""
        return np.array([[-1.0], [1.0]], np.float32)

    def values(self, discount: float) -> Values:
        """Their optimal values, `[S]`."""
        return np.ones(2, np.float32)

    def spec(self) -> EnvSpec:
        return _spec("Probe-ChoiceByObservation", 1)

    def sample_level(self, key: Key) -> PyTree:
        return _random_sign(key)

    def reset_to_level(self, key: Key, level: PyTree) -> tuple[ProbeState, jax.Array]:
        return _start(level), _obs(level)

    def step(self, key: Key, state: ProbeState, action: jax.Array) -> tuple[ProbeState, TimeStep]:
        right = (action == 1) == (state.sign > 0)
        return _last_step(state, _obs(state.sign), jnp.where(right, 1.0, -1.0), right)

    def privileged(self, state: ProbeState) -> dict[str, jax.Array]:
        return _privileged(state)


class LockState(NamedTuple):
    """`position` int32 `[]` in the lock, `steps` int32 `[]` taken."""

    position: jax.Array
    steps: jax.Array


@register_env("Probe-Exploration-v0")
@final
@component
class ProbeExploration:
    """Probe 6, exploration: a combination lock of `length` actions; only the last one pays, 1.

    A wrong action leads back to the start, and an episode is cut after `length` steps, so there is
    no room for a mistake. Each right action costs 0.01/length: what can be learned before the lock
    first opens is to leave it alone. Which action is right alternates without period (Thue-Morse),
    so no constant policy gets far. The observation is the position, one-hot float32 `[length]`, all
    zeros when the lock is open.

    A failure where the other probes pass means that the bonus does not reach the agent, is paid on
    the wrong step, does not fall with visits, or is too small beside the entropy bonus.

    What it tests: a plan towards what is new, kept to for `length` steps.
    Optimal return: 0.99. Random return: 2^-length - 0.005, as random actions open the lock in one
        episode of 2^length.
    Solved when: the mean return exceeds 0.5; `success` is the open lock.
    """

    length: int = 20

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ConfigError(f"Probe-Exploration: length is {self.length}: it must be at least 1")

    @property
    def cost(self) -> float:
        """What each right action costs."""
        return 0.01 / self.length

    @property
    def optimal_return(self) -> float:
        """The return of the right combination."""
        return 1.0 - 0.01

    @property
    def random_return(self) -> float:
        """The expected return of uniformly random actions."""
        return float(0.5**self.length - 0.01 / 2)

    def combination(self) -> npt.NDArray[np.int32]:
        """The right actions, `[length]`."""
        return np.array([i.bit_count() % 2 for i in range(self.length)], np.int32)

    def observations(self) -> Values:
        """The distinct observations before the end, `[S, length]`."""
        return np.eye(self.length, dtype=np.float32)

    def values(self, discount: float) -> Values:
        """Their optimal values, `[S]`, with the time limit bootstrapped."""
        values = [1.0]  # of going on, from what follows the last action
        for _ in range(self.length):
            ahead = values[0] if len(values) == 1 else discount * values[0]
            values.insert(0, max(0.0, ahead - self.cost))
        return np.array(values[:-1], np.float32)

    def spec(self) -> EnvSpec:
        n = self.length
        return EnvSpec(
            name="Probe-Exploration",
            observation=Box((n,), "float32", 0.0, 1.0),
            action=Discrete(2),
            max_steps=n,
            privileged=Dict({"position": Discrete(n + 1), "state": Box((2,), "int32", 0, n)}),
        )

    def sample_level(self, key: Key) -> PyTree:
        return jnp.zeros((), jnp.uint32)

    def reset_to_level(self, key: Key, level: PyTree) -> tuple[LockState, jax.Array]:
        state = LockState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))
        return state, self._observe(state)

    def step(self, key: Key, state: LockState, action: jax.Array) -> tuple[LockState, TimeStep]:
        right = action == jnp.asarray(self.combination()).at[state.position].get(mode="clip")
        position = jnp.where(right, state.position + 1, 0)
        state = LockState(position, state.steps + 1)
        is_open = position == self.length
        return state, TimeStep(
            obs=self._observe(state),
            reward=is_open.astype(jnp.float32) - jnp.where(right, self.cost, 0.0),
            terminated=is_open,
            truncated=~is_open & (state.steps >= self.length),
            info={"success": is_open},
        )

    def privileged(self, state: LockState) -> dict[str, jax.Array]:
        return {"position": state.position, "state": jnp.stack(state)}

    def _observe(self, state: LockState) -> jax.Array:
        return (jnp.arange(self.length) == state.position).astype(jnp.float32)
