"""The shortest plans of RuleWorld: they work, and breadth-first search finds no shorter ones."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.contracts.solution import Planned
from xplore.envs.families import rule_world_plan
from xplore.envs.families.maze import maze
from xplore.envs.families.poses import poses
from xplore.envs.families.rule_world import THINGS, rule_world
from xplore.envs.families.rule_world_bound import BESIDE
from xplore.envs.minigrid import cells
from xplore.parts.levels import levels_from_ids, train_ids
from xplore.parts.shortest import Effort

CHUNK = 512
CORNER = 3  # where all things of these levels lie, so that plans are short


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    effort = Effort(max_states=2**14, chunk=64)
    monkeypatch.setattr(rule_world_plan, "_EFFORT", effort)
    monkeypatch.setattr(rule_world_plan, "_HASTY", effort)


@pytest.fixture(scope="module")
def world() -> Any:
    """An environment, levels with things in one corner of the room, and a bound for each."""
    env: Any = rule_world(depth=2, size=6, num_false=1, num_idle=0)
    drawn = jax.jit(lambda ids: levels_from_ids(env, ids).levels)(train_ids(5, jnp.arange(8)))
    drawn = jax.tree.map(np.array, drawn)
    room = np.flatnonzero(env.task._room())
    y, x = np.divmod(np.arange(36), 6)
    rng = np.random.default_rng(0)
    for grid in drawn.grid:
        things = grid[room][grid[room] != cells.NOTHING]
        # No two of these cells are neighbours; what lies in others is far off.
        near = rng.permutation(np.flatnonzero((x + y) % 2 == 0))
        near = near[np.argsort(np.maximum(x, y)[near] // CORNER, kind="stable")]
        grid[room] = cells.NOTHING
        grid[room[near[: len(things)]]] = things
    levels = drawn._replace(position=np.full(8, room[6 * 2 + 3], np.int32))
    return env, levels, jax.jit(jax.vmap(env.optimal_steps))(levels), jax.jit(env.step)


def one(levels: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], levels)


@pytest.fixture(scope="module")
def breadth_first(world: Any) -> Any:
    """The fewest steps to success, by layers of all states that can be reached."""
    env = world[0]

    @jax.jit
    def after(states: Any) -> Any:
        def act(state: Any, action: jax.Array) -> Any:
            state, ts = env.step(jax.random.key(0), state, action)
            return state, ts.info["success"], env.privileged(state)["state"]

        return jax.vmap(jax.vmap(act, (None, 0)), (0, None))(states, jnp.arange(5))

    def search(level: Any, most: int) -> int:
        first = env.reset_to_level(jax.random.key(0), level)[0]
        layer = jax.tree.map(lambda x: np.asarray(x)[None], first)
        seen: set[bytes] = set()
        for steps in range(1, most + 1):
            kept = []
            for begin in range(0, len(layer.grid), CHUNK):
                rows = np.minimum(np.arange(begin, begin + CHUNK), len(layer.grid) - 1)
                states, success, names = jax.tree.map(
                    lambda x: np.asarray(x).reshape(-1, *x.shape[2:]),
                    after(jax.tree.map(lambda x, rows=rows: x[rows], layer)),
                )
                if np.any(success):
                    return steps
                names = [name.tobytes() for name in names]
                new = {name: i for i, name in enumerate(names) if name not in seen}
                seen |= new.keys()
                kept.append(jax.tree.map(lambda x, new=new: x[list(new.values())], states))
            layer = jax.tree.map(lambda *x: np.concatenate(x), *kept)
        raise AssertionError(f"no success in {most} steps")

    return search


def played(world: Any, level: Any, plan: Any) -> list[bool]:
    """Whether each step of a plan is a success."""
    env, *_, step = world
    state, success = env.reset_to_level(jax.random.key(0), level)[0], []
    for action in plan:
        state, ts = step(jax.random.key(0), state, action)
        success.append(bool(ts.info["success"]))
    return success


def test_plans_are_the_shortest(world, breadth_first):
    env, levels, bounds, _ = world
    goals = set()
    for i in (0, 3, 6):
        level = one(levels, i)
        found = env.shortest_plan(level)
        assert found.exact
        assert found.plan is not None
        assert played(world, level, found.plan) == [False] * (found.least - 1) + [True]
        assert breadth_first(level, found.least) == found.least >= int(bounds[i]) > 0
        goals.add(env.task.recipe(level).other is None)
    assert goals == {True, False}


def test_one_drop_may_do_two_things(world):
    env, levels, *_ = world
    level, room = one(levels, 0), np.flatnonzero(env.task._room())
    a, b, made, other = (np.uint8(x) for x in THINGS[:4])
    none = [np.uint8(cells.GREY_WALL)] * 3
    grid = level.grid.copy()
    grid[env.task._board_cells()] = [a, *none, b, *none, made, *none, BESIDE, made, other]
    grid[room] = cells.NOTHING
    # ..a...
    # ...o..
    # .b@...
    grid[room[[2, 9, 13]]] = a, other, b
    left = np.int32(2)
    level = level._replace(grid=grid, position=np.int32(room[14]), direction=left)
    # Picked up, turned to where both are beside, dropped; what is made there lies where it should.
    found = env.shortest_plan(level)
    assert found.exact
    assert found.least == 4
    assert int(env.optimal_steps(level)) <= 4


def test_what_cannot_be_made_has_no_plan(world):
    env, levels, *_ = world
    level = one(levels, 0)
    needed = env.task.recipe(level).things()
    lost = next(i for i in np.flatnonzero(env.task._room()) if level.grid[i] in needed)
    grid = np.where(np.arange(level.grid.size) == lost, np.uint8(cells.NOTHING), level.grid)
    assert env.shortest_plan(level._replace(grid=grid)) == (-1, None)
    assert int(env.optimal_steps(level._replace(grid=grid))) == -1


def test_a_thing_that_is_there_twice(world, breadth_first):
    env, levels, *_ = world
    level, room = one(levels, 3), np.flatnonzero(env.task._room())
    lying = [i for i in room if level.grid[i] in env.task.recipe(level).things()]
    grid = level.grid.copy()
    grid[room[-1]] = grid[lying[0]]
    level = level._replace(grid=grid)
    found = env.shortest_plan(level)
    assert found.exact
    assert breadth_first(level, found.least) == found.least >= int(env.optimal_steps(level)) > 0


def test_a_search_that_is_given_up_has_a_bound_and_a_plan(world, monkeypatch):
    env, levels, _, step = world
    level = one(levels, 0)
    least = env.shortest_plan(level).least
    monkeypatch.setattr(rule_world_plan, "_EFFORT", Effort(max_states=16, chunk=64))
    found = env.shortest_plan(level)
    assert 1 < found.least <= least <= len(found.plan)
    state, success = env.reset_to_level(jax.random.key(0), level)[0], False
    for action in found.plan:
        assert not success
        state, ts = step(jax.random.key(0), state, action)
        success = bool(ts.info["success"])
    assert success
    monkeypatch.setattr(rule_world_plan, "_HASTE", ())
    assert env.shortest_plan(level) == (found.least, None)


def test_only_families_that_search_are_planned():
    assert isinstance(rule_world(), Planned)
    assert not isinstance(maze(), Planned)


def test_walking_in_an_empty_room():
    room = poses(6)
    start, none = 4 * 7, 4 * 36  # facing right
    # A cell to the right, another facing down; the same cell facing back; two rows up: the wall.
    assert room.steps[4 * 8 + 0, start] == 1
    assert room.steps[4 * 8 + 1, start] == 2
    assert room.steps[4 * 7 + 2, start] == 2
    assert room.steps[4 * 1 + 3, start] == 2
    assert room.steps[4 * 6 + 2, start] == 3
    assert np.all(room.steps[none] > 100)
    assert np.sum(room.around[14] < none) == 16
    assert np.sum(room.before[14]) == 4
    assert np.sum(room.before[0]) == 2
