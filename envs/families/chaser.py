"""Chaser: eat all orbs of a maze without dead ends, chased by three enemies, after Procgen's."""

from __future__ import annotations

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
from xplore.envs.families import boards, compass, trees
from xplore.envs.families.compass import Look
from xplore.envs.families.covering import covering_walk
from xplore.envs.minigrid import layout

_SPACE, _WALL, _ORB, _LARGE, _EGG, _ENEMY, _WEAK, _AGENT = range(8)
_NUM_ENEMIES: Final = 3
_ORB_REWARD: Final = 0.04
_REWARD: Final = 10.0
_EAT_STEPS, _EGG_STEPS = 37, 25  # Procgen's 75 and 50, whose bodies take two steps for a cell
_FAR: Final = 64  # more than any distance on a board
STYLE: Final = compass.Style(
    letters=".#oxeEw@",
    colours=(
        *((0, 0, 0), (110, 110, 120), (0, 255, 0), (250, 225, 60), (220, 160, 220)),
        *((235, 60, 60), (90, 120, 255), (240, 240, 240)),
    ),
    shapes=("block", "block", "dot", "disc", "dot", "disc", "disc", "disc"),
)


class ChaserLevel(NamedTuple):
    """A start: the board uint8 `[H * W]`, the agent's cell int32 `[]`, the eggs' `[3]`, sorted."""

    grid: jax.Array
    position: jax.Array
    enemies: jax.Array


class ChaserState(NamedTuple):
    """A level under way.

    Attributes:
        grid: uint8 `[H * W]`.
        position: int32 `[]`.
        enemies: int32 `[3]`, cells of enemies and eggs.
        behind: int32 `[3]`, the cells that they came from.
        eggs: int32 `[3]`, steps until an egg hatches; 0 for an enemy.
        fright: int32 `[]`, steps for which enemies can still be eaten.
        time: int32 `[]`.
    """

    grid: jax.Array
    position: jax.Array
    enemies: jax.Array
    behind: jax.Array
    eggs: jax.Array
    fright: jax.Array
    time: jax.Array


@register_env("Chaser-Easy-v0", size=11)
@register_env("Chaser-Hard-v0")
@final
@component
class Chaser:
    """Eat every orb of a maze; enemies hatch and give chase, a large orb turns the tables.

    Seen from above as codes `[H, W, 1]` or 64 x 64 pixels. An enemy goes on to a neighbouring cell
    that it did not come from, half of the time to the one nearest to the agent (the farthest while
    it can be eaten, when it moves every second step). One that is eaten becomes an egg elsewhere.
    The maze is a random spanning tree whose dead ends are opened.

    Attributes:
        size: side of the board, the border left out; odd, 7 to 29. Procgen's easy mode has 11, its
            hard mode 13.
        num_large: large orbs: one in each quarter (4), one quarter without (3), or one with two
            (5); None: 4 where `size` is 11 or less, else 3, as Procgen's easy and hard modes have.
        max_steps: the time limit.
        look: "symbols" or "rgb".

    What it tests: planning among moving dangers, with a dense reward, in levels never seen.
    Optimal return: 10 and 0.04 for each orb: about 13.
    Random return: see the table of families in docs/families.md.
    Solved when: all orbs are eaten; `info["success"]`.
    Reference: Cobbe et al. (2020), Leveraging Procedural Generation to Benchmark Reinforcement
        Learning, arXiv:1912.01588.
    Deviations: one cell a step, where Procgen's bodies take two steps for a cell and go on by
        themselves, so that its times are halved here (eggs 25 steps, fright 37, limit 500); five
        actions of fifteen; whom an enemy follows and where it turns are drawn apart.
    """

    size: int = 13
    num_large: int | None = None
    max_steps: int = 500
    look: Look = "symbols"

    def __post_init__(self) -> None:
        compass.check_look(self.look)
        if self.size % 2 == 0 or not 7 <= self.size <= boards.MAX_WIDTH - 2:
            raise ConfigError(
                f"Chaser: size is {self.size}: it must be odd, 7 to {boards.MAX_WIDTH - 2}"
            )
        if self.num_large not in (None, 3, 4, 5):
            raise ConfigError(f"Chaser: num_large is {self.num_large}: it must be 3, 4 or 5")
        if self.max_steps < 1:
            raise ConfigError(f"Chaser: max_steps is {self.max_steps}: it must be at least 1")

    @property
    def side(self) -> int:
        """Of the board, the border included."""
        return self.size + 2

    def spec(self) -> EnvSpec:
        num = self.side**2
        return EnvSpec(
            name=f"Chaser-{self.size}",
            observation=compass.space(self.look, STYLE, self.side, self.side),
            action=Discrete(compass.NUM_ACTIONS),
            max_steps=self.max_steps,
            stochastic=True,
            privileged=Dict(
                {
                    "position": Discrete(num),
                    "state": Box((num + 2 + 3 * _NUM_ENEMIES,), "int32", 0, 2.0**31 - 1),
                }
            ),
        )

    def sample_level(self, key: Key) -> ChaserLevel:
        bits = jax.random.bits(key, (16,), jnp.uint32)
        half, side = (self.size + 1) // 2, self.side
        tree = trees.spanning_tree("kruskal", bits[0], (half, half))
        tree = trees.braided(tree, bits[1], 1.0, in_turn=True)
        free = boards.to_cells(trees.walled(tree), side)
        grid = jnp.where(free, jnp.uint8(_ORB), jnp.uint8(_WALL))
        here = np.arange(side * side, dtype=np.int32)
        y, x = np.divmod(here, side)
        quarter = (x - 1 >= self.size / 2) * 2 + (y - 1 >= self.size / 2)
        num = self.num_large or (4 if self.size <= 11 else 3)
        special = layout.below(bits[2], 4)
        for i in range(num if num == 5 else 4):
            where = special if i == 4 else i
            cell = boards.pick((grid == _ORB) & (quarter == where), bits[3 + i])
            placed = (here == cell) & ((num != 3) | (special != i))
            grid = jnp.where(placed, jnp.uint8(_LARGE), grid)
        taken = grid != _ORB
        cells = []
        for i in range(1 + _NUM_ENEMIES):
            cells.append(boards.pick(~taken, bits[8 + i]))
            taken |= here == cells[-1]
        return ChaserLevel(grid, cells[0], jnp.sort(jnp.stack(cells[1:])))

    def reset_to_level(self, key: Key, level: ChaserLevel) -> tuple[ChaserState, jax.Array]:
        state = ChaserState(
            grid=level.grid,
            position=level.position,
            enemies=level.enemies,
            behind=level.enemies,
            eggs=jnp.full(_NUM_ENEMIES, _EGG_STEPS, jnp.int32),
            fright=jnp.int32(0),
            time=jnp.int32(0),
        )
        return state, self._observe(state)

    def step(self, key: Key, state: ChaserState, action: jax.Array) -> tuple[ChaserState, TimeStep]:
        bits = jax.random.bits(key, (1 + 4 * _NUM_ENEMIES,), jnp.uint32)
        ahead = state.position + compass.step_towards(action, self.side)
        position = jnp.where(state.grid[ahead] == _WALL, state.position, ahead)
        there = state.grid[position]
        here = np.arange(state.grid.size, dtype=np.int32)
        grid = jnp.where(here == position, jnp.uint8(_SPACE), state.grid)
        fright = jnp.where(there == _LARGE, _EAT_STEPS, jnp.maximum(state.fright - 1, 0))
        weak = fright > 0

        hatched = state.eggs == 0
        goes = hatched & (~weak | (state.time & 1 == 0))
        onward = self._onward(bits[1:].reshape(_NUM_ENEMIES, 4), state, position, weak)
        enemies = jnp.where(goes, onward, state.enemies)
        behind = jnp.where(goes, state.enemies, state.behind)
        crossed = (enemies == state.position) & (state.enemies == position)
        met = hatched & ((enemies == position) | crossed)
        eaten, died = met & weak, jnp.any(met) & ~weak
        nest = boards.pick(grid != _WALL, bits[0])
        enemies = jnp.where(eaten, nest, enemies)
        after = ChaserState(
            grid=grid,
            position=position,
            enemies=enemies,
            behind=jnp.where(eaten, nest, behind),
            eggs=jnp.where(eaten, _EGG_STEPS, jnp.maximum(state.eggs - 1, 0)),
            fright=fright,
            time=state.time + 1,
        )
        success = ~died & ~jnp.any(grid == _ORB)
        eats = (there == _ORB) | (there == _LARGE)
        reward = jnp.where(eats, _ORB_REWARD, 0.0) + jnp.where(success, _REWARD, 0.0)
        return after, TimeStep(
            obs=self._observe(after),
            reward=reward.astype(jnp.float32),
            terminated=success | died,
            truncated=after.time >= self.max_steps,
            info={"success": success},
        )

    def _onward(
        self, bits: jax.Array, state: ChaserState, position: jax.Array, weak: jax.Array
    ) -> jax.Array:
        """Where each enemy would go next: int32 `[3]`, from bits `[3, 4]`."""
        side = self.side
        ways = np.array([[1, side, -1, -side]], np.int32)
        there = state.enemies[:, None] + ways
        is_open = state.grid[there] != _WALL
        fresh = is_open & (there != state.behind[:, None])
        may = jnp.where(jnp.any(fresh, axis=1, keepdims=True), fresh, is_open)
        away = abs(there % side - position % side) + abs(there // side - position // side)
        chases = (bits[:, :1] >> 31) == 1
        wish = jnp.where(chases, jnp.where(weak, -away, away), 0) + _FAR
        draw = (bits & 255).astype(jnp.int32)
        way = np.arange(4, dtype=np.int32)[None]
        ranked = jnp.where(may, wish * 1024 + draw * 4 + way, np.int32(2**30))
        best = jnp.min(ranked, axis=1) & 3
        step = jnp.where(best & 1 == 0, 1, side) * jnp.where(best >= 2, -1, 1)
        return state.enemies + step

    def privileged(self, state: ChaserState) -> dict[str, jax.Array]:
        rest = (state.position[None], state.fright[None], state.enemies, state.behind, state.eggs)
        whole = jnp.concatenate([state.grid.astype(jnp.int32), *rest])
        return {"position": state.position, "state": whole}

    def optimal_steps(self, level: ChaserLevel) -> jax.Array:
        """A lower bound, int32 `[]`; -1, exactly, where an orb is out of reach.

        A step eats one orb at most, and cells of one colour of a chessboard are two steps apart.
        """
        rows = boards.to_rows((level.grid != _WALL).reshape(self.side, self.side))
        start = boards.one_cell(level.position, (self.side, self.side))
        inside = boards.to_mask(boards.reached(rows, start), self.side).ravel()
        is_orb = level.grid == _ORB
        y, x = np.divmod(np.arange(level.grid.size, dtype=np.int32), self.side)
        num = jnp.sum(is_orb, dtype=jnp.int32)
        dark = jnp.sum(is_orb & ((x + y) % 2 == 1), dtype=jnp.int32)
        least = jnp.maximum(num, 2 * jnp.maximum(dark, num - dark) - 1)
        return jnp.where(jnp.any(is_orb & ~inside), -1, jnp.maximum(least, 1))

    def shortest_plan(self, level: ChaserLevel) -> Solution:
        """A shortest walk over all orbs, exactly: the fewest steps if the enemies are kind.

        Enemies eat no orbs and bar no way, so that no play succeeds in fewer steps, however lucky.
        The plan does if none catches the agent on its way; that they can all miss it is likely but
        not proven of a level. It heeds no time limit. The orb on which the agent starts is eaten by
        a stay or a return, as `step` has it; large orbs need not be eaten.
        """
        grid, position = np.asarray(level.grid), int(level.position)
        free, here = grid != _WALL, np.arange(grid.size)
        pairs = [
            np.stack([here[:-way], here[way:]], axis=1)[free[:-way] & free[way:]]
            for way in (1, self.side)
        ]
        walk = covering_walk(np.concatenate(pairs), position, grid == _ORB)
        if walk is None:
            return Solution(-1, None)
        walk = walk or [position]  # success is told by a step, even where there is no orb
        ways = {1: compass.RIGHT, self.side: compass.DOWN, -1: compass.LEFT, -self.side: compass.UP}
        steps = np.diff(walk, prepend=position).tolist()
        plan = np.asarray([ways.get(step, compass.STAY) for step in steps], np.int32)
        return Solution(len(plan), plan)

    def mutate(self, key: Key, level: ChaserLevel) -> ChaserLevel:
        """Opens or closes a passage, or moves a large orb, an egg or the agent.

        An edit that leaves an orb out of reach is not made.
        """
        bits = jax.random.bits(key, (5,), jnp.uint32)
        grid, agent, enemies = level
        here = np.arange(grid.size, dtype=np.int32)
        y, x = np.divmod(here, self.side)
        passage = boards.inside(self.side, self.side) & ((x + y) % 2 == 1)
        taken = (here == agent) | jnp.any(here[:, None] == enemies[None], axis=1)
        kind = bits[0] >> 30  # 0 and 1: a passage, 2: a large orb, 3: an egg or the agent
        turned = boards.pick(jnp.asarray(passage) & ~taken & (grid != _LARGE), bits[1])
        other = jnp.where(grid == _WALL, jnp.uint8(_ORB), jnp.uint8(_WALL))
        walls = jnp.where(here == turned, other, grid)
        large = boards.pick(grid == _LARGE, bits[2])
        target = boards.pick((grid == _ORB) & ~taken, bits[3])
        swapped = jnp.where(here == large, jnp.uint8(_ORB), grid)
        swapped = jnp.where(here == target, jnp.uint8(_LARGE), swapped)
        who = layout.below(bits[4], 1 + _NUM_ENEMIES)
        moves = (kind == 3) & (target > 0)
        moved = ChaserLevel(
            grid=jnp.where(kind < 2, walls, jnp.where(kind == 2, swapped, grid)),
            position=jnp.where(moves & (who == _NUM_ENEMIES), target, agent),
            enemies=jnp.sort(jnp.where(moves & (np.arange(_NUM_ENEMIES) == who), target, enemies)),
        )
        hopeless = (self.optimal_steps(moved) < 0) | ((kind == 2) & ((large == 0) | (target == 0)))
        return jax.tree.map(lambda old, new: jnp.where(hopeless, old, new), level, moved)

    def is_valid(self, level: ChaserLevel) -> jax.Array:
        """Closed in, of orbs and walls, and all who move apart from each other on orbs."""
        grid = level.grid
        walls = jnp.all(jnp.where(boards.inside(self.side, self.side), True, grid == _WALL))
        known = jnp.all((grid >= _WALL) & (grid <= _LARGE))
        who = jnp.concatenate([level.position[None], level.enemies])
        same = (who[:, None] == who[None]) & ~np.eye(len(who), dtype=bool)
        return walls & known & jnp.all(grid[who] == _ORB) & ~jnp.any(same)

    def level_to_text(self, level: ChaserLevel) -> str:
        """`#` wall, `o` orb, `x` large orb, `@` the agent and `e` eggs, on orbs."""
        eggs = np.isin(np.arange(level.grid.size), np.asarray(level.enemies))
        grid = jnp.where(eggs, jnp.uint8(_EGG), level.grid)
        return compass.to_text(STYLE, grid, level.position, self.side)

    def level_from_text(self, text: str) -> ChaserLevel:
        """The inverse of `level_to_text`."""
        board = compass.from_text(STYLE, text, self.side, self.side)
        drawn = np.asarray(board.grid)
        eggs = np.flatnonzero(drawn == _EGG)
        if len(eggs) != _NUM_ENEMIES:
            raise ConfigError(f"a drawn level with {len(eggs)} eggs (e): it needs {_NUM_ENEMIES}")
        whole = np.where((drawn == _EGG) | (drawn == _SPACE), np.uint8(_ORB), drawn)
        return ChaserLevel(jnp.asarray(whole), board.position, jnp.asarray(eggs, jnp.int32))

    def _observe(self, state: ChaserState) -> jax.Array:
        here = np.arange(state.grid.size, dtype=np.int32)
        codes = jnp.where(state.eggs > 0, _EGG, jnp.where(state.fright > 0, _WEAK, _ENEMY))
        grid = state.grid
        for i in range(_NUM_ENEMIES):
            grid = jnp.where(here == state.enemies[i], codes[i].astype(jnp.uint8), grid)
        return compass.observe(self.look, STYLE, grid, state.position, self.side)
