"""To and from the `minigrid` package, which stays optional: it is imported only where needed."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.envs.minigrid import cells
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.task import Level, State, Task

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


def level_from_minigrid(env: Any, task: Task | None = None) -> Level:
    """The `Level` that an upstream environment (unwrapped or not) has just been reset to.

    Args:
        env: of the `minigrid` package.
        task: ours of the same name, for what it keeps beside the grid; without it, nothing.
    """
    env = env.unwrapped
    x, y = env.agent_pos
    return Level(
        grid=jnp.asarray(grid_from_minigrid(env)),
        position=jnp.int32(y * env.width + x),
        direction=jnp.int32(env.agent_dir),
        extra=() if task is None else task.extra_from_minigrid(env),
    )


def thing_from_byte(byte: int) -> Any:
    """The upstream object of a byte of `cells`; None for an empty cell."""
    from minigrid.core import world_object

    things: Any = world_object  # not typed upstream
    if byte == cells.NOTHING:
        return None
    colour = cells.COLOURS[byte & 7]
    if byte >= 1 << 7:
        return things.Box(colour, thing_from_byte(cells.content(byte)))
    kind = byte >> 3
    if kind == cells.LAVA:
        return things.Lava()
    if kind in (cells.OPEN_DOOR, cells.CLOSED_DOOR, cells.LOCKED_DOOR):
        is_open, is_locked = kind == cells.OPEN_DOOR, kind == cells.LOCKED_DOOR
        return things.Door(colour, is_open=is_open, is_locked=is_locked)
    name = next(name for name, number in _KINDS.items() if number == kind)
    return getattr(things, name.capitalize())(colour)


def level_into_minigrid(env: Any, task: Task, level: Level) -> None:
    """Puts a level of `task` into an upstream environment of the same name, as if just reset.

    The environment must have been reset once before. What its rules refer to by position or by
    object is set too.
    """
    env = env.unwrapped
    env.carrying, env.step_count = None, 0
    for i, byte in enumerate(np.asarray(level.grid).tolist()):
        thing = thing_from_byte(byte)
        y, x = divmod(i, env.width)
        if thing is None:
            env.grid.set(x, y, None)
        else:
            env.put_obj(thing, x, y)
    y, x = divmod(int(level.position), env.width)
    env.agent_pos, env.agent_dir = (x, y), int(level.direction)
    env.mission = task.missions[int(task.mission(level.extra))]
    task.extra_into_minigrid(env, level.extra)


def snapshot(env: MiniGrid, state: State) -> dict[str, Any]:
    """A state of ours in upstream's terms, as numpy: for comparisons, pictures and debugging.

    Returns:
        `grid` uint8 `[width, height, 3]` as `env.grid.encode()` of upstream, `agent_pos` `(x, y)`,
        `agent_dir`, `carrying` (upstream's three numbers, or None), `step_count` and `mission`.
    """
    width, height = env.task.width, env.task.height
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
        "mission": env.task.missions[int(env.task.mission(state.extra))],
    }
