"""Plans for levels of Miner: a search by layers of equal steps, over words of many states."""

from __future__ import annotations

from typing import Final, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from xplore.contracts.solution import Solution
from xplore.envs.families import miner_moves
from xplore.envs.families.miner_bounds import FAR, Bools, Ints, Level, Words
from xplore.parts.hashing import joined

_CHUNK: Final = 512
# Diamonds that are not in the tables are only counted, at so many steps each.
_EACH_OTHER: Final = 4
_EACH_ALIKE: Final = 0.1  # steps
_KNOWN: Final = 2**15  # states that are known again


class Effort(NamedTuple):
    """How much is searched.

    Attributes:
        max_states: in search of a proof, which is then given up, unless a plan was found and no
            more than `near` steps are open.
        most_states: the same where they are.
        near: steps.
        narrow: states of a layer that are kept in search of any plan.
        wide: the same where that finds none, and in search of a better one where the proof fails.
    """

    max_states: int = 200_000
    most_states: int = 4_000_000
    near: int = 3
    narrow: int = 256
    wide: int = 2048


_DEFAULT: Final = Effort()


def plan(
    grid: npt.NDArray[np.uint8], position: int, exit_: int, effort: Effort = _DEFAULT
) -> Solution:
    """The shortest plan found and the steps that are proven to be needed.

    First a beam search, led by the shortest walk by all diamonds, and a wider one where it finds
    nothing. Then all plans of no more steps than the bound, of one more, and so on, until one is
    found, until the beam search's is reached, or until `effort` is spent: then a wide beam search
    for a shorter one. Of states that differ only in what cannot matter any more in so many steps,
    one is followed. Two states are one if their 64-bit hashes are equal.

    Args:
        grid: uint8 `[H * W]`, the codes of `Miner`.
        position: the agent's cell.
        exit_: that of the exit.
        effort: when to give up.
    """
    level = Level(grid, position, exit_)
    if level.bound >= FAR:
        return Solution(-1, None)
    longest = 2 * min(int(level.guess[-1, position]), 2 * level.bound) + 4 * level.side
    found = _search(level, longest, effort.narrow)
    if found.plan is None and not found.none:
        found = _search(level, longest, effort.wide)
    if found.none:
        return Solution(-1, None)
    least, most, spent = level.bound, effort.max_states, 0
    best = found.plan
    while least < (longest if best is None else len(best)):
        found = _search(level, least, most - spent, prove=True)
        spent += found.num_states
        if found.plan is not None:
            best = found.plan
        elif found.complete:
            least += 1
        elif best is not None and most < effort.most_states and len(best) - least <= effort.near:
            most = effort.most_states
        else:
            break
    if best is not None and least < len(best):
        shorter = _search(level, len(best) - 1, effort.wide).plan
        best = best if shorter is None else shorter
    return Solution(least, best)


class _States(NamedTuple):
    """States of a layer.

    Attributes:
        planes: words `[N, 4, H]`, as in `miner_moves`.
        position: int32 `[N]`.
        left: int32 `[N]`, steps that remain at the least.
        wanted: int32 `[N]`, which of the diamonds of the tables were not taken, as bits.
        parent: int32 `[N]`, the state of the layer before.
        action: int32 `[N]`, what led here.
        name: uint64 `[N]`.
    """

    planes: Words
    position: Ints
    left: Ints
    wanted: Ints
    parent: Ints
    action: Ints
    name: npt.NDArray[np.uint64]

    def of(self, which: npt.NDArray[np.intp] | Bools) -> _States:
        found: _States = jax.tree.map(lambda x: x[which], self)
        return found


class _Found(NamedTuple):
    """What came of a search: `none`: of however many steps, there is no plan."""

    plan: Ints | None
    complete: bool
    none: bool
    num_states: int


def _search(level: Level, longest: int, width: int, prove: bool = False) -> _Found:
    """A plan of the fewest steps, of those of at most `longest`.

    Args:
        level: where.
        longest: how many steps are allowed.
        width: states of a layer that are kept, those of the best guess; to prove, of all layers
            together, after which the search is given up.
        prove: whether to leave out all but one of the states that do not differ in what matters in
            the rest of so long a plan.
    """
    zero = np.zeros(1, np.int32)
    start = np.array([level.position], np.int32)
    wanted = np.array([len(level.guess) - 1], np.int32)
    layer = _States(level.planes[None], start, zero, wanted, zero, zero, np.zeros(1, np.uint64))
    layers: list[_States] = []
    known = layer.name
    complete, none, num_states = True, True, 0
    for step in range(1, longest + 1):
        layers.append(layer._replace(planes=layer.planes[:0]))
        layer, won = _next(level, layer)
        if won is not None:
            return _Found(_way(layers, *won), complete, False, num_states)
        layer = layer.of(~np.isin(layer.name, known))
        within = step + layer.left <= longest
        none &= bool(np.all(within | (layer.left >= FAR)))
        layer = layer.of(within)
        if not len(layer.name):
            return _Found(None, complete, none and complete and not prove, num_states)
        if prove:
            layer = _different(level, layer, longest - step)
        num_states += max(len(layer.name), _CHUNK // 4)  # about what a few cost
        if prove and num_states > width:
            return _Found(None, False, False, num_states)
        if len(layer.name) > width:
            complete = False
            # In the order of names, which is random, among those that are guessed alike.
            layer = layer.of(np.argsort(_rank(level, layer), kind="stable")[:width])
        known = np.concatenate([known[-_KNOWN:], layer.name])
    return _Found(None, complete, False, num_states)


def _next(level: Level, layer: _States) -> tuple[_States, tuple[int, int] | None]:
    """All that the states of a layer lead to, each once, or a state and action that win."""
    parts = []
    for i in range(0, len(layer.position), _CHUNK):
        chunk = [_padded(x[i : i + _CHUNK]) for x in (layer.planes, layer.position)]
        after = miner_moves.advance(*chunk, level.exit, level.walls)
        num = min(_CHUNK, len(layer.position) - i)
        parts.append([np.asarray(x)[:, :num] for x in after])
    after = miner_moves.After(*(np.concatenate(x, axis=1) for x in zip(*parts, strict=True)))
    if np.any(after.success):
        action, state = np.argwhere(after.success)[0]
        return layer, (int(state), int(action))
    names = joined(after.name)
    alive = np.flatnonzero(after.alive)
    name, first = np.unique(names.ravel()[alive], return_index=True)
    action, parent = np.divmod(alive[first].astype(np.int32), len(layer.position))
    planes, position = after.planes[action, parent], after.position[action, parent]
    least = level.tours[level.unmoved(planes), position]
    wanted = layer.wanted[parent]
    count = [np.bitwise_count(x[:, miner_moves.DIAMONDS]).sum(1) for x in (planes, layer.planes)]
    took = np.flatnonzero(count[0] < count[1][parent])
    wanted[took] &= ~_nearest(level, wanted[took], position[took])
    left = np.maximum(least, layer.left[parent] - 1)
    return _States(planes, position, left, wanted, parent, action, name), None


def _rank(level: Level, layer: _States) -> npt.NDArray[np.float64]:
    """How soon a state is left out of a layer, `[N]`: the less, the later.

    Steps that may remain, by the places where diamonds were, around boulders; and more for each
    state that is like it but for what was dug on the way: else there would soon be no other.
    """
    alike = layer.position * len(level.guess) + layer.wanted
    order = np.argsort(alike, kind="stable")
    first = np.searchsorted(alike[order], alike[order])
    before = np.empty(len(alike), np.int32)
    before[order] = np.arange(len(alike)) - first
    others = np.bitwise_count(layer.planes[:, miner_moves.DIAMONDS]).sum(1, dtype=np.int32)
    others -= np.bitwise_count(layer.wanted)
    guess = level.guess[layer.wanted, layer.position] + _EACH_OTHER * others
    return np.asarray(guess + before * _EACH_ALIKE)


def _nearest(level: Level, wanted: Ints, position: Ints) -> Ints:
    """The one that was taken, as a bit `[N]`: of those wanted, the one that lay nearest."""
    y, x = np.divmod(level.diamonds, level.side)
    away = abs(y - position[:, None] // level.side) + abs(x - position[:, None] % level.side)
    away[wanted[:, None] >> np.arange(len(level.diamonds)) & 1 == 0] = FAR
    return (1 << np.argmin(away, axis=1)).astype(np.int32)


def _different(level: Level, layer: _States, steps: int) -> _States:
    """One of each lot of states that are alike in all that matters in so many steps."""
    reach = level.may_enter(level.unmoved(layer.planes), layer.position, steps)
    names = []
    for i in range(0, len(reach), _CHUNK):
        chunk = [_padded(x[i : i + _CHUNK]) for x in (layer.planes, layer.position, reach)]
        names.append(joined(miner_moves.merged(*chunk, level.walls)))
    _, first = np.unique(np.concatenate(names)[: len(reach)], return_index=True)
    return layer.of(first)


def _padded(x: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return np.concatenate([x, np.repeat(x[:1], _CHUNK - len(x), axis=0)])


def _way(layers: list[_States], state: int, action: int) -> Ints:
    """The actions that led to a state of the last layer, and one more."""
    actions = [action]
    for layer in layers[:0:-1]:
        actions.append(int(layer.action[state]))
        state = int(layer.parent[state])
    return np.array(actions[::-1], np.int32)
