"""The agent that does anything: the floor that every method has to rise above."""

from __future__ import annotations

import dataclasses
import math
from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_agent
from xplore.contracts.spaces import Box, Discrete, Space
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RandomState:
    """Nothing is learned: only where to draw from, which is static."""

    action: Discrete | Box = dataclasses.field(metadata={"static": True})


@register_agent("random")
@final
@component
class Random:
    """Draws every action uniformly, a ~ U(A), from a discrete or a bounded box space.

    Its `greedy` form is itself. Its return is the zero of normalised scores.

    Raises:
        ConfigError: from `init`, where no uniform distribution over the action space exists.
    """

    def init(self, key: Key, spec: RunSpec) -> RandomState:
        return RandomState(_drawable(spec.env.action, spec.env.name))

    def initial_carry(self, num_envs: int) -> PyTree:
        return ()

    def act(
        self, key: Key, state: RandomState, carry: PyTree, obs: PyTree, first: jax.Array
    ) -> tuple[PyTree, jax.Array, PyTree]:
        return carry, _draw(key, state.action, first.shape[0]), ()

    def update(
        self, key: Key, state: RandomState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[RandomState, Metrics]:
        return state, {}

    def greedy(self) -> Random:
        return self


def _drawable(space: Space, env_name: str) -> Discrete | Box:
    """`space`, with the bounds of its dtype where it is a box of integers without any."""
    if isinstance(space, Discrete):
        return space
    if not isinstance(space, Box):
        raise ConfigError(
            f"random draws from Discrete and bounded Box action spaces; {env_name} has"
            f" {space}: choose another environment, or flatten its actions into one of those"
        )
    low, high = space.low, space.high
    if jnp.issubdtype(jnp.dtype(space.dtype), jnp.integer):
        info = np.iinfo(jnp.dtype(space.dtype))
        low, high = math.ceil(max(low, int(info.min))), math.floor(min(high, int(info.max)))
        # Integers are drawn as int32, whose exclusive upper end must still be one.
        fits = -(2**31) <= low <= high < 2**31 - 1
    else:
        fits = low <= high and high - low <= float(np.finfo(jnp.dtype(space.dtype)).max)
    if not fits:
        raise ConfigError(
            f"random draws from bounded action spaces; that of {env_name} is a {space.dtype} box"
            f" from {space.low} to {space.high}: give the environment bounded actions"
        )
    return dataclasses.replace(space, low=low, high=high)


def _draw(key: Key, space: Discrete | Box, num_envs: int) -> jax.Array:
    """One batch `[N, ...]` from one key: a key per env costs more than a step of a grid."""
    if isinstance(space, Discrete):
        return jax.random.randint(key, (num_envs,), 0, space.num, jnp.int32)
    shape = (num_envs, *space.shape)
    if jnp.issubdtype(jnp.dtype(space.dtype), jnp.integer):
        drawn = jax.random.randint(key, shape, int(space.low), int(space.high) + 1, jnp.int32)
        return drawn.astype(space.dtype)
    return jax.random.uniform(key, shape, jnp.dtype(space.dtype), space.low, space.high)
