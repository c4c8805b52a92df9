"""SimHash counts: observations on the same sides of random planes count as one."""

from __future__ import annotations

import dataclasses
from typing import final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Scale
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.blocks import map_time
from xplore.parts.cells import check_table, table_rows
from xplore.parts.counts import Tables, count_visits, init_counts
from xplore.parts.hashing import hash_words
from xplore.parts.inputs import InputState, init_inputs, inputs_of, num_inputs, observe_inputs
from xplore.parts.predictors import Inputs


@final
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SimHashState:
    """The inputs, the normals of the planes `[D, num_bits]`, and the counts of codes."""

    inputs: InputState
    planes: jax.Array
    tables: Tables


@final
@component
class SimHash:
    """`r = 1 / sqrt(N(code(s')))`, `code(s) = sign(A x(s))` with A random normal, of `num_bits`.

    Few bits merge what is similar, many tell apart whatever differs. Inputs x are standardised by
    the moments of the first rollout, which then stay: were they to move, so would the codes, and
    what was counted would be new again.
    """

    num_bits: int = 32
    table_size: int = 1 << 20
    num_tables: int = 2
    inputs: Inputs = "codes"

    def __post_init__(self) -> None:
        if self.num_bits < 1:
            raise ConfigError(f"simhash(num_bits={self.num_bits}): must be at least 1")
        check_table(self.table_size, self.num_tables)

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        inputs_key, planes_key = jax.random.split(key)
        inputs = init_inputs(inputs_key, spec.env.observation, self.inputs)
        planes = jax.random.normal(planes_key, (num_inputs(inputs), self.num_bits))
        return SimHashState(inputs, planes, init_counts(self.num_tables, self.table_size))

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        moments = state.inputs.moments
        assert moments is not None
        seen = observe_inputs(state.inputs, traj.next_obs)
        inputs = jax.tree.map(
            lambda old, new: jnp.where(moments.total > 0, old, new), state.inputs, seen
        )
        state = dataclasses.replace(state, inputs=inputs)
        before, after = (self._rows(state, obs) for obs in (traj.obs, traj.next_obs))
        tables, counts = count_visits(state.tables, before, after, traj.first)
        r_int = jax.lax.rsqrt(counts.astype(jnp.float32))
        return dataclasses.replace(state, tables=tables), r_int

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        """Learns nothing; `codes` is how many were seen so far."""
        return state, {"codes": jnp.sum(state.tables[0] > 0).astype(jnp.float32)}

    def _rows(self, state: SimHashState, obs: PyTree) -> jax.Array:
        def code(obs: PyTree) -> jax.Array:
            side = inputs_of(state.inputs, obs) @ state.planes > 0
            packed = jnp.packbits(side, axis=-1).astype(jnp.uint32)
            return hash_words(packed)

        hashed = map_time(code, obs, state.planes.shape[0] + self.num_bits)
        return table_rows(hashed, self.num_tables, self.table_size)


@register_bonus("simhash")
def simhash(
    coefficient: float = 0.01,
    num_bits: int = 32,
    table_size: int = 1 << 20,
    num_tables: int = 2,
    inputs: Inputs = "codes",
) -> Scale:
    """SimHash count: `r = coefficient / sqrt(N(sign(A x(s'))))`.

    Args:
        coefficient: the bonus of a code that is seen for the first time.
        num_bits: planes; more of them tell apart more.
        table_size: rows of a table of counts, a power of two.
        num_tables: tables, of which the least count holds.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.

    Reference: Tang et al. (2017), #Exploration, arXiv:1611.04717.

    Deviations from the paper: inputs are standardised, by the first rollout; no autoencoder.
    """
    return Scale(SimHash(num_bits, table_size, num_tables, inputs), coefficient)
