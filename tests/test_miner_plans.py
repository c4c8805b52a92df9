"""Miner's plans: what is proven against a search of all plans, on boards small enough for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.contracts.solution import Planned
from xplore.envs.families import miner_moves
from xplore.envs.families.miner import Miner, MinerLevel
from xplore.envs.families.miner_bounds import Level, region, tours
from xplore.envs.families.miner_plans import Effort, plan

ENV = Miner(size=7)
KEY = jax.random.key(0)
NUM = 128
RESET = jax.jit(ENV.reset_to_level)
OPTIMAL_STEPS = jax.jit(ENV.optimal_steps)
SAMPLE = jax.jit(jax.vmap(ENV.sample_level))


@functools.cache
def stepped():
    """The env's own step, of `NUM` states and each of the five actions."""

    def act(state, action):
        after, ts = ENV.step(KEY, state, action)
        return after, ts.terminated, ts.info["success"]

    return jax.jit(jax.vmap(jax.vmap(act, (None, 0)), (0, None)))


def expanded(states):
    num = len(states.position)
    padded = jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[:1], NUM - num, 0)]), states)
    after, over, won = jax.device_get(stepped()(padded, jnp.arange(5)))
    flat = jax.tree.map(lambda x: x[:num].reshape(-1, *x.shape[2:]), after)
    return flat, over[:num].ravel(), won[:num].ravel()


def fewest(level, most=40, max_states=4000):
    """Steps of the shortest plan, of all there are; -1: there is none; None: not known."""
    states = jax.tree.map(lambda x: np.asarray(x)[None], RESET(KEY, level)[0])
    known = set()
    for step in range(1, most):
        parts = []
        for i in range(0, len(states.position), NUM):
            after, over, won = expanded(jax.tree.map(lambda x, i=i: x[i : i + NUM], states))
            if won.any():
                return step
            parts.append(jax.tree.map(lambda x, over=over: x[~over], after))
        states = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        new = []
        for i in range(len(states.position)):
            name = b"".join(x[i].tobytes() for x in states[:3])
            if name not in known:
                known.add(name)
                new.append(i)
        if not new:
            return -1
        if len(known) > max_states:
            return None
        states = jax.tree.map(lambda x, new=new: x[np.array(new)], states)
    return None


def board(rows):
    """Five rows or fewer of five letters in the corner of a board of walls."""
    lines = ["#########"] + [f"#{row:#<7}#" for row in rows]
    return ENV.level_from_text("\n".join(lines + ["#########"] * (9 - len(lines))))


def drawn(seed):
    """A board of a few cells that are open, all diamonds and the exit in reach but for boulders."""
    rng = np.random.default_rng(seed)
    while True:
        grid = np.ones((9, 9), np.uint8)
        kinds = rng.choice(4, (7, 7), p=[0.55, 0.25, 0.12, 0.08]) + 1
        grid[1:-1, 1:-1] = kinds
        grid = grid.ravel()
        dirt = np.flatnonzero(grid == 2)
        if not 9 <= np.sum(grid > 1) <= 24 or len(dirt) < 5 or not 1 <= np.sum(grid == 4) <= 4:
            continue
        agent, exit_ = rng.choice(dirt, 2, replace=False)
        grid[[agent, exit_]] = 0
        level = MinerLevel(jnp.asarray(grid), jnp.int32(agent), jnp.int32(exit_))
        if Level(np.where(grid == 3, 1, grid), int(agent), int(exit_)).bound < 100:
            return level


def solved(level):
    return plan(np.asarray(level.grid), int(level.position), int(level.exit))


def test_a_search_makes_the_moves_of_the_game():
    rng = np.random.default_rng(0)
    levels = SAMPLE(jax.random.split(KEY, NUM))
    states = jax.device_get(jax.vmap(RESET, (None, 0))(KEY, levels)[0])
    exit_ = states.exit[0]
    states = states._replace(exit=np.full_like(states.exit, exit_))
    here = Level(np.asarray(levels.grid[0]), int(states.position[0]), int(exit_))

    def planes(states):
        return np.asarray(states.planes)[:, 1:]  # walls do not change

    for _ in range(30):
        mine = miner_moves.advance(planes(states), states.position, exit_, here.walls)
        after, over, won = expanded(states)
        for x, y in (
            (mine.planes, planes(after)),
            (mine.position, after.position),
            (mine.alive, ~over),
            (mine.success, won),
        ):
            turned = np.swapaxes(np.asarray(x), 0, 1)
            np.testing.assert_array_equal(turned.reshape(-1, *turned.shape[2:]), y)
        # Those that are over go on where they were.
        which = np.arange(NUM) * 5 + rng.integers(0, 5, NUM)
        which = np.where(over[which], np.arange(NUM) * 5, which)
        states = jax.tree.map(lambda x, which=which: x[which], after)


@pytest.mark.parametrize(
    ("rows", "steps"),
    [
        (("@*:X:",), 3),
        (("@:X:*",), 6),
        # A boulder over the only way to a diamond is pushed into the agent's hole.
        (("X::", ":o@", "#*#"), 9),
        # Three boulders under a diamond: as the agent climbs beside them one rolls out, and the
        # diamond comes to meet it.
        (("#*::", "Xo::", "#o:#", "#o@#"), 4),
        # A diamond falls into the exit, and is taken there.
        (("*#", "X:", "#@"), 3),
        # A boulder on the exit, or in the way.
        (("@*oX",), -1),
        (("@*o:X",), -1),
        (("@:oX", "##*#"), -1),
    ],
)
def test_levels_whose_shortest_plan_is_known(rows, steps):
    level = board(rows)
    found = ENV.shortest_plan(level)
    assert found.exact
    assert found.least == steps == fewest(level)
    assert steps < 0 or int(OPTIMAL_STEPS(level)) <= steps


@pytest.mark.parametrize("seed", [*range(8), *range(9, 16)])
def test_plans_are_those_of_a_search_of_all(seed):
    level = drawn(seed)
    found, truth = solved(level), fewest(level)
    assert found.exact
    assert truth is not None
    assert found.least == truth
    start = Level(np.asarray(level.grid), int(level.position), int(level.exit))
    assert truth < 0 or max(start.bound, int(OPTIMAL_STEPS(level))) <= truth


def test_a_search_that_is_given_up_has_a_plan_and_a_bound():
    level = jax.tree.map(lambda x: x[0], SAMPLE(jax.random.split(KEY, NUM)))
    grid, position, exit_ = (np.asarray(x) for x in level)
    assert isinstance(ENV, Planned)
    full = ENV.shortest_plan(level)
    assert full.exact
    assert full.plan is not None
    given_up = plan(grid, int(position), int(exit_), Effort(max_states=0, narrow=8, wide=8))
    assert given_up.plan is not None
    assert 0 < given_up.least <= full.least <= len(given_up.plan)


def test_the_jitted_bound_is_the_tour_by_regions():
    env, far = Miner(), 10**6
    levels = jax.jit(jax.vmap(env.sample_level))(jax.random.split(KEY, 16))
    bounds = jax.jit(jax.vmap(env.optimal_steps))(levels)
    y, x = np.divmod(np.arange(env.side**2), env.side)
    away = np.asarray(abs(x[:, None] - x) + abs(y[:, None] - y), np.int32)
    for i, bound in enumerate(np.asarray(bounds)):
        grid, position, exit_ = (np.asarray(leaf[i]) for leaf in levels)
        thing, inside = (grid == 3) | (grid == 4), grid != 1
        places = [region(int(cell), thing, env.side) for cell in np.flatnonzero(grid == 4)]
        places = [[cell for cell in cells if inside[cell]] for cells in places]
        found = tours(away, places, int(exit_))[-1, position]
        assert bound <= found < far
        if max(len(cells) for cells in places) <= 16:
            assert bound == found
