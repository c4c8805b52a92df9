"""A template: one world sampler, in one file. See docs/add_a_world_sampler.md."""

from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp

import xplore
from xplore.contracts.types import Environment
from xplore.parts.levels import levels_from_ids, train_ids


class State(NamedTuple):
    """The L levels of the set and how the agent does in them; leaves `[L]`."""

    ids: jax.Array  # uint32, sorted
    success: jax.Array  # float32, running rate


@xplore.register_world_sampler("my_world_sampler")
@final
@xplore.component
class MyWorldSampler:
    """Levels that are neither mastered nor hopeless: P(level) proportional to p (1 - p) + floor.

    p is a running success rate. Reference: Rutherford et al. (2024), arXiv:2408.15099. Deviations
    from the paper: p is estimated from the training rollouts, and the set of levels is fixed.
    """

    num_levels: int = 200
    floor: float = 0.05  # every level keeps a chance
    step_size: float = 0.2

    def init(self, key: jax.Array, env: Environment) -> State:
        seed = jax.random.bits(key, (), jnp.uint32)
        ids = jnp.sort(train_ids(seed, jnp.arange(self.num_levels)))
        return State(ids, jnp.full(self.num_levels, 0.5))

    def sample(
        self, key: jax.Array, state: State, env: Environment, num_levels: int
    ) -> tuple[State, xplore.LevelBatch]:
        weight = state.success * (1.0 - state.success) + self.floor
        index = jax.random.categorical(key, jnp.log(weight), shape=(num_levels,))
        return state, levels_from_ids(env, state.ids[index])

    def update(
        self, state: State, batch: xplore.LevelBatch, traj: xplore.Trajectory
    ) -> tuple[State, dict[str, Any]]:
        # Episodes begun before this rollout may end in it: look their level up by its id.
        index = jnp.clip(jnp.searchsorted(state.ids, traj.level_id), 0, self.num_levels - 1)
        ended = (traj.terminated | traj.truncated) & (state.ids[index] == traj.level_id)
        zeros = jnp.zeros(self.num_levels)
        episodes = zeros.at[index].add(ended.astype(jnp.float32))
        successes = zeros.at[index].add((ended & traj.info["success"]).astype(jnp.float32))
        rate = successes / jnp.maximum(episodes, 1.0)
        moved = state.success + self.step_size * (rate - state.success)
        success = jnp.where(episodes > 0, moved, state.success)
        learnable = jnp.mean((success > 0.1) & (success < 0.9))
        return State(state.ids, success), {"learnable": learnable}
