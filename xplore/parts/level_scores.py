"""What it is worth to enter a level again: scores of how an agent does in it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from xplore.contracts.errors import ConfigError
from xplore.contracts.types import PyTree, Trajectory
from xplore.parts.returns import gae

LevelScore = Literal["max_mc", "positive_value_loss", "l1_value_loss", "learnability"]
_KNOWN = ("max_mc", "positive_value_loss", "l1_value_loss", "learnability")
_WINDOW = 10.0  # episodes that a running success rate remembers


@runtime_checkable
class _Values(Protocol):
    """What acting leaves, of agents that estimate values: `[T, N]`, or a last axis of heads."""

    value: Any


class Tally(NamedTuple):
    """What was seen of L levels since they were last scored; `[L]` each.

    Attributes:
        steps: in the level.
        total: the sum over them of what the score is a mean of.
        best: the highest return of an episode ever; -inf before the first.
        episodes, successes: that ended, of the last ten or so.
    """

    steps: jax.Array
    total: jax.Array
    best: jax.Array
    episodes: jax.Array
    successes: jax.Array


def check_score(sampler: str, score: str) -> None:
    """Refuses a score there is not, with a ConfigError."""
    if score not in _KNOWN:
        raise ConfigError(f"{sampler}: score is {score!r}: it must be one of {', '.join(_KNOWN)}")


def learnability(successes: jax.Array, episodes: jax.Array) -> jax.Array:
    """An unbiased estimate of p (1 - p) from n episodes: `n / (n - 1) q (1 - q)`, q their success.

    With fewer than two episodes nothing is known: 1/4, the highest, so that more will be played.

    >>> float(learnability(jnp.float32(1), jnp.float32(2)))
    0.5
    """
    count = jnp.maximum(episodes, 2.0)
    rate = successes / count
    return jnp.where(episodes < 2.0, 0.25, count / (count - 1.0) * rate * (1.0 - rate))


def values_of(sampler: str, extras: PyTree) -> jax.Array:
    """The values of the extrinsic stream that acting left: float32 `[T, N]`.

    Raises:
        ConfigError: the agent estimates none.
    """
    if not isinstance(extras, _Values):
        raise ConfigError(
            f"{sampler} scores levels by values, and this agent leaves none when it acts (ppo,"
            " ppo_rnn and pqn do): choose one of those, or score='learnability' where there is"
            " that option"
        )
    value: jax.Array = extras.value
    return value[..., 0] if value.ndim == 3 else value


def step_scores(
    sampler: str, score: LevelScore, traj: Trajectory, discount: Any, trace: Any
) -> jax.Array:
    """What the score is a mean of, at each step: float32 `[T, N]`.

    The advantage A (of `gae`) in absolute value or where positive, or the value itself. The value
    of what follows the last step of a rollout or a time limit, which nobody has computed, is taken
    to be that of the step.
    """
    if score == "learnability":
        return jnp.zeros_like(traj.reward)
    value = values_of(sampler, traj.extras)
    if score == "max_mc":
        return value
    following = jnp.concatenate([value[1:], value[-1:]])
    following = jnp.where(traj.truncated, value, following)
    ends = (traj.terminated, traj.truncated)
    advantage = gae(traj.reward, value, following, *ends, discount=discount, trace=trace)
    return jnp.maximum(advantage, 0.0) if score == "positive_value_loss" else jnp.abs(advantage)


def episode_returns(traj: Trajectory) -> jax.Array:
    """Sum of rewards since the episode began, or the rollout if later: float32 `[T, N]`."""

    def one_step(
        so_far: jax.Array, step: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        reward, first = step
        so_far = jnp.where(first, 0.0, so_far) + reward
        return so_far, so_far

    return jax.lax.scan(one_step, jnp.zeros_like(traj.reward[0]), (traj.reward, traj.first))[1]


def empty_tally(num_levels: int) -> Tally:
    """Nothing seen."""
    zeros = jnp.zeros(num_levels, jnp.float32)
    return Tally(zeros, zeros, jnp.full(num_levels, -jnp.inf), zeros, zeros)


def add_rollout(
    tally: Tally, slot: jax.Array, traj: Trajectory, scores: jax.Array
) -> tuple[Tally, jax.Array, jax.Array]:
    """Adds a rollout; steps whose `slot` `[T, N]` is L are in none of the levels.

    Returns:
        The tally, which levels were in it, and of which an episode ended: bool `[L]` both.
    """
    num_levels = tally.steps.shape[0]
    ended = traj.terminated | traj.truncated
    success = (ended & traj.info["success"]).astype(jnp.float32)

    def sums(x: jax.Array) -> jax.Array:
        return jnp.zeros(num_levels, jnp.float32).at[slot].add(x, mode="drop")

    steps, episodes = sums(jnp.ones_like(scores)), sums(ended.astype(jnp.float32))
    returns = jnp.where(ended, episode_returns(traj), -jnp.inf)
    finished = episodes > 0
    before = tally.episodes + episodes
    kept = jnp.where(before > _WINDOW, _WINDOW / jnp.maximum(before, 1.0), 1.0)
    added = Tally(
        steps=tally.steps + steps,
        total=tally.total + sums(scores),
        best=tally.best.at[slot].max(returns, mode="drop"),
        episodes=kept * before,
        successes=kept * (tally.successes + sums(success)),
    )
    return added, steps > 0, finished


def scored(score: LevelScore, tally: Tally) -> jax.Array:
    """Scores `[L]` of levels with a finished episode.

    max_mc: R_max - mean V, R_max the highest return ever. positive_value_loss: mean max(A, 0).
    l1_value_loss: mean |A|. learnability: p (1 - p).

    Reference: Jiang et al. (2021), Replay-guided adversarial environment design, arXiv:2110.02439;
    learnability: Rutherford et al. (2024), arXiv:2408.15099.
    """
    if score == "learnability":
        return learnability(tally.successes, tally.episodes)
    mean = tally.total / jnp.maximum(tally.steps, 1.0)
    return tally.best - mean if score == "max_mc" else mean
