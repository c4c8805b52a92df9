"""The fewest steps to success: under jit as by a search of all states, and on drawn levels."""

from __future__ import annotations

import functools
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import make
from xplore.envs.minigrid import cells
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.layout import level_from_text
from xplore.envs.minigrid.oracle import Solution, plan_for, solve, solve_exactly
from xplore.envs.minigrid.search import Plan
from xplore.envs.minigrid.task import PICK_UP, Level, Move, Outcome, Task
from xplore.parts.levels import levels_from_ids

NUM_LEVELS = 30
KEY_THEN_GOAL = Plan(things=1, doors=1)
KEY_THEN_TARGET = Plan(things=2, loose=1, doors=1)
BALL_KEY_TARGET = Plan(things=3, loose=2, doors=1)


@final
@component
class Drawn(Task):
    """Levels that the tests draw: reach a goal, or pick up the thing that `extra` says."""

    columns: int = 8
    rows: int = 6

    @property
    def name(self) -> str:
        return "drawn"

    @property
    def width(self) -> int:
        return self.columns

    @property
    def height(self) -> int:
        return self.rows

    @property
    def missions(self) -> tuple[str, ...]:
        return ("test",)

    @property
    def max_steps(self) -> int:
        return 100

    def outcome(self, move: Move) -> Outcome:
        picked_up = move.before.carrying != move.after.carrying
        is_target = move.there == move.before.extra
        return Outcome(success=(move.action == PICK_UP) & picked_up & is_target)


def drawn(*rows: str, target: int = 0, max_steps: int | None = None) -> tuple[MiniGrid, Level]:
    """The rows are filled up with walls to one size, for which all is compiled once."""
    env = MiniGrid(Drawn(), max_steps)
    inside = [row.ljust(env.task.width - 2, "#") for row in rows]
    inside += ["#" * (env.task.width - 2)] * (env.task.height - 2 - len(rows))
    border = "#" * env.task.width
    text = "\n".join([border, *(f"#{row}#" for row in inside), border])
    return env, level_from_text(text)._replace(extra=jnp.uint8(target))


def solved(env: MiniGrid, level: Level, plan: Plan) -> Solution:
    found = jax.device_get(solve(env, level, plan))
    assert_same(found, solve_exactly(env, level))
    return Solution(*found)


def assert_same(ours: Any, exact: Solution, whole: bool = True) -> None:
    assert int(ours.steps) == int(exact.steps)
    assert bool(ours.solvable) == bool(exact.solvable)
    np.testing.assert_allclose(ours.optimal_return, exact.optimal_return, rtol=1e-6)
    if whole:
        np.testing.assert_array_equal(ours.reachable, exact.reachable)
    else:
        assert not (np.asarray(exact.reachable) & ~ours.reachable).any()


def reached(solution: Solution, env: MiniGrid, rows: int, columns: int) -> list[list[int]]:
    grid = np.asarray(solution.reachable).reshape(env.task.height, env.task.width)
    return grid[1 : rows + 1, 1 : columns + 1].astype(int).tolist()


def test_walking_turning_and_lava() -> None:
    env, level = drawn(">LG", "...", "#L#")
    found = solved(env, level, Plan())
    # Down, two to the right, up: three turns and four cells.
    assert int(found.steps) == 7
    np.testing.assert_allclose(found.optimal_return, 1 - 0.9 * 7 / 100, rtol=1e-6)
    assert reached(found, env, 3, 3) == [[1, 1, 1], [1, 1, 1], [0, 1, 0]]
    env, level = drawn(">LG")  # the lava ends the episode
    assert int(solved(env, level, Plan()).steps) == -1


def test_a_shut_door_costs_a_toggle() -> None:
    env, level = drawn(">|.|G")
    assert int(solved(env, level, Plan()).steps) == 6
    assert int(solved(env, level, Plan(doors=2)).steps) == 6
    env, level = drawn(">|G", "..#", "/.#", "#.#")  # an open one does not
    assert int(solved(env, level, Plan()).steps) == 3


def test_a_key_is_fetched_through_a_door_that_stays_open() -> None:
    env, level = drawn("K.|>DG")
    # Turn twice, toggle, two cells, pick up; turn twice, two cells, toggle, two cells.
    assert int(solved(env, level, Plan(things=1, doors=2)).steps) == 13
    # The door forgotten, it is toggled again: what the plan of such a level must not do.
    forgetful = Plan(things=1, doors=0, after_unlocking=Plan(things=1))
    assert int(solve(env, level, forgetful).steps) == 14
    remembers = forgetful._replace(doors=1)
    assert int(solved(env, level, remembers).steps) == 13


def test_the_hand_must_be_empty_for_what_is_asked_for() -> None:
    ball = cells.cell(cells.BALL, cells.BLUE)
    env, level = drawn(">KDB", target=ball)
    # Pick up, a cell, toggle, a cell; turn twice, put down, turn twice; pick up.
    assert int(solved(env, level, KEY_THEN_TARGET).steps) == 10
    behind = Plan(things=2, after_unlocking=Plan(things=2, loose=1))
    assert int(solved(env, level, behind).steps) == 10
    assert int(solve(env, level, Plan(things=2, doors=1)).steps) == -1


def test_levels_without_a_solution() -> None:
    env, level = drawn(">.DG", "...#")
    found = solved(env, level, KEY_THEN_GOAL)
    assert (int(found.steps), bool(found.solvable), float(found.optimal_return)) == (-1, False, 0.0)
    assert reached(found, env, 2, 4) == [[1, 1, 0, 0], [1, 1, 1, 0]]
    box = cells.cell(cells.BOX, cells.PURPLE)
    env, level = drawn(">KBDX", target=box)  # no room to pass the ball, with the key in hand
    assert int(solved(env, level, BALL_KEY_TARGET).steps) == -1


def test_success_may_come_too_late() -> None:
    env, level = drawn(">..G", max_steps=2)
    found = solved(env, level, Plan())
    assert (int(found.steps), bool(found.solvable), float(found.optimal_return)) == (3, False, 0.0)
    env, level = drawn(">..G", max_steps=3)
    assert bool(solved(env, level, Plan()).solvable)


def two_rooms(seed: int, width: int, height: int, blocked: bool, boxed: bool) -> Level:
    """A level as of `BlockedUnlockPickup` or `ObstructedMaze-1Dl`, as small as one likes."""
    rng = np.random.default_rng(seed)
    grid = np.full((height, width), cells.GREY_WALL, np.uint8)
    grid[1:-1, 1:-1] = cells.NOTHING
    middle = width // 2
    grid[:, middle] = cells.GREY_WALL
    door_y = rng.integers(1, height - 1)
    grid[door_y, middle] = cells.cell(cells.LOCKED_DOOR, cells.RED)
    if blocked:
        grid[door_y, middle - 1] = cells.cell(cells.BALL, cells.BLUE)

    def free(left: int, right: int) -> tuple[int, int]:
        ys, xs = np.nonzero(grid[:, left:right] == cells.NOTHING)
        chosen = rng.integers(len(xs))
        return ys[chosen], xs[chosen] + left

    target = np.uint8(cells.cell(rng.choice([cells.BALL, cells.BOX]), cells.GREEN))
    grid[free(middle + 1, width - 1)] = target
    key = cells.cell(cells.KEY, cells.RED)
    grid[free(1, middle)] = cells.filled_box(cells.GREY, key) if boxed else key
    y, x = free(1, middle)
    direction = jnp.int32(rng.integers(4))
    return Level(
        jnp.asarray(grid.ravel()), jnp.int32(y * width + x), direction, jnp.asarray(target)
    )


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("blocked", [False, True])
def test_two_small_rooms(blocked: bool, boxed: bool) -> None:
    env = MiniGrid(Drawn(7, 4))
    plan = BALL_KEY_TARGET if blocked else KEY_THEN_TARGET
    for seed in range(NUM_LEVELS):
        level = two_rooms(seed, 7, 4, blocked, boxed)
        assert_same(jax.device_get(solve(env, level, plan)), solve_exactly(env, level))


def compare(id: str, kwargs: dict[str, int], whole: bool) -> None:
    env = make(id, **kwargs)
    assert isinstance(env, MiniGrid)
    ids = jnp.arange(NUM_LEVELS, dtype=jnp.uint32)
    levels = jax.jit(lambda i: levels_from_ids(env, i).levels)(ids)
    found = jax.device_get(jax.jit(jax.vmap(functools.partial(solve, env)))(levels))
    assert found.solvable.all()
    assert found.steps.dtype == np.int32
    for i in range(NUM_LEVELS):
        level, ours = (jax.tree.map(lambda leaf: leaf[i], x) for x in (levels, found))  # noqa: B023
        assert_same(ours, solve_exactly(env, level, 3_000_000, whole), whole)


@pytest.mark.parametrize(
    ("id", "kwargs"),
    [
        ("MiniGrid-Empty-Random-5x5-v0", {}),
        ("MiniGrid-FourRooms-v0", {"size": 7}),
        ("MiniGrid-SimpleCrossingS9N1-v0", {}),
        ("MiniGrid-LavaCrossingS9N2-v0", {}),
        ("MiniGrid-LavaGapS5-v0", {}),
        ("MiniGrid-DistShift1-v0", {}),
        ("MiniGrid-MultiRoom-N2-S4-v0", {}),
        ("MiniGrid-MemoryS7-v0", {}),
        ("MiniGrid-GoToDoor-5x5-v0", {}),
        ("MiniGrid-Fetch-5x5-N2-v0", {}),
        ("MiniGrid-PutNear-6x6-N2-v0", {}),
        ("MiniGrid-PutNear-6x6-N2-v0", {"size": 7, "num_objects": 3}),
        ("MiniGrid-RedBlueDoors-6x6-v0", {}),
        ("MiniGrid-DoorKey-5x5-v0", {}),
        ("MiniGrid-KeyCorridorS3R1-v0", {}),
    ],
)
def test_small_levels_are_solved_as_by_a_search_of_all_states(
    id: str, kwargs: dict[str, int]
) -> None:
    compare(id, kwargs, whole=True)


@pytest.mark.parametrize(
    ("id", "kwargs"),
    [("MiniGrid-GoToObject-6x6-N2-v0", {}), ("MiniGrid-Unlock-v0", {})],
)
def test_larger_levels_are_solved_as_by_a_search_up_to_success(
    id: str, kwargs: dict[str, int]
) -> None:
    compare(id, kwargs, whole=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "id",
    [
        "MiniGrid-UnlockPickup-v0",
        "MiniGrid-BlockedUnlockPickup-v0",
        "MiniGrid-KeyCorridorS3R2-v0",
        "MiniGrid-KeyCorridorS3R3-v0",
        "MiniGrid-KeyCorridorS4R3-v0",
        "MiniGrid-ObstructedMaze-1Dl-v0",
        "MiniGrid-ObstructedMaze-1Dlh-v0",
        "MiniGrid-ObstructedMaze-1Dlhb-v0",
    ],
)
def test_levels_with_many_states_are_solved_as_by_a_search_up_to_success(id: str) -> None:
    compare(id, {}, whole=False)


def test_the_empty_room_takes_its_formula() -> None:
    for size in (5, 8, 16):
        env = make(f"MiniGrid-Empty-{size}x{size}-v0")
        assert isinstance(env, MiniGrid)
        found = solve(env, env.sample_level(jax.random.key(0)))
        assert int(found.steps) == 2 * size - 5
        assert int(found.reachable.sum()) == (size - 2) ** 2


@pytest.mark.parametrize(
    "id",
    [
        "MiniGrid-ObstructedMaze-2Dl-v0",
        "MiniGrid-ObstructedMaze-Full-v1",
        "MiniGrid-Playground-v0",
        "MiniGrid-Dynamic-Obstacles-5x5-v0",
    ],
)
def test_what_it_cannot_solve_is_said(id: str) -> None:
    env = make(id)
    assert isinstance(env, MiniGrid)
    _, level = drawn(">G")
    with pytest.raises(ConfigError, match=env.task.name):
        solve(env, level)


def test_a_search_of_all_states_knows_its_bounds() -> None:
    env, level = drawn(">..G")
    with pytest.raises(ConfigError, match="max_states is 3"):
        solve_exactly(env, level, max_states=3)
    short = solve_exactly(env, level, whole=False)
    assert int(short.steps) == 3
    with pytest.raises(ConfigError, match="drawn"):
        plan_for(env.task)
    three = make("MiniGrid-GoToObject-6x6-N2-v0", num_objects=3)
    assert isinstance(three, MiniGrid)
    with pytest.raises(ConfigError, match="GoToObject"):
        plan_for(three.task)
