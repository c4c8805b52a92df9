"""A locked door and its key: to be opened, or to be gone through for a box."""

from __future__ import annotations

from typing import Any, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.registry import register_env
from xplore.contracts.types import Key, PyTree
from xplore.envs.minigrid import cells, layout
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.roomgrid import TWO_ROOMS, picks_up, thing_in_minigrid, two_rooms
from xplore.envs.minigrid.task import TOGGLE, Level, Move, Outcome, Task


@final
@component
class Unlock(Task):
    """Two rooms; the agent and a key are in the left one, and opening the door is success."""

    @property
    def name(self) -> str:
        return "MiniGrid-Unlock"

    @property
    def width(self) -> int:
        return TWO_ROOMS.width

    @property
    def height(self) -> int:
        return TWO_ROOMS.height

    @property
    def missions(self) -> tuple[str, ...]:
        return ("open the door",)

    @property
    def max_steps(self) -> int:
        return 8 * TWO_ROOMS.room_size**2

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (5,), jnp.uint32)
        colour = layout.below(bits[4], len(cells.COLOURS))
        door, thing = cells.LOCKED_DOOR << 3 | colour, cells.KEY << 3 | colour
        return two_rooms(bits[:4], door, thing)

    def outcome(self, move: Move) -> Outcome:
        is_open = jnp.any(cells.is_kind(move.after.grid, cells.OPEN_DOOR))
        return Outcome(success=(move.action == TOGGLE) & is_open)

    def extra_into_minigrid(self, env: Any, extra: PyTree) -> None:
        env.door = thing_in_minigrid(env, "door")


@final
@component
class UnlockPickup(Task):
    """Two rooms; behind the locked door is a box to be picked up, in any colour.

    Toggling the box leaves nothing of it.

    Attributes:
        blocked: whether a ball lies in front of the door.
    """

    blocked: bool = False

    @property
    def name(self) -> str:
        return "MiniGrid-BlockedUnlockPickup" if self.blocked else "MiniGrid-UnlockPickup"

    @property
    def width(self) -> int:
        return TWO_ROOMS.width

    @property
    def height(self) -> int:
        return TWO_ROOMS.height

    @property
    def missions(self) -> tuple[str, ...]:
        return tuple(f"pick up the {colour} box" for colour in cells.COLOURS)

    def mission(self, extra: PyTree) -> jax.Array:
        return (extra & 7).astype(jnp.int32)

    @property
    def max_steps(self) -> int:
        return (16 if self.blocked else 8) * TWO_ROOMS.room_size**2

    def sample_level(self, key: Key) -> Level:
        bits = jax.random.bits(key, (7,), jnp.uint32)
        colour, box_colour, ball_colour = layout.below(bits[4:], len(cells.COLOURS))
        door, thing = cells.LOCKED_DOOR << 3 | colour, cells.KEY << 3 | colour
        box = (cells.BOX << 3 | box_colour).astype(jnp.uint8)
        ball = cells.BALL << 3 | ball_colour if self.blocked else None
        return two_rooms(bits[:4], door, thing, box, ball)._replace(extra=box)

    def outcome(self, move: Move) -> Outcome:
        return picks_up(move, move.before.extra)

    def extra_from_minigrid(self, env: Any) -> PyTree:
        return jnp.uint8(cells.cell(cells.BOX, cells.COLOURS.index(env.obj.color)))

    def extra_into_minigrid(self, env: Any, extra: PyTree) -> None:
        env.obj = thing_in_minigrid(env, "box")


@register_env("MiniGrid-Unlock-v0")
def unlock(max_steps: int | None = None, view: View = View()) -> MiniGrid:
    """A locked door and its key: open the door.

    *What it tests*: the shortest chain of things that must be done in order: pick up the key,
    toggle the door. The key and the door are in the room where the agent starts.

    *Optimal return*: differs by level; 0.97 in the mean.

    *Random return*: 0.02; 4% of the episodes succeed.

    *Solved when*: the door is opened; `info["success"]`.

    *max_steps*: 288.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(Unlock(), max_steps, view)


@register_env("MiniGrid-UnlockPickup-v0", blocked=False)
@register_env("MiniGrid-BlockedUnlockPickup-v0", blocked=True)
def unlock_pickup(
    blocked: bool = False, max_steps: int | None = None, view: View = View()
) -> MiniGrid:
    """A box behind a locked door, in front of which a ball may lie.

    *What it tests*: a chain of things that must be done in order, none of which is rewarded but
    the last: move the ball aside, pick up the key, unlock the door, put the key down, pick up the
    box. Toggling the box destroys it, and the episode cannot be won any more.

    *Optimal return*: differs by level; in the mean 0.95, and 0.96 where the door is blocked.

    *Random return*: 0.001; 1 of 400 to 500 episodes succeeds.

    *Solved when*: the box is picked up; `info["success"]`.

    *max_steps*: 288, or 576 where the door is blocked.

    Deviations from the original: none but those of `MiniGrid`.
    """
    return MiniGrid(UnlockPickup(blocked), max_steps, view)
