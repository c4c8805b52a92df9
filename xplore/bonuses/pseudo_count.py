"""Pseudo-counts: how often a density model behaves as if it had seen what it sees."""

from __future__ import annotations

import dataclasses
from typing import final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Scale
from xplore.contracts.component import component
from xplore.contracts.registry import register_bonus
from xplore.contracts.spaces import Space
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.cells import check_table
from xplore.parts.density import Density, density_step, init_density


@final
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PseudoCountState:
    """The density so far, and the space of what it is over, static."""

    density: Density
    space: Space = dataclasses.field(metadata={"static": True})


@final
@component
class PseudoCount:
    """`r = 1 / sqrt(N^(s') + 0.01)`, `N^ = rho (1 - rho') / (rho' - rho)`.

    rho is the density of `o'` under `xplore.parts.density` before this visit, rho' after it. Of an
    observation of a single cell, N^ is the number of earlier visits plus a half, exactly. In a
    large grid each cell learns, so that N^ counts slower but generalises: what is made of familiar
    pieces is familiar. Exact in time order; visits of all envs at one time step happen at once.
    """

    table_size: int = 1 << 20
    bin_size: float = 0.1

    def __post_init__(self) -> None:
        check_table(self.table_size, 1)

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return PseudoCountState(init_density(self.table_size), spec.env.observation)

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        def step(density: Density, obs: PyTree) -> tuple[Density, jax.Array]:
            return density_step(density, state.space, obs, self.bin_size)

        density, counts = jax.lax.scan(step, state.density, traj.next_obs)
        return dataclasses.replace(state, density=density), jax.lax.rsqrt(counts + 0.01)

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        """Learns nothing; `symbols` is how many the density has seen, each in its context."""
        return state, {"symbols": jnp.sum(state.density.symbols > 0).astype(jnp.float32)}


@register_bonus("pseudo_count")
def pseudo_count(
    coefficient: float = 0.05, table_size: int = 1 << 20, bin_size: float = 0.1
) -> Scale:
    """Pseudo-count: `r = coefficient / sqrt(N^(s') + 0.01)`, N^ from a density over observations.

    Args:
        coefficient: a tenth of the bonus of what the density gives no probability at all.
        table_size: rows of each of its two tables, a power of two.
        bin_size: floats are rounded to multiples of it; so are pictures, scaled to [0, 1].

    Reference: Bellemare et al. (2016), Unifying count-based exploration and intrinsic motivation,
    arXiv:1606.01868.

    Deviations from the paper: cells are predicted from their left and upper neighbours by counts,
    not from four neighbours by context trees; the states episodes start in are not counted.
    """
    return Scale(PseudoCount(table_size, bin_size), coefficient)
