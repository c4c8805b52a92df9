"""Successor counts: the norm of a successor representation, while it is learned, is a count."""

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


class NormState(NamedTuple):
    """One table's norms float32 `[M]`; and, all 0 between steps, its targets and their numbers."""

    norms: jax.Array
    targets: jax.Array
    hits: jax.Array


@final
@component
class SuccessorCount:
    """`r = 1 / |psi(s')|_1`, psi learned by TD: `psi(s) += eta (e_s + discount psi(s') - psi(s))`.

    psi starts as e_s, so that its norm goes from 1, never visited, to `1 / (1 - discount)`. All its
    entries stay positive, so their sum obeys the same equation by itself: what is kept is the norm
    of each cell, not a square matrix, and any number of cells will do. Steps are learned in time
    order, each after it was scored; envs in the same cell at one time step as if one after another,
    towards the mean of their targets. The last state of an episode is taken to follow itself: no
    step starts there, and it would stay new for ever.
    """

    cells: Cells = Cells(num_tables=1)
    discount: float = 0.95
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        if self.cells.of_actions:
            raise ConfigError(
                f"successor_count(key={self.cells.key!r}): states follow states; choose a key"
                " without '+action'"
            )
        if isinstance(self.discount, float) and not 0 < self.discount < 1:
            raise ConfigError(f"successor_count(discount={self.discount}): must be in (0, 1)")
        if isinstance(self.learning_rate, float) and not 0 < self.learning_rate <= 1:
            raise ConfigError(
                f"successor_count(learning_rate={self.learning_rate}): must be in (0, 1]"
            )

    def reads(self) -> tuple[str, ...]:
        return self.cells.reads()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        num_tables, num_rows = self.cells.table_shape(spec.env)

        def table() -> NormState:
            # Arrays of their own: one that is there twice cannot be donated.
            zeros = (jnp.zeros((num_rows,), jnp.float32) for _ in range(2))
            return NormState(jnp.ones((num_rows,), jnp.float32), *zeros)

        return tuple(table() for _ in range(num_tables))

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        before, after = self.cells.rows(traj)
        ended = traj.terminated | traj.truncated
        tables, norms = [], []
        for table, *rows in zip(state, before, after, strict=True):
            nothing = jnp.full((2 * ended.shape[1],), table.norms.size, jnp.int32)
            begin = (table, (nothing, jnp.zeros(nothing.shape)))
            (table, pending), norm = jax.lax.scan(self._step, begin, (*rows, ended))
            tables.append(self._write(table, pending))
            norms.append(norm)
        return tuple(tables), 1.0 / jnp.min(jnp.stack(norms), axis=0)

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        """Learns nothing more; `norm` is the mean over the cells that have been left."""
        norms = state[0].norms
        left = norms > 1
        return state, {"norm": jnp.sum(norms * left) / jnp.maximum(jnp.sum(left), 1)}

    def _step(
        self, carry: tuple[NormState, tuple[jax.Array, jax.Array]], x: tuple[jax.Array, ...]
    ) -> tuple[tuple[NormState, tuple[jax.Array, jax.Array]], jax.Array]:
        before, after, ended = x
        # What a step has learned is written in the next, before anything is read: a table that is
        # written after it was read would be copied, all of it, every time.
        norms, targets, hits = self._write(*carry)
        scored = norms[after]
        # Out of the table, where nothing is written: the end of an episode that goes on.
        rows = jnp.concatenate([before, jnp.where(ended, after, norms.size)])
        target = 1 + self.discount * jnp.concatenate([scored, scored])
        targets = targets.at[rows].add(target, mode="drop")
        hits = hits.at[rows].add(1.0, mode="drop")
        # k steps towards one target; every env of a cell writes the same.
        k = jnp.maximum(hits[rows], 1.0)
        share = 1 - (1 - self.learning_rate) ** k
        moved = norms[rows] + share * (targets[rows] / k - norms[rows])
        return (NormState(norms, targets, hits), (rows, moved)), scored

    def _write(self, table: NormState, pending: tuple[jax.Array, jax.Array]) -> NormState:
        rows, moved = pending
        norms, targets, hits = table
        return NormState(
            norms.at[rows].set(moved, mode="drop"),
            targets.at[rows].set(0.0, mode="drop"),
            hits.at[rows].set(0.0, mode="drop"),
        )


@register_bonus("successor_count")
def successor_count(
    coefficient: float = 0.1,
    key: CellKey = "observation",
    discount: float = 0.95,
    learning_rate: float = 0.1,
    table_size: int = 1 << 20,
    num_tables: int = 1,
    bin_size: float = 0.1,
) -> Scale:
    """Successor count: `r = coefficient / |psi(s')|_1`, psi the successor representation so far.

    Args:
        coefficient: the bonus of a state that was never left; at last it is `1 - discount` of it.
        key: what a state is: a key of `xplore.parts.cells.Cells`, without an action.
        discount: of the successor representation.
        learning_rate: of its temporal differences.
        table_size: rows of a hashed table, a power of two.
        num_tables: hashed tables, of which the least norm holds.
        bin_size: floats are rounded to multiples of it.

    Reference: Machado, Bellemare and Bowling (2020), Count-based exploration with the successor
    representation, arXiv:1807.11622.

    Deviations from the paper: psi starts as the identity, not as 0, whose norm cannot be divided
    by; states that cannot be numbered are hashed, where the paper learns features of pictures and
    takes their l2 norm; the last state of an episode follows itself.
    """
    cells = Cells(key, table_size, num_tables, bin_size)
    return Scale(SuccessorCount(cells, discount, learning_rate), coefficient)
