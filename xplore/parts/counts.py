"""Visit counts, lifelong and episodic, exact in time order.

Both walk a rollout step by step, since what a visit is worth depends on the visits before it. A
scatter into a table costs 3 to 33 ns per env step on a CPU, from 64 to a million rows; comparing
with every row costs 26 to 156 ns at 64 to 256 rows, and sorting the rollout 360 ns. Tables are a
tuple, not one array: slicing and stacking them would copy megabytes at every rollout.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from xplore.contracts.errors import ConfigError

Tables = tuple[jax.Array, ...]


def init_counts(num_tables: int, num_rows: int) -> Tables:
    """K empty lifelong tables: uint32 `[M]`, shared by all envs."""
    return tuple(jnp.zeros((num_rows,), jnp.uint32) for _ in range(num_tables))


def init_decayed_counts(num_tables: int, num_rows: int) -> Tables:
    """As `init_counts`, but float32: for counts that are scaled down now and then."""
    return tuple(jnp.zeros((num_rows,), jnp.float32) for _ in range(num_tables))


def count_visits(
    tables: Tables, before: jax.Array, after: jax.Array, first: jax.Array
) -> tuple[Tables, jax.Array]:
    """Counts a rollout's visits, and says how often each state reached had been visited then.

    The state an episode starts in is visited too. Visits of all envs at one time step happen at
    once: two envs that reach a new state together both find a count of 2.

    Args:
        tables: K of uint32 (or float32) `[M]`.
        before: int32 `[K, T, N]`, rows of `obs`; read where `first`.
        after: int32 `[K, T, N]`, rows of `next_obs`.
        first: bool `[T, N]`.

    Returns:
        The tables, and counts of their dtype `[T, N]`: N(s') after the visit, the least over the K
        tables.
    """
    tables, counts = _count(tables, before, after, first, (after,))
    return tables, counts[0]


def count_transitions(
    tables: Tables, before: jax.Array, after: jax.Array, first: jax.Array
) -> tuple[Tables, jax.Array, jax.Array]:
    """As `count_visits`, but returns `(tables, N(s), N(s'))`, both after the visit of s'."""
    tables, counts = _count(tables, before, after, first, (before, after))
    return tables, counts[0], counts[1]


def _count(
    tables: Tables,
    before: jax.Array,
    after: jax.Array,
    first: jax.Array,
    asked: tuple[jax.Array, ...],
) -> tuple[Tables, list[jax.Array]]:
    def step(table: jax.Array, rows: tuple[jax.Array, ...]) -> tuple[jax.Array, list[jax.Array]]:
        start_t, after_t, *asked_t = rows
        one = jnp.ones((), table.dtype)
        table = table.at[jnp.concatenate([start_t, after_t])].add(one, mode="drop")
        return table, [table[row] for row in asked_t]

    # One scan a table rather than a vmap over them: batched scatters are slower.
    counted, counts = [], []
    for k, table in enumerate(tables):
        start = jnp.where(first, before[k], table.size)  # out of range: dropped
        table, count = jax.lax.scan(step, table, (start, after[k], *(rows[k] for rows in asked)))
        counted.append(table)
        counts.append(count)
    return tuple(counted), [jnp.min(jnp.stack(c), axis=0) for c in zip(*counts, strict=True)]


_COUNT_BITS = 12
_MOST = (1 << _COUNT_BITS) - 1
_MOST_ENTRIES = 1 << 31


class EpisodeCounts(NamedTuple):
    """Counts of each env's current episode.

    Attributes:
        tables: K of uint32 `[N * M]`, M rows an env; an entry is the episode it belongs to (20
            bits) and a count (12).
        episode: uint32 `[N]`, the running number of each env's episode, modulo 2^20.
        start: int32 `[K, N]`, the rows of the state its episode started in.
    """

    tables: Tables
    episode: jax.Array
    start: jax.Array


def init_episode_counts(num_tables: int, num_envs: int, num_rows: int) -> EpisodeCounts:
    """Memories in which nothing has been visited.

    Raises:
        ConfigError: the tables of all envs together have more entries than an int32 can address.
    """
    if num_envs * num_rows >= _MOST_ENTRIES:
        raise ConfigError(
            f"episodic counts of {num_envs} envs x {num_rows} rows are too many for one table:"
            f" table_size must be below {_MOST_ENTRIES // num_envs}"
        )
    return EpisodeCounts(
        tables=tuple(jnp.zeros((num_envs * num_rows,), jnp.uint32) for _ in range(num_tables)),
        episode=jnp.zeros((num_envs,), jnp.uint32),
        start=jnp.full((num_tables, num_envs), -1, jnp.int32),
    )


def count_episode_visits(
    memory: EpisodeCounts, before: jax.Array, after: jax.Array, first: jax.Array
) -> tuple[EpisodeCounts, jax.Array]:
    """As `count_visits`, but per env and for the current episode only; saturates at 4,095.

    The state an episode starts in counts as visited once. Forgetting costs nothing: an entry of
    another episode is read as 0 (were it exactly 2^20 episodes old, it would pass for new).

    Returns:
        The memory, and uint32 `[T, N]`: N_ep(s') after the visit, the least over the K tables.
    """
    num_envs = first.shape[1]
    env = jnp.arange(num_envs, dtype=jnp.int32)
    starts = first.astype(jnp.uint32)
    episode = (memory.episode[None] + jnp.cumsum(starts, axis=0)) & jnp.uint32((1 << 20) - 1)

    def step(
        carry: tuple[jax.Array, jax.Array], x: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        table, start = carry
        before_t, after_t, first_t, episode_t = x
        start = jnp.where(first_t, before_t, start)
        place = env * (table.size // num_envs) + after_t
        entry = table[place]
        known = (entry >> _COUNT_BITS) == episode_t
        count = jnp.where(known, entry & jnp.uint32(_MOST), jnp.uint32(0)) + jnp.uint32(1)
        count = jnp.minimum(count, jnp.uint32(_MOST))
        entry = (episode_t << _COUNT_BITS) | count
        table = table.at[place].set(entry, unique_indices=True)
        # The start is remembered apart: entering it would take a second scatter every step.
        return (table, start), count + (after_t == start).astype(jnp.uint32)

    tables, last_starts, counts = [], [], []
    for k, table in enumerate(memory.tables):
        x = (before[k], after[k], first, episode)
        (table, start), count = jax.lax.scan(step, (table, memory.start[k]), x)
        tables.append(table)
        last_starts.append(start)
        counts.append(count)
    memory = EpisodeCounts(tuple(tables), episode[-1], jnp.stack(last_starts))
    return memory, jnp.min(jnp.stack(counts), axis=0)
