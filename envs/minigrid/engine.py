"""The dynamics of MiniGrid for one env, free of branches, and the environment made of them.

The reward is `1 - 0.9 * steps / max_steps` on success, which terminates, as entering lava does; at
`max_steps` the episode is truncated. Actions are upstream's, in its order.
"""

from __future__ import annotations

import functools
from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete, Space
from xplore.contracts.types import EnvSpec, Key, PyTree, TimeStep
from xplore.envs.minigrid import cells
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import (
    DROP,
    FORWARD,
    LEFT,
    PICK_UP,
    RIGHT,
    TOGGLE,
    Level,
    Move,
    State,
    Task,
)  # fmt: skip


@final
@component
class MiniGrid:
    """A MiniGrid task under the common dynamics.

    Attributes:
        task: where levels come from, and what is success.
        max_steps: the time limit; None for the task's own.
        view: what is observed.

    Reference: Chevalier-Boisvert et al. (2023), Minigrid & Miniworld, arXiv:2306.13831.

    Deviations from the original: the observation is the image alone unless `view` asks for the
    direction and the mission, and the mission is then an array of words.
    """

    task: Task
    max_steps: int | None = None
    view: View = View()

    def __post_init__(self) -> None:
        if self.max_steps is not None and self.max_steps < 1:
            raise ConfigError(f"max_steps is {self.max_steps}: an episode needs at least 1 step")

    @property
    def time_limit(self) -> int:
        """Steps after which an episode is truncated."""
        return self.task.max_steps if self.max_steps is None else self.max_steps

    def spec(self) -> EnvSpec:
        num_cells = self.task.width * self.task.height
        privileged: dict[str, Space] = {
            "position": Discrete(num_cells),
            "direction": Discrete(4),
            "carrying": Discrete(cells.NUM_CARRIED),
            "state": Box((num_cells + 4 + _num_extra_bytes(self.task),), "uint8", 0, 255),
        }
        return EnvSpec(
            name=self.task.name,
            observation=self.view.space(self.task),
            action=Discrete(self.task.num_actions),
            max_steps=self.time_limit,
            privileged=Dict(privileged),
            stochastic=self.task.stochastic,
        )

    def sample_level(self, key: Key) -> Level:
        return self.task.sample_level(key)

    def reset_to_level(self, key: Key, level: Level) -> tuple[State, PyTree]:
        state = State(
            grid=level.grid,
            position=level.position,
            direction=level.direction,
            carrying=jnp.uint8(cells.NOTHING),
            step_count=jnp.int32(0),
            extra=level.extra,
        )
        return state, self.observe(state)

    def step(self, key: Key, state: State, action: jax.Array) -> tuple[State, TimeStep]:
        return self.resolve(state, self.task.stir(key, state), action)

    def resolve(self, before: State, stirred: State, action: jax.Array) -> tuple[State, TimeStep]:
        """A step from `before`, the world having moved by itself to `stirred`."""
        move = self.act(stirred, self.task.meant(action))._replace(before=before)
        after = move.after
        entered = (move.action == FORWARD) & cells.can_overlap(move.there)
        outcome = self.task.outcome(move)
        success = (entered & cells.is_kind(move.there, cells.GOAL)) | outcome.success
        over = (entered & cells.is_kind(move.there, cells.LAVA)) | outcome.over
        reward = 1.0 - 0.9 * (after.step_count.astype(jnp.float32) / self.time_limit)
        return after, TimeStep(
            obs=self.observe(after),
            reward=jnp.where(success, reward, outcome.reward),
            terminated=success | over,
            truncated=after.step_count >= self.time_limit,
            info={"success": success},
        )

    def act(self, state: State, action: jax.Array) -> Move:
        """Carries out an action, the same in every task; `before` of the result is `state`."""
        width = self.task.width
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
        after = State(
            # A comparison over all cells runs in wide registers; a scatter of one byte does not.
            grid=jnp.where(np.arange(state.grid.shape[-1]) == ahead, left_there, state.grid),
            position=jnp.where(moves, ahead, state.position),
            direction=(state.direction + turn) & 3,
            carrying=carrying,
            step_count=state.step_count + 1,
            extra=state.extra,
        )
        return Move(before=state, after=after, action=action, ahead=ahead, there=there)

    def privileged(self, state: State) -> dict[str, jax.Array]:
        width = self.task.width
        rest = (state.position % width, state.position // width, state.direction, state.carrying)
        return {
            "position": state.position,
            "direction": state.direction,
            "carrying": cells.carried_index(state.carrying),
            "state": jnp.concatenate(
                [state.grid, jnp.stack([x.astype(jnp.uint8) for x in rest])]
                + [_bytes_of(leaf) for leaf in jax.tree.leaves(state.extra)]
            ),
        }

    def observe(self, state: State) -> PyTree:
        """What `view` shows of a state."""
        return self.view.observe(self.task, state)


def _bytes_of(leaf: jax.Array) -> jax.Array:
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint8)
    return jax.lax.bitcast_convert_type(leaf, jnp.uint8).ravel()


@functools.cache
def _num_extra_bytes(task: Task) -> int:
    extra = jax.eval_shape(task.sample_level, jax.random.key(0)).extra
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(extra))
