"""NovelD: worth seeing is what lies just beyond the border of the known."""

from __future__ import annotations

from typing import Protocol, final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import FirstVisit, Normalise, Scale
from xplore.bonuses.rnd import RND
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.cells import CellKey, Cells
from xplore.parts.counts import count_transitions, init_counts
from xplore.parts.normalisers import NormaliserKind
from xplore.parts.predictors import Inputs


class Novelty(Protocol):
    """What can say how new both ends of a step are; else as a bonus."""

    def reads(self) -> tuple[str, ...]: ...

    def init(self, key: Key, spec: RunSpec) -> PyTree: ...

    def novelties(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array, jax.Array]:
        """Returns `(state, n(s), n(s'))`, the novelties `[T, N]`."""
        ...

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]: ...


@final
@component
class CountNovelty:
    """`n(s) = N(s)^-power`, N lifelong, both ends of a step counted after it."""

    cells: Cells = Cells()
    power: float = 0.5

    def __post_init__(self) -> None:
        if self.cells.of_actions:
            raise ConfigError(
                f"noveld_tabular(key={self.cells.key!r}): states are compared; choose a key"
                " without '+action'"
            )

    def reads(self) -> tuple[str, ...]:
        return self.cells.reads()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return init_counts(*self.cells.table_shape(spec.env))

    def novelties(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array, jax.Array]:
        state, before, after = count_transitions(state, *self.cells.rows(traj), traj.first)
        # The first steps of a run may go on in an episode whose start was never counted.
        old, new = (jnp.maximum(n, 1).astype(jnp.float32) ** -self.power for n in (before, after))
        return state, old, new

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return state, {"cells": jnp.sum(state[0] > 0).astype(jnp.float32)}


@final
@component
class NovelD:
    """`r = max(n(s') - alpha n(s), 0)`, n a novelty, without the gate of first visits.

    s is always the state the step was taken in: at an episode's start its first state, not the last
    one of the episode before.
    """

    novelty: Novelty
    alpha: float = 0.5

    def reads(self) -> tuple[str, ...]:
        return self.novelty.reads()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return self.novelty.init(key, spec)

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        state, before, after = self.novelty.novelties(state, traj)
        return state, jnp.maximum(after - self.alpha * before, 0.0)

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return self.novelty.update(key, state, traj)


@register_bonus("noveld")
def noveld(
    coefficient: float = 0.05,
    alpha: float = 0.5,
    key: CellKey = "observation",
    normaliser: NormaliserKind = "none",
    discount: float = 0.99,
    learning_rate: float = 1e-3,
    hidden_size: int = 64,
    embedding_size: int = 32,
    extra_layers: int = 1,
    update_fraction: float = 0.25,
    num_minibatches: int = 8,
    inputs: Inputs = "codes",
    table_size: int = 1 << 12,
    num_tables: int = 2,
    bin_size: float = 0.1,
) -> Scale:
    """NovelD: `r = coefficient * max(n(s') - alpha n(s), 0) * 1{N_ep(s') = 1}`.

    n is the root mean square error of a random network distillation.

    Args:
        coefficient: of the bonus, normalised or not.
        alpha: how much of the novelty of where one comes from is taken off.
        key: what the first visit of an episode is one of: a key of `xplore.parts.cells.Cells`.
        normaliser: brings the gated difference to a common scale, or does not.
        discount: of the return that `return_std` divides by.
        learning_rate: of the predictor's Adam.
        hidden_size: width of both networks.
        embedding_size: what they output.
        extra_layers: hidden layers the predictor has beyond the target's one.
        update_fraction: part of each rollout the predictor learns from.
        num_minibatches: gradient steps per rollout.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.
        table_size: rows of a hashed episodic table, a power of two, per env.
        num_tables: hashed tables, of which the least count holds.
        bin_size: floats are rounded to multiples of it before they are counted.

    Reference: Zhang et al. (2021), NovelD: A simple yet effective exploration criterion, NeurIPS.

    Deviations from the paper: networks and their training as in `rnd`, its inputs standardised;
    novelty is the l2 norm of the error over the root of its size. The first visit is of what
    the agent sees, unless `key="state"`; the paper counts what it does not see.
    """
    novelty = RND(
        hidden_size=hidden_size,
        embedding_size=embedding_size,
        extra_layers=extra_layers,
        learning_rate=learning_rate,
        update_fraction=update_fraction,
        num_minibatches=num_minibatches,
        inputs=inputs,
    )
    gated = FirstVisit(NovelD(novelty, alpha), Cells(key, table_size, num_tables, bin_size))
    return Scale(Normalise(gated, normaliser, discount), coefficient)


@register_bonus("noveld_tabular")
def noveld_tabular(
    coefficient: float = 0.1,
    alpha: float = 0.5,
    power: float = 0.5,
    key: CellKey = "observation",
    table_size: int = 1 << 20,
    episodic_table_size: int = 1 << 12,
    num_tables: int = 2,
    bin_size: float = 0.1,
) -> Scale:
    """NovelD by counts: `r = coefficient max(N(s')^-power - alpha N(s)^-power, 0) 1{N_ep(s') = 1}`.

    Args:
        coefficient: of the bonus.
        alpha: how much of the novelty of where one comes from is taken off; 1 in BeBold.
        power: of the counts; 1 in BeBold.
        key: what is counted: a key of `xplore.parts.cells.Cells`, without an action.
        table_size: rows of a hashed lifelong table, a power of two.
        episodic_table_size: rows of a hashed episodic table, a power of two, per env.
        num_tables: hashed tables, of which the least count holds.
        bin_size: floats are rounded to multiples of it before they are counted.

    References: Zhang et al. (2020), BeBold: Exploration beyond the boundary of explored regions,
    arXiv:2012.08621; Zhang et al. (2021), NovelD, NeurIPS.

    Deviations from the papers: counts where they use the errors of a network; the rate of counts
    is that of an error that falls as `N^-1/2`.
    """
    novelty = CountNovelty(Cells(key, table_size, num_tables, bin_size), power)
    episodic = Cells(key, episodic_table_size, num_tables, bin_size)
    return Scale(FirstVisit(NovelD(novelty, alpha), episodic), coefficient)
