"""Go-Explore: the worlds to enter are states that were reached before."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, cast, final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_world_sampler
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import Environment, Key, LevelBatch, Metrics, PyTree, Trajectory
from xplore.parts.cells import check_table, quantise, table_rows
from xplore.parts.fitting import flatten_rollout
from xplore.parts.hashing import hash_pytree
from xplore.parts.levels import level_from_id, train_ids
from xplore.parts.restoring import NUM_STEPS, SCORE, SNAPSHOT, RestorableLevel, check_restorable

_OBSERVATION = "observation"
_MOST_EXACT = 1 << 16
_BIN_SIZE = 0.1
_MOST = np.int32(2**31 - 1)


class Archive(NamedTuple):
    """The best state known of each cell; leaves `[C, ...]`.

    Attributes:
        is_there: bool, whether the cell was reached.
        snapshot: uint8 `[C, bytes]`, its state with all actions since the start.
        obs: what is observed there.
        score: float32, the sum of rewards on the way there.
        num_steps: int32, the length of the way.
        seen: int32, how often the cell was visited.
        chosen: int32, how often an episode began there.
    """

    is_there: jax.Array
    snapshot: jax.Array
    obs: PyTree
    score: jax.Array
    num_steps: jax.Array
    seen: jax.Array
    chosen: jax.Array


class Best(NamedTuple):
    """The best episode that came to its end, from the level's start.

    Attributes:
        actions: uint8 `[max_steps]`.
        num_steps: int32 `[]`, how many of them there are; 0: no episode has ended.
        score: float32 `[]`.
        success: bool `[]`.
    """

    actions: jax.Array
    num_steps: jax.Array
    score: jax.Array
    success: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GoExploreState:
    """The one level, what is known of it, and how it was found.

    Attributes:
        level_id: uint32 `[]`.
        level: its start.
        archive: the cells.
        best: the best episode.
        env_steps: int32 `[]`, so far.
        solved_after: int32 `[]`, env steps when the first episode succeeded; -1: none has.
        sizes: of the privileged entries that number cells exactly; () where cells are hashed.
    """

    level_id: jax.Array
    level: RestorableLevel
    archive: Archive
    best: Best
    env_steps: jax.Array
    solved_after: jax.Array
    sizes: tuple[int, ...] = dataclasses.field(metadata={"static": True})


@register_world_sampler("go_explore")
@final
@component
class GoExplore:
    """Begins episodes in states reached before, of cells rarely seen. Restores states: privileged.

    One level, drawn from the seed as `fixed` with one level draws it. A cell is entered with a
    chance proportional to seen_weight / (seen + 1)^p + chosen_weight / (chosen + 1)^p. Of each the
    archive holds the state with the highest score, among those the one reached in fewest steps.
    What is done from there is up to the agent; the original's repeats random actions (`sticky`).

    For environments inside the wrapper `restorable`, whose `explore_steps` is how far an episode
    goes from the state it began in. `demonstration` gives the best episode's actions.

    Attributes:
        cell: what makes a state another cell: names of privileged entries joined by "+", or
            "observation".
        capacity: rows of a table that cells are hashed into, a power of two, where they are not
            numbered exactly: cells that share a row share a state. Entries that are all `Discrete`
            number up to 65,536 cells exactly.
        seen_weight, chosen_weight: see above.
        power: p, 0.5 in the paper. The larger, the more is explored from the cells found last.
        set_seed: None: each training seed has a level of its own; a number: all share that one.

    Reference: Ecoffet et al. (2021), First return, then explore, arXiv:2004.12919; weights by both
    counts: Ecoffet et al. (2019), Go-Explore, arXiv:1901.10995.
    Deviations from the paper: cells are chosen before a rollout, all of one rollout from the same
    weights; counts go on where a cell's state is replaced.
    """

    cell: str = "position+carrying"
    capacity: int = 1 << 12
    seen_weight: float = 1.0
    chosen_weight: float = 0.0
    power: float = 0.5
    set_seed: int | None = None

    def __post_init__(self) -> None:
        check_table(self.capacity, 1)
        if isinstance(self.seen_weight, float) and isinstance(self.chosen_weight, float):
            weights = (self.seen_weight, self.chosen_weight)
            if min(weights) < 0 or max(weights) <= 0:
                raise ConfigError(
                    f"go_explore: seen_weight and chosen_weight are {weights}: neither may be below"
                    " 0, and one must be above it"
                )

    def reads(self) -> tuple[str, ...]:
        cell = () if self.cell == _OBSERVATION else tuple(self.cell.split("+"))
        return tuple(dict.fromkeys((*cell, SNAPSHOT, NUM_STEPS, SCORE)))

    def init(self, key: Key, env: Environment) -> GoExploreState:
        check_restorable("go_explore", env)
        sizes = self._sizes(env)
        drawn = jax.random.bits(key, (), jnp.uint32)
        seed = drawn if self.set_seed is None else jnp.uint32(self.set_seed)
        level_id = train_ids(seed, jnp.zeros(1, jnp.uint32))[0]
        level: RestorableLevel = level_from_id(env, level_id)
        start, obs = env.reset_to_level(key, level)
        told = env.privileged(start)
        lead = jax.tree.map(lambda x: x[None], (obs, told))
        cell = self._cells(sizes, *lead)[0]
        num_cells = math.prod(sizes) if sizes else self.capacity

        def only(x: jax.Array) -> jax.Array:
            """`[C, ...]`, zero but for the cell of the start."""
            return jnp.zeros((num_cells, *x.shape), x.dtype).at[cell].set(x)

        count = jnp.zeros(num_cells, jnp.int32)
        archive = Archive(
            is_there=only(jnp.bool_(True)),
            snapshot=only(told[SNAPSHOT]),
            obs=jax.tree.map(only, obs),
            score=only(told[SCORE]),
            num_steps=only(told[NUM_STEPS]),
            seen=count,
            chosen=count,
        )
        actions = jnp.zeros(env.spec().max_steps, jnp.uint8)
        none = Best(actions, jnp.int32(0), jnp.float32(-jnp.inf), jnp.bool_(False))
        return GoExploreState(level_id, level, archive, none, jnp.int32(0), jnp.int32(-1), sizes)

    def sample(
        self, key: Key, state: GoExploreState, env: Environment, num_levels: int
    ) -> tuple[GoExploreState, LevelBatch]:
        known = state.archive
        weight = self.seen_weight * (known.seen + 1.0) ** -self.power
        weight += self.chosen_weight * (known.chosen + 1.0) ** -self.power
        cell = _draw(key, jnp.where(known.is_there, weight, 0.0), num_levels)

        def same(x: jax.Array) -> jax.Array:
            return jnp.broadcast_to(x, (num_levels, *x.shape))

        levels = RestorableLevel(
            inner=jax.tree.map(same, state.level.inner),
            restored=jnp.ones(num_levels, bool),
            snapshot=known.snapshot[cell],
            obs=jax.tree.map(lambda x: x[cell], known.obs),
        )
        # An id names one state of one level; the top bit stays clear: never a held-out one.
        ids = hash_pytree((levels.snapshot, same(state.level_id)), 1) >> 1
        return state, LevelBatch(levels, ids)

    def update(
        self, state: GoExploreState, batch: LevelBatch, traj: Trajectory
    ) -> tuple[GoExploreState, Metrics]:
        known = state.archive
        before = self._cells(state.sizes, *flatten_rollout((traj.obs, traj.privileged)))
        obs, told = flatten_rollout((traj.next_obs, traj.next_privileged))
        cell = self._cells(state.sizes, obs, told)
        at_limit = told[NUM_STEPS] >= state.best.actions.shape[0]
        ended = traj.terminated.reshape(-1) | at_limit
        archive = _archive(known, cell, obs, told, ~ended)._replace(
            seen=known.seen.at[cell].add(1),
            chosen=known.chosen.at[before].add(traj.first.reshape(-1).astype(jnp.int32)),
        )
        success = traj.info["success"].reshape(-1)
        num_steps, num_envs = traj.reward.shape
        when = state.env_steps + (jnp.argmax(success) // num_envs + 1) * num_envs
        is_first = jnp.any(success) & (state.solved_after < 0)
        state = dataclasses.replace(
            state,
            archive=archive,
            best=_better(state.best, told, ended, success),
            env_steps=state.env_steps + num_steps * num_envs,
            solved_after=jnp.where(is_first, when, state.solved_after).astype(jnp.int32),
        )
        metrics = {
            "cells": jnp.sum(archive.is_there),
            "solved_after": state.solved_after,
            "best_score": jnp.where(state.best.num_steps > 0, state.best.score, 0.0),
            "best_steps": state.best.num_steps,
        }
        return state, metrics

    def _sizes(self, env: Environment) -> tuple[int, ...]:
        """Of the entries that make a cell, if they number cells exactly."""
        told = env.spec().privileged
        if self.cell == _OBSERVATION:
            return ()
        for name in self.cell.split("+"):
            if name not in told:
                raise ConfigError(
                    f"go_explore: cell is {self.cell!r}, and {env.spec().name} does not tell"
                    f" {name!r}: join names out of {', '.join(told.names)}, or use 'observation'"
                )
        spaces = [told[name] for name in self.cell.split("+")]
        sizes = tuple(space.num for space in spaces if isinstance(space, Discrete))
        is_exact = len(sizes) == len(spaces) and math.prod(sizes) <= _MOST_EXACT
        return sizes if is_exact else ()

    def _cells(self, sizes: tuple[int, ...], obs: PyTree, told: dict[str, Any]) -> jax.Array:
        """The cells of states, int32 `[M]`."""
        if self.cell == _OBSERVATION:
            parts: PyTree = jax.tree.map(lambda x: quantise(x, _BIN_SIZE), obs)
        else:
            names = self.cell.split("+")
            parts = [quantise(told[name], _BIN_SIZE) for name in names]
            if sizes:
                number = jnp.zeros_like(parts[0], jnp.int32)
                for part, size in zip(parts, sizes, strict=True):
                    number = number * size + part.astype(jnp.int32)
                return number
        return table_rows(hash_pytree(parts, 1, 2), 1, self.capacity)[0]


def _draw(key: Key, weight: jax.Array, num: int) -> jax.Array:
    """Cells int32 `[num]`, each with a chance proportional to its weight `[C]`."""
    # One uniform number a draw: `categorical` takes one for every cell too.
    total = jnp.cumsum(weight)
    at = jnp.searchsorted(total, jax.random.uniform(key, (num,)) * total[-1], side="right")
    last = jnp.max(jnp.where(weight > 0, jnp.arange(weight.size), 0))
    return jnp.minimum(at, last).astype(jnp.int32)


def _least(among: jax.Array, value: jax.Array, cell: jax.Array, num_cells: int) -> jax.Array:
    """The least value of the rows `among` in each cell, `[C]`; the largest int32 where none is."""
    return jnp.full(num_cells, _MOST).at[cell].min(jnp.where(among, value, _MOST))


def _archive(
    known: Archive, cell: jax.Array, obs: PyTree, told: dict[str, jax.Array], valid: jax.Array
) -> Archive:
    """The archive after states `[M]` were reached, of which only the valid ones can go on."""
    num_cells, row = known.score.size, jnp.arange(cell.size)
    score, num_steps = told[SCORE], told[NUM_STEPS]
    highest = jnp.full(num_cells, -jnp.inf).at[cell].max(jnp.where(valid, score, -jnp.inf))
    among = valid & (score == highest[cell])
    fewest = _least(among, num_steps, cell, num_cells)
    among &= num_steps == fewest[cell]
    among &= row == _least(among, row, cell, num_cells)[cell]
    old_score, old_steps = known.score[cell], known.num_steps[cell]
    is_better = (score > old_score) | ((score == old_score) & (num_steps < old_steps))
    among &= ~known.is_there[cell] | is_better
    place = jnp.where(among, cell, num_cells)  # out of range: dropped

    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[place].set(new, mode="drop")

    return known._replace(
        is_there=put(known.is_there, among),
        snapshot=put(known.snapshot, told[SNAPSHOT]),
        obs=jax.tree.map(put, known.obs, obs),
        score=put(known.score, score),
        num_steps=put(known.num_steps, num_steps),
    )


def _better(best: Best, told: dict[str, jax.Array], ended: jax.Array, success: jax.Array) -> Best:
    """The best of an episode and those that ended in states `[M]`."""
    score = jnp.where(ended, told[SCORE], -jnp.inf)
    highest = jnp.max(score)
    among = ended & (score == highest)
    row = jnp.argmin(jnp.where(among, told[NUM_STEPS], _MOST))
    steps = told[NUM_STEPS][row]
    actions = told[SNAPSHOT][row, : best.actions.size]  # the first bytes of a snapshot
    is_better = (highest > best.score) | ((highest == best.score) & (steps < best.num_steps))
    new = Best(actions, steps, highest, success[row])
    return cast(Best, jax.tree.map(lambda x, y: jnp.where(is_better, x, y), new, best))


def demonstration(state: GoExploreState) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Level id `[1]`, actions int32 `[1, max_steps]` and their number `[1]` of the best episode.

    They are what `xplore.record_plans` takes, in the environment without its wrapper.

    Raises:
        ConfigError: no episode has come to its end.
    """
    if int(state.best.num_steps) < 1:
        raise ConfigError("go_explore: no episode has come to its end: explore for longer")
    best = state.best
    return state.level_id[None], best.actions[None].astype(jnp.int32), best.num_steps[None]
