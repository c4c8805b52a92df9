"""No bonus: the baseline every other is compared with."""

from __future__ import annotations

from typing import final

import jax.numpy as jnp
from jax import Array

from xplore.contracts.component import component
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory


@register_bonus("none")
@final
@component
class NoBonus:
    """Pays nothing: the agent explores by its own noise."""

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return ()

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, Array]:
        return state, jnp.zeros_like(traj.reward, jnp.float32)

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return state, {}
