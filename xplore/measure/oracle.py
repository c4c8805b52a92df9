"""Exact answers for finite tasks: their dynamics as arrays, and what follows from these.

>>> import xplore
>>> model = enumerate_task(xplore.make("DeepSea-10-v0"))
>>> round(optimal_return(model), 3), int(model.reachable.sum())
(0.99, 55)

All that depends on time is computed by backward induction over the horizon, or forward over it for
occupancies: `lax.scan`s over gathers, jitted, float32. An index of a state is that of
`Environment.privileged(state)["index"]`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import (
    Environment,
    FiniteEnvironment,
    Key,
    Outcomes,
    PyTree,
    Starts,
)

MAX_STATES = 1 << 16
_CHUNK_STATES = 128  # expanded by one call, so that one compilation serves any number of states


@final
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Model:
    """A finite task: S states, A actions, K outcomes of each at the most.

    Attributes:
        successor: int32 `[S, A, K]`.
        probability: float32 `[S, A, K]`, of going on in that successor; what a row lacks to 1 is
            the probability that the task terminates. 0 for states that are never reached.
        reward: float32 `[S, A]`, expected.
        initial: float32 `[S]`, the distribution of first states.
        reachable: bool `[S]`, whether some policy ever gets there within the horizon.
        horizon_steps: steps of an episode at the most; 0 for a task without a time limit.
    """

    successor: jax.Array
    probability: jax.Array
    reward: jax.Array
    initial: jax.Array
    reachable: jax.Array
    horizon_steps: int = dataclasses.field(metadata={"static": True})

    def dense(self) -> tuple[jax.Array, jax.Array, jax.Array, int]:
        """`(P [S, A, S], R [S, A], initial [S], horizon)`, as textbooks have it."""
        num_states = self.reward.shape[0]
        hits = jax.nn.one_hot(self.successor, num_states) * self.probability[..., None]
        return jnp.sum(hits, axis=2), self.reward, self.initial, self.horizon_steps


class Solution(NamedTuple):
    """Optimal values: `value` float32 `[H + 1, S]` and `q` `[H, S, A]` with h steps behind."""

    value: jax.Array
    q: jax.Array


def num_states(env: Environment) -> int:
    """How many indices `env` has for its states; 0 if it is no finite environment."""
    space = env.spec().privileged
    if not isinstance(env, FiniteEnvironment) or "index" not in space:
        return 0
    index = space["index"]
    return index.num if isinstance(index, Discrete) else 0


def enumerate_task(env: Environment, starts: Starts | None = None) -> Model:
    """Follows every outcome of every action from the first states on.

    Args:
        env: a `FiniteEnvironment`.
        starts: levels and their probabilities; `env.starts()` by default.

    Raises:
        ConfigError: the environment lists no outcomes, its actions are not `Discrete`, or it has
            more than `MAX_STATES` states.
    """
    size, spec = num_states(env), env.spec()
    if not isinstance(env, FiniteEnvironment) or not size:
        raise ConfigError(
            f"{spec.name} does not list its starts and outcomes (see FiniteEnvironment):"
            " exact answers need an environment that does, such as DeepSea-10-v0"
        )
    if not isinstance(spec.action, Discrete):
        raise ConfigError(f"{spec.name} has actions in {spec.action}: exact answers need Discrete")
    if size > MAX_STATES:
        raise ConfigError(f"{spec.name} has {size:,} states: enumeration stops at {MAX_STATES:,}")
    with jax.ensure_compile_time_eval():
        return _enumerate(env, starts or env.starts(), size, spec.action.num)


def _enumerate(env: FiniteEnvironment, starts: Starts, size: int, num_actions: int) -> Model:
    def expand(states: PyTree) -> tuple[Outcomes, jax.Array]:
        actions = jnp.arange(num_actions, dtype=jnp.int32)
        found = jax.vmap(lambda s: jax.vmap(lambda a: env.outcomes(s, a))(actions))(states)
        index = jax.vmap(jax.vmap(jax.vmap(lambda s: env.privileged(s)["index"])))(found.state)
        return found, index

    possible = np.flatnonzero(np.asarray(starts.probability) > 0)
    starts = jax.tree.map(lambda x: x[possible], starts)
    keys = jax.random.split(jax.random.key(0), len(possible))
    frontier = jax.vmap(env.reset_to_level)(keys, starts.levels)[0]
    found_at = np.asarray(jax.vmap(lambda s: env.privileged(s)["index"])(frontier))
    initial = np.zeros(size, np.float32)
    np.add.at(initial, found_at, np.asarray(starts.probability))

    compiled = jax.jit(expand)
    arrays: dict[str, npt.NDArray[Any]] = {}
    reached = np.zeros(size, bool)
    frontier, found_at = _new(frontier, found_at, reached)
    limit, depth = env.spec().max_steps, 0
    while len(found_at) and (limit == 0 or depth < limit):
        successors = []
        for rows, states in _chunks(frontier, found_at):
            num = len(rows)
            outcomes, index = jax.tree.map(lambda x, n=num: np.asarray(x)[:n], compiled(states))
            goes_on = outcomes.probability * ~outcomes.terminated
            if not arrays:
                arrays["successor"] = np.zeros((size, *index.shape[1:]), np.int32)
                arrays["probability"] = np.zeros((size, *index.shape[1:]), np.float32)
                arrays["reward"] = np.zeros((size, num_actions), np.float32)
            arrays["successor"][rows] = np.where(goes_on > 0, index, 0)
            arrays["probability"][rows] = goes_on
            arrays["reward"][rows] = np.sum(outcomes.probability * outcomes.reward, axis=-1)
            kept = np.flatnonzero(goes_on > 0)
            flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), outcomes.state)
            successors.append((jax.tree.map(lambda x, k=kept: x[k], flat), index.reshape(-1)[kept]))
        after, index = jax.tree.map(lambda *x: np.concatenate(x), *successors)
        frontier, found_at = _new(after, index, reached)
        depth += 1
    made = {name: jnp.asarray(array) for name, array in arrays.items()}
    return Model(
        **made, initial=jnp.asarray(initial), reachable=jnp.asarray(reached), horizon_steps=limit
    )


def _new(
    states: PyTree, index: npt.NDArray[Any], reached: npt.NDArray[np.bool_]
) -> tuple[PyTree, npt.NDArray[Any]]:
    """One state for each index that was not reached before; marks it reached."""
    unique, first = np.unique(index, return_index=True)
    kept = first[~reached[unique]]
    reached[index[kept]] = True
    return jax.tree.map(lambda x: np.asarray(x)[kept], states), index[kept]


def _chunks(states: PyTree, index: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[Any], PyTree]]:
    """Pieces of equal length, the last filled up by repeating its first state."""
    for begin in range(0, len(index), _CHUNK_STATES):
        rows = index[begin : begin + _CHUNK_STATES]
        take = np.full(_CHUNK_STATES, begin)
        take[: len(rows)] = np.arange(begin, begin + len(rows))
        yield rows, jax.tree.map(lambda x, t=take: x[t], states)


def _horizon(model: Model) -> int:
    if model.horizon_steps < 1:
        raise ConfigError(
            "the task has no time limit, so that no return is optimal in all of it: ask for"
            " `optimal_gain`, the best average reward of a step"
        )
    return model.horizon_steps


def _backup(model: Model, value: jax.Array) -> jax.Array:
    """`Q(s, a) = R(s, a) + sum_k p_k V(s'_k)`, `[S, A]`."""
    return model.reward + jnp.sum(model.probability * value[model.successor], axis=-1)


def solve(model: Model) -> Solution:
    """Optimal values by backward induction, `V_h(s) = max_a Q_h(s, a)`, undiscounted.

    Raises:
        ConfigError: the task has no time limit.
    """
    return _solve(model, _horizon(model))


@functools.partial(jax.jit, static_argnums=1)
def _solve(model: Model, horizon: int) -> Solution:
    def back(value: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        q = _backup(model, value)
        return jnp.max(q, axis=-1), (value, q)

    last = jnp.zeros(model.reward.shape[0])
    first, (value, q) = jax.lax.scan(back, last, None, horizon)
    return Solution(jnp.concatenate([first[None], value[::-1]]), q[::-1])


def uniform_policy(model: Model) -> jax.Array:
    """All actions equally likely: `[S, A]`."""
    return jnp.full(model.reward.shape, 1.0 / model.reward.shape[1])


def policy_values(model: Model, policy: jax.Array) -> jax.Array:
    """Values `[H + 1, S]` of a policy: probabilities `[S, A]`, or `[H, S, A]` by steps done.

    Raises:
        ConfigError: the task has no time limit.
    """
    return _policy_values(model, over_time(model, policy))


def over_time(model: Model, policy: jax.Array) -> jax.Array:
    """A policy `[S, A]` or `[H, S, A]` as one of `[H, S, A]`."""
    shape = _horizon(model), *model.reward.shape
    return jnp.broadcast_to(policy, shape)


@jax.jit
def _policy_values(model: Model, policy: jax.Array) -> jax.Array:
    def back(value: jax.Array, chances: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.sum(chances * _backup(model, value), axis=-1), value

    last = jnp.zeros(model.reward.shape[0])
    first, value = jax.lax.scan(back, last, policy, reverse=True)
    return jnp.concatenate([first[None], value])


def occupancy(model: Model, policy: jax.Array) -> jax.Array:
    """`[H, S]`: the probability to act in s after h steps, under a policy as in `policy_values`.

    Raises:
        ConfigError: the task has no time limit.
    """
    return _occupancy(model, over_time(model, policy))


@jax.jit
def _occupancy(model: Model, policy: jax.Array) -> jax.Array:
    def onward(here: jax.Array, chances: jax.Array) -> tuple[jax.Array, jax.Array]:
        moved = (here[:, None] * chances)[..., None] * model.probability
        after = jnp.zeros_like(here).at[model.successor.reshape(-1)].add(moved.reshape(-1))
        return after, here

    return jax.lax.scan(onward, model.initial, policy)[1]


def optimal_return(model: Model) -> float:
    """The expected return of an optimal policy over the first states."""
    return float(jnp.sum(model.initial * solve(model).value[0]))


def random_return(model: Model) -> float:
    """The expected return of uniformly random actions."""
    return float(jnp.sum(model.initial * policy_values(model, uniform_policy(model))[0]))


def optimal_policy(model: Model, tolerance: float = 1e-6) -> jax.Array:
    """All optimal actions equally likely, `[H, S, A]`; values closer than `tolerance` are equal."""
    solution = solve(model)
    best = solution.q >= solution.value[:-1, :, None] - tolerance
    return best / jnp.sum(best, axis=-1, keepdims=True)


def expert(env: Environment) -> Callable[[Key, PyTree, PyTree, jax.Array], jax.Array]:
    """An optimal policy of a finite task: `(key, state, obs, num_steps) -> action`, of its states.

    It takes one of the optimal actions at random, given how many steps of the episode are done.

    Raises:
        ConfigError: as `enumerate_task` and `solve`.
    """
    policy = optimal_policy(enumerate_task(env))

    def act(key: Key, state: PyTree, obs: PyTree, num_steps: jax.Array) -> jax.Array:
        chances = policy[num_steps, env.privileged(state)["index"]]
        return jax.random.categorical(key, jnp.log(chances)).astype(jnp.int32)

    return act


def gain(model: Model, policy: jax.Array) -> float:
    """Average reward of a step in the long run under a stationary policy `[S, A]`.

    A task that terminates begins anew. For policies with one recurrent class.
    """
    p, r, initial, _ = (np.asarray(x, np.float64) for x in model.dense())
    chances = np.asarray(policy, np.float64)
    moves = np.einsum("sa,sap->sp", chances, p)
    moves += (1.0 - moves.sum(axis=1, keepdims=True)) * initial
    # The stationary distribution d = d P, sum d = 1, by least squares: one equation is redundant.
    size = len(initial)
    left = np.concatenate([moves.T - np.eye(size), np.ones((1, size))])
    right = np.append(np.zeros(size), 1.0)
    stationary = np.linalg.lstsq(left, right, rcond=None)[0]
    return float(stationary @ np.einsum("sa,sa->s", chances, r))


def optimal_gain(model: Model, tolerance: float = 1e-6, max_sweeps: int = 100_000) -> float:
    """The best average reward of a step in the long run, by relative value iteration.

    A task that terminates begins anew. Iterates `V <- (V + max_a Q) / 2`, whose damping makes
    periodic tasks converge, until the gain is known to `tolerance`; for tasks in which every state
    can be left for every other.

    Raises:
        ConfigError: `max_sweeps` were not enough.
    """
    value, span = _relative_values(model, tolerance, max_sweeps)
    if not float(span) <= 2 * tolerance:
        raise ConfigError(
            f"the best average reward is known to {float(span):.1e} after {max_sweeps:,} sweeps:"
            " give a larger tolerance or more sweeps"
        )
    return float(value)


@functools.partial(jax.jit, static_argnums=2)
def _relative_values(
    model: Model, tolerance: float, max_sweeps: int
) -> tuple[jax.Array, jax.Array]:
    ends = 1.0 - jnp.sum(model.probability, axis=-1)
    seen = model.reachable

    def sweep(loop: tuple[Any, ...]) -> tuple[Any, ...]:
        count, value, _, _ = loop
        q = _backup(model, value) + ends * jnp.sum(model.initial * value)
        change = jnp.where(seen, jnp.max(q, axis=-1) - value, 0.0)
        low = jnp.min(jnp.where(seen, change, jnp.inf))
        high = jnp.max(jnp.where(seen, change, -jnp.inf))
        value = value + 0.5 * change
        return count + 1, value - jnp.sum(model.initial * value), (low + high) / 2, high - low

    def going_on(loop: tuple[Any, ...]) -> jax.Array:
        return (loop[0] < max_sweeps) & (loop[3] > 2 * tolerance)

    start = (jnp.int32(0), jnp.zeros(seen.shape), jnp.float32(0), jnp.float32(jnp.inf))
    _, _, middle, span = jax.lax.while_loop(going_on, sweep, start)
    return middle, span
