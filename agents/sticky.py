"""Random actions, each repeated for a while."""

from __future__ import annotations

import dataclasses
from typing import final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_agent
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StickyState:
    """Nothing is learned: only the number of actions, which is static."""

    num_actions: int = dataclasses.field(metadata={"static": True})


@register_agent("sticky")
@final
@component
class Sticky:
    """Repeats its last action with probability `stickiness`, and else draws one uniformly.

    It explores for Go-Explore, whose paper has 0.95. Its `greedy` form is itself.

    Reference: Ecoffet et al. (2021), First return, then explore, arXiv:2004.12919.
    """

    stickiness: float = 0.95

    def __post_init__(self) -> None:
        if isinstance(self.stickiness, float) and not 0.0 <= self.stickiness < 1.0:
            raise ConfigError(
                f"sticky: stickiness is {self.stickiness}: it must be at least 0 and below 1"
            )

    def init(self, key: Key, spec: RunSpec) -> StickyState:
        if not isinstance(spec.env.action, Discrete):
            raise ConfigError(
                f"sticky acts in discrete action spaces; {spec.env.name} has {spec.env.action}:"
                " choose an environment with discrete actions, or the 'random' agent"
            )
        return StickyState(spec.env.action.num)

    def initial_carry(self, num_envs: int) -> jax.Array:
        return jnp.zeros(num_envs, jnp.int32)

    def act(
        self, key: Key, state: StickyState, carry: jax.Array, obs: PyTree, first: jax.Array
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        key_stick, key_action = jax.random.split(key)
        sticks = jax.random.uniform(key_stick, first.shape) < self.stickiness
        drawn = jax.random.randint(key_action, first.shape, 0, state.num_actions, jnp.int32)
        action = jnp.where(sticks & ~first, carry, drawn)
        return action, action, ()

    def update(
        self, key: Key, state: StickyState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[StickyState, Metrics]:
        return state, {}

    def greedy(self) -> Sticky:
        return self
