"""Episodic counts: what has rarely been visited in this episode is worth seeing."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Scale
from xplore.contracts.component import component
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.cells import CellKey, Cells
from xplore.parts.counts import count_episode_visits, init_episode_counts


@final
@component
class EpisodicCount:
    """`r = 1 / sqrt(N_ep(s'))`, N_ep counted per env since its episode began, this visit included.

    The state the episode started in counts as visited. Episodes go on across rollouts.
    """

    cells: Cells = Cells(table_size=1 << 12)

    def reads(self) -> tuple[str, ...]:
        return self.cells.reads()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        num_tables, num_rows = self.cells.table_shape(spec.env)
        return init_episode_counts(num_tables, spec.num_envs, num_rows)

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        before, after = self.cells.rows(traj)
        state, counts = count_episode_visits(state, before, after, traj.first)
        return state, jax.lax.rsqrt(counts.astype(jnp.float32))

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return state, {}


@register_bonus("episodic_count")
def episodic_count(
    coefficient: float = 0.01,
    key: CellKey = "observation",
    table_size: int = 1 << 12,
    num_tables: int = 2,
    bin_size: float = 0.1,
) -> Scale:
    """Episodic count: `r = coefficient / sqrt(N_ep(s'))`.

    Args:
        coefficient: the bonus of a visit that is the first in its episode.
        key: what is counted: a key of `xplore.parts.cells.Cells`.
        table_size: rows of a hashed table, a power of two; each env has its own, so that memory is
            `4 * num_tables * table_size` bytes per env.
        num_tables: hashed tables, of which the least count holds.
        bin_size: floats are rounded to multiples of it before they are counted.

    Reference: the episodic half of Raileanu and Rocktaeschel (2020), RIDE, arXiv:2002.12292; by
    itself in Henaff, Jiang and Raileanu (2023), arXiv:2306.03236.

    Deviations from the papers: they count the full state, which the agent does not see; so does
    `key="state"`.
    """
    return Scale(EpisodicCount(Cells(key, table_size, num_tables, bin_size)), coefficient)
