"""What a run on a finite task is measured by: regret, coverage, and bits learned, all exact.

`exact_of(env)` computes once what is known of the task; a `Record` then goes along with a run.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from xplore.contracts.types import Environment, Metrics, Trajectory
from xplore.measure import oracle

_NEVER = np.iinfo(np.int32).max


@final
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Exact:
    """What is known of a finite task of S states and A actions before anything is run.

    Attributes:
        value: float32 `[S]`, the optimal expected return of an episode that starts in s; 0 where
            the task has no time limit.
        gain: float32 `[]`, the best average reward of a step where it has none, else 0.
        reachable: bool `[S]`.
        good: bool `[S, A]`, actions an optimal policy takes in states that it enters.
        relevant: bool `[S]`, states that optimal policies enter and in which an action is not good.
    """

    value: jax.Array
    gain: jax.Array
    reachable: jax.Array
    good: jax.Array
    relevant: jax.Array


class Record(NamedTuple):
    """What a run has seen so far; S states, A actions, N envs.

    Attributes:
        visits: float32 `[S]`, how often each state was entered.
        first_visit: int32 `[S]`, env steps done when it was entered first; 2^31 - 1 if never.
        tried: bool `[S, A]`.
        step: int32 `[]`, env steps done.
        regret: float32 `[]`, of all steps: the optimal values of the episodes begun, less rewards.
        behind: float32 `[N]`, the same of the episode under way in each env.
    """

    visits: jax.Array
    first_visit: jax.Array
    tried: jax.Array
    step: jax.Array
    regret: jax.Array
    behind: jax.Array


def exact_of(env: Environment) -> Exact | None:
    """Solves `env`; None if it is not finite, too large, or has traced options."""
    if not 0 < oracle.num_states(env) <= oracle.MAX_STATES:
        return None
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(env)):
        return None
    known: Any = env
    return _exact_of(known)


@functools.lru_cache(maxsize=32)
def _exact_of(env: Any) -> Exact:
    # A run may be compiled inside another program: what is exact is computed now, all the same.
    with jax.ensure_compile_time_eval():
        model = oracle.enumerate_task(env)
        if model.horizon_steps == 0:
            nothing = jnp.zeros(model.reward.shape, bool)
            zeros = jnp.zeros(model.reward.shape[0])
            best = jnp.float32(oracle.optimal_gain(model))
            return Exact(zeros, best, model.reachable, nothing, nothing[:, 0])
        policy = oracle.optimal_policy(model)
        entered = oracle.occupancy(model, policy) > 0
        good = jnp.any(entered[:, :, None] & (policy > 0), axis=0)
        relevant = jnp.any(entered & jnp.any(policy == 0, axis=-1), axis=0)
        value = oracle.solve(model).value[0]
        return Exact(value, jnp.float32(0), model.reachable, good, relevant)


def new_record(exact: Exact, num_envs: int) -> Record:
    """The record before the first step."""
    num_states, num_actions = exact.good.shape
    return Record(
        visits=jnp.zeros(num_states, jnp.float32),
        first_visit=jnp.full(num_states, _NEVER, jnp.int32),
        tried=jnp.zeros((num_states, num_actions), bool),
        step=jnp.int32(0),
        regret=jnp.float32(0),
        behind=jnp.zeros(num_envs, jnp.float32),
    )


def record(exact: Exact, before: Record, traj: Trajectory) -> tuple[Record, Metrics]:
    """Takes a rollout `[T, N]` into account, and says where the run stands.

    `regret`: mean over the episodes that ended, `V*(s_0) - return` (NaN where none did).
    `cumulative_regret`: of the whole run. `coverage`: states entered over states reachable.
    `visit_entropy`: of the distribution of visits, over the logarithm of the reachable states.
    `steps_to_half_coverage`, `steps_to_most_coverage` (90%): env steps until then, NaN until then.
    `mean_first_visit`: env steps, over the states entered.
    `bits`, `relevant_bits`: what trying actions has told about which is right: a state of A actions
    holds log2(A) bits, trying m of them leaves log2(A - m), and trying a good one leaves none; over
    the reachable, and over the relevant states. A single try counts as telling.
    """
    index, following = traj.privileged["index"], traj.next_privileged["index"]
    num_steps, num_envs = traj.first.shape
    # A state is entered at the start of an episode, or as the successor of a step that ends none.
    entered = jnp.concatenate([index, following])
    counts = jnp.concatenate([traj.first, ~traj.terminated])
    time = before.step + num_envs * jnp.arange(num_steps + 1, dtype=jnp.int32)
    when = jnp.concatenate([time[:-1], time[1:]])[:, None]
    visits = before.visits.at[entered].add(counts.astype(jnp.float32))
    first_visit = before.first_visit.at[entered].min(jnp.where(counts, when, _NEVER))
    tried = before.tried.at[index, traj.action].set(True)

    begun = jnp.where(traj.first, exact.value[index], 0.0) + exact.gain
    ended = traj.terminated | traj.truncated
    behind, of_episodes = _of_episodes(before.behind, begun - traj.reward, traj.first, ended)
    regret = before.regret + jnp.sum(begun - traj.reward)
    after = Record(visits, first_visit, tried, time[-1], regret, behind)
    return after, {"regret": of_episodes, "cumulative_regret": regret, **_standing(exact, after)}


def _of_episodes(
    behind: jax.Array, lost: jax.Array, first: jax.Array, ended: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sums `lost` over each episode; the mean over those that ended."""

    def one_step(
        behind: jax.Array, step: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        lost, first, ended = step
        behind = jnp.where(first, 0.0, behind) + lost
        return behind, jnp.where(ended, behind, 0.0)

    behind, sums = jax.lax.scan(one_step, behind, (lost, first, ended))
    count = jnp.sum(ended)
    return behind, jnp.where(count > 0, jnp.sum(sums) / jnp.maximum(count, 1), jnp.nan)


def _standing(exact: Exact, now: Record) -> Metrics:
    num_reachable = jnp.sum(exact.reachable)
    seen = now.visits > 0
    share = now.visits / jnp.maximum(jnp.sum(now.visits), 1.0)
    entropy = -jnp.sum(jnp.where(seen, share * jnp.log(jnp.where(seen, share, 1.0)), 0.0))
    most = jnp.maximum(jnp.log(num_reachable.astype(jnp.float32)), 1e-6)
    ordered = jnp.sort(now.first_visit)

    def steps_to(fraction: float) -> jax.Array:
        needed = jnp.ceil(fraction * num_reachable).astype(jnp.int32)
        reached = ordered[needed - 1]
        return jnp.where(reached == _NEVER, jnp.nan, reached.astype(jnp.float32))

    total = jnp.sum(jnp.where(seen, now.first_visit, 0).astype(jnp.float32))
    num_actions = exact.good.shape[1]
    left = jnp.maximum(num_actions - jnp.sum(now.tried, axis=1), 1)
    left = jnp.where(jnp.any(now.tried & exact.good, axis=1), 1, left)
    bits = math.log2(num_actions) - jnp.log2(left.astype(jnp.float32))
    return {
        "coverage": jnp.sum(seen) / num_reachable,
        "visit_entropy": entropy / most,
        "steps_to_half_coverage": steps_to(0.5),
        "steps_to_most_coverage": steps_to(0.9),
        "mean_first_visit": total / jnp.maximum(jnp.sum(seen), 1),
        "bits": jnp.sum(jnp.where(exact.reachable, bits, 0.0)),
        "relevant_bits": jnp.sum(jnp.where(exact.relevant, bits, 0.0)),
    }
