"""ACCEL: levels that are worth replaying are edited, and the edits tried out."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError, check_least
from xplore.contracts.registry import register_world_sampler
from xplore.contracts.types import (
    Agent,
    Environment,
    Key,
    LevelBatch,
    Metrics,
    Mutable,
    PyTree,
    Trajectory,
)
from xplore.parts import level_buffer as lb
from xplore.parts.level_scores import LevelScore, check_score, step_scores
from xplore.parts.level_trials import trial_steps, try_levels
from xplore.parts.levels import content_ids, fresh_ids, levels_from_ids


@register_world_sampler("accel")
@final
@component
class ACCEL:
    """Robust replay of levels that have evolved: before each rollout some are edited and tried.

    Parents are drawn as levels for replay are; a child is `num_edits` random edits away. Children,
    and `num_new` new levels, are kept where their score is above that of what is there. For a run
    that starts from simple levels, as in the paper, give it an environment whose own levels are.

    Attributes:
        num_edited, num_edits: children before a rollout, and edits of each.
        num_new: levels of the environment's own that are tried before a rollout.
        scoring_steps: of each try; 0: the longest that an episode can be.
        score, prioritisation, temperature, staleness, buffer_size, discount, trace: as in
            `robust_plr`.

    Reference: Parker-Holder et al. (2022), Evolving curricula with regret-based environment design,
    arXiv:2203.01302; constants: Coward, Beukman and Foerster (2024), JaxUED, arXiv:2403.13091.
    Deviations from the paper: those of `robust_plr`; children of any levels in the buffer, not of
    those of the last rollout; as many before every rollout.

    Raises:
        ConfigError: from `init`, where the environment has no `mutate`.
    """

    score: LevelScore = "max_mc"
    num_edited: int = 16
    num_edits: int = 5
    num_new: int = 4
    scoring_steps: int = 0
    prioritisation: lb.Prioritisation = "rank"
    temperature: float = 0.3
    staleness: float = 0.3
    buffer_size: int = 4_000
    discount: float = 0.99
    trace: float = 0.95

    def __post_init__(self) -> None:
        check_score("accel", self.score)
        lb.check_buffer("accel", self)
        check_least("accel", self, num_edited=1, num_edits=1, num_new=1)

    def init(self, key: Key, env: Environment) -> lb.Buffer:
        _mutable(env)
        trial_steps("accel", env, self.scoring_steps, 1)
        return lb.empty_buffer(env, self.buffer_size)

    def sample(
        self, key: Key, state: lb.Buffer, env: Environment, num_levels: int
    ) -> tuple[lb.Buffer, LevelBatch]:
        key_new, key_draw = jax.random.split(key)
        fresh = levels_from_ids(env, fresh_ids(key_new, num_levels))
        return state, lb.replayed(key_draw, state, fresh, self)

    def sample_for(
        self,
        key: Key,
        state: lb.Buffer,
        env: Environment,
        num_levels: int,
        agent: Agent,
        agent_state: PyTree,
    ) -> tuple[lb.Buffer, LevelBatch]:
        key_new, key_parents, key_edits, key_try, key_draw = jax.random.split(key, 5)
        new = levels_from_ids(env, fresh_ids(key_new, self.num_new))
        spare = jax.tree.map(lambda x: x[jnp.arange(self.num_edited) % self.num_new], new)
        parents = lb.replayed(key_parents, state, spare, self)
        children = _edited(key_edits, _mutable(env), parents.levels, self.num_edits)
        bred = LevelBatch(children, content_ids(children))
        tried = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), new, bred)
        steps = trial_steps("accel", env, self.scoring_steps, 1)
        score, tally = try_levels(
            key_try, env, agent, agent_state, tried, steps,
            sampler="accel", score=self.score, discount=self.discount, trace=self.trace,
        )  # fmt: skip
        buffer = lb.insert(state, tried, score, tally)
        num_tried = self.num_new + self.num_edited
        buffer = buffer._replace(tried_steps=jnp.float32(steps * num_tried))
        spare = jax.tree.map(lambda x: x[jnp.arange(num_levels) % num_tried], tried)
        return buffer, lb.replayed(key_draw, buffer, spare, self)

    def update(
        self, state: lb.Buffer, batch: LevelBatch, traj: Trajectory
    ) -> tuple[lb.Buffer, Metrics]:
        scores = step_scores("accel", self.score, traj, self.discount, self.trace)
        buffer = lb.learn(state, traj, scores, self.score)
        generated = jnp.float32(self.num_new + self.num_edited)
        return buffer, {"levels_generated": generated, **lb.metrics_of(buffer)}


def _mutable(env: Environment) -> Mutable:
    if not isinstance(env, Mutable):
        raise ConfigError(
            f"accel edits levels, and {env.spec().name} has no mutate(key, level): choose an"
            " environment that has, or robust_plr"
        )
    return env


def _edited(key: Key, env: Mutable, levels: PyTree, num_edits: int) -> PyTree:
    """Levels `[n, ...]`, each `num_edits` edits on."""
    num = jax.tree.leaves(levels)[0].shape[0]

    def edit(levels: PyTree, key: Key) -> tuple[PyTree, None]:
        return jax.vmap(env.mutate)(jax.random.split(key, num), levels), None

    return jax.lax.scan(edit, levels, jax.random.split(key, num_edits))[0]
