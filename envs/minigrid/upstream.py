"""To and from the `minigrid` package, which stays optional: nothing here imports it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.envs.minigrid import cells
from xplore.envs.minigrid.engine import Level, MiniGrid, State

_KINDS = {
    "wall": cells.WALL,
    "floor": cells.FLOOR,
    "goal": cells.GOAL,
    "lava": cells.LAVA,
    "key": cells.KEY,
    "ball": cells.BALL,
    "box": cells.BOX,
}


def _byte(thing: Any) -> int:
    if thing is None:
        return cells.NOTHING
    colour = cells.COLOURS.index(thing.color)
    if thing.type == "door":
        kind = cells.LOCKED_DOOR if thing.is_locked else cells.CLOSED_DOOR
        return cells.cell(cells.OPEN_DOOR if thing.is_open else kind, colour)
    if thing.type == "box" and thing.contains is not None:
        return cells.filled_box(colour, _byte(thing.contains))
    return cells.cell(_KINDS[thing.type], colour)


def grid_from_minigrid(env: Any) -> npt.NDArray[np.uint8]:
    """The bytes `[height * width]` of the grid of an upstream environment."""
    return np.array([_byte(thing) for thing in env.unwrapped.grid.grid], np.uint8)


def level_from_minigrid(env: Any) -> Level:
    """The `Level` that an upstream environment (unwrapped or not) has just been reset to."""
    env = env.unwrapped
    x, y = env.agent_pos
    return Level(
        grid=jnp.asarray(grid_from_minigrid(env)),
        position=jnp.int32(y * env.width + x),
        direction=jnp.int32(env.agent_dir),
    )


def snapshot(env: MiniGrid, state: State) -> dict[str, Any]:
    """A state of ours in upstream's terms, as numpy: for comparisons, pictures and debugging.

    Returns:
        `grid` uint8 `[width, height, 3]` as `env.grid.encode()` of upstream, `agent_pos` `(x, y)`,
        `agent_dir`, `carrying` (upstream's three numbers, or None) and `step_count`.
    """
    width, height = env.generator.width, env.generator.height
    y, x = divmod(int(state.position), width)
    carrying = int(state.carrying)
    encoded = cells.UPSTREAM[np.asarray(state.grid)].reshape(height, width, 3)
    held = tuple(int(v) for v in cells.UPSTREAM[carrying])
    return {
        "grid": encoded.transpose(1, 0, 2),
        "agent_pos": (x, y),
        "agent_dir": int(state.direction),
        "carrying": None if carrying == cells.NOTHING else held,
        "step_count": int(state.step_count),
    }
