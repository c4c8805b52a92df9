"""How an agent that has values departs from its best action.

* `epsilon`: a uniform action with probability epsilon.
* `ladder`: the same with an epsilon of its own for each env.
* `epsilon_z`: with probability epsilon a uniform action is begun, and then repeated for a number of
  steps drawn from a heavy-tailed distribution.
* `sticky`: the last action is repeated with probability `stickiness`; else as `epsilon`.
* `noisy`: nothing is added here: the weights of the network are noisy.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, get_args

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.errors import ConfigError, did_you_mean
from xplore.contracts.types import Key

Exploration = Literal["epsilon", "ladder", "epsilon_z", "sticky", "noisy"]
EXPLORATIONS: tuple[Exploration, ...] = get_args(Exploration)


class Options(Protocol):
    """What an agent that explores has as fields.

    Attributes:
        exploration: one of the ways above.
        epsilon_start, epsilon_end, epsilon_steps: how often a random action is begun: from one to
            the other linearly over so many env steps.
        ladder_power: see `ladder`.
        zeta_exponent, max_duration: see `zeta_durations`.
        stickiness: how often the last action is repeated.
    """

    @property
    def exploration(self) -> Exploration: ...
    @property
    def epsilon_start(self) -> float: ...
    @property
    def epsilon_end(self) -> float: ...
    @property
    def epsilon_steps(self) -> int: ...
    @property
    def ladder_power(self) -> float: ...
    @property
    def zeta_exponent(self) -> float: ...
    @property
    def max_duration(self) -> int: ...
    @property
    def stickiness(self) -> float: ...


class Repeats(NamedTuple):
    """What was done last, and for how many steps more it will be, of each env; int32 `[N]`."""

    action: jax.Array
    left: jax.Array


def no_repeats(num_envs: int) -> Repeats:
    """The carry before the first step."""
    return Repeats(jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs, jnp.int32))


def check_exploration(agent: str, options: Options) -> None:
    """Checks the options of an agent, named by its id.

    Raises:
        ConfigError: there is no such way to explore, or its numbers are out of bounds.
    """
    kind = options.exploration
    if kind not in EXPLORATIONS:
        raise ConfigError(
            f"{agent}: exploration is {kind!r}{did_you_mean(kind, EXPLORATIONS)}"
            f" (one of {', '.join(EXPLORATIONS)})"
        )
    if options.epsilon_steps < 1:
        raise ConfigError(
            f"{agent}: epsilon_steps is {options.epsilon_steps}: it must be at least 1; for an"
            " epsilon that does not change give epsilon_start and epsilon_end the same value"
        )
    if options.max_duration < 1:
        raise ConfigError(f"{agent}: max_duration is {options.max_duration}: it must be at least 1")


def epsilon_at(options: Options, env_steps: jax.Array) -> jax.Array:
    """The epsilon of an agent, float32 `[]`."""
    done = jnp.clip(env_steps / options.epsilon_steps, 0.0, 1.0)
    return options.epsilon_start + (options.epsilon_end - options.epsilon_start) * done


def ladder(epsilon: float | jax.Array, power: float | jax.Array, num_envs: int) -> jax.Array:
    """An epsilon for each env, `[N]`: epsilon_i = epsilon^(1 + power i / (N - 1)).

    With epsilon 0.4 and power 7, the first env acts at random in 0.4 of its steps and the last of
    N > 1 in 0.4^8 = 0.0007 of them.

    Reference: Horgan et al. (2018), Distributed prioritized experience replay, arXiv:1803.00933.

    >>> [round(float(e), 4) for e in ladder(0.4, 7.0, 3)]
    [0.4, 0.0162, 0.0007]
    """
    rung = jnp.arange(num_envs) / max(num_envs - 1, 1)
    return jnp.asarray(epsilon, jnp.float32) ** (1.0 + power * rung)


def zeta_durations(
    key: Key, shape: tuple[int, ...], exponent: float | jax.Array, most: int
) -> jax.Array:
    """Draws n in 1..`most` with p(n) proportional to n^-`exponent`; int32 `shape`."""
    n = jnp.asarray(np.arange(1, most + 1), jnp.float32)
    cumulative = jnp.cumsum(n**-exponent)
    u = jax.random.uniform(key, shape) * cumulative[-1]
    drawn = jnp.searchsorted(cumulative, u, side="right")
    return jnp.minimum(drawn, most - 1).astype(jnp.int32) + 1


def explore(
    key: Key,
    options: Options,
    carry: Repeats,
    best: jax.Array,
    first: jax.Array,
    *,
    num_actions: int,
    env_steps: jax.Array,
) -> tuple[Repeats, jax.Array]:
    """What each env does, int32 `[N]`, given what would be best.

    Args:
        key: consumed.
        options: those of the agent.
        carry: of the step before.
        best: int32 `[N]`.
        first: bool `[N]`, the episode begins: nothing is repeated over its start.
        num_actions: A.
        env_steps: int32 `[]`, done so far.

    Reference: `epsilon_z`: Dabney, Ostrovski & Barreto (2021), arXiv:2006.01782; `sticky`: Machado
    et al. (2018), arXiv:1709.06009, where the environment does it to the agent.
    """
    kind, shape = options.exploration, best.shape
    if kind == "noisy":
        return Repeats(best, jnp.zeros_like(best)), best
    key_begin, key_action, key_more = jax.random.split(key, 3)
    chance = epsilon_at(options, env_steps)
    if kind == "ladder":
        chance = ladder(chance, options.ladder_power, shape[0])
    begins = jax.random.uniform(key_begin, shape) < chance
    drawn = jax.random.randint(key_action, shape, 0, num_actions, jnp.int32)
    action = jnp.where(begins, drawn, best)
    left = jnp.zeros_like(carry.left)
    if kind == "epsilon_z":
        goes_on = ~first & (carry.left > 0)
        most, exponent = options.max_duration, options.zeta_exponent
        begun = zeta_durations(key_more, shape, exponent, most) - 1
        left = jnp.where(goes_on, carry.left - 1, jnp.where(begins, begun, 0))
        action = jnp.where(goes_on, carry.action, action)
    elif kind == "sticky":
        sticks = ~first & (jax.random.uniform(key_more, shape) < options.stickiness)
        action = jnp.where(sticks, carry.action, action)
    return Repeats(action, left), action
