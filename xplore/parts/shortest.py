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
from xplore.parts.hashing import hash_pytree, joined

NEVER: Final = 2**30  # steps that remain where there is no way
_Ints: TypeAlias = npt.NDArray[np.int32]
Remaining: TypeAlias = Callable[[PyTree], jax.Array | _Ints]


class Effort(NamedTuple):
    """How much is searched.

    Attributes:
        max_states: different states that are reached, after which the search is given up.
        chunk: states that go through a compiled program at once; or, while there are few, a
            sixteenth of it.
    """

    max_states: int = 2**20
    chunk: int = 1024


_FULL: Final = Effort()


def shortest(
    env: Environment, level: PyTree, remaining: Remaining, effort: Effort = _FULL
) -> Solution:
    """The shortest way from the start of `level` to the first step that reports success.

    A* by layers: states are expanded many at a time in the order of steps taken plus steps that
    remain at the least, the farthest first. What is returned is exact unless `effort` is spent; it
    then has the bound that was proven until then, and the best way that was met, if any. Time
    limits are left out of account, and two states are one if their 64-bit hashes are equal.

    Args:
        env: deterministic, with discrete actions; `privileged(state)["state"]` tells states apart.
        level: where to begin.
        remaining: of states (leaves `[N, ...]`, N one of the two sizes of `effort`): int32 `[N]`,
            no more than the steps from each to success; `NEVER` where none leads there. It is
            called as it is, each state once: compile it, if it is of JAX.
        effort: when to give up.

    Raises:
        ConfigError: `env` is stochastic, or has other actions.

    Reference: Hart, Nilsson & Raphael (1968), A Formal Basis for the Heuristic Determination of
        Minimum Cost Paths.
    """
    spec = env.spec()
    if spec.stochastic or not isinstance(spec.action, Discrete):
        raise ConfigError(
            f"{spec.name} cannot be searched: it needs to be deterministic, its actions Discrete"
        )
    num_actions = spec.action.num
    start, _ = env.reset_to_level(jax.random.key(0), level)
    known = _Known(start, num_actions)
    bound, best, plan = 0, NEVER, None
    while (least := known.least()) < best:
        bound = max(bound, least)
        if known.num_states >= effort.max_states:
            return Solution(bound, plan)
        chosen = known.pop(effort.chunk)
        if not len(chosen):
            continue
        (after,) = _blocks(lambda states: _expand(env, states), known.states(chosen), effort.chunk)
        parent = np.repeat(chosen, num_actions)
        steps = known.steps[parent] + 1
        won = np.flatnonzero(after.success)
        if len(won) and steps[won].min() < best:
            last = int(won[steps[won].argmin()])
            best = int(steps[last])
            plan = known.way(int(parent[last]), last % num_actions)
        which = known.better(after.name, steps, np.flatnonzero(after.goes_on & (steps < best)))
        states = jax.tree.map(lambda x, which=which: x[which], after.state)
        left = np.concatenate([np.zeros(0, np.int32), *_blocks(remaining, states, effort.chunk)])
        known.put(states, after.name[which], parent[which], which % num_actions, left)
    return Solution(-1 if plan is None else best, plan)


def _blocks(function: Callable[[PyTree], Any], states: PyTree, chunk: int) -> list[Any]:
    """What `function` makes of `states`, as arrays of the host: for each block of at most `chunk`.

    Blocks are filled up to one of two sizes; what is made of that is left out.
    """
    num, found = len(jax.tree.leaves(states)[0]), []
    for begin in range(0, num, chunk):
        few = min(chunk, num - begin)
        size = chunk if few > chunk // 16 else max(1, chunk // 16)
        rows = np.minimum(np.arange(begin, begin + size), num - 1)
        made = function(jax.tree.map(lambda x, rows=rows: x[rows], states))
        share = len(jax.tree.leaves(made)[0]) // size * few
        found.append(jax.tree.map(lambda x, share=share: np.asarray(x)[:share], made))
    return found


class _Successors(NamedTuple):
    """Of each state and action, in that order, along the first axis."""

    state: PyTree
    success: Any
    goes_on: Any  # whether the episode does
    name: Any  # uint32 [N, 2]


@functools.partial(jax.jit, static_argnums=0)
def _expand(env: Any, states: PyTree) -> _Successors:
    actions = jnp.arange(env.spec().action.num)
    key = jax.random.key(0)

    def act(state: PyTree, action: jax.Array) -> tuple[PyTree, jax.Array, jax.Array, jax.Array]:
        after, ts = env.step(key, state, action)
        return after, ts.info["success"], ts.terminated, env.privileged(after)["state"]

    both = jax.vmap(jax.vmap(act, (None, 0)), (0, None))(states, actions)
    after, success, over, identity = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), both)
    name = jnp.stack([hash_pytree(identity, 1, salt) for salt in (0, 1)], axis=-1)
    return _Successors(after, success, ~(success | over), name)


class _Known:
    """The states that were met, the fewest steps to each so far, and which are to be expanded."""

    def __init__(self, start: PyTree, num_actions: int) -> None:
        self.num_states = 1
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

    def better(self, names: Any, steps: _Ints, which: npt.NDArray[np.intp]) -> Any:
        """Those `which` are new, or met in fewer steps than before: each state once."""
        which = which[np.argsort(steps[which], kind="stable")]
        _, first = np.unique(joined(names[which]), return_index=True)
        which = which[first]
        rows = self._rows(names[which])
        return which[(rows < 0) | (steps[which] < self.steps[rows])]

    def _rows(self, names: Any) -> _Ints:
        """The rows of states, -1 of those that are new."""
        return np.array([self._row.get(x, -1) for x in joined(names).tolist()], np.int32)

    def put(self, states: PyTree, names: Any, parent: _Ints, action: Any, left: _Ints) -> None:
        """Keeps states that are new or met in fewer steps, to be expanded."""
        if not len(left):
            return
        row, steps = self._rows(names), self.steps[parent] + 1
        new = row < 0
        row[new] = self.num_states + np.arange(np.sum(new))
        self.num_states += int(np.sum(new))
        self._row.update(zip(joined(names[new]).tolist(), row[new].tolist(), strict=True))
        self._grow()
        both = jax.tree.leaves(self._leaves), jax.tree.leaves(states)
        for mine, theirs in zip(*both, strict=True):
            mine[row] = theirs
        self.steps[row], self._parent[row], self._action[row] = steps, parent, action
        self._open[row] = left < NEVER
        due = steps + left
        order = np.lexsort((steps, due))
        order = order[left[order] < NEVER]
        due, steps, row = due[order], steps[order], row[order]
        cuts = np.flatnonzero((np.diff(due) != 0) | (np.diff(steps) != 0)) + 1
        if not len(row):
            return
        for i, rows in zip([0, *cuts.tolist()], np.split(row, cuts), strict=True):
            self._queue.setdefault(int(due[i]), {}).setdefault(int(steps[i]), []).append(rows)

    def _grow(self) -> None:
        """Doubles the rows until there is room."""

        def twice(x: Any) -> Any:
            return np.concatenate([x, np.zeros_like(x)])

        while len(self.steps) < self.num_states:
            self._leaves = jax.tree.map(twice, self._leaves)
            self.steps, self._open = twice(self.steps), twice(self._open)
            self._parent, self._action = twice(self._parent), twice(self._action)
