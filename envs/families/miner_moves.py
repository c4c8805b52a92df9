"""Miner's rules on the words of `boards`; for a search, all moves of many states at once."""

from __future__ import annotations

import functools
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xplore.envs.families import boards, compass, falling
from xplore.parts.apart import apart
from xplore.parts.hashing import avalanche

SOLID, BOULDERS, DIAMONDS, MOVING = range(4)
_GOLDEN: Final = 0x9E3779B1


class Moved(NamedTuple):
    """What a step leads to, for one board.

    Attributes:
        planes: words `[5, H]`, as those of `MinerState`.
        position: int32 `[]`.
        collected: bool `[]`, whether a diamond was taken.
        success: bool `[]`.
        died: bool `[]`, whether the agent was crushed and the level is not solved.
    """

    planes: jax.Array
    position: jax.Array
    collected: jax.Array
    success: jax.Array
    died: jax.Array


def move(planes: jax.Array, position: jax.Array, exit_: jax.Array, action: jax.Array) -> Moved:
    """The agent moves, digs, takes or pushes, then all falls; arguments as in `Moved`."""
    turn = _turn(planes, position, action)
    walls, solid, boulders, diamonds, moving = _dug(planes, turn)
    agent = boards.one_cell(turn.position, (planes.shape[1], planes.shape[1]))
    # A last diamond in the exit's cell is taken a step before success.
    none_left = ~jnp.any(diamonds != 0) & ~turn.collected
    success = (turn.position == exit_) & none_left
    *things, crushed = falling.fallen(solid, boulders, diamonds, moving, agent)
    return Moved(
        planes=jnp.stack([walls, solid, *things]),
        position=turn.position,
        collected=turn.collected,
        success=success,
        died=jnp.any(crushed != 0) & ~success,
    )


class _Turn(NamedTuple):
    """What the agent does: where it is then, where it has pushed a boulder (-1: nowhere)."""

    position: jax.Array
    pushed: jax.Array
    collected: jax.Array


@apart
def _turn(planes: jax.Array, position: jax.Array, action: jax.Array) -> _Turn:
    side = planes.shape[1]
    way = compass.step_towards(action, side)
    ahead = position + way
    walls, solid, boulders, diamonds, moving = (rows[ahead // side] for rows in planes)
    x = (ahead % side).astype(planes.dtype)

    def there(row: jax.Array) -> jax.Array:
        return row >> x & 1 == 1

    taken = solid | boulders | diamonds
    beyond = jnp.where(way > 0, taken >> x >> 1, taken << 1 >> x) & 1 == 1
    pushes = there(boulders & ~moving) & (abs(way) == 1) & ~beyond
    moves = ~there(walls | boulders) | pushes
    return _Turn(
        position=jnp.where(moves, ahead, position),
        pushed=jnp.where(pushes, ahead + way, -1),
        collected=moves & there(diamonds),
    )


@apart
def _dug(planes: jax.Array, turn: _Turn) -> jax.Array:
    """The planes without what is where the agent is now, and what it has pushed."""
    shape = planes.shape[1], planes.shape[1]
    agent = boards.one_cell(turn.position, shape)
    walls, solid, boulders, diamonds, moving = planes
    pushed = boulders | boards.one_cell(turn.pushed, shape)
    return jnp.stack([walls, *(x & ~agent for x in (solid, pushed, diamonds, moving))])


class After(NamedTuple):
    """What each of the five actions leads to, in the order of `compass`; on the device or not.

    Attributes:
        planes: words `[5, N, 4, H]`: what is solid (walls and dirt), boulders, diamonds, and which
            of these are falling.
        position: int32 `[5, N]`.
        alive: bool `[5, N]`, false where the episode is over.
        success: bool `[5, N]`.
        name: uint32 `[5, N, 2]`, a hash of the state.
    """

    planes: Any
    position: Any
    alive: Any
    success: Any
    name: Any


@jax.jit
def advance(planes: jax.Array, position: jax.Array, exit_: jax.Array, walls: jax.Array) -> After:
    """`move` for all states and actions.

    Args:
        planes: words `[N, 4, H]`.
        position: int32 `[N]`.
        exit_: int32 `[]`.
        walls: words `[H]`.
    """
    around = jnp.broadcast_to(walls, planes[:, :1].shape)
    whole = jnp.concatenate([around, planes], axis=1)

    def act(action: jax.Array) -> After:
        after = jax.vmap(move, (0, 0, None, None))(whole, position, exit_, action)
        rest = after.planes[:, 1:]
        return After(
            planes=rest,
            position=after.position,
            alive=~(after.success | after.died),
            success=after.success,
            name=_name([*jnp.moveaxis(rest, 0, -1), after.position[None]]),
        )

    return jax.lax.map(act, jnp.arange(compass.NUM_ACTIONS))


@jax.jit
def merged(planes: jax.Array, position: jax.Array, reach: jax.Array, walls: jax.Array) -> jax.Array:
    """Hashes uint32 `[N, 2]`, equal where nothing differs that can still matter.

    Dirt that is out of the agent's reach stays, and what lies on it; a state is what lies in
    reach, what can come to move, and what either may meet.

    Args:
        planes: words `[N, 4, H]`.
        position: int32 `[N]`.
        reach: words `[N, H]`, the cells that the agent may still enter.
        walls: words `[H]`.
    """
    solid, boulders, diamonds, moving = jnp.moveaxis(planes, 0, -1)
    cells = reach.T
    mobile = _mobile(solid, boulders | diamonds, moving, cells, walls[:, None])
    read = cells | mobile
    read |= _above(mobile) | _beside(mobile) | _above(_beside(mobile))
    return _name([solid & read, boulders & read, diamonds, moving, read, position[None]])


@jax.jit
def may_move(planes: jax.Array, reach: jax.Array, walls: jax.Array) -> jax.Array:
    """Cells in which a boulder or diamond that moves may ever be, words `[H]`; no fewer.

    Args:
        planes: words `[4, H]`.
        reach: words `[H]`, the cells that the agent may enter.
        walls: words `[H]`.
    """
    solid, boulders, diamonds, moving = planes[..., None]
    args = solid, boulders | diamonds, moving, reach[:, None], walls[:, None]
    return _mobile(*args)[:, 0]


def _mobile(
    solid: jax.Array, things: jax.Array, moving: jax.Array, reach: jax.Array, walls: jax.Array
) -> jax.Array:
    """`may_move` for words `[H, N]`: the least fixed point of the rules of falling, as ifs."""

    def grow(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        mobile, _ = carry
        # What is empty or may once be; and where a thing may roll to, to fall there.
        void = (~(solid | things) | reach | mobile) & ~walls
        slot = void & _below(void)
        rolls = _beside(slot) & _below(things | mobile)
        starts = things & (_below(void) | rolls | reach)
        rolled = _beside(mobile) & slot
        pushed = _beside(mobile & reach)
        comes = void & (_above(mobile) | rolled | _above(rolled) | pushed)
        grown = mobile | starts | comes
        return grown, jnp.any(grown != mobile)

    return jax.lax.while_loop(lambda carry: carry[1], grow, (moving, jnp.bool_(True)))[0]


# Of each cell, the bit of the one below it, or above it.
_below = functools.partial(boards.raised, axis=0)
_above = functools.partial(boards.lowered, axis=0)


def _any(words: jax.Array) -> jax.Array:
    return jnp.any(words != 0, axis=0)


def _beside(words: jax.Array) -> jax.Array:
    """Of each cell, whether one of the two beside it is in the set."""
    return words << 1 | words >> 1


def _name(parts: list[jax.Array]) -> jax.Array:
    """Two hashes of words `[R, N]`, uint32 `[N, 2]`."""
    words = jnp.concatenate([x.astype(jnp.uint32).reshape(-1, x.shape[-1]) for x in parts])
    place = np.arange(len(words), dtype=np.uint32)[:, None]
    found = []
    for salt in (0, 1):
        key = avalanche(jnp.uint32(_GOLDEN) * (2 * place + np.uint32(salt)))
        found.append(jnp.sum(avalanche(words + key), axis=0, dtype=jnp.uint32))
    return jnp.stack(found, -1)
