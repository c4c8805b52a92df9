"""A fixed set of training levels: the setting in which generalisation is measured."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_world_sampler
from xplore.contracts.types import Environment, Key, LevelBatch, Metrics, PyTree, Trajectory
from xplore.parts.levels import levels_from_ids, train_ids


@register_world_sampler("fixed")
@final
@component
class Fixed:
    """Uniform over `num_levels` levels, a prefix of a list of ids, so that smaller sets are nested.

    With `set_seed` None each training seed has its own list, drawn from its key (a seed then means
    network, environment and level set together); with a number all share that one.

    Reference: Cobbe et al. (2020), Procgen, arXiv:1912.01588 (200 levels is its easy setting).
    """

    num_levels: int = 200
    set_seed: int | None = None

    def __post_init__(self) -> None:
        if self.num_levels < 1:
            raise ConfigError(f"fixed(num_levels={self.num_levels}): at least 1 level is needed")

    def init(self, key: Key, env: Environment) -> PyTree:
        if self.set_seed is None:
            return jax.random.bits(key, (), jnp.uint32)
        return jnp.uint32(self.set_seed)

    def sample(
        self, key: Key, state: PyTree, env: Environment, num_levels: int
    ) -> tuple[PyTree, LevelBatch]:
        index = jax.random.randint(key, (num_levels,), 0, self.num_levels)
        return state, levels_from_ids(env, train_ids(state, index))

    def update(self, state: PyTree, batch: LevelBatch, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return state, {}
