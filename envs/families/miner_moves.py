"""Miner's step on the words of `boards`, of many states at once, and what tells states apart."""

from __future__ import annotations

import functools
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xplore.envs.families import compass, falling
from xplore.parts.hashing import avalanche

SOLID, BOULDERS, DIAMONDS, MOVING = range(4)
_GOLDEN: Final = 0x9E3779B1


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


@functools.partial(jax.jit, static_argnames="side")
def advance(
    planes: jax.Array, position: jax.Array, exit_: jax.Array, walls: jax.Array, side: int
) -> After:
    """The step of `Miner`, without observations.

    Args:
        planes: words `[N, 4, H]`.
        position: int32 `[N]`.
        exit_: int32 `[]`.
        walls: words `[H]`.
        side: of the board.
    """
    solid, boulders, diamonds, moving = jnp.moveaxis(planes, 0, -1)
    rows = np.arange(side)[:, None]
    word = solid.dtype

    def only(cell: jax.Array) -> jax.Array:
        bit = jnp.asarray(1, word) << (cell % side).astype(word)
        return jnp.where(rows == (cell // side)[None], bit[None], jnp.asarray(0, word))

    def act(action: jax.Array) -> After:
        way = compass.step_towards(action, side)
        ahead, beyond = only(position + way), only(position + 2 * way)
        rock = _any(ahead & boulders)
        blocked = _any(beyond & (solid | boulders | diamonds)) | _any(ahead & moving)
        pushes = rock & ~blocked & (abs(way) == 1)
        moves = ~_any(ahead & walls[:, None]) & ~rock | pushes
        there = jnp.where(moves, position + way, position)
        agent = only(there)
        left, dug = diamonds & ~agent, solid & ~agent
        # As in the game: a last diamond in the exit's cell is taken a step before success.
        success = (there == exit_) & ~_any(left) & ~_any(diamonds & agent)
        pushed = jnp.where(pushes[None], boulders & ~ahead | beyond, boulders)
        fall = jax.vmap(falling.fallen, in_axes=-1, out_axes=-1)
        *things, crushed = fall(dug, pushed, left, moving & ~agent, agent)
        after = jnp.stack([dug, *things])
        return After(
            planes=jnp.moveaxis(after, -1, 0),
            position=there,
            alive=~_any(crushed) & ~success,
            success=success,
            name=_name([*after, there[None]]),
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


def _any(words: jax.Array) -> jax.Array:
    return jnp.any(words != 0, axis=0)


def _below(words: jax.Array) -> jax.Array:
    """Of each cell, the bit of the one below it."""
    return jnp.concatenate([words[1:], jnp.zeros_like(words[:1])])


def _above(words: jax.Array) -> jax.Array:
    """Of each cell, the bit of the one above it."""
    return jnp.concatenate([jnp.zeros_like(words[:1]), words[:-1]])


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
