"""Ranking the episodes: the best of what was done is imitated."""

from __future__ import annotations

import dataclasses
from typing import Any, final

import jax
import jax.numpy as jnp
import optax

from xplore.agents.ppo import PPO
from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError, check_least
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, Policy, PyTree, RunSpec, Trajectory
from xplore.parts.cells import Cells
from xplore.parts.counts import (
    EpisodeCounts,
    Tables,
    count_episode_visits,
    count_visits,
    init_counts,
    init_episode_counts,
)
from xplore.parts.imitation import imitate
from xplore.parts.ranked import NONE, Ranked, no_ranked, rank

_EPISODIC = Cells("observation", table_size=1 << 12)
_LIFELONG = Cells("observation", table_size=1 << 18)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RapidState:
    """The learner's state, and what is imitated.

    Attributes:
        learner: of PPO.
        optimiser: of the imitation.
        ranked: the best steps.
        visits, counts: of observations, in the episode and ever.
    """

    learner: PyTree
    optimiser: PyTree
    ranked: Ranked
    visits: EpisodeCounts
    counts: Tables


@final
@component
class Rapid:
    """PPO that imitates its best episodes, those that earned, and those that saw much.

    An episode's score is S = extrinsic_weight return + local_weight (distinct observations / steps)
    + lifelong_weight mean_t 1/sqrt(N(s_t)). The steps of the best episodes are kept in a memory of
    fixed size; after each update of PPO the policy takes some gradient steps on -log pi(a | s) of
    steps drawn from it.

    Attributes:
        ppo: the learner; its options are those of the id.
        extrinsic_weight, local_weight, lifelong_weight: of the score.
        buffer_size: steps that are kept; memory is also taken for a whole episode of each env.
        batch_size: steps of a gradient step of the imitation.
        imitation_steps: gradient steps after each rollout.
        imitation_rate: learning rate of Adam for the imitation.

    Reference: Zha et al. (2021), Rank the episodes, arXiv:2101.08152.
    Deviations from the paper: a number of imitation steps for each rollout, not 5 for each episode;
    N(s) is as it was when s was visited; counts are of observations, hashed.
    """

    ppo: PPO = PPO()
    extrinsic_weight: float = 1.0
    local_weight: float = 0.1
    lifelong_weight: float = 0.001
    buffer_size: int = 10_000
    batch_size: int = 256
    imitation_steps: int = 64
    imitation_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_least("rapid", self, buffer_size=1, batch_size=1, imitation_steps=1)

    def init(self, key: Key, spec: RunSpec) -> RapidState:
        if spec.env.max_steps < 1:
            raise ConfigError(
                f"rapid ranks whole episodes, and those of {spec.env.name} may last for ever:"
                " choose an environment with a time limit"
            )
        learner = self.ppo.init(key, spec)
        size = (_EPISODIC.num_tables, spec.num_envs, _EPISODIC.table_size)
        return RapidState(
            learner=learner,
            optimiser=optax.adam(self.imitation_rate).init(learner.params),
            ranked=no_ranked(spec.env, spec.num_envs, self.buffer_size),
            visits=init_episode_counts(*size),
            counts=init_counts(_LIFELONG.num_tables, _LIFELONG.table_size),
        )

    def initial_carry(self, num_envs: int) -> PyTree:
        return self.ppo.initial_carry(num_envs)

    def act(
        self, key: Key, state: RapidState, carry: PyTree, obs: PyTree, first: jax.Array
    ) -> tuple[PyTree, jax.Array, PyTree]:
        return self.ppo.act(key, state.learner, carry, obs, first)

    def update(
        self, key: Key, state: RapidState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[RapidState, Metrics]:
        key_learn, key_imitate = jax.random.split(key)
        learner, metrics = self.ppo.update(key_learn, state.learner, traj, r_int)
        state, ranked_metrics = self._rank(state, traj)
        policy, num_filled = self.ppo.policy(learner), state.ranked.num_filled
        fitted, imitation_metrics = imitate(
            key_imitate,
            policy,
            state.optimiser,
            state.ranked.best,
            learning_rate=self.imitation_rate,
            batch_size=self.batch_size,
            num_steps=self.imitation_steps,
            num_filled=num_filled,
        )
        learner = policy.put(fitted.params)
        state = dataclasses.replace(state, learner=learner, optimiser=fitted.optimiser)
        return state, metrics | ranked_metrics | imitation_metrics

    def greedy(self) -> Rapid:
        return replace(self, ppo=self.ppo.greedy())

    def policy(self, state: RapidState) -> Policy:
        inner = self.ppo.policy(state.learner)
        return inner._replace(
            put=lambda params: dataclasses.replace(state, learner=inner.put(params))
        )

    def _rank(self, state: RapidState, traj: Trajectory) -> tuple[RapidState, Metrics]:
        # An observation is a visit when it is acted on: nothing comes before an episode's first.
        here = _EPISODIC.hashed_rows(traj.obs)
        nothing = jnp.full_like(here, -1)
        visits, in_episode = count_episode_visits(state.visits, nothing, here, traj.first)
        ever = _LIFELONG.hashed_rows(traj.obs)
        nothing = jnp.full_like(ever, _LIFELONG.table_size)
        counts, in_life = count_visits(state.counts, nothing, ever, traj.first)
        rarity = jax.lax.rsqrt(in_life.astype(jnp.float32))
        weights = (self.extrinsic_weight, self.local_weight, self.lifelong_weight)
        is_new = (in_episode == 1).astype(jnp.float32)
        ranked, score = rank(state.ranked, traj, is_new, rarity, weights)
        ended = traj.terminated | traj.truncated
        num_ended = jnp.maximum(jnp.sum(ended), 1)
        there = ranked.score > NONE
        metrics = {
            "episode_score": jnp.sum(jnp.where(ended, score, 0.0)) / num_ended,
            "kept_score": jnp.sum(jnp.where(there, ranked.score, 0.0))
            / jnp.maximum(jnp.sum(there), 1),
        }
        return dataclasses.replace(state, ranked=ranked, visits=visits, counts=counts), metrics


@register_agent("rapid")
def rapid(
    extrinsic_weight: float = 1.0,
    local_weight: float = 0.1,
    lifelong_weight: float = 0.001,
    buffer_size: int = 10_000,
    batch_size: int = 256,
    imitation_steps: int = 64,
    imitation_rate: float = 1e-3,
    **ppo: Any,
) -> Rapid:
    """PPO that imitates its best episodes.

    Args:
        extrinsic_weight: of an episode's return, in its score.
        local_weight: of the share of its observations that are distinct.
        lifelong_weight: of how rare they are in the whole run.
        buffer_size: steps of the best episodes that are kept.
        batch_size: steps of a gradient step of the imitation.
        imitation_steps: such gradient steps after each rollout.
        imitation_rate: learning rate of the imitation.
        **ppo: options of `xplore.agents.ppo.PPO`.
    """
    return Rapid(
        replace(PPO(), **ppo),
        extrinsic_weight,
        local_weight,
        lifelong_weight,
        buffer_size,
        batch_size,
        imitation_steps,
        imitation_rate,
    )
