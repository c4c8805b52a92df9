"""Fresh levels: domain randomisation."""

from __future__ import annotations

from typing import final

from xplore.contracts.component import component
from xplore.contracts.registry import register_world_sampler
from xplore.contracts.types import Environment, Key, LevelBatch, Metrics, PyTree, Trajectory
from xplore.parts.levels import fresh_ids, levels_from_ids


@register_world_sampler("fresh")
@final
@component
class Fresh:
    """A level never seen before for every episode, up to a 1 in 2^31 chance of a repeat."""

    def init(self, key: Key, env: Environment) -> PyTree:
        return ()

    def sample(
        self, key: Key, state: PyTree, env: Environment, num_levels: int
    ) -> tuple[PyTree, LevelBatch]:
        return state, levels_from_ids(env, fresh_ids(key, num_levels))

    def update(self, state: PyTree, batch: LevelBatch, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return state, {}
