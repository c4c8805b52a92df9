"""RLSVI in tables: values with noise as large as their uncertainty."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, replace
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, RunSpec, Trajectory
from xplore.parts.planning import Local, backward_induction, estimates, expected
from xplore.parts.tabular import Extras, Planned, act_by_table, learn, unplanned


@register_agent("rlsvi")
@final
@component
class RLSVI:
    """Q_h(s, a) ~ N(n/(n + lambda) (r^ + E_P^[V_{h+1}]), sigma^2 / (n + lambda)), n = n(s, a).

    The regularised least-squares fit of a table has this posterior; a new sample of it, backwards
    in h, is what the next episode acts by greedily.

    It samples after every rollout: with `num_envs=1` and `num_steps` the length of an episode, once
    an episode, as in the paper. `greedy()` acts by the means.

    Attributes:
        noise: sigma.
        regularisation: lambda.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        horizon_steps: H where the state does not tell the time; 0: the environment's time limit.
        max_successors: successors kept of each pair; 0: 1 where nothing is random, else 8.

    Reference: Osband, Van Roy, Russo & Wen (2019), Deep exploration via randomized value functions,
    arXiv:1703.07608.
    Deviations from the paper: where the state does not tell the time, n(s, a) counts the visits at
    all times (the noise is drawn for each time).
    """

    traits: ClassVar[tuple[str, ...]] = ("model",)

    noise: float = 1.0
    regularisation: float = 1.0
    intrinsic_weight: float = 1.0
    horizon_steps: int = 0
    max_successors: int = 0
    deterministic: bool = False

    def init(self, key: Key, spec: RunSpec) -> Planned:
        return self._plan(key, unplanned(spec, "rlsvi", self.horizon_steps, self.max_successors))

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
        return self._plan(key, state), metrics

    def greedy(self) -> RLSVI:
        return replace(self, deterministic=True)

    def _plan(self, key: Key, state: Planned) -> Planned:
        def backup(value: jax.Array, at: Local, drawn: jax.Array, left: jax.Array) -> jax.Array:
            weight = at.visits + self.regularisation
            mean = at.visits / weight * (at.reward + expected(at, value))
            return mean + drawn * self.noise / jnp.sqrt(weight)

        def plan(drawn: jax.Array) -> jax.Array:
            return backward_induction(state.layout, backup, estimates(state.model), drawn)

        drawn = jax.random.normal(key, state.layout.shape)
        # With the noise, and without.
        q, estimate = jax.vmap(plan)(jnp.stack([drawn, jnp.zeros_like(drawn)]))
        return dataclasses.replace(state, q=q, estimate=estimate)
