"""BEB: the mean of the posterior with a bonus that falls as fast as the posterior narrows."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, replace
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.planning import Local, backward_induction, estimates, posterior_mean
from xplore.parts.tabular import Extras, Planned, act_by_table, learn, unplanned


@register_agent("beb")
@final
@component
class BEB:
    """Q(s, a) = E_b[r + V(s')] + beta / (1 + n(s, a)), in the mean of the posterior b.

    The prior is a Dirichlet with 1/L for each of the L states that can follow, and a mean reward of
    0 with the weight of one visit, as in PSRL: so 1 + n is the sum of the counts.

    It replans after every rollout: with `num_envs=1` and `num_steps` the length of an episode, once
    an episode; with `num_steps=1` at every step, as in the paper. `greedy()` leaves the bonus out.

    Attributes:
        bonus: beta; 2 H^2 in the theorem.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        horizon_steps: H where the state does not tell the time; 0: the environment's time limit.
        max_successors: successors kept of each pair; 0: 1 where nothing is random, else 8.

    Reference: Kolter & Ng (2009), Near-Bayesian exploration in polynomial time, ICML.
    Deviations from the paper: rewards are learned too (the paper knows them); the end of an episode
    is no successor until it was seen as one.
    """

    traits: ClassVar[tuple[str, ...]] = ("model",)

    bonus: float = 1.0
    intrinsic_weight: float = 1.0
    horizon_steps: int = 0
    max_successors: int = 0
    deterministic: bool = False

    def init(self, key: Key, spec: RunSpec) -> Planned:
        return self._plan(unplanned(spec, "beb", self.horizon_steps, self.max_successors))

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

    def greedy(self) -> BEB:
        return replace(self, deterministic=True)

    def _plan(self, state: Planned) -> Planned:
        def plan(optimism: jax.Array) -> jax.Array:
            def backup(value: jax.Array, at: Local, _: PyTree, left: jax.Array) -> jax.Array:
                bonus = optimism * self.bonus / (1.0 + at.visits)
                reward = at.visits / (at.visits + 1.0) * at.reward
                return reward + bonus + posterior_mean(at, value)

            return backward_induction(state.layout, backup, estimates(state.model))

        # With the bonus, and without.
        q, estimate = jax.vmap(plan)(jnp.array([1.0, 0.0]))
        return dataclasses.replace(state, q=q, estimate=estimate)
