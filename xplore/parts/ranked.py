"""A memory of the best steps so far: those of the episodes with the highest scores."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.spaces import shape_dtype
from xplore.contracts.types import EnvSpec, PyTree, Trajectory
from xplore.parts.imitation import Examples

NONE = np.float32(-1e38)  # below any score; a checkpoint holds finite numbers
# By episode: of its return, the share of its states that were new in it, and how rare they are.
Weights = tuple[float | jax.Array, float | jax.Array, float | jax.Array]


class Running(NamedTuple):
    """Of the episodes under way, sums over their steps so far: float32 `[N]`."""

    reward: jax.Array
    is_new: jax.Array
    rarity: jax.Array
    length: jax.Array


class Ranked(NamedTuple):
    """The best steps, best first, and the steps of which it is not known yet how good they are.

    Attributes:
        best: `[M]`; the first `num_filled` of them are there.
        score: float32 `[M]`, that of the episode of each; NONE where there is none.
        recent: the last L steps of each env, leaves `[L, N, ...]`.
        running: sums over the episodes under way.
    """

    best: Examples
    score: jax.Array
    recent: Examples
    running: Running

    @property
    def num_filled(self) -> jax.Array:
        """How many steps there are, int32 `[]`."""
        return jnp.sum(self.score > NONE).astype(jnp.int32)


def no_ranked(env: EnvSpec, num_envs: int, size: int) -> Ranked:
    """Room for `size` steps, and for an episode under way in each of the envs."""
    zeros = jnp.zeros(num_envs)
    return Ranked(
        best=_no_examples(env, (size,)),
        score=jnp.full(size, NONE),
        recent=_no_examples(env, (env.max_steps, num_envs)),
        running=Running(zeros, zeros, zeros, zeros),
    )


def _no_examples(env: EnvSpec, lead: tuple[int, ...]) -> Examples:
    obs, action = shape_dtype(env.observation), shape_dtype(env.action)
    return Examples(*jax.tree.map(lambda x: jnp.zeros((*lead, *x.shape), x.dtype), (obs, action)))


def rank(
    memory: Ranked, traj: Trajectory, is_new: jax.Array, rarity: jax.Array, weights: Weights
) -> tuple[Ranked, jax.Array]:
    """Adds the episodes that end in a rollout, each step with the score of its whole episode.

    S = w_0 return + w_1 mean(is_new) + w_2 mean(rarity), means over the episode's steps.

    Args:
        memory: before.
        traj: the rollout, `[T, N]`.
        is_new: float32 `[T, N]`, 1 where a step's state is met for the first time in its episode.
        rarity: float32 `[T, N]`.
        weights: w.

    Returns:
        The memory after, and the scores `[T, N]` of the episodes that end there.
    """
    ended = traj.terminated | traj.truncated
    running, score = _scores(memory.running, traj.reward, is_new, rarity, ended, weights)

    def before(
        following: jax.Array, step: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        ended, score = step
        here = jnp.where(ended, score, following)
        return here, here

    unknown = jnp.full(ended.shape[1], NONE)
    _, of_step = jax.lax.scan(before, unknown, (ended, score), reverse=True)
    # Of the recent steps, the last `length` are of the episode that the rollout goes on with.
    size = memory.recent.action.shape[0]
    is_under_way = jnp.arange(size)[:, None] >= size - memory.running.length[None]
    of_recent = jnp.where(is_under_way, of_step[:1], NONE)

    steps = jax.tree.map(
        lambda x, y: jnp.concatenate([x, y]), memory.recent, Examples(traj.obs, traj.action)
    )
    scores = jnp.concatenate([memory.score, of_recent.ravel(), of_step.ravel()])
    # Of equal scores those that are there already stay.
    kept, index = jax.lax.top_k(scores, memory.score.size)

    def chosen(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.concatenate([old, new.reshape(-1, *new.shape[2:])])[index]

    best = jax.tree.map(chosen, memory.best, steps)
    recent: Examples = jax.tree.map(lambda x: x[-size:], steps)
    return Ranked(best, kept, recent, running), score


def _scores(
    running: Running,
    reward: jax.Array,
    is_new: jax.Array,
    rarity: jax.Array,
    ended: jax.Array,
    weights: Weights,
) -> tuple[Running, jax.Array]:
    """The score `[T, N]` of each episode up to each step."""

    def step(sums: Running, x: tuple[PyTree, jax.Array]) -> tuple[Running, jax.Array]:
        values, ended = x
        sums = jax.tree.map(jnp.add, sums, values)
        shares = weights[1] * sums.is_new + weights[2] * sums.rarity
        score = weights[0] * sums.reward + shares / sums.length
        return jax.tree.map(lambda x: jnp.where(ended, 0.0, x), sums), score

    values = Running(reward, is_new, rarity, jnp.ones_like(reward))
    return jax.lax.scan(step, running, (values, ended))
