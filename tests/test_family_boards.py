"""Miner and Chaser: what falls against a plain scan, who moves where, what is paid."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.contracts.errors import ConfigError
from xplore.envs.families import boards, compass, falling
from xplore.envs.families.chaser import Chaser
from xplore.envs.families.miner import Miner
from xplore.parts.levels import levels_from_ids, train_ids

KEY = jax.random.key(0)
WALL, DIRT, BOULDER, DIAMOND = 1, 2, 3, 4


def scan(grid: Any, moving: Any, agent: tuple[int, int]) -> tuple[Any, Any, bool]:
    """The rules of falling, a cell at a time, from the bottom row up and from left to right."""
    grid, moving, hit = grid.copy(), moving.copy(), False

    def is_round(y: int, x: int) -> bool:
        return grid[y, x] in (BOULDER, DIAMOND)

    def is_free(y: int, x: int) -> bool:
        return grid[y, x] == 0 and (y, x) != agent

    for y in range(grid.shape[0] - 2, 0, -1):
        for x in range(1, grid.shape[1] - 1):
            if not is_round(y, x):
                continue
            thing, was_moving = grid[y, x], moving[y, x]
            moving[y, x] = False
            if is_free(y + 1, x):
                to = (y + 1, x)
            elif (y + 1, x) == agent and was_moving:
                hit, to = True, (y, x)
            elif is_round(y + 1, x) and is_free(y, x - 1) and is_free(y + 1, x - 1):
                to = (y, x - 1)
            elif is_round(y + 1, x) and is_free(y, x + 1) and is_free(y + 1, x + 1):
                to = (y, x + 1)
            else:
                to = (y, x)
            grid[y, x] = 0
            grid[to] = thing
            moving[to] = to[0] > y
    return grid, moving, hit


def test_things_fall_as_by_a_plain_scan():
    rng = np.random.default_rng(0)
    num, side = 200, 10
    grid = rng.choice(np.array([0, 0, 0, DIRT, BOULDER, BOULDER, DIAMOND]), (num, side, side))
    grid[:, [0, -1]] = grid[:, :, [0, -1]] = WALL
    moving = np.zeros(grid.shape, bool)
    agents = [tuple(rng.integers(1, side - 1, 2)) for _ in range(num)]
    for g, agent in zip(grid, agents, strict=True):
        g[agent] = 0

    @jax.jit
    @jax.vmap
    def fall(grid, moving, position):
        rows = [boards.to_rows(m) for m in (grid <= DIRT, grid == BOULDER, grid == DIAMOND, moving)]
        rows[0] = boards.to_rows((grid == WALL) | (grid == DIRT))
        agent = boards.one_cell(position, (side, side))
        found = falling.fallen(rows[0], rows[1], rows[2], rows[3], agent)
        return [boards.to_mask(x, side) for x in found]

    position = jnp.asarray([y * side + x for y, x in agents], jnp.int32)
    for _ in range(4):
        boulder, diamond, falls, crushed = map(np.asarray, fall(grid, moving, position))
        expected = [scan(*x) for x in zip(grid, moving, agents, strict=True)]
        grid, moving = (np.stack([e[k] for e in expected]) for k in (0, 1))
        np.testing.assert_array_equal(boulder, grid == BOULDER)
        np.testing.assert_array_equal(diamond, grid == DIAMOND)
        np.testing.assert_array_equal(falls, moving)
        assert np.any(crushed, axis=(1, 2)).tolist() == [e[2] for e in expected]
    assert np.any(moving)


MINE = """
#########
#@o.::::#
#*::::::#
#::o::::#
#X:::::*#
#:::::::#
#:::::::#
#:::::::#
#########
"""


def test_miner_is_played_by_its_rules():
    env = Miner(size=7)
    # The exit and the hole of a level are its only empty cells; here one more is dug.
    level = env.level_from_text(MINE)
    step = jax.jit(env.step)
    state, _ = env.reset_to_level(KEY, level)
    state, ts = step(KEY, state, jnp.int32(compass.RIGHT))  # pushes the boulder
    assert int(state.position) == 9 + 2
    assert int(ts.obs[1, 3, 0]) == BOULDER
    for action in (compass.LEFT, compass.DOWN):
        state, ts = step(KEY, state, jnp.int32(action))
    assert float(ts.reward) == 1  # the diamond
    state, ts = step(KEY, state, jnp.int32(compass.DOWN))
    assert float(ts.reward) == 0
    state, ts = step(KEY, state, jnp.int32(compass.DOWN))  # the exit, one diamond too early
    assert not bool(ts.terminated)
    none = state._replace(planes=state.planes.at[3].set(0))  # no diamonds
    _, ts = step(KEY, none, jnp.int32(compass.STAY))
    assert float(ts.reward) == 10
    assert bool(ts.info["success"])
    # Under a boulder one is safe while it rests, and not when it falls.
    state = state._replace(position=jnp.int32(4 * 9 + 3))
    state, ts = step(KEY, state, jnp.int32(compass.STAY))
    assert not bool(ts.terminated)
    state, ts = step(KEY, state, jnp.int32(compass.DOWN))
    assert not bool(ts.terminated)
    assert int(ts.obs[4, 3, 0]) == BOULDER
    _, ts = step(KEY, state, jnp.int32(compass.STAY))
    assert bool(ts.terminated)
    assert not bool(ts.info["success"])


CHASE = """
#########
#@ooooox#
#o#o#o#o#
#ooooooo#
#e#o#o#o#
#ooooooo#
#o#o#o#o#
#xeeooox#
#########
"""


@functools.cache
def chaser():
    env = Chaser(size=7)
    return env, jax.jit(env.step)


def test_the_plan_of_chaser_succeeds_with_its_last_step():
    env, step = chaser()
    level = env.level_from_text(CHASE)
    least, plan = env.shortest_plan(level)
    assert plan is not None
    assert len(plan) == least
    state, _ = env.reset_to_level(KEY, level)
    state = state._replace(eggs=jnp.full(3, 500, jnp.int32))  # these do not hatch in time
    told = []
    for action in plan:
        state, ts = step(KEY, state, action)
        told.append((bool(ts.terminated), bool(ts.info["success"])))
    assert told == [(False, False)] * (least - 1) + [(True, True)]


def test_chaser_is_played_by_its_rules():
    env, step = chaser()
    level = env.level_from_text(CHASE)
    assert bool(env.is_valid(level))
    state, _ = env.reset_to_level(KEY, level)
    state, ts = step(KEY, state, jnp.int32(compass.RIGHT))
    assert float(ts.reward) == pytest.approx(0.04)
    # An enemy that can but go on to where the agent is: it is caught, or, frightened, eaten.
    beside = state._replace(
        position=jnp.int32(10),
        enemies=state.enemies.at[0].set(10 + 9),
        behind=state.behind.at[0].set(10 + 18),
        eggs=state.eggs.at[0].set(0),
        time=jnp.int32(0),
    )
    _, ts = step(KEY, beside, jnp.int32(compass.STAY))
    assert bool(ts.terminated)
    assert not bool(ts.info["success"])
    after, ts = step(KEY, beside._replace(fright=jnp.int32(9)), jnp.int32(compass.STAY))
    assert not bool(ts.terminated)
    assert int(after.eggs[0]) == 25
    last = jnp.where(state.grid == 2, jnp.uint8(0), state.grid).at[int(state.position) + 1].set(2)
    _, ts = step(KEY, state._replace(grid=last), jnp.int32(compass.RIGHT))
    assert float(ts.reward) == pytest.approx(10.04)
    assert bool(ts.info["success"])


@pytest.mark.slow
def test_enemies_chase_through_the_maze():
    env = Chaser(size=9, max_steps=60)
    levels = jax.jit(lambda i: levels_from_ids(env, i).levels)(train_ids(0, jnp.arange(16)))

    @jax.jit
    @jax.vmap
    def watch(key, level):
        state, _ = env.reset_to_level(key, level)

        def step(state, key):
            after, _ = env.step(key, state, jnp.int32(0))
            return after, after

        return jax.lax.scan(step, state, jax.random.split(key, 60))[1]

    seen = jax.tree.map(np.asarray, watch(jax.random.split(KEY, 16), levels))
    away = np.abs(np.diff(seen.enemies, axis=1))
    assert set(np.unique(away)) == {0, 1, 11}
    assert np.all(away[:, :24] == 0)
    assert np.all(away[:, 26:] > 0)
    for lane in range(16):
        assert not np.any(np.asarray(levels.grid)[lane][seen.enemies[lane]] == WALL)


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (Chaser, {"size": 12}, "size is 12"),
        (Chaser, {"num_large": 2}, "num_large is 2"),
        (Chaser, {"look": "x"}, "look is 'x'"),
        (Miner, {"size": 3}, "size is 3"),
        (Miner, {"max_steps": 0}, "max_steps is 0"),
    ],
)
def test_wrong_options_are_refused(make, options, said):
    with pytest.raises(ConfigError, match=said):
        make(**options)
