"""Robust prioritised level replay: new levels are scored, replayed ones learned from."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import check_least
from xplore.contracts.registry import register_world_sampler
from xplore.contracts.types import (
    Agent,
    Environment,
    Key,
    LevelBatch,
    Metrics,
    PyTree,
    Trajectory,
)
from xplore.parts import level_buffer as lb
from xplore.parts.level_scores import LevelScore, check_score, step_scores
from xplore.parts.level_trials import trial_steps, try_levels
from xplore.parts.levels import fresh_ids, levels_from_ids


@register_world_sampler("robust_plr")
@final
@component
class RobustPLR:
    """Before each rollout tries `num_new` new levels; the rollout is in levels of the buffer alone.

    They are drawn as in `plr`, with its two terms. The steps of the tries are no steps of training:
    they are told as `worlds/scoring_steps`.

    Attributes:
        score: as in `plr`.
        num_new: levels that are tried before a rollout. With a replay probability of p and N envs
            it is N (1 - p) / p in the paper: 16 of 64.
        scoring_steps: of each try; 0: the longest that an episode can be.
        prioritisation, temperature, staleness, buffer_size, discount, trace: as in `plr`.

    Reference: Jiang et al. (2021), Replay-guided adversarial environment design, arXiv:2110.02439;
    constants: Coward, Beukman and Foerster (2024), JaxUED, arXiv:2403.13091.
    Deviations from the paper: some new levels before every rollout in place of a rollout in new
    levels now and then, which comes to as many; replay begins at once, with what there is; and in
    the first episode of each env nothing has been tried yet.
    """

    score: LevelScore = "max_mc"
    num_new: int = 16
    scoring_steps: int = 0
    prioritisation: lb.Prioritisation = "rank"
    temperature: float = 0.3
    staleness: float = 0.3
    buffer_size: int = 4_000
    discount: float = 0.99
    trace: float = 0.95

    def __post_init__(self) -> None:
        check_score("robust_plr", self.score)
        lb.check_buffer("robust_plr", self)
        check_least("robust_plr", self, num_new=1)

    def init(self, key: Key, env: Environment) -> lb.Buffer:
        trial_steps("robust_plr", env, self.scoring_steps, 1)
        return lb.empty_buffer(env, self.buffer_size)

    def sample(
        self, key: Key, state: lb.Buffer, env: Environment, num_levels: int
    ) -> tuple[lb.Buffer, LevelBatch]:
        key_new, key_draw = jax.random.split(key)
        fresh = levels_from_ids(env, fresh_ids(key_new, num_levels))
        return state, lb.replayed(key_draw, state, fresh, self)

    def sample_for(
        self,
        key: Key,
        state: lb.Buffer,
        env: Environment,
        num_levels: int,
        agent: Agent,
        agent_state: PyTree,
    ) -> tuple[lb.Buffer, LevelBatch]:
        key_new, key_try, key_draw = jax.random.split(key, 3)
        new = levels_from_ids(env, fresh_ids(key_new, self.num_new))
        steps = trial_steps("robust_plr", env, self.scoring_steps, 1)
        score, tally = try_levels(
            key_try, env, agent, agent_state, new, steps,
            sampler="robust_plr", score=self.score, discount=self.discount, trace=self.trace,
        )  # fmt: skip
        buffer = lb.insert(state, new, score, tally)
        buffer = buffer._replace(tried_steps=jnp.float32(steps * self.num_new))
        spare = jax.tree.map(lambda x: x[jnp.arange(num_levels) % self.num_new], new)
        return buffer, lb.replayed(key_draw, buffer, spare, self)

    def update(
        self, state: lb.Buffer, batch: LevelBatch, traj: Trajectory
    ) -> tuple[lb.Buffer, Metrics]:
        scores = step_scores("robust_plr", self.score, traj, self.discount, self.trace)
        buffer = lb.learn(state, traj, scores, self.score)
        return buffer, {"levels_generated": jnp.float32(self.num_new), **lb.metrics_of(buffer)}
