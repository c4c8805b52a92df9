"""Posterior sampling: acts as would be best in an environment drawn from what is believed."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.dirichlet import Draw, draw_posterior, mean_under
from xplore.parts.planning import Local, backward_induction, estimates, posterior_mean
from xplore.parts.tabular import Extras, Planned, act_by_table, learn, unplanned


class Drawn(NamedTuple):
    """An environment: rewards `[S, A]`, and where each pair leads."""

    reward: jax.Array
    successor: jax.Array
    probabilities: Draw


@register_agent("psrl")
@final
@component
class PSRL:
    """Draws P ~ Dir(1/L + counts), r ~ N(tau m/(tau_0 + tau n), 1/(tau_0 + tau n)), and solves it.

    n is the number of visits of (s, a) and m the sum of their rewards (with mu_0 = 0); each of the
    L states that can follow has 1/L of the prior. Where the state does not tell the time, one draw
    serves all times.

    A draw for every rollout: with `num_envs=1` and `num_steps` the length of an episode, one for an
    episode, as in the paper. `greedy()` acts by the means of the posterior.

    The Dirichlet is drawn by breaking a stick, without a number for each state (see
    `xplore.parts.dirichlet`, which says how exact that is).

    Attributes:
        prior_precision: tau_0, of a mean reward.
        reward_precision: tau, of a reward, taken to be known.
        num_sticks: pieces that the prior's share of the probability is broken into.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        horizon_steps: H where the state does not tell the time; 0: the environment's time limit.
        max_successors: successors kept of each pair; 0: 1 where nothing is random, else 8.

    Reference: Osband, Russo & Van Roy (2013), (More) efficient reinforcement learning via posterior
    sampling, arXiv:1306.0940; Strens (2000).
    Deviations from the paper: the end of an episode is no successor until it was seen as one.
    """

    traits: ClassVar[tuple[str, ...]] = ("model",)

    prior_precision: float = 1.0
    reward_precision: float = 1.0
    num_sticks: int = 16
    intrinsic_weight: float = 1.0
    horizon_steps: int = 0
    max_successors: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.num_sticks < 1:
            raise ConfigError(f"psrl: num_sticks is {self.num_sticks}: it must be at least 1")

    def init(self, key: Key, spec: RunSpec) -> Planned:
        return self._plan(key, unplanned(spec, "psrl", self.horizon_steps, self.max_successors))

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

    def greedy(self) -> PSRL:
        return replace(self, deterministic=True)

    def _plan(self, key: Key, state: Planned) -> Planned:
        layout, model = state.layout, state.model
        precision = self.prior_precision + self.reward_precision * model.visits
        mean = self.reward_precision * model.reward / precision
        k_reward, k_led = jax.random.split(key)
        noise = jax.random.normal(k_reward, mean.shape) / jnp.sqrt(precision)
        led = draw_posterior(k_led, model.counts, layout.num_local, self.num_sticks)

        def drawn(value: jax.Array, at: Drawn, _: PyTree, left: jax.Array) -> jax.Array:
            return at.reward + mean_under(at.probabilities, at.successor, value)

        def means(
            value: jax.Array, at: tuple[Local, jax.Array], _: PyTree, left: jax.Array
        ) -> jax.Array:
            local, reward = at
            return reward + posterior_mean(local, value)

        return dataclasses.replace(
            state,
            q=backward_induction(layout, drawn, Drawn(mean + noise, model.successor, led)),
            estimate=backward_induction(layout, means, (estimates(model), mean)),
        )
