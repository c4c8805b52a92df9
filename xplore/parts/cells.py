"""Cells: what counts as the same place, and which row of a table it is counted in."""

from __future__ import annotations

from typing import Literal, cast, final, get_args

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError, did_you_mean
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import EnvSpec, PyTree, Trajectory
from xplore.parts.hashing import avalanche, hash_pytree

CellKey = Literal["position", "observation", "observation+carry", "state"]
CELL_KEYS: tuple[CellKey, ...] = get_args(CellKey)
_READS: dict[str, tuple[str, ...]] = {
    "position": ("position",),
    "observation": (),
    "observation+carry": ("carrying",),
    "state": ("state",),
}
_SALTS = (0, 0x5BD1E995, 0x27D4EB2F, 0x165667B1)


def available_keys(spec: EnvSpec) -> tuple[CellKey, ...]:
    """The keys an environment can be counted by."""
    return tuple(k for k in CELL_KEYS if all(_has(spec, name) for name in _READS[k]))


def _has(spec: EnvSpec, name: str) -> bool:
    if name not in spec.privileged:
        return False
    return name != "position" or isinstance(spec.privileged[name], Discrete)


@final
@component
class Cells:
    """Maps a state to the rows of `num_tables` tables in which its visits are counted.

    * `position`: where the agent is; the row is the index itself, so counts are exact.
    * `observation`: what the agent sees.
    * `observation+carry`: what it sees and what it holds.
    * `state`: the whole state, also what the agent cannot see.

    All but `position` are hashed into `table_size` rows. States that share a row share a count, so
    that with n distinct cells a new one looks visited with probability n / table_size; the least of
    K tables (count-min) makes that its K-th power. A hash can only overstate a count.

    Floats are rounded to multiples of `bin_size`: exact floats hardly ever recur, and every count
    would be 1. Features that differ much in scale need a `bin_size` fit for the finest.

    Reference: Cormode and Muthukrishnan (2005), An improved data stream summary.
    """

    key: CellKey = "observation"
    table_size: int = 1 << 20
    num_tables: int = 2
    bin_size: float = 0.1

    def __post_init__(self) -> None:
        if self.key not in CELL_KEYS:
            raise ConfigError(
                f"unknown count key {self.key!r}{did_you_mean(str(self.key), CELL_KEYS)}"
                f" (keys: {', '.join(CELL_KEYS)})"
            )
        if self.table_size < 2 or self.table_size & (self.table_size - 1):
            raise ConfigError(f"table_size={self.table_size}: must be a power of two, at least 2")
        if not 1 <= self.num_tables <= len(_SALTS):
            raise ConfigError(f"num_tables={self.num_tables}: must be 1 to {len(_SALTS)}")
        if isinstance(self.bin_size, float) and not self.bin_size > 0:
            raise ConfigError(f"bin_size={self.bin_size}: must be above 0")

    def reads(self) -> tuple[str, ...]:
        """The privileged names this key needs."""
        return _READS[self.key]

    def table_shape(self, spec: EnvSpec) -> tuple[int, int]:
        """`(K, M)`: how many tables, and how many rows each.

        Raises:
            ConfigError: the environment lacks what the key needs; names the keys it has.
        """
        available = available_keys(spec)
        if self.key not in available:
            raise ConfigError(
                f"{spec.name} cannot be counted by key={self.key!r};"
                f" its keys: {', '.join(available)}"
            )
        if self.key == "position":
            return 1, cast(Discrete, spec.privileged["position"]).num
        return self.num_tables, self.table_size

    def rows(self, traj: Trajectory) -> tuple[jax.Array, jax.Array]:
        """Rows of the states before and after each step: two int32 `[K, T, N]`.

        A cell is hashed once to 32 bits, from which each table mixes its own row: cells with equal
        rows in one table are independent in the next.
        """
        before = self._rows(traj.obs, traj.privileged)
        return before, self._rows(traj.next_obs, traj.next_privileged)

    def _rows(self, obs: PyTree, privileged: dict[str, jax.Array]) -> jax.Array:
        if self.key == "position":
            return privileged["position"].astype(jnp.int32)[None]
        seen = {name: privileged[name] for name in self.reads()}
        if self.key != "state":
            seen["observation"] = obs
        cell = hash_pytree(jax.tree.map(self._quantise, seen), 2)
        rows = [avalanche(cell ^ jnp.uint32(salt)) for salt in _SALTS[: self.num_tables]]
        masked: jax.Array = jnp.stack(rows) & jnp.uint32(self.table_size - 1)
        return masked.astype(jnp.int32)

    def _quantise(self, x: jax.Array) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        # Rounded, not floored: 0 and the multiples of bin_size are middles of bins, not edges.
        bins = jnp.round(x.astype(jnp.float32) / self.bin_size)
        return jnp.clip(bins, -(2.0**30), 2.0**30).astype(jnp.int32)
