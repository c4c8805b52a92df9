"""Lifelong counts: what has rarely been visited in the whole run is worth seeing."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Scale
from xplore.contracts.component import component
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.cells import CellKey, Cells
from xplore.parts.counts import count_visits, init_counts


@final
@component
class Count:
    """`r = 1 / sqrt(N(s'))`, N counted over the run, all envs together, this visit included.

    Exact in time order: a step is paid by what had been visited up to then, within a rollout too.
    The states episodes start in are visited as well, so that returning to one is not new.
    """

    cells: Cells = Cells()

    def reads(self) -> tuple[str, ...]:
        return self.cells.reads()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return init_counts(*self.cells.table_shape(spec.env))

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        before, after = self.cells.rows(traj)
        state, counts = count_visits(state, before, after, traj.first)
        return state, jax.lax.rsqrt(counts.astype(jnp.float32))

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        """Learns nothing; `cells` is how many were visited so far (hashing may merge a few)."""
        return state, {"cells": jnp.sum(state[0] > 0).astype(jnp.float32)}


@register_bonus("count")
def count(
    coefficient: float = 0.1,
    key: CellKey = "observation",
    table_size: int = 1 << 20,
    num_tables: int = 2,
    bin_size: float = 0.1,
) -> Scale:
    """Lifelong count: `r = coefficient / sqrt(N(s'))`.

    Args:
        coefficient: the bonus of a first visit.
        key: what is counted, such as `position`, `observation` or, for pairs of state and action,
            `observation+action`: see `xplore.parts.cells.Cells`. The agent may not see what
            `position` and `state` count: say so where results are compared.
        table_size: rows of a hashed table, a power of two.
        num_tables: hashed tables, of which the least count holds.
        bin_size: floats are rounded to multiples of it before they are counted.

    Reference: Strehl and Littman (2008), MBIE-EB; on deep agents Bellemare et al. (2016),
    arXiv:1606.01868, and Tang et al. (2017), arXiv:1611.04717 (hashed counts).

    Deviations from the papers: states, not state-action pairs, unless `key` asks for them;
    counted exactly, not by a density model or SimHash.
    """
    return Scale(Count(Cells(key, table_size, num_tables, bin_size)), coefficient)
