"""The obstacles of Dynamic-Obstacles move as upstream's do, and before the agent does.

Both sides draw from fixed seeds, so no test here is flaky.
"""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import minigrid  # noqa: F401  (registers its environments)
import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import make
from xplore.envs.minigrid import cells
from xplore.envs.minigrid.dynamic_obstacles import _STAYS, DynamicObstacles
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.layout import level_from_text
from xplore.envs.minigrid.task import FORWARD, LEFT, Level, State
from xplore.envs.minigrid.upstream import level_into_minigrid

Array = npt.NDArray[Any]
NUM_OURS, NUM_THEIRS, ERROR_RATE = 40_000, 4_000, 1e-4
CROWDED = """
    ######
    #.BB.#
    #.>B.#
    #....#
    #...G#
    ######
"""
IN_A_CORNER = """
    #####
    #BB.#
    #.>.#
    #..G#
    #####
"""


def scene(text: str) -> tuple[MiniGrid, Level]:
    """The drawn level, its obstacles in the order of their cells."""
    level = level_from_text(text)
    places = np.flatnonzero(np.asarray(level.grid) == cells.cell(cells.BALL, cells.BLUE))
    task = DynamicObstacles(int(level.grid.size**0.5), len(places))
    return MiniGrid(task), level._replace(extra=jnp.asarray(places, jnp.int32))


def start(env: MiniGrid, level: Level) -> State:
    return env.reset_to_level(jax.random.key(0), level)[0]


@functools.cache
def our_moves(text: str) -> Array:
    env, level = scene(text)
    state = start(env, level)
    keys = jax.random.split(jax.random.key(1), NUM_OURS)
    moved = jax.jit(jax.vmap(lambda key: env.task.stir(key, state).extra))(keys)
    return np.asarray(moved)


@functools.cache
def their_moves(text: str) -> Array:
    env, level = scene(text)
    id = f"MiniGrid-Dynamic-Obstacles-{env.task.width}x{env.task.width}-v0"
    theirs: Any = gymnasium.make(id).unwrapped
    theirs.reset(seed=0)
    theirs.gen_obs = lambda: None  # what is seen is not asked for here, and slow
    moves = []
    for _ in range(NUM_THEIRS):
        level_into_minigrid(theirs, env.task, level)
        theirs.step(LEFT)
        moves.append(env.task.stirred_from_minigrid(theirs))
    return np.stack(moves)


def homogeneity(a: Array, b: Array) -> float:
    """The p-value of the chi-square test that rows of `a` and `b` come from one distribution."""
    _, index = np.unique(np.concatenate([a, b]), axis=0, return_inverse=True)
    index = index.ravel()
    counts = np.stack(
        [np.bincount(x, minlength=index.max() + 1) for x in (index[: len(a)], index[len(a) :])]
    )
    rare = counts.sum(0) * len(b) / len(index) < 5
    counts = np.column_stack([counts[:, ~rare], counts[:, rare].sum(1)])
    return float(stats.chi2_contingency(counts[:, counts.sum(0) > 0]).pvalue)


@pytest.mark.parametrize("text", [CROWDED, IN_A_CORNER])
def test_obstacles_move_as_upstreams_do(text: str) -> None:
    ours, theirs = our_moves(text), their_moves(text)
    assert {tuple(row) for row in theirs.tolist()} <= {tuple(row) for row in ours.tolist()}
    assert homogeneity(ours, theirs) > ERROR_RATE
    for i in range(ours.shape[1]):
        assert homogeneity(ours[:, [i]], theirs[:, [i]]) > ERROR_RATE


def test_the_comparison_sees_that_obstacles_take_turns() -> None:
    # Moved last to first, they come to other places than first to last.
    env, level = scene(CROWDED)
    state = start(env, level)._replace(extra=level.extra[::-1])
    keys = jax.random.split(jax.random.key(1), NUM_OURS)
    moved = jax.jit(jax.vmap(lambda key: env.task.stir(key, state).extra[::-1]))(keys)
    assert homogeneity(np.asarray(moved), their_moves(CROWDED)) < 1e-9


@pytest.mark.parametrize(("bits", "moves"), [(int(_STAYS) - 1, False), (int(_STAYS), True)])
def test_an_obstacle_with_one_free_cell_may_miss_it(bits: int, moves: bool) -> None:
    # The first obstacle could go but to the cell between the agent and the other.
    env, level = scene("#####\n#B.B#\n#>B.#\n#..G#\n#####")
    task = env.task
    assert isinstance(task, DynamicObstacles)
    first = level.extra[0]
    words = jnp.array([123456789, bits], jnp.uint32)
    moved = task._moved(words, first, level.extra, level.position)
    assert int(moved) == int(first) + int(moves)
    assert int(_STAYS) / 2**32 == pytest.approx((8 / 9) ** 101, rel=1e-4)


def test_an_obstacle_without_a_free_cell_stays() -> None:
    env, level = scene("#####\n#BB.#\n#>B.#\n#..G#\n#####")
    task = env.task
    assert isinstance(task, DynamicObstacles)
    for bits in (0, 2**32 - 1):
        words = jnp.full(2, bits, jnp.uint32)
        moved = task._moved(words, level.extra[0], level.extra, level.position)
        assert int(moved) == int(level.extra[0])


def after(text: str, draws: list[int], action: int) -> tuple[State, Any]:
    env, level = scene(text)
    before = start(env, level)
    stirred = env.task.stirred(before, jnp.asarray(draws, jnp.int32))
    return env.resolve(before, stirred, jnp.int32(action))


BEHIND_A_BALL = "#####\n#>B.#\n#...#\n#..G#\n#####"


def test_walking_into_where_a_ball_was_ends_the_episode_even_if_it_has_gone() -> None:
    state, step = after(BEHIND_A_BALL, [8], FORWARD)
    assert (float(step.reward), bool(step.terminated), bool(step.info["success"])) == (-1, True, 0)
    assert int(state.position) == 7


def test_a_ball_that_comes_in_the_way_only_blocks_it() -> None:
    state, step = after("#####\n#>.B#\n#...#\n#..G#\n#####", [7], FORWARD)
    assert (float(step.reward), bool(step.terminated)) == (0, False)
    assert int(state.position) == 6
    # It is seen where it has come to, straight ahead.
    assert step.obs[3, 5, 0] == cells.UPSTREAM[cells.cell(cells.BALL, cells.BLUE)][0]


def test_turning_before_a_ball_costs_nothing() -> None:
    _, step = after(BEHIND_A_BALL, [7], LEFT)
    assert (float(step.reward), bool(step.terminated)) == (0, False)


def test_walking_into_a_wall_ends_the_episode() -> None:
    state, step = after("#####\n#<.B#\n#...#\n#..G#\n#####", [8], FORWARD)
    assert (float(step.reward), bool(step.terminated)) == (-1, True)
    assert int(state.position) == 6


def test_the_goal_is_reached_with_the_reward_of_success() -> None:
    _, step = after("#####\n#..B#\n#...#\n#.>G#\n#####", [8], FORWARD)
    assert float(step.reward) == pytest.approx(1 - 0.9 / 100)
    assert bool(step.terminated)
    assert bool(step.info["success"])


def test_obstacles_that_do_not_fit_are_refused() -> None:
    for bad in ({"size": 4}, {"num_obstacles": 0}, {"num_obstacles": 6}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            make("MiniGrid-Dynamic-Obstacles-8x8-v0", **bad)
