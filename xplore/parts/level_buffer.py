"""A buffer of levels worth entering again, with the distribution they are replayed by."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.errors import ConfigError, check_least
from xplore.contracts.types import Environment, Key, LevelBatch, Metrics, PyTree, Trajectory
from xplore.parts.level_scores import LevelScore, Tally, add_rollout, empty_tally, scored
from xplore.parts.play import select

Prioritisation = Literal["rank", "proportional"]
NO_LEVEL = np.uint32(0xFFFFFFFF)  # the id of an empty place: that of no training level


class Buffer(NamedTuple):
    """L places for levels.

    Attributes:
        level_id: uint32 `[L]`; `NO_LEVEL` where there is none.
        levels: leaves `[L, ...]`.
        score: float32 `[L]`, meaningful where `is_scored`.
        is_scored: bool `[L]`, an episode was finished there.
        last_entered: int32 `[L]`, the rollout.
        tally: since the last score.
        now: int32 `[]`, rollouts so far.
        tried_steps: float32 `[]`, steps spent on scoring before the last rollout.
    """

    level_id: jax.Array
    levels: PyTree
    score: jax.Array
    is_scored: jax.Array
    last_entered: jax.Array
    tally: Tally
    now: jax.Array
    tried_steps: jax.Array


class Replays(Protocol):
    """The options of a sampler that replays levels: what a buffer is weighed by."""

    @property
    def buffer_size(self) -> int: ...
    @property
    def prioritisation(self) -> Prioritisation: ...
    @property
    def temperature(self) -> float: ...
    @property
    def staleness(self) -> float: ...


def check_buffer(sampler: str, options: Replays) -> None:
    """Refuses numbers that no buffer could have, with a ConfigError."""
    prioritisation, temperature = options.prioritisation, options.temperature
    staleness = options.staleness
    check_least(sampler, options, buffer_size=1)
    if prioritisation not in ("rank", "proportional"):
        raise ConfigError(
            f"{sampler}: prioritisation is {prioritisation!r}: it must be 'rank' or 'proportional'"
        )
    if isinstance(temperature, float) and temperature <= 0:
        raise ConfigError(f"{sampler}: temperature is {temperature}: it must be above 0")
    if isinstance(staleness, float) and not 0 <= staleness <= 1:
        raise ConfigError(f"{sampler}: staleness is {staleness}: it must be from 0 to 1")


def empty_buffer(env: Environment, size: int) -> Buffer:
    """A buffer without levels."""
    level = jax.eval_shape(env.sample_level, jax.random.key(0))

    def places(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            keys = jax.random.split(jax.random.key(0), size)
            return jnp.broadcast_to(keys.reshape(size, *[1] * len(leaf.shape)), (size, *leaf.shape))
        return jnp.zeros((size, *leaf.shape), leaf.dtype)

    zeros = jnp.zeros(size, jnp.int32)
    return Buffer(
        level_id=jnp.full(size, NO_LEVEL, jnp.uint32),
        levels=jax.tree.map(places, level),
        score=jnp.zeros(size, jnp.float32),
        is_scored=jnp.zeros(size, bool),
        last_entered=zeros,
        tally=empty_tally(size),
        now=jnp.int32(0),
        tried_steps=jnp.float32(0),
    )


def replay_weights(
    buffer: Buffer,
    *,
    prioritisation: Prioritisation,
    temperature: float | jax.Array,
    staleness: float | jax.Array,
) -> jax.Array:
    """P = (1 - rho) P_S + rho P_C over the scored levels, `[L]`; zeros where none is.

    P_S is proportional to `rank^(-1 / beta)` (the highest score has rank 1) or to
    `score^(1 / beta)`, P_C to the rollouts since the level was last entered; beta the temperature,
    rho the staleness.

    Reference: Jiang, Grefenstette and Rocktaeschel (2021), Prioritized level replay,
    arXiv:2010.03934.
    """
    there = buffer.is_scored
    if prioritisation == "rank":
        order = jnp.argsort(jnp.where(there, -buffer.score, jnp.inf), stable=True)
        size = buffer.score.shape[0]
        rank = jnp.zeros(size, jnp.float32).at[order].set(jnp.arange(1.0, size + 1.0))
        by_score = jnp.exp(-jnp.log(rank) / temperature)
    else:
        positive = jnp.where(there, jnp.maximum(buffer.score, 0.0), 0.0)
        top = jnp.maximum(jnp.max(positive), 1e-12)
        # The power of what is at most 1: neither 0 for all nor infinite.
        by_score = jnp.exp(jnp.log(jnp.maximum(positive / top, 1e-12)) / temperature)
    by_score = _normalised(by_score, there)
    by_age = _normalised((buffer.now - buffer.last_entered).astype(jnp.float32), there)
    return (1.0 - staleness) * by_score + staleness * by_age


def _normalised(weight: jax.Array, there: jax.Array) -> jax.Array:
    """`weight` over its sum among those `there`; uniform over them where that is 0."""
    weight = jnp.where(there, weight, 0.0)
    weight = jnp.where(jnp.sum(weight) > 0, weight, there.astype(jnp.float32))
    return weight / jnp.maximum(jnp.sum(weight), 1e-30)


def draw(key: Key, weights: jax.Array, num: int) -> jax.Array:
    """Places int32 `[num]` drawn by `weights` `[L]`, with replacement."""
    total = jnp.cumsum(weights)
    at = jax.random.uniform(key, (num,)) * total[-1]
    return jnp.clip(jnp.searchsorted(total, at, side="right"), 0, weights.shape[0] - 1)


def levels_at(buffer: Buffer, place: jax.Array) -> LevelBatch:
    """The levels at places `[n]`."""
    return LevelBatch(jax.tree.map(lambda x: x[place], buffer.levels), buffer.level_id[place])


def replayed(key: Key, buffer: Buffer, spare: LevelBatch, options: Replays) -> LevelBatch:
    """As many levels of the buffer as there are in `spare`, or that where nothing is scored yet."""
    weights = replay_weights(
        buffer, prioritisation=options.prioritisation, temperature=options.temperature,
        staleness=options.staleness,
    )  # fmt: skip
    num = spare.level_id.shape[0]
    nothing = jnp.broadcast_to(~jnp.any(buffer.is_scored), num)
    return LevelBatch(*select(nothing, spare, levels_at(buffer, draw(key, weights, num))))


def find(buffer: Buffer, level_id: jax.Array) -> jax.Array:
    """The places int32 of ids of any shape; L for those that are not in the buffer."""
    order = jnp.argsort(buffer.level_id)
    known = buffer.level_id[order]
    at = jnp.clip(jnp.searchsorted(known, level_id), 0, known.shape[0] - 1)
    return jnp.where(known[at] == level_id, order[at], known.shape[0]).astype(jnp.int32)


def reserve(buffer: Buffer, batch: LevelBatch) -> Buffer:
    """Makes places for levels that have yet to be played, at the cost of the least valued.

    First go empty places, then levels that were never entered, then the lowest scores, and last
    those that are being played.
    """
    entered = buffer.tally.steps > 0
    value = jnp.where(buffer.is_scored, 2, jnp.where(entered, 3, 1))
    value = jnp.where(buffer.level_id == NO_LEVEL, 0, value)
    place = jnp.lexsort((buffer.score, value))[: batch.level_id.shape[0]]
    known = find(buffer, batch.level_id) < buffer.score.shape[0]
    place = jnp.where(known | _repeated(batch.level_id), buffer.score.shape[0], place)
    return _put(buffer, place, batch, jnp.zeros(batch.level_id.shape), jnp.zeros((), bool))


def insert(buffer: Buffer, batch: LevelBatch, score: jax.Array, tally: Tally) -> Buffer:
    """Puts in scored levels `[n]` where they are worth more than what is there.

    The best of both are kept. A level that is there already stays as it is.
    """
    size = buffer.score.shape[0]
    known = (find(buffer, batch.level_id) < size) | _repeated(batch.level_id)
    score = jnp.where(known | ~jnp.isfinite(score), -jnp.inf, score)
    num = min(score.shape[0], size)
    # The i-th best of the new against the i-th worst of the old: that leaves the best of all.
    best = jnp.argsort(-score, stable=True)[:num]
    old = jnp.where(buffer.is_scored, buffer.score, -jnp.inf)
    worst = jnp.lexsort((old, buffer.level_id != NO_LEVEL))[:num]
    better = (score[best] > old[worst]) & jnp.isfinite(score[best])
    place = jnp.where(better, worst, size)
    chosen = jax.tree.map(lambda x: x[best], batch)
    buffer = _put(buffer, place, chosen, score[best], jnp.ones((), bool))
    kept = buffer.tally._replace(
        best=buffer.tally.best.at[place].set(tally.best[best], mode="drop"),
        episodes=buffer.tally.episodes.at[place].set(tally.episodes[best], mode="drop"),
        successes=buffer.tally.successes.at[place].set(tally.successes[best], mode="drop"),
    )
    return buffer._replace(tally=kept)


def _repeated(level_id: jax.Array) -> jax.Array:
    """Whether the same id stands earlier in `[n]`."""
    order = jnp.argsort(level_id, stable=True)
    ordered = level_id[order]
    same = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] == ordered[:-1]])
    return jnp.zeros(level_id.shape, bool).at[order].set(same)


def _put(
    buffer: Buffer, place: jax.Array, batch: LevelBatch, score: jax.Array, is_scored: jax.Array
) -> Buffer:
    def put(old: jax.Array, new: jax.Array) -> jax.Array:
        return old.at[place].set(new, mode="drop")

    return buffer._replace(
        level_id=put(buffer.level_id, batch.level_id),
        levels=jax.tree.map(put, buffer.levels, batch.levels),
        score=put(buffer.score, score),
        is_scored=put(buffer.is_scored, jnp.broadcast_to(is_scored, place.shape)),
        last_entered=put(buffer.last_entered, jnp.broadcast_to(buffer.now, place.shape)),
        tally=jax.tree.map(put, buffer.tally, empty_tally(place.shape[0])),
    )


def learn(buffer: Buffer, traj: Trajectory, scores: jax.Array, score: LevelScore) -> Buffer:
    """Takes a rollout `[T, N]` into account; `scores` `[T, N]` are those of its steps."""
    tally, entered, finished = add_rollout(buffer.tally, find(buffer, traj.level_id), traj, scores)
    now = buffer.now + 1
    fresh = jnp.zeros_like(tally.steps)
    return buffer._replace(
        score=jnp.where(finished, scored(score, tally), buffer.score),
        is_scored=buffer.is_scored | finished,
        last_entered=jnp.where(entered, now, buffer.last_entered),
        tally=tally._replace(
            steps=jnp.where(finished, fresh, tally.steps),
            total=jnp.where(finished, fresh, tally.total),
        ),
        now=now,
    )


def metrics_of(buffer: Buffer) -> Metrics:
    """What scoring took, how full the buffer is, and its mean score (0 where nothing is scored)."""
    count = jnp.sum(buffer.is_scored)
    total = jnp.sum(jnp.where(buffer.is_scored, buffer.score, 0.0))
    return {
        "scoring_steps": buffer.tried_steps,
        "filled": count / buffer.score.shape[0],
        "score": total / jnp.maximum(count, 1),
    }
