"""Bonuses made of bonuses: scale, add, multiply, normalise, gate, clip and anneal them.

Each is a bonus itself, so that a method is an expression, and its coefficients are values that can
be swept by `vmap`:

    Scale(Product((Normalise(RND()), EpisodicCount())), 0.05)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError, did_you_mean
from xplore.contracts.types import Bonus, Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.cells import Cells
from xplore.parts.counts import EpisodeCounts, count_episode_visits, init_episode_counts
from xplore.parts.normalisers import (
    NORMALISER_KINDS,
    NormaliserKind,
    RewardStats,
    init_reward_stats,
    normalise_reward,
)


@final
@component
class Scale:
    """`coefficient * r`."""

    bonus: Bonus
    coefficient: float = 1.0

    def reads(self) -> tuple[str, ...]:
        return self.bonus.reads()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return self.bonus.init(key, spec)

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        state, r_int = self.bonus.reward(state, traj)
        return state, self.coefficient * r_int

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return self.bonus.update(key, state, traj)


@final
@component
class Sum:
    """`r_1 + r_2 + ...`; metrics of the i-th bonus are named `i/name`, from 0."""

    bonuses: tuple[Bonus, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "bonuses", _several(self.bonuses, "Sum"))

    def reads(self) -> tuple[str, ...]:
        return _reads_of(self.bonuses)

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return _init_all(self.bonuses, key, spec)

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        state, rewards = _reward_all(self.bonuses, state, traj)
        return state, sum(rewards[1:], start=rewards[0])

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return _update_all(self.bonuses, key, state, traj)


@final
@component
class Product:
    """`r_1 * r_2 * ...`; metrics of the i-th bonus are named `i/name`, from 0."""

    bonuses: tuple[Bonus, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "bonuses", _several(self.bonuses, "Product"))

    def reads(self) -> tuple[str, ...]:
        return _reads_of(self.bonuses)

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return _init_all(self.bonuses, key, spec)

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        state, rewards = _reward_all(self.bonuses, state, traj)
        r_int = rewards[0]
        for factor in rewards[1:]:
            r_int = r_int * factor
        return state, r_int

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return _update_all(self.bonuses, key, state, traj)


@final
@component
class Normalise:
    """Brings a bonus to a common scale, so that a coefficient means the same on every task.

    The kinds are those of `xplore.parts.normalisers.normalise_reward`; `discount` is that of
    `return_std`. Statistics take in a rollout before its rewards are divided by them.
    """

    bonus: Bonus
    normaliser: NormaliserKind = "return_std"
    discount: float = 0.99

    def __post_init__(self) -> None:
        if self.normaliser not in NORMALISER_KINDS:
            raise ConfigError(
                f"unknown normaliser {self.normaliser!r}"
                f"{did_you_mean(str(self.normaliser), NORMALISER_KINDS)}"
                f" (kinds: {', '.join(NORMALISER_KINDS)})"
            )
        if isinstance(self.discount, float) and not 0 <= self.discount < 1:
            raise ConfigError(f"Normalise(discount={self.discount}): must be in [0, 1)")

    def reads(self) -> tuple[str, ...]:
        return self.bonus.reads()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return self.bonus.init(key, spec), init_reward_stats(spec.num_envs)

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        inner, stats = state
        inner, r_int = self.bonus.reward(inner, traj)
        stats, r_int = normalise_reward(self.normaliser, stats, r_int, self.discount)
        return (inner, stats), r_int

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        inner: PyTree
        stats: RewardStats
        inner, stats = state
        inner, metrics = self.bonus.update(key, inner, traj)
        if self.normaliser in ("std", "return_std", "zscore_ema"):
            metrics = metrics | {self.normaliser: jnp.sqrt(stats.moments.var)}
        return (inner, stats), metrics


@final
@component
class FirstVisit:
    """`r * 1{N_ep(s') = 1}`: pays only where s' is new in its episode; without a bonus, 1 there.

    The state an episode started in is not new. The bonus itself sees every step.

    Reference: Zhang et al. (2021), NovelD (its episodic restriction on the intrinsic reward).
    """

    bonus: Bonus | None = None
    cells: Cells = Cells(table_size=1 << 12)

    def reads(self) -> tuple[str, ...]:
        inner = () if self.bonus is None else self.bonus.reads()
        return tuple(dict.fromkeys(inner + self.cells.reads()))

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        num_tables, num_rows = self.cells.table_shape(spec.env)
        memory = init_episode_counts(num_tables, spec.num_envs, num_rows)
        return () if self.bonus is None else self.bonus.init(key, spec), memory

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        inner: PyTree
        memory: EpisodeCounts
        inner, memory = state
        memory, counts = count_episode_visits(memory, *self.cells.rows(traj), traj.first)
        gate = (counts == 1).astype(jnp.float32)
        if self.bonus is None:
            return (inner, memory), gate
        inner, r_int = self.bonus.reward(inner, traj)
        return (inner, memory), r_int * gate

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        if self.bonus is None:
            return state, {}
        inner, memory = state
        inner, metrics = self.bonus.update(key, inner, traj)
        return (inner, memory), metrics


@final
@component
class Clip:
    """`clip(r, low, high)`."""

    bonus: Bonus
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        both = isinstance(self.low, float) and isinstance(self.high, float)
        if both and not self.low <= self.high:
            raise ConfigError(f"Clip(low={self.low}, high={self.high}): low must not exceed high")

    def reads(self) -> tuple[str, ...]:
        return self.bonus.reads()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return self.bonus.init(key, spec)

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        state, r_int = self.bonus.reward(state, traj)
        return state, jnp.clip(r_int, self.low, self.high)

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return self.bonus.update(key, state, traj)


_MOST_STEPS = 1 << 31


@final
@component
class Anneal:
    """`c * r`, c going from `start` to `end` in a line over the first `num_steps` env steps.

    It counts the env steps it has scored, and stays at `end` after them. All envs of a time step
    share one c, that of the steps taken before it.
    """

    bonus: Bonus
    start: float = 1.0
    end: float = 0.0
    num_steps: int = 1_000_000

    def __post_init__(self) -> None:
        if not 0 < self.num_steps <= _MOST_STEPS:
            raise ConfigError(f"Anneal(num_steps={self.num_steps}): must be 1 to {_MOST_STEPS}")

    def reads(self) -> tuple[str, ...]:
        return self.bonus.reads()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        return self.bonus.init(key, spec), jnp.uint32(0)

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        inner, steps = state
        inner, r_int = self.bonus.reward(inner, traj)
        num_steps, num_envs = r_int.shape
        # Saturating, so that the count never wraps: below 2^31 plus one rollout it fits uint32.
        most = jnp.uint32(self.num_steps)
        taken = jnp.minimum(
            steps + jnp.arange(num_steps, dtype=jnp.uint32) * jnp.uint32(num_envs), most
        )
        done = taken.astype(jnp.float32) / jnp.float32(self.num_steps)
        coefficient = self.start + (self.end - self.start) * done
        steps = jnp.minimum(steps + jnp.uint32(r_int.size), most)
        return (inner, steps), coefficient[:, None] * r_int

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        inner, steps = state
        inner, metrics = self.bonus.update(key, inner, traj)
        done = steps.astype(jnp.float32) / jnp.float32(self.num_steps)
        return (inner, steps), metrics | {"anneal": self.start + (self.end - self.start) * done}


def _several(bonuses: Sequence[Bonus], name: str) -> tuple[Bonus, ...]:
    if not bonuses:
        raise ConfigError(f"{name} of no bonuses: give it at least one")
    return tuple(bonuses)


def _reads_of(bonuses: Sequence[Bonus]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for b in bonuses for name in b.reads()))


def _init_all(bonuses: Sequence[Bonus], key: Key, spec: RunSpec) -> PyTree:
    keys = jax.random.split(key, len(bonuses))
    return tuple(b.init(k, spec) for b, k in zip(bonuses, keys, strict=True))


def _reward_all(
    bonuses: Sequence[Bonus], state: PyTree, traj: Trajectory
) -> tuple[PyTree, list[jax.Array]]:
    results = [b.reward(s, traj) for b, s in zip(bonuses, state, strict=True)]
    return tuple(s for s, _ in results), [r for _, r in results]


def _update_all(
    bonuses: Sequence[Bonus], key: Key, state: PyTree, traj: Trajectory
) -> tuple[PyTree, Metrics]:
    states: list[PyTree] = []
    metrics: Metrics = {}
    keys = jax.random.split(key, len(bonuses))
    for i, (b, s, k) in enumerate(zip(bonuses, state, keys, strict=True)):
        s, found = b.update(k, s, traj)
        states.append(s)
        metrics |= {f"{i}/{name}": value for name, value in found.items()}
    return tuple(states), metrics
