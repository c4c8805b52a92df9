"""RuleWorld: rules that combine things, written on the wall, and a goal drawn from a grammar."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.solution import Solution
from xplore.contracts.types import Key
from xplore.envs.families import boards
from xplore.envs.families.rule_world_bound import BESIDE, HOLD, Task, can_be_done, least_steps
from xplore.envs.families.rule_world_plan import Recipe, shortest_plan
from xplore.envs.families.world import FamilyTask, GridFamily
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Level, Move, Outcome, State
from xplore.parts.apart import apart

# The 12 things: keys and balls of six colours.
THINGS: Final = np.array(
    [cells.cell(kind, c) for kind in (cells.KEY, cells.BALL) for c in range(6)], np.uint8
)
MAX_DEPTH: Final = 2
_BOARD_ROWS: Final = 3  # a rule stands in a column: two things, and what they make


@final
@component
class RuleWorldTask(FamilyTask):
    """A room with things in it, and above it, behind a wall, the rules and the goal.

    A task is a tree of sub-tasks of depth `depth`: what is wanted is made of two things, each of
    which lies in the room or (on every level but the last, one of the two surely and the other by
    chance) is made of two others. `num_false` rules more lead nowhere: they spoil what they take.
    What lies side by side reacts before the next move, one rule a step, the first in order.

    Attributes:
        depth: of the tree: 0 (nothing is to be made), 1 or 2.
        size: side of the room; 6 to 12.
        num_false: rules that only mislead; 0 to 2.
        num_idle: things that no rule takes; 0 to 2.
    """

    depth: int = 1
    size: int = 7
    num_false: int = 1
    num_idle: int = 1

    def __post_init__(self) -> None:
        for name, least, most in (
            ("depth", 0, MAX_DEPTH), ("size", 6, 12), ("num_false", 0, 2), ("num_idle", 0, 2),
        ):  # fmt: skip
            value = getattr(self, name)
            if not least <= value <= most:
                raise ConfigError(f"{name} is {value}: RuleWorld needs {least} to {most}")
        if self.depth + self.num_false == 0:
            raise ConfigError("depth and num_false are 0: a RuleWorld needs a rule")

    @property
    def name(self) -> str:
        return f"RuleWorld-D{self.depth}-{self.size}x{self.size}"

    @property
    def width(self) -> int:
        return self.size + 2

    @property
    def height(self) -> int:
        return self.size + 3 + _BOARD_ROWS

    @property
    def _num_rules(self) -> int:
        return 2**self.depth - 1 + self.num_false

    @property
    def missions(self) -> tuple[str, ...]:
        return ("do what is written on the wall",)

    @property
    def max_steps(self) -> int:
        return 60 * (self.depth + 1)

    @property
    def num_actions(self) -> int:
        return 5  # turn left, turn right, forward, pick up, drop

    def may_turn(self) -> npt.NDArray[np.bool_]:
        return np.zeros(self.width * self.height, bool)

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (32,), jnp.uint32)
        task, lying = self._draw(bits)
        grid = jnp.asarray(self._empty())
        for cell, byte in zip(self._board_cells(), _written(task), strict=True):
            grid = grid.at[cell].set(byte)
        here = np.arange(grid.size, dtype=np.int32)
        room = jnp.asarray(self._room())
        for i in range(lying.shape[0]):
            # Apart from each other to begin with, so that nothing reacts by itself.
            apart_ = room & ~_near(self.width, room & (grid != cells.NOTHING))
            cell = boards.pick(apart_, bits[8 + i])
            there = (here == cell) & (lying[i] != cells.GREY_WALL) & (cell > 0)
            grid = jnp.where(there, lying[i], grid)
        agent = boards.pick(room & (grid == cells.NOTHING), bits[6])
        return Level(grid, agent, layout.below(bits[7], 4))

    def _draw(self, bits: jax.Array) -> tuple[Task, jax.Array]:
        """The task, and the things that lie in the room (a wall where there is none)."""
        order = jnp.argsort(boards.noise(bits[0], len(THINGS)))
        thing = jnp.asarray(THINGS)[order]  # all different
        wall = jnp.uint8(cells.GREY_WALL)
        root, used = thing[0], 1
        rules, lying = [], []
        level = [(root, jnp.bool_(True))]
        for depth in range(self.depth):
            below = []
            for made, exists in level:
                left, right = thing[used], thing[used + 1]
                used += 2
                rules.append(tuple(jnp.where(exists, x, wall) for x in (left, right, made)))
                below += [(left, exists), (right, exists)]
                # On the next level, the first is surely made, the second by chance.
            last = depth == self.depth - 1
            level = []
            for i, (what, exists) in enumerate(below):
                made = exists & (not last)
                if i > 0 and not last:
                    made &= bits[1] >> i & 1 == 1
                lying.append(jnp.where(exists & ~made, what, wall))
                if not last:
                    level.append((what, made))
        if self.depth == 0:
            lying.append(root)
        beside = bits[2] >> 31 == 1
        other, used = thing[used], used + 1
        lying.append(jnp.where(beside, other, wall))
        for i in range(self.num_false):
            # Takes a thing of the room, and one that is of no use but for this.
            victim = lying[i % max(1, 2**self.depth)]
            bait, used = thing[used], used + 1
            lost = jnp.where(victim == wall, wall, thing[-1 - i])
            bait = jnp.where(victim == wall, wall, bait)
            rules.append((victim, bait, lost))
            lying.append(bait)
        for _ in range(self.num_idle):
            lying.append(thing[used])
            used += 1
        turn = boards.noise(bits[3], len(rules))
        place = jnp.argsort(turn)
        first, second, product = (jnp.stack([rule[k] for rule in rules])[place] for k in range(3))
        sign = jnp.where(beside, jnp.uint8(BESIDE), jnp.uint8(HOLD))
        task = Task(first, second, product, sign, root, jnp.where(beside, other, wall))
        return task, jnp.stack(lying)

    def stir(self, key: Key, state: State) -> State:
        return state._replace(grid=self._reacted(state.grid))

    def outcome(self, move: Move) -> Outcome:
        after, task = move.after, self.task_of(move.after.grid)
        (beside,) = self._side_by_side(after.grid, task.wanted[None], task.other[None])
        held = (task.sign == HOLD) & (after.carrying == task.wanted)
        return Outcome(success=held | (task.sign == BESIDE) & beside)

    def task_of(self, grid: jax.Array) -> Task:
        """The task that is written on the wall of a `grid`."""
        written = grid[jnp.asarray(self._board_cells())]
        num = self._num_rules
        first, second, product = (written[k * num : (k + 1) * num] for k in range(3))
        sign, wanted, other = (written[3 * num + k] for k in range(3))
        return Task(first, second, product, sign, wanted, other)

    def _reacted(self, grid: jax.Array) -> jax.Array:
        """The first rule whose things lie side by side, applied: the second becomes the product."""
        task = self.task_of(grid)
        hits = self._side_by_side(grid, task.first, task.second)
        return self._applied(grid, _first_rule(hits, task.first, task.second, task.product))

    @property
    def _side_by_side(self) -> Callable[..., jax.Array]:
        return _stages(self.width, self.height)[0]

    @property
    def _applied(self) -> Callable[..., jax.Array]:
        return _stages(self.width, self.height)[1]

    def optimal_steps(self, level: Level) -> jax.Array:
        """A lower bound, int32 `[]`; -1, exactly, where what is wanted cannot be made.

        See `rule_world_bound`.
        """
        here = level.position - self.width * (_BOARD_ROWS + 1)
        task = self.task_of(level.grid)
        return least_steps(task, self._room_of(level), here, level.direction, self.depth)

    def is_hopeless(self, level: Level) -> jax.Array:
        """Whether what is wanted cannot be made, bool `[]`; what `optimal_steps` says, sooner."""
        return ~can_be_done(self.task_of(level.grid), self._room_of(level))

    def _room_of(self, level: Level) -> jax.Array:
        """The room of a level with its walls, `[size + 2, width]`."""
        return level.grid.reshape(self.height, self.width)[_BOARD_ROWS + 1 :]

    def recipe(self, level: Level) -> Recipe:
        """What is written on the wall of a level, read on the host."""
        task = self.task_of(level.grid)
        columns = np.stack([np.asarray(x) for x in (task.first, task.second, task.product)])
        rules = columns.T[columns[0] != cells.GREY_WALL].tolist()
        other = int(task.other) if int(task.sign) == BESIDE else None
        return Recipe(tuple((a, b, made) for a, b, made in rules), int(task.wanted), other)

    def is_valid(self, level: Level) -> jax.Array:
        room = level.grid[jnp.asarray(np.flatnonzero(self._room()))]
        things = jnp.any(room[:, None] == jnp.asarray(THINGS)[None], axis=1)
        fixed = ~self._room()
        fixed[self._board_cells()] = False
        walls = jnp.all(jnp.where(fixed, level.grid == cells.GREY_WALL, True))
        free = level.grid[level.position] == cells.NOTHING
        inside = jnp.asarray(self._room())[level.position]
        return walls & free & inside & jnp.all(things | (room == cells.NOTHING))

    def _edited(self, bits: jax.Array, level: Level) -> Level:
        """A thing of the room, or the agent, is moved to a place with nothing beside it."""
        grid, agent = level.grid, level.position
        here, room = np.arange(grid.size, dtype=np.int32), jnp.asarray(self._room())
        lies = room & (grid != cells.NOTHING)
        thing = boards.pick(lies, bits[1])
        others = lies & (here != thing)
        apart_ = room & ~_near(self.width, others) & (here != agent) & (here != thing)
        free, moves = boards.pick(apart_, bits[2]), bits[0] >> 31 == 1
        moves &= (thing > 0) & (free > 0)
        moved = jnp.where(here == thing, jnp.uint8(cells.NOTHING), grid)
        moved = jnp.where(here == free, grid[thing], moved)
        stands = boards.pick(room & (grid == cells.NOTHING) & (here != agent), bits[3])
        return Level(
            grid=jnp.where(moves, moved, grid),
            position=jnp.where(moves, agent, stands),
            direction=jnp.where(moves, level.direction, layout.below(bits[4], 4)),
        )

    def _room(self) -> npt.NDArray[np.bool_]:
        """The cells of the room: bool `[height * width]`."""
        inside = boards.inside(self.width, self.height)
        inside[: self.width * (_BOARD_ROWS + 2)] = False
        return inside

    def _empty(self) -> npt.NDArray[np.uint8]:
        return np.where(self._room(), np.uint8(cells.NOTHING), np.uint8(cells.GREY_WALL))

    def _board_cells(self) -> npt.NDArray[np.int32]:
        """Where the fields of `Task` stand: rules from the left, the goal on the right."""
        columns = np.arange(1, 1 + self._num_rules)
        rules = [row * self.width + columns for row in (1, 2, 3)]
        goal = [np.array([row * self.width + self.width - 2]) for row in (1, 2, 3)]
        return np.concatenate(rules + goal).astype(np.int32)


def _written(task: Task) -> jax.Array:
    parts = [task.first, task.second, task.product, *(x[None] for x in task[3:])]
    return jnp.concatenate(parts)


def _near(width: int, mask: jax.Array) -> jax.Array:
    """The cells of `mask` `[H * W]` and their neighbours."""
    return boards.to_mask(boards.around(boards.to_rows(mask.reshape(-1, width))), width).ravel()


@apart
def _first_rule(
    hits: jax.Array, first: jax.Array, second: jax.Array, product: jax.Array
) -> jax.Array:
    """What the first rule that `hits` takes and makes: uint8 `[3]`; `UNSEEN` if there is none."""
    # A rule that is not there has walls, which lie side by side everywhere.
    hits &= first != cells.GREY_WALL
    only = hits & (np.arange(hits.shape[0]) == jnp.argmax(hits))
    return jnp.max(jnp.where(only[None], jnp.stack([first, second, product]), 0), axis=1)


@functools.cache
def _stages(width: int, height: int) -> tuple[Callable[..., jax.Array], Callable[..., jax.Array]]:
    """Of a grid of that shape: which things lie side by side, and a rule applied."""
    # From the first row of the room to its last one, side walls included: runs of bytes, of which
    # neighbours are runs too.
    begin, end = width * (_BOARD_ROWS + 2), width * (height - 1)

    def near(grid: jax.Array, byte: jax.Array) -> jax.Array:
        """The cells of the rows of the room that have `byte`, or a neighbour that has it."""
        found = grid[begin:end] == byte
        for way in (-width, -1, 1, width):
            found |= grid[begin + way : end + way] == byte
        return found

    @apart
    def side_by_side(grid: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
        """Whether each of `first` `[R]` lies beside its `second`: bool `[R]`."""
        at, by = grid[begin:end][None] == first[:, None], jax.vmap(near, (None, 0))(grid, second)
        return jnp.any(at & by, axis=1)

    @apart
    def applied(grid: jax.Array, rule: jax.Array) -> jax.Array:
        first, second, product = rule
        room = grid[begin:end]
        taken, made = (room == first) & near(grid, second), (room == second) & near(grid, first)
        new = jnp.where(made, product, jnp.where(taken, jnp.uint8(cells.NOTHING), room))
        return jnp.concatenate([grid[:begin], new, grid[end:]])

    return side_by_side, applied


@final
@component
class RuleWorld(GridFamily):
    """The family, which also searches for the shortest way.

    Attributes:
        task: where levels come from, and what is success.
    """

    task: RuleWorldTask

    def __post_init__(self) -> None:
        _ = self.engine  # which checks the time limit

    def shortest_plan(self, level: Level) -> Solution:
        """The shortest plan for `level`, whatever the time limit.

        It is exact unless the search is given up: then `least` is what was proven until then, not
        less than `optimal_steps`, and there may be a plan that is longer. That there is none is
        proven where what is wanted cannot be made; where it could be but for things that are in
        each other's way, rooms are too large to try everything.
        """
        return shortest_plan(
            self, level, self.task.recipe(level), np.flatnonzero(self.task._room())
        )


@register_env("RuleWorld-D1-v0")
@register_env("RuleWorld-D2-v0", depth=2, size=9)
def rule_world(
    depth: int = 1,
    size: int = 7,
    num_false: int = 1,
    num_idle: int = 1,
    max_steps: int | None = None,
    view: View = View(image="full"),
) -> RuleWorld:
    """Make what the goal asks for by the rules on the wall, then hold it or lay it where asked.

    Things are carried one at a time; two that a rule names become a third when they are laid side
    by side. The whole room is seen, with rules and goal, as symbols; with the egocentric view the
    wall hides them, and they have to be found by trying.

    *What it tests*: tasks as levels: what is to be done, and how, differs from level to level, and
    is read (or, with `view.image="partial"`, explored). More than 1e6 tasks by id at depth 1.

    *Optimal return*: differs by level; `optimal_steps` is a lower bound on steps, `shortest_plan`
    searches for the shortest way.

    *Random return*: see the table of families in docs/families.md; depth 2 is the hard setting.

    *Solved when*: the goal holds; `info["success"]`.

    *max_steps*: `60 * (depth + 1)`.

    Reference: after Nikulin et al. (2023), XLand-MiniGrid, arXiv:2312.12044.

    Deviations: a family of our own; rules of one kind, goals of two.
    """
    return RuleWorld(RuleWorldTask(depth, size, num_false, num_idle), max_steps, view)
