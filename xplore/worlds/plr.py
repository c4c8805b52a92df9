"""Prioritised level replay."""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_world_sampler
from xplore.contracts.types import Environment, Key, LevelBatch, Metrics, Trajectory
from xplore.parts import level_buffer as lb
from xplore.parts.level_scores import LevelScore, check_score, step_scores
from xplore.parts.levels import fresh_ids, levels_from_ids, train_ids
from xplore.parts.play import select


class PLRState(NamedTuple):
    """The buffer, and the uint32 seed of the list of levels where they are a set."""

    buffer: lb.Buffer
    set_seed: jax.Array


@register_world_sampler("plr")
@final
@component
class PLR:
    """With probability `replay_probability` a level entered before, else a new one.

    Replayed ones are drawn by P = (1 - rho) P_S + rho P_C, P_S proportional to
    `rank(score)^(-1 / beta)` and P_C to the rollouts since the level was last entered. Policy and
    values learn from all of them; see `robust_plr` for the other way.

    Attributes:
        score: "l1_value_loss", "positive_value_loss", "max_mc" or "learnability"; what they are is
            said in `xplore.parts.level_scores`. All but the last need an agent with values.
        replay_probability: share of replayed levels, once there are enough.
        prioritisation, temperature: "rank" or "proportional", and beta.
        staleness: rho.
        buffer_size: levels that are kept, those with the highest scores; at least as many as are
            supplied for a rollout.
        min_fill: fraction of the buffer, or of a set that is smaller, that is filled with new
            levels before any is replayed.
        num_levels: new levels come from a set of so many; 0: from all there are.
        discount, trace: gamma and lambda of the advantages that score.

    Reference: Jiang, Grefenstette and Rocktaeschel (2021), Prioritized level replay,
    arXiv:2010.03934; its easy Procgen settings.
    Deviations from the paper: of the levels of a rollout a fixed share is new, at random places in
    their order. Age is counted in rollouts. Scores are those of the episodes that ended in a
    rollout together, whichever env they were in, their parts of earlier rollouts included. With one
    value head, a bonus is in the values but not in the rewards that they are compared with.
    """

    score: LevelScore = "l1_value_loss"
    replay_probability: float = static(default=0.5)
    prioritisation: lb.Prioritisation = "rank"
    temperature: float = 0.1
    staleness: float = 0.1
    buffer_size: int = 4_000
    min_fill: float = 0.1
    num_levels: int = 0
    discount: float = 0.99
    trace: float = 0.95

    def __post_init__(self) -> None:
        check_score("plr", self.score)
        lb.check_buffer("plr", self)
        if self.num_levels < 0:
            raise ConfigError(f"plr: num_levels is {self.num_levels}: give 0 for no limit")
        if not 0 <= self.replay_probability < 1:
            raise ConfigError(
                f"plr: replay_probability is {self.replay_probability}: it must be at least 0 and"
                " below 1, or no level would ever be new"
            )

    def init(self, key: Key, env: Environment) -> PLRState:
        seed = jax.random.bits(key, (), jnp.uint32)
        return PLRState(lb.empty_buffer(env, self.buffer_size), seed)

    def sample(
        self, key: Key, state: PLRState, env: Environment, num_levels: int
    ) -> tuple[PLRState, LevelBatch]:
        if num_levels > self.buffer_size:
            raise ConfigError(
                f"plr: buffer_size {self.buffer_size} is below the {num_levels} levels of a"
                f" rollout: make it {num_levels} at least"
            )
        key_new, key_draw, key_place = jax.random.split(key, 3)
        buffer = state.buffer
        num_new = self._num_new(num_levels)
        new = levels_from_ids(env, self._new_ids(key_new, state, num_new))
        again = jax.tree.map(lambda x: x[jnp.arange(num_levels) % num_new], new)
        replayed = lb.replayed(key_draw, buffer, again, self)
        room = min(self.buffer_size, self.num_levels or self.buffer_size)
        full = jnp.sum(buffer.is_scored) >= jnp.maximum(self.min_fill * room, 1.0)
        is_new = jax.random.permutation(key_place, jnp.arange(num_levels) < num_new) | ~full
        # Of the new levels each is supplied once, unless there is nothing to replay.
        order = jnp.where(full, jnp.cumsum(is_new) - 1, jnp.arange(num_levels)) % num_new
        batch = select(is_new, jax.tree.map(lambda x: x[order], new), replayed)
        return PLRState(lb.reserve(buffer, new), state.set_seed), LevelBatch(*batch)

    def update(
        self, state: PLRState, batch: LevelBatch, traj: Trajectory
    ) -> tuple[PLRState, Metrics]:
        scores = step_scores("plr", self.score, traj, self.discount, self.trace)
        buffer = lb.learn(state.buffer, traj, scores, self.score)
        metrics = {
            "levels_generated": jnp.float32(self._num_new(batch.level_id.shape[0])),
            **lb.metrics_of(buffer),
        }
        return PLRState(buffer, state.set_seed), metrics

    def _num_new(self, num_levels: int) -> int:
        return max(1, round((1.0 - self.replay_probability) * num_levels))

    def _new_ids(self, key: Key, state: PLRState, num: int) -> jax.Array:
        if self.num_levels:
            index = jax.random.randint(key, (num,), 0, self.num_levels)
            return train_ids(state.set_seed, index)
        return fresh_ids(key, num)
