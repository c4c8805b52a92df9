"""The rules of MiniGrid on levels drawn as text, and what a state says of itself."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.contracts import spaces
from xplore.contracts.component import component, from_json, to_json
from xplore.contracts.errors import ConfigError
from xplore.contracts.types import Environment, TimeStep
from xplore.envs.minigrid import cells
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.layout import level_from_text
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import (
    DROP,
    FORWARD,
    LEFT,
    PICK_UP,
    RIGHT,
    TOGGLE,
    Level,
    State,
    Task,
)  # fmt: skip
from xplore.envs.minigrid.upstream import snapshot

KEY = jax.random.key(0)
SIZE = 6


@final
@component
class Drawn(Task):
    """Levels of one size that the tests draw."""

    size: int = SIZE

    @property
    def name(self) -> str:
        return "drawn"

    @property
    def width(self) -> int:
        return self.size

    @property
    def height(self) -> int:
        return self.size

    @property
    def missions(self) -> tuple[str, ...]:
        return ("test",)

    @property
    def max_steps(self) -> int:
        return 10

    def sample_level(self, key: jax.Array) -> Level:
        return level_from_text("######\n#>...#\n#....#\n#....#\n#....#\n######")


ENV = MiniGrid(Drawn())
_step = jax.jit(ENV.step)


def corridor(row: str) -> Level:
    """A level whose second row is `row`, empty below."""
    return level_from_text(f"######\n{row}\n#....#\n#....#\n#....#\n######")


def play(level: Level, *actions: int) -> tuple[State, list[TimeStep]]:
    state, _ = ENV.reset_to_level(KEY, level)
    steps = []
    for action in actions:
        state, step = _step(KEY, state, jnp.int32(action))
        steps.append(step)
    return state, steps


def row_of(state: State) -> list[int]:
    return [int(b) for b in np.asarray(state.grid).reshape(SIZE, SIZE)[1]]


def test_it_is_an_environment_and_a_value() -> None:
    assert isinstance(ENV, Environment)
    assert from_json(to_json(MiniGrid(Drawn(8), 5))) == MiniGrid(Drawn(8), 5)
    assert hash(MiniGrid(Drawn())) == hash(ENV)
    with pytest.raises(ConfigError, match="max_steps"):
        MiniGrid(Drawn(), 0)


def test_turning_and_walking() -> None:
    state, _ = play(corridor("#>...#"), FORWARD, FORWARD, RIGHT, FORWARD)
    assert snapshot(ENV, state)["agent_pos"] == (3, 2)
    assert int(state.direction) == 1
    state, _ = play(corridor("#>...#"), LEFT, FORWARD)  # into a wall
    assert snapshot(ENV, state)["agent_pos"] == (1, 1)
    assert int(state.direction) == 3


def test_the_goal_pays_by_the_clock_and_terminates() -> None:
    _, steps = play(corridor("#>.G.#"), FORWARD, FORWARD)
    assert not bool(steps[0].terminated)
    assert float(steps[0].reward) == 0.0
    assert bool(steps[1].terminated)
    assert bool(steps[1].info["success"])
    np.testing.assert_allclose(steps[1].reward, 1 - 0.9 * 2 / 10, rtol=1e-6)


def test_lava_terminates_and_pays_nothing() -> None:
    _, (step,) = play(corridor("#>L..#"), FORWARD)
    assert bool(step.terminated)
    assert not bool(step.info["success"])
    assert float(step.reward) == 0.0


def test_the_time_limit_truncates() -> None:
    _, steps = play(corridor("#>...#"), *[LEFT] * 10)
    assert [bool(s.truncated) for s in steps] == [False] * 9 + [True]
    assert not any(bool(s.terminated) for s in steps)


def test_a_key_opens_the_locked_door_of_its_colour() -> None:
    yellow = cells.YELLOW
    state, _ = play(corridor("#>KD.#"), PICK_UP, FORWARD, TOGGLE)
    assert int(state.carrying) == cells.cell(cells.KEY, yellow)
    assert row_of(state)[3] == cells.cell(cells.OPEN_DOOR, yellow)
    state, _ = play(corridor("#>.D.#"), FORWARD, TOGGLE, FORWARD)  # without a key
    assert row_of(state)[3] == cells.cell(cells.LOCKED_DOOR, yellow)
    assert snapshot(ENV, state)["agent_pos"] == (2, 1)
    level = corridor("#>KD.#")
    red_key = level._replace(grid=level.grid.at[8].set(cells.cell(cells.KEY, cells.RED)))
    state, _ = play(red_key, PICK_UP, FORWARD, TOGGLE)
    assert row_of(state)[3] == cells.cell(cells.LOCKED_DOOR, yellow)


def test_hands_hold_one_thing_and_put_it_on_an_empty_cell() -> None:
    blue_ball = cells.cell(cells.BALL, cells.BLUE)
    state, _ = play(corridor("#>BK.#"), PICK_UP, FORWARD, PICK_UP)
    assert int(state.carrying) == blue_ball
    state, _ = play(corridor("#>BK.#"), PICK_UP, FORWARD, DROP)  # a key lies there
    assert int(state.carrying) == blue_ball
    state, _ = play(corridor("#>B..#"), PICK_UP, FORWARD, DROP)
    assert int(state.carrying) == cells.NOTHING
    assert row_of(state)[3] == blue_ball


def test_a_box_leaves_what_it_holds() -> None:
    for content in (cells.cell(cells.KEY, cells.RED), cells.cell(cells.BALL, cells.GREY)):
        level = corridor("#>X..#")
        box = cells.filled_box(cells.GREEN, content)
        filled = level._replace(grid=level.grid.at[8].set(box))
        assert row_of(play(filled, TOGGLE)[0])[2] == content
        assert int(play(filled, PICK_UP)[0].carrying) == box
        assert tuple(cells.UPSTREAM[box]) == (7, cells.GREEN, 0)
    assert row_of(play(corridor("#>X..#"), TOGGLE)[0])[2] == cells.NOTHING


def test_the_view_ends_at_walls_and_shows_what_is_carried() -> None:
    level = level_from_text("######\n#....#\n######\n#.^..#\n#....#\n######")
    view = np.asarray(ENV.reset_to_level(KEY, level)[1])
    unseen, empty, wall = [0, 0, 0], [1, 0, 0], [2, 5, 0]
    assert view[3, 6].tolist() == empty
    assert view[1:6, 5].tolist() == [wall] * 5  # the wall ahead, to the left border's column
    assert view[:, :5].reshape(-1, 3).tolist() == [unseen] * 35
    state, steps = play(corridor("#>K..#"), PICK_UP)
    assert np.asarray(steps[0].obs)[3, 6].tolist() == [5, cells.YELLOW, 0]
    through = MiniGrid(Drawn(), view=View(see_through_walls=True))
    assert (np.asarray(through.reset_to_level(KEY, level)[1])[..., 0] > 0).all()
    space = ENV.spec().observation
    assert isinstance(space, spaces.Symbolic)
    assert (np.asarray(steps[0].obs) < np.array(space.cardinalities)).all()
    assert state.grid.dtype == jnp.uint8


def test_privileged_information_tells_states_apart_and_no_more() -> None:
    spec = ENV.spec().privileged
    start, _ = play(corridor("#>KD.#"))
    later, _ = play(corridor("#>KD.#"), LEFT, RIGHT)  # all but the clock is as before
    others = [play(corridor("#>KD.#"), *actions)[0] for actions in ([LEFT], [PICK_UP])]
    moved, _ = play(corridor("#>.K.#"), FORWARD)
    described = [ENV.privileged(s) for s in (start, later, *others, moved)]
    for name, space in spec.items:
        assert all(spaces.contains(space, d[name]) for d in described)
    states = [np.asarray(d["state"]).tolist() for d in described]
    assert states[0] == states[1]
    assert all(a != b for i, a in enumerate(states[1:]) for b in states[2 + i :])
    assert [int(d["carrying"]) for d in described] == [0, 0, 0, 1 + cells.YELLOW, 0]
    assert int(described[-1]["position"]) == SIZE + 2


def test_carried_indices_are_distinct() -> None:
    kinds = (cells.KEY, cells.BALL, cells.BOX)
    things = [cells.NOTHING, *(cells.cell(k, c) for k in kinds for c in range(6))]
    index = cells.carried_index(jnp.asarray(things, jnp.uint8))
    assert index.tolist() == list(range(cells.NUM_CARRIED))
    filled = cells.filled_box(cells.RED, cells.cell(cells.KEY, cells.BLUE))
    assert int(cells.carried_index(jnp.uint8(filled))) == 1 + 12 + cells.RED


def test_a_drawing_must_be_a_rectangle_with_one_agent() -> None:
    for text in ("####\n#>#\n####", "####\n#..#\n####", "####\n#><#\n####"):
        with pytest.raises(ValueError, match="one agent"):
            level_from_text(text)
