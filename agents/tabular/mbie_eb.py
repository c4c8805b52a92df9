"""MBIE-EB: the empirical model with a bonus for what has seldom been tried."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, replace
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.planning import Local, backward_induction, estimates, expected
from xplore.parts.tabular import Extras, Planned, act_by_table, learn, unplanned


@register_agent("mbie_eb")
@register_agent("model_ucb", clip=True)
@final
@component
class MBIEEB:
    """Q(s, a) = r^(s, a) + beta / sqrt(n(s, a)) + E_P^[V(s')], and V_max where n(s, a) = 0.

    With `clip` (the id `model_ucb`) Q is at most V_max everywhere.

    It replans after every rollout: with `num_envs=1` and `num_steps` the length of an episode, once
    an episode; with `num_steps=1` at every step, as in the paper. `greedy()` takes what is unknown
    to be worth nothing.

    Attributes:
        bonus: beta.
        value_max: V_max, the most that an episode can return.
        clip: see above.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        horizon_steps: H where the state does not tell the time; 0: the environment's time limit.
        max_successors: successors kept of each pair; 0: 1 where nothing is random, else 8.

    Reference: Strehl & Littman (2008), An analysis of model-based interval estimation for Markov
    decision processes, JCSS 74.
    Deviations from the paper: a finite horizon instead of a discount; V_max is a number.
    """

    traits: ClassVar[tuple[str, ...]] = ("model",)

    bonus: float = 0.1
    value_max: float = 1.0
    clip: bool = False
    intrinsic_weight: float = 1.0
    horizon_steps: int = 0
    max_successors: int = 0
    deterministic: bool = False

    def init(self, key: Key, spec: RunSpec) -> Planned:
        return self._plan(unplanned(spec, "mbie_eb", self.horizon_steps, self.max_successors))

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

    def greedy(self) -> MBIEEB:
        return replace(self, deterministic=True)

    def _plan(self, state: Planned) -> Planned:
        def plan(optimism: jax.Array) -> jax.Array:
            most = optimism * self.value_max

            def backup(value: jax.Array, at: Local, _: PyTree, left: jax.Array) -> jax.Array:
                bonus = optimism * self.bonus / jnp.sqrt(jnp.maximum(at.visits, 1.0))
                q = at.reward + bonus + expected(at, value)
                if self.clip:
                    q = jnp.minimum(q, self.value_max)
                return jnp.where(at.visits > 0, q, most)

            return backward_induction(state.layout, backup, estimates(state.model))

        # With the bonus, and without.
        q, estimate = jax.vmap(plan)(jnp.array([1.0, 0.0]))
        return dataclasses.replace(state, q=q, estimate=estimate)
