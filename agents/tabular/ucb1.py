"""UCB1 for bandits."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, replace
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.bandit import Arms, pull, untried
from xplore.parts.tabular import pick


@register_agent("ucb1")
@final
@component
class UCB1:
    """Pulls the arm with the largest mean + c sqrt(2 ln t / n), each arm once before.

    t counts the pulls in the same context. Acting is on the counts of the last update: with
    `num_envs=1` and `num_steps=1` it is the method of the paper.

    Attributes:
        bonus: c; 1 is the paper's, for rewards in [0, 1].
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        deterministic: pull the arm with the best mean.

    Reference: Auer, Cesa-Bianchi & Fischer (2002), Finite-time analysis of the multiarmed bandit
    problem, Machine Learning 47.
    """

    bonus: float = 1.0
    intrinsic_weight: float = 1.0
    deterministic: bool = False

    def init(self, key: Key, spec: RunSpec) -> Arms:
        return untried(spec, "ucb1")

    def initial_carry(self, num_envs: int) -> PyTree:
        return ()

    def act(
        self, key: Key, state: Arms, carry: PyTree, obs: jax.Array, first: jax.Array
    ) -> tuple[PyTree, jax.Array, PyTree]:
        pulls, rewards = state.pulls[obs], state.rewards[obs]
        mean = rewards / jnp.maximum(pulls, 1.0)
        if self.deterministic:
            return carry, pick(key, mean, ties_at_random=False), ()
        log = jnp.log(jnp.maximum(jnp.sum(pulls, axis=-1, keepdims=True), 1.0))
        bound = mean + self.bonus * jnp.sqrt(2.0 * log / jnp.maximum(pulls, 1.0))
        return carry, pick(key, jnp.where(pulls > 0, bound, jnp.inf)), ()

    def update(
        self, key: Key, state: Arms, traj: Trajectory, r_int: jax.Array
    ) -> tuple[Arms, Metrics]:
        return pull(state, traj, r_int, self.intrinsic_weight), {}

    def greedy(self) -> UCB1:
        return replace(self, deterministic=True)
