"""Miner: dig for diamonds under boulders that fall, then reach the exit, after Procgen's."""

from __future__ import annotations

import functools
import operator
from typing import Final, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.solution import Solution
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, Key, TimeStep
from xplore.envs.families import boards, compass, miner_moves, miner_plans, miner_tour
from xplore.envs.families.compass import Look
from xplore.parts.apart import apart

_SPACE, _WALL, _DIRT, _BOULDER, _DIAMOND, _EXIT, _AGENT = range(7)
_MOVING: Final = 4  # of the planes of a state
_REWARD: Final = 10.0
_PLAYED_AT_ONCE: Final = 64  # actions of a plan
STYLE: Final = compass.Style(
    letters=".#:o*X@",
    colours=(
        *((0, 0, 0), (90, 90, 100), (140, 95, 55), (165, 165, 170)),
        *((80, 170, 255), (250, 225, 60), (90, 235, 110)),
    ),
    shapes=("block", "block", "block", "disc", "dot", "block", "disc"),
)


class MinerLevel(NamedTuple):
    """A start: the board uint8 `[H * W]`, the cells of agent and exit, int32 `[]` each."""

    grid: jax.Array
    position: jax.Array
    exit: jax.Array


class MinerState(NamedTuple):
    """A level under way.

    Attributes:
        planes: words `[5, H]` (see `boards`): walls, walls and dirt, boulders, diamonds, and which
            of these two are falling.
        position: int32 `[]`.
        exit: int32 `[]`.
        time: int32 `[]`.
    """

    planes: jax.Array
    position: jax.Array
    exit: jax.Array
    time: jax.Array


@register_env("Miner-Easy-v0")
@register_env("Miner-Hard-v0", size=20)
@final
@component
class Miner:
    """Dig through dirt, collect all diamonds, leave by the exit; do not be hit by what falls.

    Seen from above as codes `[H, W, 1]` or 64 x 64 pixels. A boulder or diamond over an empty cell
    falls a cell a step, and kills whom it meets; one that lies on another rolls down beside it. A
    boulder is pushed sideways into an empty cell. Diamonds are 3% of all cells, boulders 20%.

    Attributes:
        size: side of the board, the border left out; 7 to 30. Procgen's easy mode has 10, its hard
            mode 20.
        max_steps: the time limit.
        look: "symbols" or "rgb".

    What it tests: planning with consequences that cannot be undone, in levels never seen.
    Optimal return: 10 and 1 for each diamond: 13 at size 10.
    Random return: see the table of families in docs/families.md.
    Solved when: the exit is reached without a diamond left; `info["success"]`.
    Reference: Cobbe et al. (2020), Leveraging Procedural Generation to Benchmark Reinforcement
        Learning, arXiv:1912.01588.
    Deviations: five actions of fifteen; rows above and below the board are
        walls; of more than four things in a row that could roll into each other's way, some may
        give way where in Procgen they would not.
    """

    size: int = 10
    max_steps: int = 1000
    look: Look = "symbols"

    def __post_init__(self) -> None:
        compass.check_look(self.look)
        if not 7 <= self.size <= boards.MAX_WIDTH - 2:
            raise ConfigError(f"Miner: size is {self.size}: it must be 7 to {boards.MAX_WIDTH - 2}")
        if self.max_steps < 1:
            raise ConfigError(f"Miner: max_steps is {self.max_steps}: it must be at least 1")

    @property
    def side(self) -> int:
        """Of the board, the border included."""
        return self.size + 2

    @property
    def num_diamonds(self) -> int:
        """In a fresh level."""
        return 12 * self.size**2 // 400

    @property
    def num_boulders(self) -> int:
        """In a fresh level, before the agent's neighbourhood is cleared of them."""
        return 80 * self.size**2 // 400

    def spec(self) -> EnvSpec:
        num = self.side**2
        return EnvSpec(
            name=f"Miner-{self.size}",
            observation=compass.space(self.look, STYLE, self.side, self.side),
            action=Discrete(compass.NUM_ACTIONS),
            max_steps=self.max_steps,
            privileged=Dict(
                {
                    "position": Discrete(num),
                    "state": Box((2 * num + 2,), "uint16", 0, 2.0**16 - 1),
                }
            ),
        )

    def sample_level(self, key: Key) -> MinerLevel:
        bits = jax.random.bits(key, (3,), jnp.uint32)
        size, side = self.size, self.side
        num = size * size
        low = np.uint32((1 << (num - 1).bit_length()) - 1)
        order = jnp.sort(boards.noise(bits[0], num) & ~low | np.arange(num, dtype=np.uint32)) & low
        y, x = jnp.divmod(order.astype(jnp.int32), size)
        cells = (y + 1) * side + x + 1
        grid = np.full((side, side), _WALL, np.uint8)
        grid[1:-1, 1:-1] = _DIRT
        diamonds = cells[1 : 1 + self.num_diamonds]
        boulders = cells[1 + self.num_diamonds : 1 + self.num_diamonds + self.num_boulders]
        drawn = jnp.asarray(grid.ravel()).at[diamonds].set(_DIAMOND).at[boulders].set(_BOULDER)
        agent = cells[0]
        here = np.arange(side * side, dtype=np.int32)
        near = (abs(here % side - agent % side) <= 1) & (abs(here // side - agent // side) <= 1)
        # What may be the exit is chosen before boulders around the agent turn to dirt.
        was_dirt = (drawn == _DIRT) & (here != agent)
        drawn = jnp.where(near & (drawn == _BOULDER), jnp.uint8(_DIRT), drawn)
        drawn = jnp.where(here == agent, jnp.uint8(_SPACE), drawn)
        above = jnp.concatenate([jnp.full(side, _WALL, jnp.uint8), drawn[:-side]])
        exit_ = boards.pick(was_dirt & ((above == _DIRT) | (above == _WALL)), bits[1])
        return MinerLevel(jnp.where(here == exit_, jnp.uint8(_SPACE), drawn), agent, exit_)

    def reset_to_level(self, key: Key, level: MinerLevel) -> tuple[MinerState, jax.Array]:
        board = level.grid.reshape(self.side, self.side)
        solid = (board == _WALL) | (board == _DIRT)
        still = jnp.zeros_like(solid)
        planes = board == _WALL, solid, board == _BOULDER, board == _DIAMOND, still
        rows = jnp.stack([boards.to_rows(plane) for plane in planes])
        state = MinerState(rows, level.position, level.exit, jnp.int32(0))
        return state, self._observe(state)

    def step(self, key: Key, state: MinerState, action: jax.Array) -> tuple[MinerState, TimeStep]:
        moved = miner_moves.move(state.planes, state.position, state.exit, action)
        after = MinerState(
            planes=moved.planes,
            position=moved.position,
            exit=state.exit,
            time=state.time + 1,
        )
        reward = jnp.where(moved.collected, 1.0, 0.0) + jnp.where(moved.success, _REWARD, 0.0)
        return after, TimeStep(
            obs=self._observe(after),
            reward=reward.astype(jnp.float32),
            terminated=moved.success | moved.died,
            truncated=after.time >= self.max_steps,
            info={"success": moved.success},
        )

    def privileged(self, state: MinerState) -> dict[str, jax.Array]:
        places = jnp.stack([state.position, state.exit]).astype(jnp.uint16)
        moving = boards.to_mask(state.planes[_MOVING], self.side)
        nowhere = jnp.int32(-1)
        board = _codes(state.planes, nowhere, nowhere)
        cells = [x.astype(jnp.uint16).ravel() for x in (board, moving)]
        return {"position": state.position, "state": jnp.concatenate([*cells, places])}

    def optimal_steps(self, level: MinerLevel) -> jax.Array:
        """A lower bound, int32 `[]`: the shortest tour by the places of diamonds to the exit.

        As the crow digs (`miner_tour`), by twelve diamonds at the most. Whether boulders leave a
        way is not decided: it is never -1. `shortest_plan` knows more.
        """
        board = level.grid.reshape(self.side, self.side)
        walls, boulders, diamonds = (
            boards.to_rows(board == code) for code in (_WALL, _BOULDER, _DIAMOND)
        )
        num = min(self.num_diamonds, miner_tour.MOST)
        tour = miner_tour.least_steps(walls, boulders, diamonds, level.position, level.exit, num)
        return jnp.maximum(tour, 1)

    def shortest_plan(self, level: MinerLevel) -> Solution:
        """A plan, the shortest that was found, and how many steps are proven to be needed.

        See `miner_plans.plan`. The time limit is left out of account.
        """
        grid = np.asarray(level.grid)
        found = miner_plans.plan(grid, int(level.position), int(level.exit))
        if found.plan is not None:
            num = len(found.plan)
            padded = np.pad(found.plan, (0, -num % _PLAYED_AT_ONCE))
            wins = np.flatnonzero(_successes(self, level, jnp.asarray(padded)))
            if not len(wins) or wins[0] != num - 1:
                raise AssertionError("Miner: the search and the game have different rules")
        return found

    def mutate(self, key: Key, level: MinerLevel) -> MinerLevel:
        """Moves a boulder or a diamond to a cell of dirt, the exit, or the agent and its hole."""
        bits = jax.random.bits(key, (3,), jnp.uint32)
        grid, agent, exit_ = level
        here = np.arange(grid.size, dtype=np.int32)
        kind = bits[0] >> 30  # 0 and 1: a boulder or diamond, 2: the exit, 3: the agent
        thing = boards.pick((grid == _BOULDER) | (grid == _DIAMOND), bits[1])
        free = boards.pick((grid == _DIRT), bits[2])
        source = jnp.where(kind < 2, thing, jnp.where(kind == 2, exit_, agent))
        moved = jnp.where(here == source, jnp.uint8(_DIRT), grid)
        moved = jnp.where(here == free, grid[source], moved)
        possible = (free > 0) & (source > 0)
        return MinerLevel(
            grid=jnp.where(possible, moved, grid),
            position=jnp.where(possible & (kind == 3), free, agent),
            exit=jnp.where(possible & (kind == 2), free, exit_),
        )

    def is_valid(self, level: MinerLevel) -> jax.Array:
        """Closed in, with a diamond, agent and exit in the two empty cells."""
        grid = level.grid
        walls = jnp.all(jnp.where(boards.inside(self.side, self.side), True, grid == _WALL))
        known = jnp.all(grid <= _DIAMOND) & jnp.any(grid == _DIAMOND)
        empty = jnp.sum(grid == _SPACE, dtype=jnp.int32) == 2
        apart = level.position != level.exit
        return walls & known & empty & apart & (grid[level.position] == grid[level.exit])

    def level_to_text(self, level: MinerLevel) -> str:
        """`:` dirt, `o` boulder, `*` diamond, `X` exit, `@` the agent, `#` wall."""
        here = np.arange(level.grid.size)
        grid = jnp.where(here == level.exit, jnp.uint8(_EXIT), level.grid)
        return compass.to_text(STYLE, grid, level.position, self.side)

    def level_from_text(self, text: str) -> MinerLevel:
        """The inverse of `level_to_text`."""
        board = compass.from_text(STYLE, text, self.side, self.side)
        drawn = np.asarray(board.grid)
        exits = np.flatnonzero(drawn == _EXIT)
        if len(exits) != 1:
            raise ConfigError(f"a drawn level with {len(exits)} exits (X): it needs one")
        grid = np.where(drawn == _EXIT, np.uint8(_SPACE), drawn)
        return MinerLevel(jnp.asarray(grid), board.position, jnp.int32(exits[0]))

    def _observe(self, state: MinerState) -> jax.Array:
        codes = _codes(state.planes, state.exit, state.position)
        return compass.shown(self.look, STYLE, codes)


@functools.partial(jax.jit, static_argnums=0)
def _successes(env: Miner, level: MinerLevel, actions: jax.Array) -> jax.Array:
    """After which of the actions `[T]` the level is solved, bool `[T]`."""
    key = jax.random.key(0)

    def act(state: MinerState, action: jax.Array) -> tuple[MinerState, jax.Array]:
        after, ts = env.step(key, state, action)
        return after, ts.info["success"]

    return jax.lax.scan(act, env.reset_to_level(key, level)[0], actions)[1]


def _codes(planes: jax.Array, exit_: jax.Array, position: jax.Array) -> jax.Array:
    """The board as codes, the exit and the agent among them if they are cells: uint8 `[H, W]`."""
    return _spread(_bits(planes, exit_, position))


@apart
def _bits(planes: jax.Array, exit_: jax.Array, position: jax.Array) -> jax.Array:
    """The lowest bit of each code, the second and the third: words `[3, H]`."""
    shape = planes.shape[1], planes.shape[1]
    walls, solid, boulders, diamonds, _ = planes
    agent = boards.one_cell(position, shape)
    open_exit = boards.one_cell(exit_, shape) & ~(solid | boulders | diamonds)
    codes = {_WALL: walls, _DIRT: solid & ~walls, _BOULDER: boulders, _DIAMOND: diamonds}
    codes = {code: rows & ~agent for code, rows in {**codes, _EXIT: open_exit}.items()}
    codes[_AGENT] = agent
    of_bit = [[rows for code, rows in codes.items() if code & bit] for bit in (1, 2, 4)]
    return jnp.stack([functools.reduce(operator.or_, rows) for rows in of_bit])


@apart
def _spread(bits: jax.Array) -> jax.Array:
    # In the shape of a board, so that rows are written in wide registers.
    side = bits.shape[1]
    one = bits[..., None] >> np.arange(side, dtype=bits.dtype)[None, None] & 1
    return (one[0] | one[1] << 1 | one[2] << 2).astype(jnp.uint8)
