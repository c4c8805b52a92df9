"""R-max: what is not known well is taken to be as good as anything can be."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.planning import Local, backward_induction, estimates, expected
from xplore.parts.tabular import Extras, Planned, act_by_table, learn, unplanned


@register_agent("rmax")
@final
@component
class RMax:
    """Plans with the empirical model where n(s, a) >= m, and with the value V_max elsewhere.

    It replans after every rollout: with `num_envs=1` and `num_steps` the length of an episode, once
    an episode; with `num_steps=1` at every step, as in the paper. `greedy()` takes what is unknown
    to be worth nothing.

    Attributes:
        known_visits: m; 1 is enough where nothing is random.
        value_max: V_max, the most that an episode can return.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        horizon_steps: H where the state does not tell the time; 0: the environment's time limit.
        max_successors: successors kept of each pair; 0: 1 where nothing is random, else 8.

    Reference: Brafman & Tennenholtz (2002), R-max, JMLR 3.
    Deviations from the paper: V_max is a number, not H times the largest reward.
    """

    traits: ClassVar[tuple[str, ...]] = ("model",)

    known_visits: int = 1
    value_max: float = 1.0
    intrinsic_weight: float = 1.0
    horizon_steps: int = 0
    max_successors: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.known_visits < 1:
            raise ConfigError(f"rmax: known_visits is {self.known_visits}: it must be at least 1")

    def init(self, key: Key, spec: RunSpec) -> Planned:
        return self._plan(unplanned(spec, "rmax", self.horizon_steps, self.max_successors))

    def initial_carry(self, num_envs: int) -> jax.Array:
        return jnp.zeros(num_envs, jnp.int32)

    def act(
        self, key: Key, state: Planned, carry: jax.Array, obs: jax.Array, first: jax.Array
    ) -> tuple[jax.Array, jax.Array, Extras]:
        q = state.estimate if self.deterministic else state.q
        ties = not self.deterministic
        return act_by_table(key, state.layout, q, carry, obs, first, ties_at_random=ties)

    def update(
        self, key: Key, state: Planned, traj: Trajectory, r_int: jax.Array
    ) -> tuple[Planned, Metrics]:
        state, metrics = learn(state, traj, r_int, self.intrinsic_weight)
        return self._plan(state), metrics

    def greedy(self) -> RMax:
        return replace(self, deterministic=True)

    def _plan(self, state: Planned) -> Planned:
        def plan(unknown: jax.Array) -> jax.Array:
            def backup(value: jax.Array, at: Local, _: PyTree, left: jax.Array) -> jax.Array:
                known = at.visits >= self.known_visits
                return jnp.where(known, at.reward + expected(at, value), unknown)

            return backward_induction(state.layout, backup, estimates(state.model))

        q, estimate = jax.vmap(plan)(jnp.stack([jnp.float32(self.value_max), jnp.float32(0.0)]))
        return dataclasses.replace(state, q=q, estimate=estimate)
