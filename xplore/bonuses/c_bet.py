"""C-BET: rare places and rare changes, counted together."""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Scale
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.cells import CellKey, Cells, quantise
from xplore.parts.counts import Tables, count_visits, init_counts


class CBetState(NamedTuple):
    """Counts of states, and of changes."""

    states: Tables
    changes: Tables


@final
@component
class CBet:
    """`r = 1 / (N(s') + N(c))`, c the change `o' - o` of the observation; lifelong counts.

    Both take in this visit, so that at most 1/2 is paid. After a rollout all counts are forgotten
    with probability `1 - (1 - reset_probability)^(T N)`, that of a reset within its steps.
    """

    cells: Cells = Cells()
    reset_probability: float = 0.0

    def __post_init__(self) -> None:
        chance = self.reset_probability
        if isinstance(chance, float) and not 0 <= chance <= 1:
            raise ConfigError(f"c_bet(reset_probability={chance}): must be in [0, 1]")

    def reads(self) -> tuple[str, ...]:
        return self.cells.reads()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        states = init_counts(*self.cells.table_shape(spec.env))
        return CBetState(states, init_counts(self.cells.num_tables, self.cells.table_size))

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        states, of_state = count_visits(state.states, *self.cells.rows(traj), traj.first)
        change = jax.tree.map(self._change, traj.obs, traj.next_obs)
        rows = self.cells.hashed_rows(change)
        never = jnp.zeros_like(traj.first)  # an episode starts with a state, not with a change
        changes, of_change = count_visits(state.changes, rows, rows, never)
        return CBetState(states, changes), 1.0 / (of_state + of_change).astype(jnp.float32)

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        """Forgets now and then; `cells` and `changes` are how many are known."""
        keep_all = (1.0 - self.reset_probability) ** traj.first.size
        keep = jax.random.uniform(key) < keep_all
        state = jax.tree.map(lambda table: jnp.where(keep, table, 0), state)
        known = {"cells": state.states[0], "changes": state.changes[0]}
        return state, {k: jnp.sum(v > 0).astype(jnp.float32) for k, v in known.items()}

    def _change(self, before: jax.Array, after: jax.Array) -> jax.Array:
        if after.dtype == jnp.bool_:
            before, after = before.astype(jnp.uint8), after.astype(jnp.uint8)
        # Unsigned differences wrap around, which tells them apart as well as a sign would.
        return quantise(after, self.cells.bin_size) - quantise(before, self.cells.bin_size)


@register_bonus("c_bet")
def c_bet(
    coefficient: float = 0.1,
    key: CellKey = "observation",
    reset_probability: float = 0.0,
    table_size: int = 1 << 20,
    num_tables: int = 2,
    bin_size: float = 0.1,
) -> Scale:
    """C-BET: `r = coefficient / (N(s') + N(o' - o))`.

    Args:
        coefficient: twice the bonus of a first visit by a new change.
        key: what counts as a state: a key of `xplore.parts.cells.Cells`.
        reset_probability: chance per env step that all counts are forgotten.
        table_size: rows of a hashed table, a power of two.
        num_tables: hashed tables, of which the least count holds.
        bin_size: floats are rounded to multiples of it before they are counted.

    Reference: Parisi et al. (2021), Interesting Object, Curious Agent: Learning Task-Agnostic
    Exploration, arXiv:2111.13119.

    Deviations from the paper: what changes is the observation as it is, not a panoramic view, so
    that turning is a change; counts are kept unless `reset_probability` says otherwise.
    """
    cells = Cells(key, table_size, num_tables, bin_size)
    return Scale(CBet(cells, reset_probability), coefficient)
