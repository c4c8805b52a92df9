"""The shortest way to success, layer by layer over all that can matter of a level, under jit.

A *world* is a grid and what is carried; the product of the *items* that a `Plan` keeps track of
(doors shut or open, things where they were, in hand or put down) lists the worlds of a level. A
state is a world, a cell and a direction. The four directions of a cell are the bits of a byte, so
that a turn rotates bytes, a move shifts the grid, and what is done to an item is a mask on
its axis. What ends an episode, and how, is asked of the engine and the task.
"""

from __future__ import annotations

import functools
import math
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xplore.envs.minigrid import cells
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.task import DROP, FORWARD, PICK_UP, TOGGLE, Level, State, Task

NEVER: Final = np.int32(2**30)
_NUM_DIRECTIONS: Final = 4
_ALL: Final = np.uint8(15)
_KINDS: Final = (FORWARD, PICK_UP, DROP, TOGGLE)
# The states of a thing: as it was, toggled (a box opened), in hand; then put down at each place.
_THERE, _OPENED, _HELD = range(3)
_TIGHT: Final = 3


class Plan(NamedTuple):
    """What of a level is kept track of; the search is exact if nothing else can matter.

    Attributes:
        things: how many things may be picked up, and boxes opened; others are obstacles.
        loose: how many of those may also be put down, on any empty cell; first come those whose
            pick-up does not end the episode, in the order of cells.
        doors: how many doors are remembered as shut or open, column by column from the left.
            Another closed door costs a toggle each time it is crossed; that is exact where the
            shortest way crosses no door twice. Another locked door is a wall.
        doors_judged: whether what ends the episode depends on which of these doors are open.
        after_unlocking: the plan from the moment a locked door is opened, when all that was done
            before is forgotten but for the key, its first thing, in hand; `doors` are then closed
            ones only. None: locked doors are remembered like others.
    """

    things: int = 0
    loose: int = 0
    doors: int = 0
    doors_judged: bool = False
    after_unlocking: Plan | None = None


class Found(NamedTuple):
    """What a search finds.

    Attributes:
        steps: int32 `[]`, the fewest steps to success, or `NEVER`.
        stood: bool `[cells]`, where the agent can come to stand.
        unlocked: int32 `[4, cells]`, the fewest steps to opening a locked door from there, facing
            so, or `NEVER`.
    """

    steps: jax.Array
    stood: jax.Array
    unlocked: jax.Array


class _Item(NamedTuple):
    """What changes in a level: for each of its states `[s]`, where it is and what is there.

    Attributes:
        cell: int32, -1 where it is in hand.
        byte: uint8, what is in the cell.
        held: uint8, what is carried.
    """

    cell: jax.Array
    byte: jax.Array
    held: jax.Array

    @property
    def size(self) -> int:
        return int(self.cell.shape[0])

    @property
    def is_door(self) -> bool:
        return self.size == 2


class _Rules(NamedTuple):
    """The directions (bits) in which an agent before a cell can do what: uint8 `[worlds, cells]`.

    `enter` and `end_in` move there, to go on or to end there; `enter_shut` opens a door that is
    not remembered and moves there; `unlock` is the toggle of a locked door.
    """

    enter: jax.Array
    end_in: jax.Array
    enter_shut: jax.Array
    pick_up: jax.Array
    drop: jax.Array
    toggle: jax.Array
    unlock: jax.Array
    succeed: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 2))
def search(task: Task, level: Level, plan: Plan) -> Found:
    """Searches all that `plan` keeps track of, from the start of `level`."""
    here = np.arange(level.grid.size) == level.position
    facing = np.arange(_NUM_DIRECTIONS)[:, None] == level.direction
    begins = jnp.where(facing & here[None], 0, NEVER)
    found = _explore(task, level, plan, begins)
    if plan.after_unlocking is None:
        return found
    key = _things(task, level, plan)[0].held[_HELD]
    is_locked = cells.is_kind(level.grid, cells.LOCKED_DOOR)
    behind = level._replace(grid=jnp.where(is_locked, cells.toggled(level.grid, key), level.grid))
    then = _explore(task, behind, plan.after_unlocking, found.unlocked, first_in_hand=True)
    return Found(jnp.minimum(found.steps, then.steps), found.stood | then.stood, then.unlocked)


def _explore(
    task: Task, level: Level, plan: Plan, begins: jax.Array, first_in_hand: bool = False
) -> Found:
    """Searches from cells and directions entered at times `begins` `[4, cells]`."""
    width = task.width
    items = (*_things(task, level, plan), *_doors(task, level, plan))
    num_worlds = math.prod(item.size for item in items)
    start = _HELD * (num_worlds // items[0].size) if first_in_hand else 0
    rules = _rules(task, level, plan, items)

    class Layer(NamedTuple):
        time: jax.Array
        grew: jax.Array
        reached: jax.Array  # bits [worlds, cells], as are the doors that are being opened
        opening: jax.Array
        steps: jax.Array
        unlocked: jax.Array

    def unfinished(layer: Layer) -> jax.Array:
        return layer.grew | (layer.time <= jnp.max(jnp.where(begins < NEVER, begins, -1)))

    def advance(layer: Layer) -> Layer:
        now = layer.reached.at[start].set(layer.reached[start] | _bits(begins == layer.time))
        faced = _faced(now, width)
        after = now | now << 1 | now >> 3 | now >> 1 | now << 3  # turned right, turned left
        after = (after & _ALL) | faced & rules.enter | layer.opening
        after |= _unfaced(_happenings(faced, items, rules), width)
        opening = faced & rules.enter_shut
        unlocks = _each_bit(_union(_unfaced(faced & rules.unlock, width), 0))
        succeeds = jnp.any(faced & rules.succeed != 0)
        next_time = layer.time + 1
        return Layer(
            time=next_time,
            grew=jnp.any(after != layer.reached) | jnp.any(opening != layer.opening),
            reached=after,
            opening=opening,
            steps=jnp.where(succeeds, jnp.minimum(layer.steps, next_time), layer.steps),
            unlocked=jnp.where(unlocks, jnp.minimum(layer.unlocked, next_time), layer.unlocked),
        )

    nothing = jnp.zeros((num_worlds, level.grid.size), jnp.uint8)
    never = jnp.full_like(begins, NEVER)
    first = Layer(jnp.min(begins), jnp.bool_(False), nothing, nothing, jnp.int32(NEVER), never)
    last = jax.lax.while_loop(unfinished, advance, first)
    ends = _faced(last.reached, width) & rules.end_in
    return Found(last.steps, jnp.any((last.reached | ends) != 0, axis=0), last.unlocked)


def _happenings(faced: jax.Array, items: tuple[_Item, ...], rules: _Rules) -> jax.Array:
    """The directions in which cells are faced after something was done to an item there."""
    num_worlds, num_cells = faced.shape
    found = jnp.zeros_like(faced)
    before = 1
    for item in items:
        shape = (before, item.size, num_worlds // item.size // before, num_cells)
        before *= item.size
        at = (item.cell[:, None] == np.arange(num_cells)[None])[None, :, None, :]
        toggled, picked_up, dropped = (
            (faced & rule).reshape(shape) for rule in (rules.toggle, rules.pick_up, rules.drop)
        )
        opened = jnp.where(at[:, :1], toggled[:, :1], 0)
        arrives = [jnp.zeros_like(opened), opened]
        if not item.is_door:
            # A box that holds something is opened, not carried: that is never the longer way.
            taken = at & (item.byte == item.held[_HELD])[None, :, None, None]
            arrives.append(_union(jnp.where(taken, picked_up, 0), 1)[:, None])
            in_hand = dropped[:, _HELD : _HELD + 1]
            arrives.append(jnp.where(at[:, _TIGHT:], in_hand, 0))
        found |= jnp.concatenate(arrives, axis=1).reshape(faced.shape)
    return found


def _rules(task: Task, level: Level, plan: Plan, items: tuple[_Item, ...]) -> _Rules:
    """What can be done in each world of `items`."""
    there = np.arange(level.grid.size)
    own = [item.cell[0] for item in items]
    is_own = functools.reduce(jnp.logical_or, [there == c for c in own], jnp.bool_(False))
    is_own = jnp.broadcast_to(is_own, there.shape)
    is_thing = is_own & cells.can_pick_up(level.grid)
    base = jnp.where(is_thing, jnp.uint8(cells.NOTHING), level.grid)

    # What ends an episode does not depend on where loose things lie, nor, as a rule, on doors.
    tight = tuple(
        _Item(*(leaf[: 1 + plan.doors_judged] if item.is_door else leaf[:_TIGHT] for leaf in item))
        for item in items
    )
    judged = _judge(task, level, *_worlds(base, tight))

    def everywhere(bits: jax.Array) -> jax.Array:
        bits = bits.reshape(*(item.size for item in tight), there.size)
        for axis, (item, few) in enumerate(zip(items, tight, strict=True)):
            index = np.arange(item.size)
            bits = jnp.take(bits, np.where(index < few.size, index, 0), axis=axis)
        return bits.reshape(-1, there.size)

    succeed, can, ends = everywhere(judged.succeed), judged.can, jax.vmap(everywhere)(judged.ends)
    grid, carrying = _worlds(base, items)
    forward, pick_up, drop, toggle = (
        jnp.where(can[i], _ALL & ~ends[i], 0) for i in range(len(_KINDS))
    )
    overlaps, empty_handed = cells.can_overlap(grid), (carrying == cells.NOTHING)[:, None]
    is_shut = cells.is_kind(grid, cells.CLOSED_DOOR) & ~is_own[None]
    toggles = cells.toggled(grid, carrying[:, None]) != grid
    unlocks = toggles & cells.is_kind(grid, cells.LOCKED_DOOR)

    def where(mask: jax.Array, bits: jax.Array) -> jax.Array:
        return jnp.where(mask, bits, jnp.uint8(0))

    return _Rules(
        enter=where(overlaps, forward),
        end_in=where(overlaps, ends[0]),
        enter_shut=where(is_shut, forward & toggle),
        pick_up=where(cells.can_pick_up(grid) & empty_handed, pick_up),
        drop=where((grid == cells.NOTHING) & ~empty_handed, drop),
        toggle=where(toggles, toggle),
        unlock=where(unlocks & ~is_own[None], toggle),
        succeed=succeed,
    )


class _Judged(NamedTuple):
    """What the engine and the task make of every action.

    Attributes:
        succeed: uint8 `[worlds, cells]`, directions of facing a cell in which some action succeeds.
        ends: uint8 `[kinds, worlds, cells]`, those in which an action of each of `_KINDS` ends it.
        can: bool `[kinds]`, whether there is such an action.
    """

    succeed: jax.Array
    ends: jax.Array
    can: jax.Array


def _judge(task: Task, level: Level, grid: jax.Array, carrying: jax.Array) -> _Judged:
    engine = MiniGrid(task)  # its view and its time limit play no part
    actions = jnp.arange(task.num_actions, dtype=jnp.int32)
    directions = jnp.arange(_NUM_DIRECTIONS, dtype=jnp.int32)
    positions = jnp.arange(grid.shape[-1], dtype=jnp.int32)

    def judge(
        grid: jax.Array,
        carrying: jax.Array,
        position: jax.Array,
        direction: jax.Array,
        a: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        state = State(grid, position, direction, carrying, jnp.int32(0), level.extra)
        _, step = engine.resolve(state, state, a)
        return step.info["success"], step.terminated

    over_actions = jax.vmap(judge, (None, None, None, None, 0))
    over_directions = jax.vmap(over_actions, (None, None, None, 0, None))
    over_cells = jax.vmap(over_directions, (None, None, 0, None, None))
    success, ends = jax.vmap(over_cells, (0, 0, None, None, None))(
        grid, carrying, positions, directions, actions
    )
    is_kind = jax.vmap(task.meant)(actions)[None] == np.array(_KINDS)[:, None]

    def faced_if(flags: jax.Array) -> jax.Array:
        return _faced(_bits(jnp.moveaxis(jnp.any(flags, axis=-1), -1, 0)), task.width)

    return _Judged(
        succeed=faced_if(success),
        ends=jax.vmap(lambda kind: faced_if(ends & kind[None, None, None]))(is_kind),
        can=jnp.any(is_kind, axis=1),
    )


def _things(task: Task, level: Level, plan: Plan) -> tuple[_Item, ...]:
    if plan.things == 0:
        return ()
    judged = _judge(task, level, level.grid[None], jnp.full(1, cells.NOTHING, jnp.uint8))
    ends = judged.ends[_KINDS.index(PICK_UP), 0] != 0
    there = np.arange(level.grid.size)
    order = jnp.where(ends, there.size, 0) + there
    found = _first(cells.can_pick_up(level.grid), order, plan.things)
    inside = np.zeros((task.height, task.width), bool)
    inside[1:-1, 1:-1] = True
    places = np.flatnonzero(inside).astype(np.int32)

    def thing(number: int) -> _Item:
        cell, byte = found[number], level.grid[found[number]]
        left, nothing = jnp.asarray(cells.TOGGLED)[byte.astype(jnp.int32)], jnp.uint8(cells.NOTHING)
        load = jnp.where(byte >= 1 << 7, left, byte)
        put_down = jnp.asarray(places if number < plan.loose else places[:0])
        return _Item(
            cell=jnp.concatenate([jnp.stack([cell, cell, jnp.int32(-1)]), put_down]),
            byte=jnp.concatenate([jnp.stack([byte, left, nothing]), jnp.full(put_down.size, load)]),
            held=jnp.full(_TIGHT + put_down.size, nothing).at[_HELD].set(load),
        )

    return tuple(thing(i) for i in range(plan.things))


def _doors(task: Task, level: Level, plan: Plan) -> tuple[_Item, ...]:
    is_door = cells.is_kind(level.grid, cells.CLOSED_DOOR)
    if plan.after_unlocking is None:
        is_door |= cells.is_kind(level.grid, cells.LOCKED_DOOR)
    there = np.arange(level.grid.size)
    order = jnp.asarray(there % task.width * task.height + there // task.width)

    def door(cell: jax.Array) -> _Item:
        shut = level.grid[cell]
        opened = shut & 7 | cells.cell(cells.OPEN_DOOR)
        nothing = jnp.full(2, cells.NOTHING, jnp.uint8)
        return _Item(jnp.stack([cell, cell]), jnp.stack([shut, opened]), nothing)

    found = _first(is_door, order, plan.doors)
    return tuple(door(found[i]) for i in range(plan.doors))


def _first(mask: jax.Array, order: jax.Array, num: int) -> jax.Array:
    """The first `num` cells of a mask, lowest `order` first; -1 where there are fewer."""
    found = jnp.argsort(jnp.where(mask, order, NEVER))[:num].astype(jnp.int32)
    return jnp.where(mask[found], found, -1)


def _worlds(base: jax.Array, items: tuple[_Item, ...]) -> tuple[jax.Array, jax.Array]:
    """The product of the states of `items`, the last runs first: `(grid, carrying)` of each."""
    grid, carrying = base[None], jnp.full(1, cells.NOTHING, jnp.uint8)
    for item in items:
        at = item.cell[:, None] == np.arange(base.size)[None]
        grid = jnp.where(at[None], item.byte[None, :, None], grid[:, None])
        carrying = jnp.where(item.held[None] != cells.NOTHING, item.held[None], carrying[:, None])
        grid, carrying = grid.reshape(-1, base.size), carrying.ravel()
    return grid, carrying


def _bits(flags: jax.Array) -> jax.Array:
    """The byte of four flags `[4, ...]`."""
    powers = jnp.left_shift(1, np.arange(_NUM_DIRECTIONS)).reshape(-1, *[1] * (flags.ndim - 1))
    return jnp.sum(jnp.where(flags, powers, 0), axis=0, dtype=jnp.uint8)


def _each_bit(bits: jax.Array) -> jax.Array:
    """The four flags `[4, ...]` of a byte."""
    return jnp.stack([bits & 1 << d != 0 for d in range(_NUM_DIRECTIONS)])


def _union(bits: jax.Array, axis: int) -> jax.Array:
    return jax.lax.reduce(bits, np.uint8(0), jax.lax.bitwise_or, (axis,))


def _faced(bits: jax.Array, width: int) -> jax.Array:
    """From where agents stand, `[..., cells]`, to the cells before them.

    Nobody stands on the border, so that rolling takes nobody around it.
    """
    return _shifted(bits, (1, width, -1, -width))


def _unfaced(bits: jax.Array, width: int) -> jax.Array:
    """Back from the cells before agents to where they stand."""
    return _shifted(bits, (-1, -width, 1, width))


def _shifted(bits: jax.Array, steps: tuple[int, ...]) -> jax.Array:
    moved = [jnp.roll(bits & np.uint8(1 << d), step, axis=-1) for d, step in enumerate(steps)]
    return functools.reduce(jnp.bitwise_or, moved)
