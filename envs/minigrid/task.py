"""What a family of MiniGrid tasks is: its levels, what it asks for, and what it adds to a step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.types import Key, PyTree

LEFT, RIGHT, FORWARD, PICK_UP, DROP, TOGGLE, DONE = range(7)
NUM_ACTIONS = 7


class Level(NamedTuple):
    """All that is random about a start.

    Attributes:
        grid: uint8 `[height * width]`, a byte for each cell, row by row.
        position: int32 `[]`, the index in `grid` of the agent's cell.
        direction: int32 `[]`, 0 to 3: right, down, left, up.
        extra: what the task keeps beside the grid, such as the thing it asks for.
    """

    grid: jax.Array
    position: jax.Array
    direction: jax.Array
    extra: PyTree = ()


class State(NamedTuple):
    """A `Level` under way; `carrying` is a byte of `cells`, and `step_count` an int32."""

    grid: jax.Array
    position: jax.Array
    direction: jax.Array
    carrying: jax.Array
    step_count: jax.Array
    extra: PyTree = ()


class Move(NamedTuple):
    """An action carried out, all that the outcome of a step may depend on.

    Attributes:
        before: the state before the step, before the world moved by itself.
        after: the state after it.
        action: int32 `[]`, what was done (see `Task.meant`).
        ahead: int32 `[]`, the index of the cell that was in front of the agent.
        there: uint8 `[]`, the byte that was in it when the agent acted.
    """

    before: State
    after: State
    action: jax.Array
    ahead: jax.Array
    there: jax.Array


class Outcome(NamedTuple):
    """What a task makes of a move, beside what goals and lava do everywhere.

    Attributes:
        success: bool `[]`; ends the episode with the reward of success.
        over: bool `[]`; ends it without.
        reward: float `[]`, the reward where there is no success.
    """

    success: jax.Array | bool = False
    over: jax.Array | bool = False
    reward: jax.Array | float = 0.0


@component
class Task:
    """Base of every family: reach the goal, keep off the lava, in a world that stands still.

    A family declares a component of its own that derives from this, with `name`, `width`, `height`,
    `max_steps`, `missions` and `sample_level`, and overrides what is special about it. Actions and
    dynamics are the engine's.
    """

    @property
    def name(self) -> str:
        """The task's name, without its version."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """Cells in a row, walls included."""
        raise NotImplementedError

    @property
    def height(self) -> int:
        """Cells in a column, walls included."""
        raise NotImplementedError

    @property
    def max_steps(self) -> int:
        """The time limit, unless an environment is made with another."""
        raise NotImplementedError

    @property
    def num_actions(self) -> int:
        """How many of the seven actions there are, the first ones."""
        return NUM_ACTIONS

    @property
    def stochastic(self) -> bool:
        """Whether `stir` draws."""
        return False

    @property
    def see_through_walls(self) -> bool:
        """Whether walls and closed doors leave the view open, as upstream has it."""
        return False

    @property
    def missions(self) -> tuple[str, ...]:
        """Every sentence that can be asked for, in upstream's words."""
        raise NotImplementedError

    def mission(self, extra: PyTree) -> jax.Array:
        """The index in `missions` of what a level with this `extra` asks for: int32 `[]`."""
        return jnp.int32(0)

    def sample_level(self, key: Key) -> Level:
        """Draws a level that is closed in by walls."""
        raise NotImplementedError

    def meant(self, action: jax.Array) -> jax.Array:
        """The action that is carried out where `action` is chosen."""
        return action

    def stir(self, key: Key, state: State) -> State:
        """What the world does by itself before the agent acts."""
        return state

    def stirred(self, state: State, draws: PyTree) -> State:
        """What `stir` makes of the draws that an environment of the `minigrid` package made."""
        return state

    def stirred_from_minigrid(self, env: Any) -> PyTree:
        """The draws of the step that an environment of the `minigrid` package has just done."""
        return np.zeros(0, np.int32)

    def outcome(self, move: Move) -> Outcome:
        """Success and failure, apart from entering a goal or lava."""
        return Outcome()

    def extra_from_minigrid(self, env: Any) -> PyTree:
        """The `extra` of the level that an environment of the `minigrid` package was reset to."""
        return ()

    def extra_into_minigrid(self, env: Any, extra: PyTree) -> None:
        """Sets what an environment of the `minigrid` package keeps beside its grid.

        The grid has been filled already, and `mission` is set by the caller.
        """
