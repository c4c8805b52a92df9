"""Heist: a gem behind up to three locked doors in a maze, each with its key, after Procgen's."""

from __future__ import annotations

from typing import Final, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, Key, TimeStep
from xplore.envs.families import boards, compass, trees
from xplore.envs.families.compass import Board, Look
from xplore.envs.minigrid import layout

_SPACE, _WALL, _GEM, _KEY, _DOOR = (
    0,
    1,
    2,
    3,
    6,
)  # the first of three keys, the first of three doors
_NUM_KEYS: Final = 3
_NUM_BAGS: Final = 1 << _NUM_KEYS
_REWARD: Final = 10.0
_BLUE, _GREEN, _RED = (60, 110, 255), (60, 220, 90), (235, 70, 60)
STYLE: Final = compass.Style(
    letters=".#GabcABC@",
    colours=(
        *((0, 0, 0), (120, 85, 55), (250, 225, 60)),
        *(_BLUE, _GREEN, _RED, _BLUE, _GREEN, _RED, (240, 240, 240)),
    ),
    shapes=("block", "block", "disc", "dot", "dot", "dot", "block", "block", "block", "disc"),
)


class HeistState(NamedTuple):
    """A `Board` under way; `bag` int32 `[]` has bit i for key i, `time` int32 `[]` counts steps."""

    grid: jax.Array
    position: jax.Array
    bag: jax.Array
    time: jax.Array


@register_env("Heist-Easy-v0", size=9)
@register_env("Heist-Hard-v0")
@register_env("Heist-Full-v0", smallest=13)
@final
@component
class Heist:
    """Fetch the keys of a maze, open the doors, take the gem.

    Seen from above as codes `[H, W, 1]` or 64 x 64 pixels; keys in the bag are shown in the upper
    wall. One moves a cell at a time; a key is taken, and a door of its colour opened, by entering.
    A maze is `smallest` to `size` wide, in a random place; it has as many keys as it is larger than
    5, halved, or one more, three at most; doors are at forks. Door by door, the nearest first, its
    key lies where one can go before it is opened and could not before the last one was.

    Attributes:
        size: side of the board, the border left out; odd, 5 to 29. Procgen's easy mode has 9, its
            hard mode 13.
        smallest: side of the smallest maze; odd, at least 5.
        max_steps: the time limit.
        look: "symbols" or "rgb".

    What it tests: sub-goals in order under a sparse reward, in levels never seen.
    Optimal return: 10.
    Random return: see the table of families in docs/families.md; `Full`, all mazes of 13 x 13 with
        three keys, is the hard setting.
    Solved when: the gem is taken; `info["success"]`. The reward is 10 then, as in Procgen.
    Reference: Cobbe et al. (2020), Leveraging Procedural Generation to Benchmark Reinforcement
        Learning, arXiv:1912.01588.
    Deviations: one cell a step, where Procgen moves 0.75 of a cell at most with collisions of
        round bodies; five actions of its fifteen; 500 steps, not 1,000; ties between doors as near
        are broken at random.
    """

    size: int = 13
    smallest: int = 5
    max_steps: int = 500
    look: Look = "symbols"

    def __post_init__(self) -> None:
        compass.check_look(self.look)
        odd = self.size % 2 == self.smallest % 2 == 1
        if not odd or not 5 <= self.smallest <= self.size <= boards.MAX_WIDTH - 2:
            raise ConfigError(
                f"Heist: smallest is {self.smallest} and size {self.size}: they must be odd, with"
                f" 5 <= smallest <= size <= {boards.MAX_WIDTH - 2}"
            )
        if self.max_steps < 1:
            raise ConfigError(f"Heist: max_steps is {self.max_steps}: it must be at least 1")

    @property
    def side(self) -> int:
        """Of the board, the border included."""
        return self.size + 2

    def spec(self) -> EnvSpec:
        num = self.side**2
        return EnvSpec(
            name=f"Heist-{self.smallest}-{self.size}",
            observation=compass.space(self.look, STYLE, self.side, self.side),
            action=Discrete(compass.NUM_ACTIONS),
            max_steps=self.max_steps,
            privileged=Dict(
                {
                    "position": Discrete(num),
                    "carrying": Discrete(_NUM_BAGS),
                    "state": Box((num + 3,), "uint8", 0, 255),
                }
            ),
        )

    def sample_level(self, key: Key) -> Board:
        bits = jax.random.bits(key, (24,), jnp.uint32)
        side, shape = self.side, (self.side, self.side)
        extra = layout.below(bits[0], (self.size - self.smallest) // 2 + 1)
        dim = self.smallest + 2 * extra
        num_keys = jnp.minimum((dim - 5) // 2 + layout.below(bits[1], 2), _NUM_KEYS)
        half = (self.size + 1) // 2
        y, x = np.divmod(np.arange(half * half, dtype=np.int32), half)
        within = jnp.asarray(np.maximum(x, y)) < (dim + 1) // 2
        tree = trees.spanning_tree("kruskal", bits[2], (half, half), within)
        degree = jnp.sum(trees.neighbours(tree), axis=0, dtype=jnp.int32)
        forks = trees.at_rooms(degree > 2)
        free = trees.carved(tree) & trees.within_rooms((dim + 1) // 2, half)
        # In a random place of the board.
        place = layout.below(bits[3:5], self.size - dim + 1)
        free, forks = (
            jnp.roll(jnp.pad(x, ((1, 1), (1, 1))), place, (0, 1)).ravel() for x in (free, forks)
        )
        here = np.arange(side * side, dtype=np.int32)
        doors = jnp.zeros_like(free)
        for i in range(_NUM_KEYS):
            door = boards.pick(forks & ~doors, bits[5 + i])
            doors |= (here == door) & (i < num_keys) & (door > 0)
        rooms = boards.to_rows((free & ~doors).reshape(shape))
        shut = boards.to_rows(doors.reshape(shape))
        alone = boards.to_cells(rooms & ~boards.around(shut), side)
        agent = boards.pick(alone, bits[8])
        grid = jnp.where(free, jnp.uint8(_SPACE), jnp.uint8(_WALL))
        known = boards.one_cell(agent, shape)
        num_doors = jnp.sum(doors, dtype=jnp.int32)
        for i in range(_NUM_KEYS + 1):
            near = boards.around(boards.until_near(rooms, known, shut)) & shut
            door = boards.pick(boards.to_cells(near, side), bits[9 + i])
            open_ = boards.reached(rooms, known)
            thing = boards.pick(boards.to_cells(open_ & ~known, side), bits[13 + i])
            there = jnp.where(i < num_doors, _KEY + i, _GEM).astype(jnp.uint8)
            grid = jnp.where((here == thing) & (i <= num_doors), there, grid)
            grid = jnp.where((here == door) & (i < num_doors), jnp.uint8(_DOOR + i), grid)
            # What is known is what can be walked to once this door is open.
            at_door = jnp.where(i < num_doors, boards.one_cell(door, shape), jnp.zeros_like(shut))
            known, shut = open_ | at_door, shut & ~at_door
            rooms |= at_door
        return Board(grid, agent)

    def reset_to_level(self, key: Key, level: Board) -> tuple[HeistState, jax.Array]:
        state = HeistState(level.grid, level.position, jnp.int32(0), jnp.int32(0))
        return state, self._observe(state)

    def step(self, key: Key, state: HeistState, action: jax.Array) -> tuple[HeistState, TimeStep]:
        ahead = state.position + compass.step_towards(action, self.side)
        there = state.grid[ahead].astype(jnp.int32)
        is_door, is_key = there >= _DOOR, (there >= _KEY) & (there < _DOOR)
        opens = state.bag >> jnp.maximum(there - _DOOR, 0) & 1 == 1
        moves = (there != _WALL) & (~is_door | opens)
        bag = state.bag | jnp.where(is_key & moves, 1 << jnp.maximum(there - _KEY, 0), 0)
        cleared = (np.arange(state.grid.size) == ahead) & moves
        after = HeistState(
            grid=jnp.where(cleared, jnp.uint8(_SPACE), state.grid),
            position=jnp.where(moves, ahead, state.position),
            bag=bag,
            time=state.time + 1,
        )
        success = moves & (there == _GEM)
        return after, TimeStep(
            obs=self._observe(after),
            reward=jnp.where(success, jnp.float32(_REWARD), jnp.float32(0)),
            terminated=success,
            truncated=after.time >= self.max_steps,
            info={"success": success},
        )

    def privileged(self, state: HeistState) -> dict[str, jax.Array]:
        rest = (state.position % self.side, state.position // self.side, state.bag)
        tail = jnp.stack([x.astype(jnp.uint8) for x in rest])
        return {
            "position": state.position,
            "carrying": state.bag,
            "state": jnp.concatenate([state.grid, tail]),
        }

    def optimal_steps(self, level: Board) -> jax.Array:
        """The fewest steps to the gem, exact: a flood of cells times bags. int32 `[]`, -1: none."""
        grid = level.grid.reshape(self.side, self.side)
        keys = jnp.stack([boards.to_rows(grid == _KEY + i) for i in range(_NUM_KEYS)])
        doors = jnp.stack([boards.to_rows(grid == _DOOR + i) for i in range(_NUM_KEYS)])
        free, goal = boards.to_rows((grid != _WALL) & (grid < _DOOR)), boards.to_rows(grid == _GEM)
        start = boards.one_cell(level.position, (self.side, self.side))
        return boards.steps_with_keys(free, keys, doors, start, goal)

    def mutate(self, key: Key, level: Board) -> Board:
        """Turns a wall or a free cell into the other, or moves a key, the gem or the agent.

        An edit that leaves no way to the gem is not made.
        """
        bits = jax.random.bits(key, (4,), jnp.uint32)
        inside = boards.inside(self.side, self.side)
        moved = compass.edited(bits, level, inside, movable=(_GEM, _DOOR))
        hopeless = self.optimal_steps(moved) < 0
        return jax.tree.map(lambda old, new: jnp.where(hopeless, old, new), level, moved)

    def is_valid(self, level: Board) -> jax.Array:
        """Closed in, one gem, a door for each key, each once at most, the agent in a free cell."""
        grid = level.grid
        count = [jnp.sum(grid == code, dtype=jnp.int32) for code in range(len(STYLE.letters))]
        pairs = [
            (count[_KEY + i] == count[_DOOR + i]) & (count[_KEY + i] <= 1) for i in range(_NUM_KEYS)
        ]
        walls = jnp.all(jnp.where(boards.inside(self.side, self.side), True, grid == _WALL))
        free = grid[level.position] == _SPACE
        known = jnp.all(grid < len(STYLE.letters) - 1)
        return walls & free & known & (count[_GEM] == 1) & jnp.all(jnp.stack(pairs))

    def level_to_text(self, level: Board) -> str:
        """`.` space, `#` wall, `G` gem, `abc` keys, `ABC` their doors, `@` the agent."""
        return compass.to_text(STYLE, level.grid, level.position, self.side)

    def level_from_text(self, text: str) -> Board:
        """The inverse of `level_to_text`."""
        return compass.from_text(STYLE, text, self.side, self.side)

    def _observe(self, state: HeistState) -> jax.Array:
        # The bag is shown in the wall above.
        here = np.arange(state.grid.size)
        grid = state.grid
        for i in range(_NUM_KEYS):
            held = (here == i + 1) & (state.bag >> i & 1 == 1)
            grid = jnp.where(held, jnp.uint8(_KEY + i), grid)
        return compass.observe(self.look, STYLE, grid, state.position, self.side)
