"""Levels in which the agent is getting better, or worse."""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_world_sampler
from xplore.contracts.types import Environment, Key, LevelBatch, Metrics, Trajectory
from xplore.parts.level_set import in_proportion, outcomes, sorted_ids
from xplore.parts.levels import levels_from_ids


class ProgressState(NamedTuple):
    """The W levels of the set, `[W]`: ids in order, and a fast and a slow mean of success."""

    ids: jax.Array
    fast: jax.Array
    slow: jax.Array


@register_world_sampler("learning_progress")
@final
@component
class LearningProgress:
    """P(level) = eps / W + (1 - eps) |fast - slow| / sum, of two running means of success in it.

    The absolute value brings back levels that are being forgotten.

    Attributes:
        num_levels: W, the size of the set, drawn anew for each training seed.
        fast_rate, slow_rate: step sizes of the means, for each rollout the level was finished in.
        uniform: eps.

    Reference: Matiisen et al. (2017), Teacher-student curriculum learning, arXiv:1707.00183; two
    means: Kanitscheider et al. (2021), arXiv:2106.14876.
    Deviations from the papers: levels in place of tasks, success in place of returns, and no
    reweighting of rates near 0 and 1.
    """

    num_levels: int = 200
    fast_rate: float = 0.3
    slow_rate: float = 0.05
    uniform: float = 0.2

    def __post_init__(self) -> None:
        if self.num_levels < 1:
            raise ConfigError(
                f"learning_progress: num_levels is {self.num_levels}: at least 1 level is needed"
            )
        if not 0 < self.slow_rate < self.fast_rate <= 1:
            raise ConfigError(
                f"learning_progress: slow_rate {self.slow_rate} must be below fast_rate"
                f" {self.fast_rate}, both above 0 and at most 1"
            )
        if not 0 < self.uniform <= 1:
            raise ConfigError(
                f"learning_progress: uniform is {self.uniform}: it must be above 0, or a level"
                " without progress would never be seen again, and at most 1"
            )

    def init(self, key: Key, env: Environment) -> ProgressState:
        zeros = jnp.zeros(self.num_levels, jnp.float32)
        return ProgressState(sorted_ids(key, self.num_levels), zeros, zeros)

    def sample(
        self, key: Key, state: ProgressState, env: Environment, num_levels: int
    ) -> tuple[ProgressState, LevelBatch]:
        weight = in_proportion(jnp.abs(state.fast - state.slow), self.uniform)
        index = jax.random.categorical(key, jnp.log(weight), shape=(num_levels,))
        return state, levels_from_ids(env, state.ids[index])

    def update(
        self, state: ProgressState, batch: LevelBatch, traj: Trajectory
    ) -> tuple[ProgressState, Metrics]:
        episodes, successes = outcomes(state.ids, traj)
        rate = successes / jnp.maximum(episodes, 1.0)

        def moved(mean: jax.Array, step_size: float) -> jax.Array:
            return jnp.where(episodes > 0, mean + step_size * (rate - mean), mean)

        state = ProgressState(
            state.ids, moved(state.fast, self.fast_rate), moved(state.slow, self.slow_rate)
        )
        return state, {
            "progress": jnp.mean(jnp.abs(state.fast - state.slow)),
            "mastered": jnp.mean(state.slow > 0.9),
        }
