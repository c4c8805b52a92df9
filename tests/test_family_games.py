"""KeyMaze, MultiRoomLite, Caves, Heist and RuleWorld: their rules, and oracles against searches."""

from __future__ import annotations

from collections import deque
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import shape_dtype
from xplore.envs.families import compass
from xplore.envs.families.caves import caves
from xplore.envs.families.heist import Heist
from xplore.envs.families.key_maze import key_maze
from xplore.envs.families.multiroom_lite import chains, multi_room_lite
from xplore.envs.families.rule_world import THINGS, RuleWorldTask, rule_world
from xplore.envs.minigrid import cells
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.oracle import solve
from xplore.envs.minigrid.search import Plan
from xplore.envs.minigrid.task import DROP, FORWARD, LEFT, PICK_UP, RIGHT
from xplore.parts.levels import levels_from_ids, train_ids


def some(env: Any, num: int) -> Any:
    return jax.jit(lambda ids: levels_from_ids(env, ids).levels)(train_ids(3, jnp.arange(num)))


def one(levels: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], levels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "plan"),
    [
        (key_maze(size=5), Plan(things=1, doors=1)),
        (multi_room_lite(num_rooms=3, room_size=4), Plan()),
    ],
)
def test_optimal_steps_are_those_of_the_search_of_minigrid(env, plan):
    levels = some(env, 8)
    ours = jax.jit(jax.vmap(env.optimal_steps))(levels)
    theirs = [int(solve(env.engine, one(levels, i), plan).steps) for i in range(8)]
    assert ours.tolist() == theirs


def test_chains_of_rooms():
    table = chains(4, 3)
    assert len(np.unique(table, axis=0)) == len(table)
    assert all(len(set(row)) == 4 for row in table.tolist())
    away = np.abs(np.diff(table % 3, axis=1)) + np.abs(np.diff(table // 3, axis=1))
    assert np.all(away == 1)


def heist_reference(env: Heist, level: Any) -> int:
    """Breadth-first search over cells and bags of keys with the environment's own rules."""
    grid, width = np.asarray(level.grid), env.side
    start: tuple[int, int] = (int(level.position), 0)
    distance: dict[tuple[int, int], int] = {start: 0}
    queue: deque[tuple[int, int]] = deque([start])
    while queue:
        here = position, bag = queue.popleft()
        for way in (1, width, -1, -width):
            there = position + way
            code = int(grid[there])
            if code == 2:
                return distance[here] + 1
            if code == 1 or (code >= 6 and not bag >> code - 6 & 1):
                continue
            after = (there, bag | 1 << code - 3 if 3 <= code < 6 else bag)
            if after not in distance:
                distance[after] = distance[here] + 1
                queue.append(after)
    return -1


@pytest.fixture(scope="module")
def heist():
    env = Heist(size=9)
    return env, some(env, 64)


def test_heist_is_solved_exactly(heist):
    env, levels = heist
    edited = levels
    edit = jax.jit(jax.vmap(env.mutate))
    for i in range(3):
        edited = edit(jax.random.split(jax.random.key(i), 64), edited)
    solve_all = jax.jit(jax.vmap(env.optimal_steps))
    for batch in (levels, edited):
        expected = [heist_reference(env, one(batch, i)) for i in range(64)]
        assert solve_all(batch).tolist() == expected
    walled = one(levels, 0)
    walled = walled._replace(grid=jnp.where(walled.grid == 2, jnp.uint8(1), walled.grid))
    assert int(env.optimal_steps(walled)) == -1


def test_heist_is_played_by_its_rules():
    env = Heist(size=5, max_steps=9)
    wall = "#######\n"
    level = env.level_from_text(wall + "#@a.AG#\n" + "#b#####\n" + "#B#####\n" + wall * 3)
    step = jax.jit(env.step)
    state, obs = env.reset_to_level(jax.random.key(0), level)
    assert int(obs[1, 1, 0]) == 9
    for action in (compass.RIGHT, compass.RIGHT):
        state, ts = step(jax.random.key(0), state, action)
    assert int(state.bag) == 1
    assert int(ts.obs[0, 1, 0]) == 3  # the key in the wall above
    state, ts = step(jax.random.key(0), state, jnp.int32(compass.UP))  # a wall
    assert int(state.position) == 7 + 3
    for action in (compass.RIGHT, compass.RIGHT):
        assert float(ts.reward) == 0
        state, ts = step(jax.random.key(0), state, action)
    assert float(ts.reward) == 10
    assert bool(ts.terminated)
    assert bool(ts.info["success"])
    # Without its key a door is a wall; and time runs out.
    state, _ = env.reset_to_level(jax.random.key(0), level._replace(position=jnp.int32(7 + 3)))
    for _ in range(9):
        state, ts = step(jax.random.key(0), state, compass.RIGHT)
    assert int(state.position) == 7 + 3
    assert bool(ts.truncated)
    assert not bool(ts.terminated)


def test_heist_has_as_many_keys_as_its_maze_is_large(heist):
    levels = heist[1]
    grid = np.asarray(levels.grid)
    num_keys = np.sum((grid >= 3) & (grid < 6), axis=1)
    assert set(num_keys) <= {0, 1, 2, 3}
    assert len(set(num_keys)) > 2
    assert np.array_equal(num_keys, np.sum(grid >= 6, axis=1))


def test_pictures_have_64_pixels(heist):
    env, levels = heist
    _, codes = env.reset_to_level(jax.random.key(0), one(levels, 0))
    image = compass.picture(env_style(), codes[..., 0])
    seen = xplore.make("Heist-Hard-v0", look="rgb")
    assert image.shape == shape_dtype(seen.spec().observation).shape
    assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) >= 4


def env_style() -> compass.Style:
    from xplore.envs.families.heist import STYLE

    return STYLE


class Walker:
    """Plays a RuleWorld level: walks to places, carries things, by searches over the grid."""

    def __init__(self, env: Any, level: Any) -> None:
        self.env, self.task = env, env.task
        self.step_fn = jax.jit(env.step)
        self.state = env.reset_to_level(jax.random.key(0), level)[0]
        self.success, self.steps = False, 0

    def act(self, action: int) -> None:
        self.state, ts = self.step_fn(jax.random.key(0), self.state, jnp.int32(action))
        self.success |= bool(ts.info["success"])
        self.steps += 1

    def grid(self) -> Any:
        return np.where(self.task._room(), np.asarray(self.state.grid), 0)

    def ways(self) -> tuple[int, ...]:
        return (1, self.task.width, -1, -self.task.width)

    def face(self, wanted: set[int]) -> None:
        """Goes where one of the cells `wanted` is ahead."""
        grid = self.grid()
        start = (int(self.state.position), int(self.state.direction))
        before: dict[Any, Any] = {start: None}
        queue: deque[tuple[int, int]] = deque([start])
        while queue:
            here = position, direction = queue.popleft()
            ahead = position + self.ways()[direction]
            if ahead in wanted:
                plan = []
                while before[here]:
                    here, action = before[here]
                    plan.append(action)
                for action in reversed(plan):
                    self.act(action)
                return
            after = {LEFT: (position, (direction - 1) % 4), RIGHT: (position, (direction + 1) % 4)}
            if grid[ahead] == cells.NOTHING:
                after[FORWARD] = (ahead, direction)
            for action, there in after.items():
                if there not in before:
                    before[there] = (here, action)
                    queue.append(there)
        raise AssertionError("no way")

    def find(self, byte: int) -> int:
        (found,) = np.flatnonzero(self.grid() == byte)
        return int(found)

    def fetch(self, byte: int) -> None:
        self.face({self.find(byte)})
        self.act(PICK_UP)

    def lay_beside(self, byte: int) -> None:
        grid, there = self.grid(), self.find(byte)
        here = int(self.state.position)
        free = {there + way for way in self.ways() if grid[there + way] == cells.NOTHING}
        self.face(free - {here})
        self.act(DROP)

    def make(self, byte: int, rules: dict[int, tuple[int, int]]) -> None:
        if byte not in rules or np.any(self.grid() == byte):
            return
        first, second = rules[byte]
        self.make(first, rules)
        self.make(second, rules)
        self.fetch(first)
        self.lay_beside(second)
        self.act(LEFT)  # what lies side by side reacts before this


def test_rule_world_can_be_played():
    env: Any = rule_world(depth=2, size=7)
    levels = some(env, 12)
    bounds = jax.jit(jax.vmap(env.optimal_steps))(levels)
    for i in range(3):
        walker = Walker(env, one(levels, i))
        task = env.task.task_of(walker.state.grid)
        made = [int(x) for x in task.product]
        # A false rule makes what no other rule takes, and is not what is wanted.
        parts = {int(x) for x in (*task.first, *task.second)}
        rules = {
            m: (int(a), int(b))
            for m, a, b in zip(made, task.first, task.second, strict=True)
            if m in parts or m == int(task.wanted)
        }
        walker.make(int(task.wanted), rules)
        assert not walker.success
        walker.fetch(int(task.wanted))
        if int(task.other) != cells.GREY_WALL:
            assert not walker.success
            walker.lay_beside(int(task.other))
        assert walker.success
        assert walker.steps >= int(bounds[i])


@pytest.mark.slow
def test_rule_world_has_many_tasks():
    task = RuleWorldTask(depth=1, size=6)
    drawn = jax.jit(lambda ids: levels_from_ids(rule_world(size=6), ids).levels.grid)
    grids = drawn(train_ids(0, jnp.arange(4096)))
    tasks = np.asarray(grids)[:, task._board_cells()]
    distinct = len(np.unique(tasks, axis=0))
    # Of M equally likely tasks, n draws repeat one about n^2 / 2M times.
    assert distinct > 4096 - 4096**2 / 2e6 - 12
    assert len(THINGS) == 12


@pytest.mark.slow
def test_a_rule_world_that_lacks_a_part_has_no_solution():
    env: Any = rule_world(depth=1, size=6, num_false=0, num_idle=0)
    level = one(some(env, 1), 0)
    first = env.task.task_of(level.grid).first[0]
    room = jnp.asarray(env.task._room())
    gone = jnp.where(room & (level.grid == first), jnp.uint8(cells.NOTHING), level.grid)
    assert int(env.optimal_steps(level)) > 0
    assert int(env.optimal_steps(level._replace(grid=gone))) == -1


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (key_maze, {"size": 8}, "size is 8"),
        (key_maze, {"algorithm": "prim"}, "algorithm is 'prim'"),
        (caves, {"fill": 1.5}, "fill is 1.5"),
        (caves, {"size": 6}, "size is 6"),
        (caves, {"num_rounds": -1}, "num_rounds is -1"),
        (multi_room_lite, {"num_rooms": 1}, "num_rooms is 1"),
        (multi_room_lite, {"room_size": 3}, "room_size is 3"),
        (Heist, {"size": 8}, "they must be odd"),
        (Heist, {"look": "pixels"}, "look is 'pixels'"),
        (Heist, {"max_steps": 0}, "max_steps is 0"),
        (rule_world, {"depth": 3}, "depth is 3"),
    ],
)
def test_wrong_options_are_refused(make, options, said):
    with pytest.raises(ConfigError, match=said):
        make(**options)


def test_a_drawn_board_that_is_none_is_refused():
    env = Heist(size=5)
    for text, said in (("##", "7 lines of 7"), ("#######\n" * 7, "one agent"),
                       ("#@z....\n" + "#######\n" * 6, r"\['z'\]")):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            env.level_from_text(text)


def test_a_grid_is_seen_as_64_pixels():
    env = key_maze(size=9, view=View(image="rgb64"))
    level = one(some(env, 1), 0)
    state, image = env.reset_to_level(jax.random.key(0), level)
    assert image.shape == shape_dtype(env.spec().observation).shape == (64, 64, 3)
    # 11 cells of 5 pixels, in a frame of 4 and 5.
    tile = 5 * np.array(divmod(int(state.position), 11))[::-1] + 4
    here = np.asarray(image)[tile[1] : tile[1] + 5, tile[0] : tile[0] + 5]
    assert np.any(here[..., 0] > here[..., 1])
    assert np.all(np.asarray(image)[:4] == 0)
    assert np.all(np.asarray(image)[-5:] == 0)
