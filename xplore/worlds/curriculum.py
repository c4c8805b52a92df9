"""From easy levels to hard ones."""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_world_sampler
from xplore.contracts.types import Environment, Key, LevelBatch, Metrics, Solvable, Trajectory
from xplore.parts.level_set import outcomes, sorted_ids
from xplore.parts.levels import level_from_id, levels_from_ids


class CurriculumState(NamedTuple):
    """The W levels of a set and how far the curriculum is.

    Attributes:
        ids: uint32 `[W]`, in increasing order.
        difficulty: int32 `[W]`, places in `ids` from the easiest level to the hardest.
        num_solvable: int32 `[]`; those without a solution come last, and are never supplied.
        reach: float32 `[]`, the share of these that is supplied.
        success: float32 `[]`, a running mean.
    """

    ids: jax.Array
    difficulty: jax.Array
    num_solvable: jax.Array
    reach: jax.Array
    success: jax.Array


@register_world_sampler("curriculum")
@final
@component
class Curriculum:
    """Uniform over the easiest `reach` of a set of levels, which grows as these are mastered.

    The difficulty of a level is the fewest steps that solve it. Where the running mean of success
    is above `threshold`, `reach` grows by the factor `growth`, and the mean starts anew.

    Attributes:
        num_levels: the size of the set, drawn anew for each training seed and solved once.
        start: the share that is supplied at first.
        threshold, growth: see above.
        rate: step size of the running mean, for each rollout.

    Reference: the idea is that of Bengio et al. (2009), Curriculum learning.

    Raises:
        ConfigError: from `init`, where the environment does not know how hard its levels are.
    """

    num_levels: int = 1_000
    start: float = 0.1
    threshold: float = 0.8
    growth: float = 1.25
    rate: float = 0.3

    def __post_init__(self) -> None:
        if self.num_levels < 1:
            raise ConfigError(
                f"curriculum: num_levels is {self.num_levels}: at least 1 level is needed"
            )
        if not 0 < self.start <= 1 or self.growth <= 1:
            raise ConfigError(
                f"curriculum: start {self.start} must be a share above 0, and growth {self.growth}"
                " above 1"
            )

    def init(self, key: Key, env: Environment) -> CurriculumState:
        if not isinstance(env, Solvable):
            raise ConfigError(
                f"curriculum orders levels by optimal_steps(level), which {env.spec().name} does"
                " not have: choose an environment that has, or learning_progress"
            )
        ids = sorted_ids(key, self.num_levels)
        # In turn: searches of different lengths side by side would all take as long as the longest.
        steps = jax.lax.map(lambda i: env.optimal_steps(level_from_id(env, i)), ids)
        solvable = steps >= 0
        order = jnp.argsort(jnp.where(solvable, steps, np.iinfo(np.int32).max), stable=True)
        start = jnp.float32(self.start)
        count = jnp.maximum(jnp.sum(solvable), 1).astype(jnp.int32)
        return CurriculumState(ids, order.astype(jnp.int32), count, start, jnp.float32(0))

    def sample(
        self, key: Key, state: CurriculumState, env: Environment, num_levels: int
    ) -> tuple[CurriculumState, LevelBatch]:
        supplied = jnp.ceil(state.reach * state.num_solvable).astype(jnp.int32)
        index = jax.random.randint(key, (num_levels,), 0, jnp.maximum(supplied, 1))
        return state, levels_from_ids(env, state.ids[state.difficulty[index]])

    def update(
        self, state: CurriculumState, batch: LevelBatch, traj: Trajectory
    ) -> tuple[CurriculumState, Metrics]:
        episodes, successes = (jnp.sum(x) for x in outcomes(state.ids, traj))
        rate = successes / jnp.maximum(episodes, 1.0)
        moved = state.success + self.rate * (rate - state.success)
        success = jnp.where(episodes > 0, moved, state.success)
        mastered = success > self.threshold
        reach = jnp.where(mastered, jnp.minimum(state.reach * self.growth, 1.0), state.reach)
        success = jnp.where(mastered & (state.reach < 1), 0.0, success)
        return state._replace(reach=reach, success=success), {"reach": reach}
