"""MADE: what the present policy does often, or was ever done often, is worth less."""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Scale
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.cells import CellKey, Cells
from xplore.parts.counts import Tables, count_visits, init_counts, init_decayed_counts


class MadeState(NamedTuple):
    """Counts that fade, and counts that do not."""

    recent: Tables
    lifelong: Tables


@final
@component
class Made:
    """`r = 1 / sqrt(N_recent(s, a) N(s, a))`, both this visit included, exact in time order.

    Before a rollout is counted, `N_recent` is multiplied by `decay`: 0 keeps this rollout only.
    """

    cells: Cells = Cells("observation+action")
    decay: float = 0.9

    def __post_init__(self) -> None:
        if isinstance(self.decay, float) and not 0 <= self.decay < 1:
            raise ConfigError(f"made(decay={self.decay}): must be in [0, 1)")

    def reads(self) -> tuple[str, ...]:
        return self.cells.reads()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        shape = self.cells.table_shape(spec.env)
        return MadeState(init_decayed_counts(*shape), init_counts(*shape))

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        rows = self.cells.rows(traj)
        faded = tuple(table * self.decay for table in state.recent)
        recent, lately = count_visits(faded, *rows, traj.first)
        lifelong, ever = count_visits(state.lifelong, *rows, traj.first)
        return MadeState(recent, lifelong), jax.lax.rsqrt(lately * ever.astype(jnp.float32))

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        """Learns nothing; `cells` is how many pairs were visited so far."""
        return state, {"cells": jnp.sum(state.lifelong[0] > 0).astype(jnp.float32)}


@register_bonus("made")
def made(
    coefficient: float = 0.1,
    key: CellKey = "observation+action",
    decay: float = 0.9,
    table_size: int = 1 << 20,
    num_tables: int = 2,
    bin_size: float = 0.1,
) -> Scale:
    """MADE: `r = coefficient / sqrt(N_recent(s, a) N(s, a))`.

    Args:
        coefficient: the bonus of what is done for the first time.
        key: what is counted: a key of `xplore.parts.cells.Cells`.
        decay: of the recent counts, per rollout.
        table_size: rows of a hashed table, a power of two.
        num_tables: hashed tables, of which the least count holds.
        bin_size: floats are rounded to multiples of it before they are counted.

    Reference: Zhang et al. (2021), MADE: Exploration via Maximizing Deviation from Explored
    Regions, arXiv:2106.10268.

    Deviations from the paper: the density of the present policy is a count that fades, not one
    over a buffer; the factor `1 - discount` is in `coefficient`.
    """
    return Scale(Made(Cells(key, table_size, num_tables, bin_size), decay), coefficient)
