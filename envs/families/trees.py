"""Spanning trees of a lattice of rooms, and loops added to them: perfect and braided mazes.

A tree of R x C rooms is `Passages`: which rooms are joined to the one right of them, and below.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.errors import ConfigError
from xplore.envs.families import boards
from xplore.envs.families.boards import noise
from xplore.parts.apart import apart

Algorithm = Literal["kruskal", "backtracker", "binary_tree"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
MOST_COLUMNS: Final = 16  # of rooms, in the words that are used


class Passages(NamedTuple):
    """bool `[R, C]` each: joined to the room on the right, and to the one below."""

    right: jax.Array
    down: jax.Array


def spanning_tree(
    algorithm: Algorithm,
    bits: jax.Array,
    shape: tuple[int, int],
    within: jax.Array | None = None,
) -> Passages:
    """A random spanning tree of the lattice of rooms of `shape` `(R, C)`, from one word of bits.

    `within` bool `[R * C]` leaves all other rooms out; for `kruskal` alone.

    * `kruskal`: walls are removed in random order unless both sides are joined already, as in
      Procgen; many short dead ends.
    * `backtracker`: a walk to random new neighbours that goes back where there are none; few and
      long corridors. At most 16 columns.
    * `binary_tree`: each room is joined to the one above or the one on the left; a bias a policy
      can learn.
    """
    if algorithm == "kruskal":
        return _kruskal(bits, shape, within)
    if algorithm == "backtracker":
        return _backtracker(bits, shape)
    return _binary_tree(bits, shape)


def _kruskal(bits: jax.Array, shape: tuple[int, int], within: jax.Array | None) -> Passages:
    rows, columns = shape
    num = rows * columns
    # An edge is the room on its left or upper side, plus `num` if the other one is below.
    index = np.arange(num, dtype=np.uint32)
    rightwards = index[index % columns < columns - 1]
    edges = np.concatenate([rightwards, index[: num - columns] + num]).astype(np.uint32)
    low = np.uint32((1 << (2 * num - 1).bit_length()) - 1)
    order = jnp.sort(noise(bits, len(edges)) & ~low | edges) & low
    rooms = np.arange(num, dtype=np.int32)
    all_edges = np.arange(2 * num, dtype=np.int32)

    def join(i: jax.Array, loop: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        label, opened = loop
        edge = order[i].astype(jnp.int32)
        below = edge >= num
        room = edge - jnp.where(below, num, 0)
        other = room + jnp.where(below, columns, 1)
        # Comparisons over all rooms run in wide registers, a scatter does not.
        label_room = label.at[room].get(mode="promise_in_bounds")
        label_other = label.at[other].get(mode="promise_in_bounds")
        joins = label_room != label_other
        if within is not None:
            # A room that is left out is never on the left or above of one that is not.
            joins &= within.at[other].get(mode="promise_in_bounds")
        opened = opened | (all_edges == edge) & joins
        return jnp.where((label == label_other) & joins, label_room, label), opened

    label = jnp.asarray(rooms.astype(np.uint8 if num <= 256 else np.uint16))
    opened = jnp.zeros(2 * num, bool)
    _, opened = jax.lax.fori_loop(0, len(edges), join, (label, opened))
    return Passages(opened[:num].reshape(shape), opened[num:].reshape(shape))


def _backtracker(bits: jax.Array, shape: tuple[int, int]) -> Passages:
    rows, columns = shape
    num = rows * columns
    if columns > MOST_COLUMNS:
        raise ConfigError(f"{columns} columns of rooms: a backtracker has {MOST_COLUMNS} at most")
    y = np.arange(rows, dtype=np.uint32)[:, None]
    walls = np.uint32(~(((1 << columns) - 1) << 1) & 0xFFFFFFFF)

    @boards.trailing
    def walk(bits: jax.Array, root: jax.Array) -> jax.Array:
        """By which way each room was entered, two bits a room: uint32 `[R, B]`."""

        def step(i: jax.Array, loop: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            here, visited, ways = loop
            move = _next_room(here, visited, ways, boards.noise_at(bits, i))
            here = move & 0xFFFF
            x, way, enters = here & 255, move >> 16 & 3, move >> 18 == 1
            entered = ((here >> 8)[None] == y) & enters[None]
            visited |= jnp.where(entered, (np.uint32(1) << x)[None], np.uint32(0))
            ways |= jnp.where(entered, (way << 2 * (x - 1))[None], np.uint32(0))
            return here, visited, ways

        x, row = root % columns + 1, root // columns
        visited = walls | jnp.where(row[None] == y, (np.uint32(1) << x)[None], np.uint32(0))
        begin = x | row << 8, visited, jnp.zeros_like(visited)
        return jax.lax.fori_loop(0, 2 * num - 2, step, begin)[2]

    root = noise(bits ^ 1, 1)[0] % num
    way = walk(bits, root)[:, None] >> 2 * np.arange(columns, dtype=np.uint32)[None] & 3
    way = jnp.where((np.arange(num, dtype=np.uint32) == root).reshape(shape), 4, way)
    return Passages(
        right=_shifted(way == 0, 0, 1) | (way == 2), down=_shifted(way == 1, 1, 0) | (way == 3)
    )


@apart
def _next_room(here: jax.Array, visited: jax.Array, ways: jax.Array, draw: jax.Array) -> jax.Array:
    """Where walks go on: a random new neighbour, or else back. Bits of a word, uint32 `[B]`.

    A room is `x | y << 8` with x from 1. The word is a room, the way by which it is entered (right,
    down, left, up) from bit 16 on, and whether it is new at bit 18. All at once and nothing but
    arithmetic on words, so that walks lie side by side in wide registers: to look up the rooms
    around each walk's own took five times as long.

    Args:
        here: `[B]`.
        visited: `[R, B]`, bit x of row y; what is beside the rooms counts as visited.
        ways: `[R, B]`, by which way rooms were entered, two bits each.
        draw: `[B]`, random.
    """
    rows, full = visited.shape[0], np.uint32(0xFFFFFFFF)
    x, y = here & 255, here >> 8
    above = level = below = way_in = jnp.zeros_like(here)
    for row in range(rows):
        mask = jnp.where(y == row, full, np.uint32(0))
        above |= mask & (visited[row - 1] if row > 0 else full)
        level |= mask & visited[row]
        below |= mask & (visited[row + 1] if row < rows - 1 else full)
        way_in |= mask & ways[row]
    seen = level >> x + 1, below >> x, level >> x - 1, above >> x
    # A random one of the new neighbours: the greatest of four draws, a byte of noise each.
    best = jnp.zeros_like(here)
    for i in range(4):
        rank = ((draw >> 8 * i & 255) << 2 | i) + 4
        best = jnp.maximum(best, jnp.where(seen[i] & 1 == 0, rank, np.uint32(0)))
    goes = best > 0
    way = jnp.where(goes, best & 3, way_in >> 2 * (x - 1) & 3 ^ 2)
    step = jnp.where(way & 1 == 0, np.uint32(1), np.uint32(1 << 8))
    there = jnp.where(way >= 2, here - step, here + step)
    return there | way << 16 | goes.astype(jnp.uint32) << 18


def _binary_tree(bits: jax.Array, shape: tuple[int, int]) -> Passages:
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns]
    upwards = (noise(bits, rows * columns).reshape(shape) >> 31) == 1
    up = (y > 0) & ((x == 0) | upwards)
    left = (x > 0) & ((y == 0) | ~upwards)
    return Passages(right=_shifted(left, 0, 1), down=_shifted(up, 1, 0))


def _shifted(mask: jax.Array, down: int, right: int) -> jax.Array:
    """`mask[y + down, x + right]`, False outside."""
    rows, columns = mask.shape
    padded = jnp.pad(mask, ((max(-down, 0), max(down, 0)), (max(-right, 0), max(right, 0))))
    top, left = max(down, 0), max(right, 0)
    return padded[top : top + rows, left : left + columns]


def neighbours(passages: Passages) -> jax.Array:
    """Whether each room is joined to the one right, below, left, above: bool `[4, R, C]`."""
    right, down = passages
    return jnp.stack([right, down, _shifted(right, 0, -1), _shifted(down, -1, 0)])


def braided(
    passages: Passages, bits: jax.Array, share: jax.Array | float, *, in_turn: bool = False
) -> Passages:
    """Each dead end is joined, with probability `share`, to one more neighbour of its own.

    All at once, or, `in_turn`, row by row as Procgen's Chaser does: a dead end that an earlier one
    was joined to is none any more.
    """
    rows, columns = passages.right.shape
    y, x = np.mgrid[:rows, :columns]
    exists = np.stack([x < columns - 1, y < rows - 1, x > 0, y > 0])
    joined = neighbours(passages)
    dead_end = jnp.sum(joined, axis=0, dtype=jnp.int32) == 1
    draws = noise(bits, 5 * rows * columns).reshape(5, rows, columns)
    chosen = (draws[4] >> 8).astype(jnp.float32) < jnp.float32(share) * 2.0**24
    way = np.arange(4, dtype=np.uint32)[:, None, None]
    ranked = jnp.where(exists & ~joined, draws[:4] & ~np.uint32(3) | way, np.uint32(0))
    best = jnp.max(ranked, axis=0)
    willing = dead_end & chosen & (best > 0)
    rightwards, downwards = best & 3 == 0, best & 3 == 1

    def once_more(_: int, opening: jax.Array) -> jax.Array:
        # Of earlier rooms only those on the left and above are neighbours.
        joins = _shifted(opening & rightwards, 0, -1) | _shifted(opening & downwards, -1, 0)
        return willing & ~joins

    # After k rounds all rooms are settled that are at most k steps from the first one.
    rounds = rows + columns - 2 if in_turn else 0
    opening = jax.lax.fori_loop(0, rounds, once_more, willing) if rounds else willing
    opens = opening[None] & ((best & 3)[None] == way)
    return Passages(
        right=passages.right | opens[0] | _shifted(opens[2], 0, 1),
        down=passages.down | opens[1] | _shifted(opens[3], 1, 0),
    )


def carved(passages: Passages) -> jax.Array:
    """The free cells bool `[2R - 1, 2C - 1]`: rooms at even places, passages between them."""
    right, down = passages
    rows, columns = right.shape
    even = jnp.stack([jnp.ones_like(right), right], axis=2).reshape(rows, 2 * columns)
    odd = jnp.stack([down, jnp.zeros_like(down)], axis=2).reshape(rows, 2 * columns)
    return jnp.stack([even, odd], axis=1).reshape(2 * rows, 2 * columns)[:-1, :-1]


@apart
def walled(passages: Passages) -> jax.Array:
    """The free cells within a border of walls: words uint32 `[2R + 1]`, bit x of row y."""
    right, down = (_spread(boards.to_rows(joined)) for joined in passages)
    rooms = np.uint32(sum(1 << 2 * x for x in range(passages.right.shape[1])))
    between = jnp.concatenate([jnp.zeros_like(down[:1]), down]) << 1
    within = jnp.concatenate([(rooms | right << 1) << 1, jnp.zeros_like(right[:1])])
    return jnp.stack([between, within], axis=1).reshape(-1)[:-1]


def _spread(words: jax.Array) -> jax.Array:
    """Bit x of each word as bit 2 x, of the lower 16."""
    words = words.astype(jnp.uint32)
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        words = (words | words << shift) & np.uint32(mask)
    return words


def at_rooms(mask: jax.Array) -> jax.Array:
    """What holds of rooms bool `[R, C]` as cells `[2R - 1, 2C - 1]`; False of passages."""
    return jax.lax.pad(mask, False, [(0, 0, 1), (0, 0, 1)])


def within_rooms(num: jax.Array, side: int) -> jax.Array:
    """The cells of the first `num` x `num` rooms of `side` x `side`: bool."""
    y, x = np.mgrid[: 2 * side - 1, : 2 * side - 1]
    return (x < 2 * num - 1) & (y < 2 * num - 1)
