"""Cells: what counts as the same place, and which row of a table it is counted in."""

from __future__ import annotations

from typing import Literal, cast, final, get_args

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError, did_you_mean
from xplore.contracts.spaces import Discrete, Space
from xplore.contracts.types import EnvSpec, PyTree, Trajectory
from xplore.parts.hashing import avalanche, hash_pytree

CellKey = Literal[
    "position",
    "position+direction",
    "index",
    "observation",
    "observation+carry",
    "state",
    "position+action",
    "observation+action",
    "state+action",
]
CELL_KEYS: tuple[CellKey, ...] = get_args(CellKey)
_READS: dict[str, tuple[str, ...]] = {
    "position": ("position",),
    "direction": ("direction",),
    "index": ("index",),
    "observation": (),
    "carry": ("carrying",),
    "state": ("state",),
    "action": (),
}
_SPACES: dict[str, type[Space]] = {"position": Discrete, "direction": Discrete, "index": Discrete}
_NUM_DIRECTIONS = 4
_SALTS = (0, 0x5BD1E995, 0x27D4EB2F, 0x165667B1)


def available_keys(spec: EnvSpec) -> tuple[CellKey, ...]:
    """The keys an environment can be counted by."""
    return tuple(k for k in CELL_KEYS if all(_has(spec, name) for name in _reads(k)))


def _reads(key: str) -> tuple[str, ...]:
    return tuple(name for part in key.split("+") for name in _READS[part])


def _has(spec: EnvSpec, name: str) -> bool:
    if name not in spec.privileged:
        return False
    space = spec.privileged[name]
    if name == "direction" and space != Discrete(_NUM_DIRECTIONS):
        return False
    return isinstance(space, _SPACES.get(name, object))


def quantise(x: jax.Array, bin_size: float | jax.Array) -> jax.Array:
    """Floats as int32 multiples of `bin_size`, rounded; what is no float as it is.

    Rounded, not floored: 0 and the multiples of `bin_size` are middles of bins, not edges.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    bins = jnp.round(x.astype(jnp.float32) / bin_size)
    return jnp.clip(bins, -(2.0**30), 2.0**30).astype(jnp.int32)


def table_rows(hashed: jax.Array, num_tables: int, table_size: int) -> jax.Array:
    """Rows int32 `[K, ...]` in tables of `table_size` (a power of two) of uint32 hashes `[...]`.

    Each table mixes its own row from the hash: cells with equal rows in one table are independent
    in the next.
    """
    rows = [avalanche(hashed ^ jnp.uint32(salt)) for salt in _SALTS[:num_tables]]
    masked: jax.Array = jnp.stack(rows) & jnp.uint32(table_size - 1)
    return masked.astype(jnp.int32)


def check_table(table_size: int, num_tables: int) -> None:
    """Raises a ConfigError unless `table_rows` can work with these."""
    if table_size < 2 or table_size & (table_size - 1):
        raise ConfigError(f"table_size={table_size}: must be a power of two, at least 2")
    if not 1 <= num_tables <= len(_SALTS):
        raise ConfigError(f"num_tables={num_tables}: must be 1 to {len(_SALTS)}")


@final
@component
class Cells:
    """Maps a state to the rows of `num_tables` tables in which its visits are counted.

    * `position`: where the agent is; the row is the index itself, so counts are exact.
    * `position+direction`: where it is and which of four ways it faces; exact too.
    * `index`: the number of the state, in finite environments; exact too.
    * `observation`: what the agent sees.
    * `observation+carry`: what it sees and what it holds.
    * `state`: the whole state, also what the agent cannot see.
    * `position+action`, `observation+action`, `state+action`: a state and what was done in it.
      Such a cell is visited by acting: where an episode starts, nothing has been visited yet.

    All but the exact ones are hashed into `table_size` rows. States that share a row share a count,
    so that with n distinct cells a new one looks visited with probability n / table_size; the least
    of K tables (count-min) makes that its K-th power. A hash can only overstate a count.

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
        check_table(self.table_size, self.num_tables)
        if isinstance(self.bin_size, float) and not self.bin_size > 0:
            raise ConfigError(f"bin_size={self.bin_size}: must be above 0")

    def reads(self) -> tuple[str, ...]:
        """The privileged names this key needs."""
        return _reads(self.key)

    @property
    def of_actions(self) -> bool:
        """Whether a cell is a state together with what was done in it."""
        return self.key.endswith("+action")

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
        if self.key == "index":
            return 1, cast(Discrete, spec.privileged["index"]).num
        if self.key in ("position", "position+direction"):
            num = cast(Discrete, spec.privileged["position"]).num
            return 1, num if self.key == "position" else num * _NUM_DIRECTIONS
        return self.num_tables, self.table_size

    def rows(self, traj: Trajectory) -> tuple[jax.Array, jax.Array]:
        """Rows of the cells before and after each step: two int32 `[K, T, N]`.

        With an action in the key, "after" is the pair of `obs` and action, and "before" is out of
        the table, where no visit is counted.
        """
        if self.of_actions:
            rows = self._rows(traj.obs, traj.privileged, traj.action)
            return jnp.full_like(rows, self.table_size), rows
        before = self._rows(traj.obs, traj.privileged)
        return before, self._rows(traj.next_obs, traj.next_privileged)

    def hashed_rows(self, tree: PyTree) -> jax.Array:
        """Rows int32 `[K, T, N]` of anything with leaves `[T, N, ...]`, floats quantised."""
        cell = hash_pytree(jax.tree.map(lambda x: quantise(x, self.bin_size), tree), 2)
        return table_rows(cell, self.num_tables, self.table_size)

    def _rows(
        self, obs: PyTree, privileged: dict[str, jax.Array], action: PyTree = None
    ) -> jax.Array:
        if self.key in ("position", "index"):
            return privileged[self.key].astype(jnp.int32)[None]
        if self.key == "position+direction":
            place, way = (privileged[name].astype(jnp.int32) for name in self.reads())
            return (place * _NUM_DIRECTIONS + way)[None]
        seen = {name: privileged[name] for name in self.reads()}
        if self.key.startswith("observation"):
            seen["observation"] = obs
        if self.of_actions:
            seen["action"] = action
        return self.hashed_rows(seen)
