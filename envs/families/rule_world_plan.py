"""How many steps a RuleWorld still takes at the least: what guides the search for its shortest way.

What is wanted is the root of a tree. Of it are needed the things that lie in the room or are held
and have not been made into another yet. Call a *line* such a thing and what it becomes as the
second thing of rules, all of which stays in one place unless it is carried; a line ends as the
first thing of a rule. Rules to come, and the goal that something is to lie beside another, are then
the edges of a tree of lines: two lines that come to lie side by side. Of every plan it is true:

* A line that is carried is picked up first where it lies now. Of two lines along an edge that do
  not lie side by side now, one is carried, and if the other never is, it is dropped beside it. So
  the agent comes before the places of all lines, or before a cell beside that of some, no two of
  which are joined by an edge. Any order is allowed, and the room is taken to be empty.
* Each time that a line is dropped it has a new place. Without the carrying, places that are ever
  side by side at an edge make a forest of one tree more than there are drops (or as many, if a line
  is in hand); and two lines that never moved can be in one tree of it only if they are as far apart
  as the tree of lines has edges between them, or less by an even number. All others cost a drop.

Picking up, dropping, turning and moving take a step each.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from xplore.contracts.solution import Solution
from xplore.contracts.types import Environment
from xplore.envs.families.poses import FAR, Poses, poses
from xplore.envs.minigrid import cells
from xplore.envs.minigrid.task import Level, State
from xplore.parts.shortest import NEVER, Effort, shortest

_NOWHERE: Final = 255  # the place of a thing that does not lie in the room
_EMPTY, _OTHER = 254, 253  # hands that hold nothing, or what is of no use
_MANY: Final = 64  # layouts that are worked out at once
_EFFORT: Final = Effort(max_states=2**20, chunk=512)
# To find any plan, what remains is taken for so many times as much, in a shorter search.
_HASTE: Final = (4, 16)
_HASTY: Final = Effort(max_states=2**17, chunk=512)
_Array = npt.NDArray[Any]


class Recipe(NamedTuple):
    """What is to be done, in bytes of `cells`.

    Attributes:
        rules: two things, and what they make.
        wanted: the thing that is wanted.
        other: what it is to lie beside; None if it is to be held.
    """

    rules: tuple[tuple[int, int, int], ...]
    wanted: int
    other: int | None

    @property
    def goals(self) -> tuple[int, ...]:
        return (self.wanted,) if self.other is None else (self.wanted, self.other)

    @property
    def parts(self) -> dict[int, tuple[int, int]]:
        """What a thing is made of."""
        return {made: (first, second) for first, second, made in self.rules}

    def things(self) -> list[int]:
        """All that is needed, at any time; a thing that is needed twice is there twice."""

        def below(thing: int, depth: int = 0) -> Iterable[int]:
            yield thing
            if depth < len(self.rules):
                for part in self.parts.get(thing, ()):
                    yield from below(part, depth + 1)

        return [thing for goal in self.goals for thing in below(goal)]

    def can_be_done(self, lying: list[int]) -> bool:
        """Whether rules make what is wanted of things that lie in the room, others not reacting."""
        had = set(lying)
        for _ in self.rules:
            had |= {made for first, second, made in self.rules if {first, second} <= had}
        return had.issuperset(self.goals)

    def is_plain(self, lying: list[int]) -> bool:
        """Whether there is one of each thing that is needed, and one way to have it."""
        things, made = self.things(), [rule[2] for rule in self.rules]
        return len(set(things)) == len(things) and all(
            lying.count(thing) + made.count(thing) <= 1 for thing in things
        )


class _Stage(NamedTuple):
    """The tree of lines at some time; `lines` are numbers of things.

    Attributes:
        apart: int64 `[n, n]`, edges between lines.
        beside: bool `[U, n]`, sets of lines that need not be carried: the largest.
    """

    lines: tuple[int, ...]
    apart: _Array
    beside: _Array


class Remaining:
    """A lower bound of the steps that remain, for states of one level.

    It is worked out once for each layout of what is needed, for all poses of the agent. It holds
    where the recipe `is_plain`.
    """

    def __init__(self, recipe: Recipe, room: _Array) -> None:
        """`room`: the cells of a square room, row by row, as indices of the grid."""
        self._recipe, self._parts, self._room = recipe, recipe.parts, room
        self._things = recipe.things()
        self._poses = poses(round(len(room) ** 0.5))
        self._cell = np.zeros(room.max() + 1, np.int64)
        self._cell[room] = np.arange(len(room))
        self._hand = np.full(256, _OTHER, np.uint8)
        self._hand[self._things] = np.arange(len(self._things))
        self._stage = functools.cache(self._stage_of)
        self._row: dict[bytes, int] = {}
        self._steps = np.zeros((0, 4 * len(room)), np.int32)

    def __call__(self, states: State) -> _Array:
        """Of states with leaves `[N, ...]`: int32 `[N]`."""
        grid = np.asarray(states.grid)[:, self._room]
        lies = [grid == thing for thing in self._things]
        place = [np.where(np.any(at, 1), np.argmax(at, 1), _NOWHERE) for at in lies]
        carrying = np.asarray(states.carrying)
        hand = np.where(carrying == cells.NOTHING, _EMPTY, self._hand[carrying])
        layouts = np.stack([*place, hand], axis=1).astype(np.uint8)
        which, of = np.unique(layouts, axis=0, return_inverse=True)
        names = [row.tobytes() for row in which]
        new = [i for i, name in enumerate(names) if name not in self._row]
        if new:
            self._row |= {names[i]: len(self._row) + j for j, i in enumerate(new)}
            self._steps = np.concatenate([self._steps, self._worked_out(which[new])])
        rows = np.array([self._row[name] for name in names])[of.ravel()]
        pose = 4 * self._cell[np.asarray(states.position)] + np.asarray(states.direction)
        return self._steps[rows, pose]

    def _worked_out(self, layouts: _Array) -> _Array:
        """Of each of `layouts` `[M, ...]` and all poses: int32 `[M, P]`."""
        steps = np.full((len(layouts), self._steps.shape[1]), NEVER, np.int32)
        groups: dict[Any, list[int]] = {}
        for i, layout in enumerate(layouts.tolist()):
            *places, hand = layout
            there = tuple(p != _NOWHERE or hand == k for k, p in enumerate(places))
            groups.setdefault((there, hand), []).append(i)
        for (there, hand), alike in groups.items():
            stage = self._stage(there)
            if stage is None:
                continue
            for begin in range(0, len(alike), _MANY):
                some = alike[begin : begin + _MANY]
                steps[some] = self._of_stage(stage, layouts[some].astype(np.int64), hand)
        return steps

    def _of_stage(self, stage: _Stage, layouts: _Array, hand: int) -> _Array:
        """The same of layouts that have what is needed in common, and what is held."""
        lying = [i for i, line in enumerate(stage.lines) if line != hand]
        carries, holds = len(lying) < len(stage.lines), self._recipe.other is None
        cell = layouts[:, [stage.lines[i] for i in lying]]
        away = self._poses.away[cell[:, :, None], cell[:, None]]
        apart = stage.apart[np.ix_(lying, lying)]
        near = (away <= apart) & ((apart - away) % 2 == 0)
        drops = _num_parts(near) - (not carries)
        ops = np.maximum(2 * drops - carries, 0) + holds + (hand == _OTHER)
        done = np.any((apart == 1) & (away == 1), axis=1)  # beside each other already
        steps = np.empty((len(cell), self._steps.shape[1]), np.int32)
        for alike in np.unique(done, axis=0):
            rows, left = np.all(done == alike, axis=1), np.flatnonzero(~alike)
            beside = np.unique(stage.beside[:, np.array(lying)[left]], axis=0)
            steps[rows] = _tour(self._poses, cell[np.ix_(rows, left)], beside)
        return np.maximum(steps + ops[:, None], 1)

    def _stage_of(self, there: tuple[bool, ...]) -> _Stage | None:
        """The tree of lines if these things are there; None if what is wanted cannot be made."""
        lines: list[int] = []
        edges: list[tuple[int, int]] = []

        def line(thing: int) -> int:
            if there[self._things.index(thing)]:
                lines.append(self._things.index(thing))
                return len(lines) - 1
            first, second = (line(part) for part in self._parts[thing])
            edges.append((first, second))
            return second

        try:
            ends = [line(goal) for goal in self._recipe.goals]
        except KeyError:  # it is not there, and no rule makes it
            return None
        edges += [(ends[0], end) for end in ends[1:]]
        num = len(lines)
        apart = np.where(np.eye(num, dtype=bool), 0, num)
        for a, b in edges:
            apart[a, b] = apart[b, a] = 1
        for k in range(num):
            apart = np.minimum(apart, apart[:, k : k + 1] + apart[k : k + 1])
        sets = np.array(list(itertools.product([False, True], repeat=num)))
        sets = sets[[not any(s[a] and s[b] for a, b in edges) for s in sets]]
        within = np.all(sets[:, None] <= sets[None], axis=2)
        # The thing that is to be held, and is there, has to be picked up.
        sets = sets[np.sum(within, axis=1) == 1] if num > 1 else sets[:1]
        return _Stage(tuple(lines), apart, sets)


def _num_parts(near: _Array) -> _Array:
    """The number of connected components of graphs `[M, n, n]` with all loops: `[M]`."""
    for _ in range(near.shape[1].bit_length()):
        near = near @ near
    return np.sum(~np.any(np.tril(near, -1), axis=2), axis=1)


def _tour(poses: Poses, cell: _Array, beside: _Array) -> _Array:
    """The fewest steps from every pose to visit all cells `[M, n]` in some order: int16 `[M, P]`.

    A cell is visited where the agent faces it, or a cell beside it if `beside` `[U, n]` says so,
    all of whose rows are allowed.
    """
    (num, n), none = cell.shape, len(poses.steps) - 1
    if n == 0:
        return np.zeros((num, none), np.int16)
    at = poses.around[cell]  # [M, n, 16]
    allowed = beside[None, :, :, None] | poses.before[cell][:, None]
    refused = np.where(allowed, 0, FAR).astype(np.int16)  # [M, U, n, 16]
    between = poses.steps[at[:, None, None], at[:, :, :, None, None]]  # from [M, n, 16] to [n, 16]
    # Steps from the poses of a cell to visit all cells of a set, by set: [M, U, n, 16].
    tour = [np.zeros_like(refused)]
    for visits in range(1, 2**n):
        goes = [i for i in range(n) if visits >> i & 1]
        then = [refused[:, :, i] + tour[visits - (1 << i)][:, :, i] for i in goes]
        if visits == 2**n - 1:
            first = np.minimum(np.concatenate(then, axis=-1).min(axis=1), FAR)
            into = poses.steps[at.reshape(num, -1), :none]  # [M, 16 n, P]
            return np.min(into + first[:, :, None], axis=1)
        best = np.full_like(refused, FAR)
        for i, after in zip(goes, then, strict=True):
            way = between[:, None, :, :, i] + after[:, :, None, None]
            best = np.minimum(best, way.min(axis=-1))
        tour.append(best)
    raise AssertionError("the last set is that of all cells")


def shortest_plan(env: Environment, level: Level, recipe: Recipe, room: _Array) -> Solution:
    """The shortest plan for a level of `env`; `room` has the cells of the room, row by row.

    Where the search is given up, another that trusts its bound too much finds some plan.
    """
    lying = [thing for thing in np.asarray(level.grid)[room].tolist() if thing != cells.NOTHING]
    if not recipe.can_be_done(lying):
        return Solution(-1, None)
    if not recipe.is_plain(lying):
        return shortest(env, level, lambda states: np.ones(len(states.position), np.int32), _EFFORT)
    remaining = Remaining(recipe, room)
    found = shortest(env, level, remaining, _EFFORT)
    if found.exact:
        return found
    for haste in _HASTE:

        def hasty(states: State, haste: int = haste) -> _Array:
            steps = remaining(states)
            return np.where(steps < NEVER, haste * steps, NEVER)

        plan = shortest(env, level, hasty, _HASTY).plan
        if plan is not None:
            return Solution(found.least, plan)
    return found
