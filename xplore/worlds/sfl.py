"""Sampling for learnability: levels that are solved sometimes."""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
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
from xplore.parts.level_buffer import NO_LEVEL
from xplore.parts.level_scores import learnability
from xplore.parts.level_trials import trial_steps
from xplore.parts.levels import fresh_ids, levels_from_ids
from xplore.parts.play import play


class SFLState(NamedTuple):
    """The C levels that were tried last.

    Attributes:
        level_id: uint32 `[C]`; `NO_LEVEL` before there are so many.
        learnability: float32 `[C]`, as estimated then; -1 before.
        place: int32 `[]`, where the next ones go.
        tried_steps: float32 `[]`, steps spent on them before the last rollout.
    """

    level_id: jax.Array
    learnability: jax.Array
    place: jax.Array
    tried_steps: jax.Array


@register_world_sampler("sfl")
@final
@component
class SFL:
    """Half of the levels are new, half are from the `num_kept` most learnable of those last tried.

    Learnability is p (1 - p), p the rate of success, estimated without bias from the episodes of a
    try: n / (n - 1) q (1 - q). The steps of the tries are no steps of training: they are told as
    `worlds/scoring_steps`.

    Attributes:
        num_tried: levels that are tried before each rollout.
        num_candidates: of those last tried, among which the most learnable are chosen; a multiple
            of `num_tried`.
        num_kept: how many those are.
        replay_probability: share of levels that are from among them.
        scoring_steps: of each try; 0: the length of two of the longest episodes.
        num_episodes: episodes of a try that count at the most.

    Reference: Rutherford et al. (2024), No regrets: investigating and improving regret
    approximations for curriculum discovery, arXiv:2408.15099.
    Deviations from the paper: a part of the candidates is tried before every rollout and replaces
    the oldest, in place of all of them every so many rollouts, so that an update always costs the
    same; an unbiased estimate; fewer levels and shorter tries (the paper's settings for its mazes
    are 25,000 levels, 1,000 kept, 2,000 steps each, every 100 updates: 7.6 steps of scoring for
    one of training). What is kept was chosen by its estimate, which is therefore too high.
    """

    num_tried: int = 32
    num_candidates: int = 1024
    num_kept: int = 64
    replay_probability: float = static(default=0.5)
    scoring_steps: int = 0
    num_episodes: int = 10

    def __post_init__(self) -> None:
        if self.num_tried < 1 or self.num_candidates % self.num_tried:
            raise ConfigError(
                f"sfl: num_candidates {self.num_candidates} is no multiple of num_tried"
                f" {self.num_tried}: that many are replaced at a time"
            )
        if not 1 <= self.num_kept <= self.num_candidates:
            raise ConfigError(
                f"sfl: num_kept is {self.num_kept}: it must be from 1 to num_candidates"
                f" {self.num_candidates}"
            )
        if self.num_episodes < 2:
            raise ConfigError(f"sfl: num_episodes is {self.num_episodes}: one tells nothing")
        if not 0 <= self.replay_probability <= 1:
            raise ConfigError(
                f"sfl: replay_probability is {self.replay_probability}: it must be from 0 to 1"
            )

    def init(self, key: Key, env: Environment) -> SFLState:
        trial_steps("sfl", env, self.scoring_steps, 2)
        size = self.num_candidates
        return SFLState(
            jnp.full(size, NO_LEVEL, jnp.uint32),
            jnp.full(size, -1.0, jnp.float32),
            jnp.int32(0),
            jnp.float32(0),
        )

    def sample(
        self, key: Key, state: SFLState, env: Environment, num_levels: int
    ) -> tuple[SFLState, LevelBatch]:
        key_new, key_draw, key_order = jax.random.split(key, 3)
        num_replayed = round(self.replay_probability * num_levels)
        best, index = jax.lax.top_k(state.learnability, self.num_kept)
        filled = jnp.maximum(jnp.sum(best >= 0), 1)
        drawn = jax.random.randint(key_draw, (num_levels,), 0, filled)
        replayed = state.level_id[index[drawn]]
        some = (jnp.arange(num_levels) < num_replayed) & jnp.any(best >= 0)
        ids = jnp.where(some, replayed, fresh_ids(key_new, num_levels))
        return state, levels_from_ids(env, jax.random.permutation(key_order, ids))

    def sample_for(
        self,
        key: Key,
        state: SFLState,
        env: Environment,
        num_levels: int,
        agent: Agent,
        agent_state: PyTree,
    ) -> tuple[SFLState, LevelBatch]:
        key_new, key_try, key_sample = jax.random.split(key, 3)
        batch = levels_from_ids(env, fresh_ids(key_new, self.num_tried))
        steps = trial_steps("sfl", env, self.scoring_steps, 2)
        traj = play(key_try, env, agent, agent_state, batch, steps)
        found = self._learnability(traj)
        start = (state.place,)
        state = SFLState(
            jax.lax.dynamic_update_slice(state.level_id, batch.level_id, start),
            jax.lax.dynamic_update_slice(state.learnability, found, start),
            (state.place + self.num_tried) % self.num_candidates,
            jnp.float32(steps * self.num_tried),
        )
        return self.sample(key_sample, state, env, num_levels)

    def update(
        self, state: SFLState, batch: LevelBatch, traj: Trajectory
    ) -> tuple[SFLState, Metrics]:
        best, _ = jax.lax.top_k(state.learnability, self.num_kept)
        tried = state.tried_steps > 0
        return state, {
            # Ids are kept, not levels: those that are replayed are made again.
            "levels_generated": batch.level_id.shape[0] + jnp.where(tried, self.num_tried, 0.0),
            "scoring_steps": state.tried_steps,
            "learnability": jnp.mean(jnp.maximum(best, 0.0)),
        }

    def _learnability(self, traj: Trajectory) -> jax.Array:
        """Of each level `[M]`, from its first `num_episodes` episodes; 0 with fewer than two."""
        ended = traj.terminated | traj.truncated
        counted = ended & (jnp.cumsum(ended, axis=0) <= self.num_episodes)
        episodes = jnp.sum(counted, axis=0).astype(jnp.float32)
        successes = jnp.sum(counted & traj.info["success"], axis=0).astype(jnp.float32)
        return jnp.where(episodes < 2, 0.0, learnability(successes, episodes))
