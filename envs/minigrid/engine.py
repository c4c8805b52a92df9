"""The dynamics of MiniGrid for one env, free of branches, and the environment made of them.

The reward is `1 - 0.9 * steps / max_steps` on entering a goal, which terminates, as lava does; at
`max_steps` the episode is truncated. All seven actions are upstream's, in its order.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete, Space, Symbolic
from xplore.contracts.types import EnvSpec, Key, TimeStep
from xplore.envs.minigrid import cells
from xplore.envs.minigrid.view import VIEW_SIZE, observe

LEFT, RIGHT, FORWARD, PICK_UP, DROP, TOGGLE, DONE = range(7)
NUM_ACTIONS = 7


class Level(NamedTuple):
    """All that is random about a start.

    Attributes:
        grid: uint8 `[height * width]`, a byte for each cell, row by row.
        position: int32 `[]`, the index in `grid` of the agent's cell.
        direction: int32 `[]`, 0 to 3: right, down, left, up.
    """

    grid: jax.Array
    position: jax.Array
    direction: jax.Array


class State(NamedTuple):
    """A `Level` under way; `carrying` is a byte of `cells`, and `step_count` an int32."""

    grid: jax.Array
    position: jax.Array
    direction: jax.Array
    carrying: jax.Array
    step_count: jax.Array


class Generator(Protocol):
    """A family of levels of one size: all that a MiniGrid task has to supply."""

    @property
    def name(self) -> str:
        """The task's name."""
        ...

    @property
    def width(self) -> int:
        """Cells in a row, walls included."""
        ...

    @property
    def height(self) -> int:
        """Cells in a column, walls included."""
        ...

    def sample_level(self, key: Key) -> Level:
        """Draws a level that is closed in by walls."""
        ...


@final
@component
class MiniGrid:
    """A MiniGrid task: the levels of `generator` under the common dynamics and view.

    Attributes:
        generator: where levels come from.
        max_steps: the time limit.
        see_through_walls: whether walls and closed doors leave the view open.

    Reference: Chevalier-Boisvert et al. (2023), Minigrid & Miniworld, arXiv:2306.13831.

    Deviations from the original: the observation is the image alone, without direction and mission.
    """

    generator: Generator
    max_steps: int
    see_through_walls: bool = False

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ConfigError(f"max_steps is {self.max_steps}: an episode needs at least 1 step")

    def spec(self) -> EnvSpec:
        num_cells = self.generator.width * self.generator.height
        privileged: dict[str, Space] = {
            "position": Discrete(num_cells),
            "carrying": Discrete(cells.NUM_CARRIED),
            "state": Box((num_cells + 4,), "uint8", 0, 255),
        }
        symbols = (cells.NUM_OBJECTS, len(cells.COLOURS), cells.NUM_DOOR_STATES)
        return EnvSpec(
            name=self.generator.name,
            observation=Symbolic((VIEW_SIZE, VIEW_SIZE, 3), symbols),
            action=Discrete(NUM_ACTIONS),
            max_steps=self.max_steps,
            privileged=Dict(privileged),
        )

    def sample_level(self, key: Key) -> Level:
        return self.generator.sample_level(key)

    def reset_to_level(self, key: Key, level: Level) -> tuple[State, jax.Array]:
        state = State(*level, carrying=jnp.uint8(cells.NOTHING), step_count=jnp.int32(0))
        return state, self.observe(state)

    def step(self, key: Key, state: State, action: jax.Array) -> tuple[State, TimeStep]:
        width = self.generator.width
        # The step in index along each of the four directions, without a look-up.
        ahead = state.position + jnp.where(state.direction & 1 == 0, 1, width) * jnp.where(
            state.direction & 2 == 0, 1, -1
        )
        there = state.grid[ahead]
        empty_handed = state.carrying == cells.NOTHING

        moves = (action == FORWARD) & cells.can_overlap(there)
        picks_up = (action == PICK_UP) & cells.can_pick_up(there) & empty_handed
        drops = (action == DROP) & (there == cells.NOTHING) & ~empty_handed
        toggles = action == TOGGLE

        turn = (action == RIGHT).astype(jnp.int32) - (action == LEFT).astype(jnp.int32)
        left_there = jnp.where(toggles, cells.toggled(there, state.carrying), there)
        left_there = jnp.where(drops, state.carrying, left_there)
        left_there = jnp.where(picks_up, jnp.uint8(cells.NOTHING), left_there)
        carrying = jnp.where(picks_up, there, state.carrying)
        carrying = jnp.where(drops, jnp.uint8(cells.NOTHING), carrying)
        step_count = state.step_count + 1
        state = State(
            # A comparison over all cells runs in wide registers; a scatter of one byte does not.
            grid=jnp.where(np.arange(state.grid.shape[-1]) == ahead, left_there, state.grid),
            position=jnp.where(moves, ahead, state.position),
            direction=(state.direction + turn) & 3,
            carrying=carrying,
            step_count=step_count,
        )
        success = moves & cells.is_kind(there, cells.GOAL)
        reward = 1.0 - 0.9 * (step_count.astype(jnp.float32) / self.max_steps)
        return state, TimeStep(
            obs=self.observe(state),
            reward=jnp.where(success, reward, 0.0),
            terminated=success | (moves & cells.is_kind(there, cells.LAVA)),
            truncated=step_count >= self.max_steps,
            info={"success": success},
        )

    def privileged(self, state: State) -> dict[str, jax.Array]:
        width = self.generator.width
        rest = (state.position % width, state.position // width, state.direction, state.carrying)
        return {
            "position": state.position,
            "carrying": cells.carried_index(state.carrying),
            "state": jnp.concatenate([state.grid, jnp.stack([x.astype(jnp.uint8) for x in rest])]),
        }

    def observe(self, state: State) -> jax.Array:
        """The agent's view: uint8 `[7, 7, 3]`, see `view.observe`."""
        size = self.generator.width, self.generator.height
        return observe(
            state.grid,
            size,
            state.position,
            state.direction,
            state.carrying,
            self.see_through_walls,
        )
