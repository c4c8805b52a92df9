"""Sets of cells as rows of bits, uniform draws from them, and floods: exact distances, cheaply.

A set of cells of a grid of height H is words `[H]` of 16 or 32 bits: bit x of row y is the cell
(x, y). A step of a flood is then a few operations on H words, whatever the width (32 at the most).
Sets must be closed in: no cell of a border is ever free.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.custom_batching import custom_vmap

from xplore.parts.apart import apart
from xplore.parts.hashing import avalanche

MAX_WIDTH: Final = 32
_GOLDEN: Final = 0x9E3779B1


def word_type(width: int) -> type[np.unsignedinteger[Any]]:
    """The smallest word that holds a row."""
    return np.uint16 if width <= 16 else np.uint32


def to_rows(mask: jax.Array) -> jax.Array:
    """Cells bool `[H, W]` as words `[H]`.

    >>> to_rows(jnp.array([[True, False, True], [False, True, False]])).tolist()
    [5, 2]
    """
    word = word_type(mask.shape[1])
    # A shift takes a third of the time of a choice between a constant and 0.
    bits = mask.astype(word) << np.arange(mask.shape[1], dtype=word)[None]
    return jnp.sum(bits, axis=1, dtype=word)


def to_mask(rows: jax.Array, width: int) -> jax.Array:
    """Rows `[H]` as bool `[H, W]`; the inverse of `to_rows`."""
    return rows[:, None] >> np.arange(width, dtype=rows.dtype)[None] & 1 != 0


def to_cells(rows: jax.Array, width: int) -> jax.Array:
    """Rows `[H]` as bool `[H * W]`: for a board, of which much is made."""
    # Spread in the shape of a board, and apart: so that rows are written in wide registers.
    return _spread(width)(rows).ravel()


@functools.cache
def _spread(width: int) -> Callable[[jax.Array], jax.Array]:
    return apart(lambda rows: to_mask(rows, width))


def one_cell(cell: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """The set of one `cell`, its index in a grid of `shape` `(width, height)`: words `[H]`."""
    width, height = shape
    word = word_type(width)
    here = np.arange(height, dtype=np.int32) == cell // width
    return jnp.where(here, jnp.asarray(1, word) << (cell % width).astype(word), word(0))


def noise(bits: jax.Array, num: int) -> jax.Array:
    """uint32 `[num]` from one word: what a draw for each cell costs a tenth of."""
    return noise_at(bits, jnp.arange(num, dtype=jnp.uint32))


def noise_at(bits: jax.Array, index: jax.Array) -> jax.Array:
    """What `noise` has at `index`."""
    return avalanche(bits ^ index.astype(jnp.uint32) * jnp.uint32(_GOLDEN))


@apart
def pick(mask: jax.Array, bits: jax.Array) -> jax.Array:
    """The index int32 `[]` of a uniform one of the cells `mask` `[n]`; 0 if there is none.

    The one with the greatest noise, which is one pass in wide registers.
    """
    (num,) = mask.shape
    low = np.uint32((1 << max(1, (num - 1).bit_length())) - 1)
    ranked = noise(bits, num) & ~low | np.arange(num, dtype=np.uint32)
    return (jnp.max(jnp.where(mask, ranked, np.uint32(0))) & low).astype(jnp.int32)


@apart
def find(mask: jax.Array) -> jax.Array:
    """The last of the cells `mask` `[n]`: its index int32 `[]`; 0 if there is none."""
    return jnp.max(jnp.where(mask, np.arange(mask.shape[0], dtype=np.int32), 0))


def trailing(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`function` of arrays whose last axis is a batch, as one of single arrays, to be vmapped.

    Rows of a batch lie side by side in wide registers, and moving a row is a copy: with the batch
    in front, as `vmap` has it, a flood takes several times as long.
    """

    @custom_vmap
    def single(*args: jax.Array) -> jax.Array:
        return function(*(x[..., None] for x in args))[..., 0]

    @single.def_vmap
    def _(axis_size: int, in_batched: list[bool], *args: jax.Array) -> tuple[jax.Array, bool]:
        last = []
        for x, batched in zip(args, in_batched, strict=True):
            alike = x if batched else jnp.broadcast_to(x[None], (axis_size, *x.shape))
            last.append(jnp.moveaxis(alike, 0, -1))
        return jnp.moveaxis(function(*last), -1, 0), True

    return single


def lowered(rows: jax.Array, axis: int) -> jax.Array:
    """Every row moved to where the next one is, along `axis`."""
    kept = jax.lax.slice_in_dim(rows, 0, -1, axis=axis)
    none = jnp.zeros_like(jax.lax.slice_in_dim(rows, 0, 1, axis=axis))
    return jnp.concatenate([none, kept], axis=axis)


def raised(rows: jax.Array, axis: int) -> jax.Array:
    """Every row moved to where the one before is, along `axis`."""
    kept = jax.lax.slice_in_dim(rows, 1, None, axis=axis)
    none = jnp.zeros_like(jax.lax.slice_in_dim(rows, 0, 1, axis=axis))
    return jnp.concatenate([kept, none], axis=axis)


_BLOCK: Final = 8  # steps of a flood between two looks at whether all is flooded


@apart
def _wider(now: jax.Array, free: jax.Array) -> jax.Array:
    return now | around(now) & free


@apart
def _wider_where(now: jax.Array, free: jax.Array, where: jax.Array) -> jax.Array:
    return now | jnp.where(where[None], around(now) & free, now.dtype.type(0))


class _Flood(NamedTuple):
    now: jax.Array  # [H, B]
    before: jax.Array  # [H, B], a block earlier, as long as it grows
    blocks: jax.Array  # [B], in which it grew
    grew: jax.Array  # []


def _flood(free: jax.Array, start: jax.Array) -> _Flood:
    """All that is in reach. Its steps follow each other in blocks: to look costs more than a step.

    Within a block they are not a loop either, which would copy its state.
    """

    def block(loop: _Flood) -> _Flood:
        now = loop.now
        for _ in range(_BLOCK):
            now = _wider(now, free)
        grew = jnp.any(now != loop.now, axis=0)
        before = jnp.where(grew[None], loop.now, loop.before)
        return _Flood(now, before, loop.blocks + grew, jnp.any(grew))

    begin = start & free
    no_blocks = jnp.zeros(start.shape[1:], jnp.int32)
    return jax.lax.while_loop(
        lambda loop: loop.grew, block, _Flood(begin, begin, no_blocks, jnp.bool_(True))
    )


def _num_steps(flood: _Flood, free: jax.Array) -> jax.Array:
    """After how many steps `flood` grew no more: int32 `[B]`."""
    now, steps = flood.before, jnp.maximum(flood.blocks - 1, 0) * _BLOCK
    for _ in range(_BLOCK):
        now, earlier = _wider(now, free), now
        steps += jnp.any(now != earlier, axis=0)
    return steps


@trailing
def _reached(free: jax.Array, start: jax.Array) -> jax.Array:
    return _flood(free, start).now


@trailing
def _beyond(free: jax.Array, start: jax.Array, far: jax.Array) -> jax.Array:
    whole = _flood(free, start)
    steps = _num_steps(whole, free)
    share = (far * steps.astype(jnp.float32)).astype(jnp.int32)
    least = jnp.clip(share, 0, jnp.maximum(steps - 1, 0))

    def block(loop: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        near, left = loop
        for i in range(_BLOCK):
            near = _wider_where(near, free, left > i)
        return near, left - _BLOCK

    near, _ = jax.lax.while_loop(lambda loop: jnp.any(loop[1] > 0), block, (start & free, least))
    return whole.now & ~near


def reached(free: jax.Array, start: jax.Array) -> jax.Array:
    """The cells of `free` that can be walked to from `start`: rows `[H]`, as both arguments are."""
    return _reached(free, start)


def around(rows: jax.Array) -> jax.Array:
    """The cells of a set and their four neighbours, rows `[H]`."""
    return rows | rows << 1 | rows >> 1 | lowered(rows, 0) | raised(rows, 0)


@trailing
def _until_near(free: jax.Array, start: jax.Array, wanted: jax.Array) -> jax.Array:
    def advance(loop: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        now, _ = loop
        wider = around(now)
        goes_on = ~jnp.any(wider & wanted != 0, axis=0)
        wider = jnp.where(goes_on[None], now | wider & free, now)
        return wider, jnp.any(wider != now, axis=0)

    begin = start, jnp.ones(start.shape[1:], bool)
    return jax.lax.while_loop(lambda x: jnp.any(x[1]), advance, begin)[0]


def until_near(free: jax.Array, start: jax.Array, wanted: jax.Array) -> jax.Array:
    """Floods `free` from `start` until a cell of `wanted` is beside it, or all is reached."""
    return _until_near(free, start, wanted)


def steps_with_keys(
    free: jax.Array, keys: jax.Array, doors: jax.Array, start: jax.Array, goal: jax.Array
) -> jax.Array:
    """The fewest moves to `goal` `[H]` where keys are taken and doors opened by entering: int32.

    -1 if there is no way. Exact: a flood of all cells times all sets of keys.

    Args:
        free: `[H]`, cells that can always be entered, those of keys included.
        keys: `[k, H]`, the cell of each key.
        doors: `[k, H]`, the cells that it opens.
        start: `[H]`.
        goal: `[H]`.
    """
    return _with_keys(free, keys, doors, start, goal)


_Search = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


@trailing
def _with_keys(
    free: jax.Array, keys: jax.Array, doors: jax.Array, start: jax.Array, goal: jax.Array
) -> jax.Array:
    num_keys = keys.shape[0]
    bags = range(1 << num_keys)
    opened = [free]  # by bag
    for i in range(num_keys):
        opened += [cells | doors[i] for cells in opened]

    def advance(loop: _Search) -> _Search:
        now, steps, _, found = loop
        wider = [around(now[bag]) & opened[bag] for bag in bags]
        for bag in bags:
            for i in range(num_keys):
                if not bag >> i & 1:
                    wider[bag | 1 << i] |= wider[bag] & keys[i]
                    wider[bag] &= ~keys[i]
        new = now | jnp.stack(wider)
        arrived = found | jnp.any(new & goal[None] != 0, axis=(0, 1))
        grew = jnp.any(new != now, axis=(0, 1)) & ~arrived
        return new, steps + ~found, grew, arrived

    zeros = jnp.zeros(start.shape[1:], jnp.int32)
    begin = jnp.stack([start] + [jnp.zeros_like(start)] * (len(bags) - 1))
    state = begin, zeros, zeros == 0, zeros > 0
    _, steps, _, found = jax.lax.while_loop(lambda x: jnp.any(x[2]), advance, state)
    return jnp.where(found, steps, -1)


def cells_beyond(free: jax.Array, start: jax.Array, far: jax.Array | float) -> jax.Array:
    """Cells in reach, farther than the share `far` of the way to the farthest: rows `[H]`.

    Never `start` itself; the farthest always.
    """
    return _beyond(free, start, jnp.asarray(far, jnp.float32))


class Stage(NamedTuple):
    """What a walker may do until it has done something that lets it do more; rows of cells.

    Attributes:
        free: `[H]`, cells it may walk on.
        shut: `[H]`, closed doors: cells that cost one step more to enter.
        next: `[4, H]`, by direction: from where, facing so, one step leads to the next stage. All
            zeros in the last one.
    """

    free: jax.Array
    shut: jax.Array
    next: jax.Array


def stages(*several: tuple[jax.Array, jax.Array | None, jax.Array | None]) -> Stage:
    """`(free, shut or None, next or None)` of each stage, in order: leaves `[K, ...]`."""
    made = []
    for free, shut, next in several:
        then = jnp.zeros((4, *free.shape), free.dtype) if next is None else next
        made.append(Stage(free, jnp.zeros_like(free) if shut is None else shut, then))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)


def facing(rows: jax.Array) -> jax.Array:
    """From where each of the four directions faces one of the cells `[H]`: `[4, H]`."""
    return jnp.stack([rows >> 1, raised(rows, 0), rows << 1, lowered(rows, 0)])


def walk_steps(
    several: Stage, start: jax.Array, direction: jax.Array, goal: jax.Array
) -> jax.Array:
    """The fewest steps to enter `goal` in any stage, int32 `[]`; -1 if there is no way.

    To turn is a step, as in MiniGrid. Exact where no door is worth crossing twice and no stage is
    worth staying in.

    Args:
        several: leaves `[K, ...]`, in the order in which they are gone through.
        start: `[H]`, the walker's cell.
        direction: int32 `[]`, 0 to 3: right, down, left, up.
        goal: `[H]`.
    """
    return _walk(*several, start, direction, goal)


@trailing
def _walk(
    free: jax.Array,
    shut: jax.Array,
    next: jax.Array,
    start: jax.Array,
    direction: jax.Array,
    goal: jax.Array,
) -> jax.Array:
    num_stages = free.shape[0]
    faces = np.arange(4)[:, None] == direction[None]

    class Loop(NamedTuple):
        reached: jax.Array  # [K, 4, H, B]
        opening: jax.Array  # will stand in a door's cell one step later
        steps: jax.Array  # [B], until the goal is entered
        grew: jax.Array
        found: jax.Array

    def advance(loop: Loop) -> Loop:
        now = loop.reached
        right, down, left, up = (now[:, d] for d in range(4))
        ahead = jnp.stack([right << 1, lowered(down, 1), left >> 1, raised(up, 1)], axis=1)
        level, upright = (
            right | left,
            down | up,
        )  # whoever faces one of these can turn to the others
        turned = jnp.stack([upright, level, upright, level], axis=1)
        new = now | turned | ahead & free[:, None] | loop.opening
        if num_stages > 1:
            gone_on = (now & next)[:-1]
            new = new | jnp.concatenate([jnp.zeros_like(now[:1]), gone_on])
        opening = ahead & shut[:, None]
        differs = (new != now) | (opening & ~new != 0)
        found = loop.found | jnp.any(new & goal[None, None] != 0, axis=(0, 1, 2))
        return Loop(
            new, opening, loop.steps + ~loop.found, jnp.any(differs, axis=(0, 1, 2)) & ~found, found
        )

    first = (np.arange(num_stages) == 0)[:, None, None, None]
    here = jnp.where(first & faces[None, :, None], start[None, None], start.dtype.type(0))
    zeros, no = jnp.zeros_like(direction), jnp.zeros_like(direction, bool)
    begin = Loop(here, jnp.zeros_like(here), zeros, ~no, no)
    end = jax.lax.while_loop(lambda x: jnp.any(x.grew), advance, begin)
    return jnp.where(end.found, end.steps, -1)


def inside(width: int, height: int) -> npt.NDArray[np.bool_]:
    """The cells within the border: bool `[height * width]`."""
    found = np.zeros((height, width), bool)
    found[1:-1, 1:-1] = True
    return found.ravel()
