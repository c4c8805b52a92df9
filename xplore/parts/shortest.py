"""The shortest way to success in a level, by a search over the environment's own steps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.errors import ConfigError
from xplore.contracts.solution import Solution
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import Environment, PyTree
from xplore.parts.hashing import hash_pytree

NEVER: Final = 2**30  # steps that remain where there is no way
Remaining: TypeAlias = Callable[[PyTree, PyTree], jax.Array]
_Ints: TypeAlias = npt.NDArray[np.int32]


class Effort(NamedTuple):
    """How much is searched.

    Attributes:
        max_states: different states that are reached, after which the search is given up.
        chunk: states whose successors are found by one call of the compiled program; another,
            smaller by 16, serves while there are few.
    """

    max_states: int = 2**20
    chunk: int = 1024


_FULL: Final = Effort()


def shortest(
    env: Environment,
    level: PyTree,
    remaining: Remaining,
    aid: PyTree = (),
    effort: Effort = _FULL,
) -> Solution:
    """The shortest way from the start of `level` to the first step that reports success.

    A* by layers: states are expanded many at a time in the order of steps taken plus steps that
    remain at the least, the farthest first. What is returned is exact unless `effort` is spent; it
    then has the bound that was proven until then, and the best way that was met, if any. Time
    limits are left out of account, and two states are one if their 64-bit hashes are equal.

    Args:
        env: deterministic, with discrete actions; `privileged(state)["state"]` tells states apart.
        level: where to begin.
        remaining: of `(aid, states)`: int32 `[N]`, no more than the steps from each of the states
            (leaves `[N, ...]`) to success; `NEVER` where none leads there. A function of a module,
            to be traced, for it is part of what is compiled.
        aid: arrays that it needs, made once for a level.
        effort: when to give up.

    Raises:
        ConfigError: `env` is stochastic, or has other actions.

    Reference: Hart, Nilsson & Raphael (1968), A Formal Basis for the Heuristic Determination of
        Minimum Cost Paths.
    """
    start, _ = env.reset_to_level(jax.random.key(0), level)
    spec = env.spec()
    if spec.stochastic or not isinstance(spec.action, Discrete):
        raise ConfigError(
            f"{spec.name} cannot be searched: it needs to be deterministic, its actions Discrete"
        )
    num_actions = spec.action.num
    known = _Known(start, num_actions)
    bound, best, plan = 0, NEVER, None
    while (least := known.least()) < best:
        bound = max(bound, least)
        if known.num_states >= effort.max_states:
            return Solution(bound, plan)
        chosen = known.pop(effort.chunk)
        if not len(chosen):
            continue
        size = effort.chunk if len(chosen) > effort.chunk // 16 else max(1, effort.chunk // 16)
        padded = np.pad(chosen, (0, size - len(chosen)), mode="edge")
        after = _expand(env, remaining, aid, known.states(padded))
        whole = slice(len(chosen) * num_actions)
        successors: _Successors = jax.tree.map(lambda x, whole=whole: np.asarray(x)[whole], after)
        parent = np.repeat(chosen, num_actions)
        steps = known.steps[parent] + 1
        won = np.flatnonzero(successors.success)
        if len(won) and steps[won].min() < best:
            last = int(won[steps[won].argmin()])
            best = int(steps[last])
            plan = known.way(int(parent[last]), last % num_actions)
        known.add(successors, parent, np.flatnonzero(steps + successors.left < best))
    return Solution(-1 if plan is None else best, plan)


class _Successors(NamedTuple):
    """Of each state and action, in that order, along the first axis."""

    state: PyTree
    success: Any
    left: Any  # steps that remain; `NEVER` where the episode is over
    name: Any  # uint32 [N, 2]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _expand(env: Any, remaining: Remaining, aid: PyTree, states: PyTree) -> _Successors:
    actions = jnp.arange(env.spec().action.num)
    key = jax.random.key(0)

    def act(state: PyTree, action: jax.Array) -> tuple[PyTree, jax.Array, jax.Array, jax.Array]:
        after, ts = env.step(key, state, action)
        return after, ts.info["success"], ts.terminated, env.privileged(after)["state"]

    both = jax.vmap(jax.vmap(act, (None, 0)), (0, None))(states, actions)
    after, success, over, identity = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), both)
    left = jnp.where(over | success, NEVER, remaining(aid, after)).astype(jnp.int32)
    name = jnp.stack([hash_pytree(identity, 1, salt) for salt in (0, 1)], axis=-1)
    return _Successors(after, success, left, name)


class _Known:
    """The states that were met, the fewest steps to each so far, and which are to be expanded."""

    def __init__(self, start: PyTree, num_actions: int) -> None:
        self.num_states, self._num_actions = 1, num_actions
        self._leaves = jax.tree.map(lambda x: np.asarray(x)[None], start)
        self.steps: _Ints = np.zeros(1, np.int32)
        self._parent: _Ints = np.zeros(1, np.int32)
        self._action: _Ints = np.zeros(1, np.int32)
        self._open = np.ones(1, bool)
        # By the sum of steps taken and steps left, then by steps taken: rows of states.
        self._queue: dict[int, dict[int, list[_Ints]]] = {0: {0: [np.zeros(1, np.int32)]}}
        self._row: dict[int, int] = {}

    def least(self) -> int:
        """The least sum of steps taken and left of what is still to expand."""
        return min(self._queue, default=NEVER)

    def pop(self, num: int) -> _Ints:
        """At most `num` rows of those with the least sum, farthest first."""
        least = self.least()
        layer, found = self._queue[least], 0
        rows: list[_Ints] = []
        while layer and found < num:
            far = max(layer)
            some = layer[far].pop()
            if not layer[far]:
                del layer[far]
            # A row may have been expanded already, or be due at other steps by now.
            some = some[self._open[some] & (self.steps[some] == far)]
            if (many := found + len(some) - num) > 0:
                layer.setdefault(far, []).append(some[-many:])
                some = some[:-many]
            rows.append(some)
            found += len(some)
        if not layer:
            del self._queue[least]
        chosen = np.concatenate(rows)
        self._open[chosen] = False
        return chosen

    def states(self, rows: _Ints) -> PyTree:
        return jax.tree.map(lambda x: x[rows], self._leaves)

    def way(self, row: int, last: int) -> _Ints:
        """The actions that led to a state, and one more."""
        actions = [last]
        while row:
            actions.append(int(self._action[row]))
            row = int(self._parent[row])
        return np.array(actions[::-1], np.int32)

    def add(self, after: _Successors, parent: _Ints, which: npt.NDArray[np.intp]) -> None:
        """Keeps those of the successors that are new, or met in fewer steps than before."""
        names = after.name[which].astype(np.uint64)
        names = names[:, 0] << np.uint64(32) | names[:, 1]
        order = np.argsort(self.steps[parent[which]], kind="stable")
        _, first = np.unique(names[order], return_index=True)
        which, names = which[order[first]], names[order[first]]
        steps = self.steps[parent[which]] + 1
        row = np.array([self._row.get(name, -1) for name in names.tolist()], np.int32)
        new = row < 0
        better = np.where(new, True, steps < self.steps[np.maximum(row, 0)])
        which, steps, row, new = which[better], steps[better], row[better], new[better]
        if not len(which):
            return
        row[new] = self.num_states + np.arange(np.sum(new))
        self.num_states += int(np.sum(new))
        self._row.update(zip(names[better][new].tolist(), row[new].tolist(), strict=True))
        self._grow()
        both = jax.tree.leaves(self._leaves), jax.tree.leaves(after.state)
        for mine, theirs in zip(*both, strict=True):
            mine[row] = theirs[which]
        self.steps[row], self._open[row] = steps, True
        self._parent[row], self._action[row] = parent[which], which % self._num_actions
        due = steps + after.left[which]
        order = np.lexsort((steps, due))
        due, steps, row = due[order], steps[order], row[order]
        cuts = np.flatnonzero((np.diff(due) != 0) | (np.diff(steps) != 0)) + 1
        begins = [0, *cuts.tolist()]
        for i, rows in zip(begins, np.split(row, cuts), strict=True):
            layer = self._queue.setdefault(int(due[i]), {})
            layer.setdefault(int(steps[i]), []).append(rows)

    def _grow(self) -> None:
        """Doubles the rows until there is room."""

        def twice(x: Any) -> Any:
            return np.concatenate([x, np.zeros_like(x)])

        while len(self.steps) < self.num_states:
            self._leaves = jax.tree.map(twice, self._leaves)
            self.steps, self._open = twice(self.steps), twice(self._open)
            self._parent, self._action = twice(self._parent), twice(self._action)
