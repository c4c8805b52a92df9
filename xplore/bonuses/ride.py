"""RIDE: actions that move the embedding far are worth taking, to where this episode was not yet."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Normalise, Product, Scale
from xplore.bonuses.episodic_count import EpisodicCount
from xplore.contracts.component import component
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.cells import CellKey, Cells
from xplore.parts.dynamics import Dynamics
from xplore.parts.normalisers import NormaliserKind
from xplore.parts.predictors import Inputs


@final
@component
class Impact:
    """`r = |phi(o') - phi(o)|_2`, phi an embedding learned from what actions do.

    By itself it pays for ever for going to and fro between embeddings that are far apart.
    """

    dynamics: Dynamics = Dynamics("inverse+forward", forward=True)

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return self.dynamics.init(key, spec)

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        state = self.dynamics.observe(state, traj)
        before, after = (self.dynamics.embed(state, x) for x in (traj.obs, traj.next_obs))
        return state, jnp.linalg.norm(after - before, axis=-1)

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return self.dynamics.update(key, state, traj)


@register_bonus("ride")
def ride(
    coefficient: float = 0.1,
    key: CellKey = "observation",
    normaliser: NormaliserKind = "std",
    discount: float = 0.99,
    learning_rate: float = 1e-3,
    inverse_weight: float = 0.1,
    forward_weight: float = 10.0,
    hidden_size: int = 64,
    embedding_size: int = 32,
    update_fraction: float = 0.25,
    num_minibatches: int = 8,
    inputs: Inputs = "codes",
    table_size: int = 1 << 12,
    num_tables: int = 2,
    bin_size: float = 0.1,
) -> Scale:
    """RIDE: `r = coefficient * |phi(s') - phi(s)|_2 / sqrt(N_ep(s'))`, normalised.

    Args:
        coefficient: of the bonus, normalised or not.
        key: what is counted in an episode: a key of `xplore.parts.cells.Cells`.
        normaliser: brings the product to a common scale, or does not (`none`).
        discount: of the return that `return_std` divides by.
        learning_rate: of the Adam that trains phi and both models.
        inverse_weight: of the loss by which phi tells the action.
        forward_weight: of the loss by which phi is predicted.
        hidden_size: width of the networks.
        embedding_size: numbers of phi.
        update_fraction: part of each rollout they learn from.
        num_minibatches: gradient steps per rollout.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.
        table_size: rows of a hashed episodic table, a power of two, per env.
        num_tables: hashed tables, of which the least count holds.
        bin_size: floats are rounded to multiples of it before they are counted.

    Reference: Raileanu and Rocktaeschel (2020), RIDE: Rewarding impact-driven exploration for
    procedurally-generated environments, arXiv:2002.12292.

    Deviations from the paper: MLPs on standardised inputs for convolutions; divided by the running
    std, since the size of phi drifts; what is counted is what the agent sees, unless `key="state"`;
    an episode's first state is counted in that episode.
    """
    dynamics = Dynamics(
        "inverse+forward",
        forward=True,
        embedding_size=embedding_size,
        hidden_size=hidden_size,
        learning_rate=learning_rate,
        inverse_weight=inverse_weight,
        forward_weight=forward_weight,
        update_fraction=update_fraction,
        num_minibatches=num_minibatches,
        inputs=inputs,
    )
    episodic = EpisodicCount(Cells(key, table_size, num_tables, bin_size))
    return Scale(
        Normalise(Product((Impact(dynamics), episodic)), normaliser, discount), coefficient
    )
