"""What MiniGrid levels look like, in integers that two samples of levels can be compared by.

Every statistic is one integer a level, so that levels which are independent give independent
values; where a level has many things of a kind, one of them, drawn at random, stands for them.
"""

from __future__ import annotations

import itertools
from typing import Any, Final, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from xplore.benchmarks.homogeneity import Statistics
from xplore.benchmarks.minigrid_reach import key_colours, walking_distances
from xplore.envs.minigrid import cells

Array = npt.NDArray[Any]

_DOORS: Final = (cells.OPEN_DOOR, cells.CLOSED_DOOR, cells.LOCKED_DOOR)
_THINGS: Final = (cells.KEY, cells.BALL, cells.BOX)
_KINDS: Final = {
    "wall": (cells.WALL,),
    "floor": (cells.FLOOR,),
    "goal": (cells.GOAL,),
    "lava": (cells.LAVA,),
    "open door": (cells.OPEN_DOOR,),
    "closed door": (cells.CLOSED_DOOR,),
    "locked door": (cells.LOCKED_DOOR,),
    "door": _DOORS,
    "key": (cells.KEY,),
    "ball": (cells.BALL,),
    "box": (cells.BOX,),
    "thing": _THINGS,
}
_PLACED: Final = ("goal", "lava", "locked door", "door", "key", "ball", "box", "thing")
_NUM_COLOURS: Final = len(cells.COLOURS)
_STEPS: Final = ((0, 1), (1, 0), (0, -1), (-1, 0))  # (y, x) of right, down, left, up
_FINE, _COARSE = 10, 4
_MOST_TARGETS: Final = 4


class Levels(NamedTuple):
    """A sample of levels.

    Attributes:
        grid: uint8 `[n, height, width]`.
        position, direction: int32 `[n]`.
        mission: int32 `[n]`, the number of what is asked for.
        words: int32 `[n, k]`, its words; a colour is the number that it has in a byte.
        extra: as in `Level`, every leaf with a first axis `[n]`.
    """

    grid: Array
    position: Array
    direction: Array
    mission: Array
    words: Array
    extra: Any


def statistics(levels: Levels, key: np.random.Generator) -> Statistics:
    """All that is compared; `key` chooses one thing among many."""
    found = Statistics({}, {}, {})
    view = _View(levels)
    places = {"agent": levels.position.astype(np.int64), **_places(view, levels.extra, key)}
    _wholes(found, levels)
    _kinds(found, view)
    _walls(found, view)
    rooms = _rooms(found, view, places["agent"])
    _agent(found, view, levels.direction)
    _distances(found, view, places)
    for name, where in places.items():
        _place(found, view, name, where)
    for (a, at), (b, bt) in itertools.combinations(places.items(), 2):
        _pair(found, view, rooms, (a, b), (at, bt))
    _asked(found, view, levels, places)
    return found


class _View:
    """Levels as flat arrays `[n, cells]`, and what is asked of them again and again."""

    def __init__(self, levels: Levels) -> None:
        num, self.height, self.width = levels.grid.shape
        self.rows = np.arange(num)
        self.grid = levels.grid.reshape(num, -1)
        self.kind = np.where(self.grid >= 1 << 7, cells.BOX, self.grid >> 3)
        self.colour = self.grid & 7
        self.position = levels.position
        padded = self.squares(self.kind)
        self._padded = np.pad(padded, ((0, 0), (1, 1), (1, 1)), constant_values=cells.WALL)

    def is_any(self, kinds: tuple[int, ...]) -> Array:
        return np.isin(self.kind, kinds)

    def squares(self, flat: Array) -> Array:
        return flat.reshape(len(flat), self.height, self.width)

    def xy(self, where: Array) -> tuple[Array, Array]:
        """Coordinates, -1 where there is nothing."""
        return np.where(where < 0, -1, where % self.width), where // self.width

    def byte(self, where: Array) -> Array:
        return np.where(where < 0, -1, self.grid[self.rows, where].astype(np.int64))

    def block(self, where: Array, parts: int) -> Array:
        """Which of `parts * parts` blocks it is in; -1: none."""
        x, y = self.xy(where)
        return np.where(where < 0, -1, y * parts // self.height * parts + x * parts // self.width)

    def around(self, where: Array) -> Array:
        """The kinds `[n, 4]` right of, below, left of and above `where`; wall beyond the edge."""
        x, y = self.xy(where)
        near = [self._padded[self.rows, y + 1 + dy, x + 1 + dx] for dy, dx in _STEPS]
        return np.where(where[:, None] < 0, cells.UNSEEN, np.stack(near, 1))


def _joint(*values: Array) -> Array:
    """One integer for several that are at least -1."""
    code = np.zeros(len(values[0]), np.int64)
    for value in values:
        code = code * (int(value.max()) + 2) + value + 1
    return code


def _rows_as_numbers(rows: Array) -> Array:
    """The same integer for rows `[n, m]` that are the same."""
    joined = np.ascontiguousarray(rows)
    as_bytes = joined.view(np.dtype((np.void, joined.dtype.itemsize * joined.shape[1])))
    return np.unique(as_bytes.ravel(), return_inverse=True)[1]


def _nth(mask: Array, n: Array) -> Array:
    """The index of the `n`-th True of each row, from 0; -1 where there are not so many."""
    hit = mask & (np.cumsum(mask, 1, dtype=np.int32) == n[:, None] + 1)
    return np.where(hit.any(1), hit.argmax(1), -1)


def _places(view: _View, extra: Any, key: np.random.Generator) -> dict[str, Array]:
    """Where things are, `[n]` each: one of each kind, another one, and what `extra` points at."""
    places = {}
    for name in _PLACED:
        mask = view.is_any(_KINDS[name])
        count = mask.sum(1)
        one = key.integers(0, np.maximum(count, 1))
        other = (one + key.integers(1, np.maximum(count, 2))) % np.maximum(count, 1)
        if count.any():
            places[name] = _nth(mask, one)
        if name in ("door", "thing") and count.max() > 1:
            places[f"other {name}"] = np.where(count > 1, _nth(mask, other), -1)
    places |= _key_and_door(view, key)
    for i, column in enumerate(_columns(extra)):
        # Positions are kept in signed integers, bytes in unsigned ones.
        if column.dtype.kind == "i" and column.dtype.itemsize > 1 and i < _MOST_TARGETS:
            valid = (column >= 0) & (column < view.grid.shape[1])
            places[f"target {i}"] = np.where(valid, column, -1).astype(np.int64)
    return places


def _key_and_door(view: _View, key: np.random.Generator) -> dict[str, Array]:
    """A key, in a box or not, and the locked door of its colour."""
    colours = key_colours(view.grid)
    mask = colours >= 0
    locked = view.kind == cells.LOCKED_DOOR
    if not (mask.any() and locked.any()):
        return {}
    where = _nth(mask, key.integers(0, np.maximum(mask.sum(1), 1)))
    colour = np.where(where < 0, -1, colours[view.rows, where])
    door = _nth(locked & (view.colour == colour[:, None]), np.zeros_like(where))
    return {"any key": where, "its door": door}


def _columns(extra: Any) -> list[Array]:
    leaves = [np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(extra)]
    return [column for leaf in leaves for column in leaf.T]


def _wholes(found: Statistics, levels: Levels) -> None:
    unordered = found.unordered
    num = len(levels.grid)
    grid = _rows_as_numbers(levels.grid.reshape(num, -1))
    start = _joint(levels.position, levels.direction)
    unordered |= {
        "grid": grid,
        "start": start,
        "level": _rows_as_numbers(np.column_stack([grid, start, levels.mission])),
    }


def _kinds(found: Statistics, view: _View) -> None:
    """How many there are of each kind, in which cells and colours."""
    grid, colour = view.grid, view.colour
    for name, kinds in _KINDS.items():
        mask = view.is_any(kinds)
        if not mask.any():
            continue
        found.present[f"{name} in cell"] = mask
        by_colour = np.stack([(mask & (colour == c)).sum(1) for c in range(_NUM_COLOURS)], 1)
        found.ordered[f"number, {name}"] = mask.sum(1)
        found.ordered[f"number of colours, {name}"] = (by_colour > 0).sum(1)
        found.unordered[f"colours, {name}"] = _rows_as_numbers(by_colour)
        for c, word in enumerate(cells.COLOURS):
            found.ordered[f"number, {word} {name}"] = by_colour[:, c]
    things = np.sort(np.where(view.is_any(_THINGS), grid, 0), 1)
    found.unordered["things"] = _rows_as_numbers(things)
    twice = (things[:, 1:] == things[:, :-1]) & (things[:, 1:] > 0)
    found.ordered["things like another"] = twice.sum(1)
    _keys(found, view)


def _keys(found: Statistics, view: _View) -> None:
    """Which keys there are, in boxes too, and which doors they are of."""
    unordered, ordered = found.unordered, found.ordered
    filled = view.grid >= 1 << 7
    holds_ball = filled & (view.grid >> 6 & 1 > 0)
    locked = view.kind == cells.LOCKED_DOOR
    colours, of_keys = range(_NUM_COLOURS), key_colours(view.grid)
    has_key = np.stack([(of_keys == c).any(1) for c in colours], 1)
    has_door = np.stack([(locked & (view.colour == c)).any(1) for c in colours], 1)
    ordered |= {
        "filled boxes": filled.sum(1),
        "boxes with balls": holds_ball.sum(1),
        "colours of locked doors with a key": (has_key & has_door).sum(1),
        "colours of locked doors without": (~has_key & has_door).sum(1),
    }
    hidden = np.where(filled, view.grid >> 3, 255).astype(np.uint8)
    unordered |= {
        "contents": _rows_as_numbers(np.sort(hidden, 1)),
        "colours of keys and locked doors": _rows_as_numbers(np.column_stack([has_key, has_door])),
    }


def _walls(found: Statistics, view: _View) -> None:
    """The texture of the walls: dead ends, corridors, corners."""
    wall = view.squares(view.kind == cells.WALL)
    padded = np.pad(wall, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    height, width = view.height, view.width
    neighbours = np.zeros(wall.shape, np.int8)
    for dy, dx in _STEPS:
        neighbours += padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
    for num in range(5):
        alike = (~wall & (neighbours == num)).sum((1, 2))
        found.ordered[f"open cells with {num} walls around"] = alike
    corners = np.zeros((len(wall), height - 1, width - 1), np.int8)
    for dy, dx in itertools.product((0, 1), (0, 1)):
        corners |= wall[:, dy : height - 1 + dy, dx : width - 1 + dx] << np.int8(2 * dy + dx)
    for pattern in range(16):
        found.ordered[f"squares of pattern {pattern}"] = (corners == pattern).sum((1, 2))


def _rooms(found: Statistics, view: _View, agent: Array) -> Array:
    """Rooms, which walls and doors part; the number `[n, cells]` of the room of each cell."""
    unordered, ordered = found.unordered, found.ordered
    num = len(view.rows)
    is_open = view.squares(~view.is_any((cells.WALL, *_DOORS)))
    cross = np.zeros((3, 3, 3), bool)
    cross[1] = ndimage.generate_binary_structure(2, 1)
    labels = np.asarray(ndimage.label(is_open, cross)[0])
    sizes = np.bincount(labels.ravel())[1:]
    level_of = np.zeros(len(sizes) + 1, np.int64)
    level_of[labels.reshape(num, -1)] = view.rows[:, None]
    level_of = level_of[1:]
    per_level = np.bincount(level_of, minlength=num)
    order = np.lexsort((-sizes, level_of))
    start = np.cumsum(per_level) - per_level
    for rank in range(min(4, int(per_level.max()))):
        chosen = order[np.minimum(start + rank, len(order) - 1)]
        ordered[f"size of room {rank}"] = np.where(per_level > rank, sizes[chosen], 0)
    last = order[np.minimum(start + np.maximum(per_level, 1) - 1, len(order) - 1)]
    flat = labels.reshape(num, -1)
    own = view.squares(flat == flat[view.rows, agent][:, None])
    across, down = own.any(1), own.any(2)
    ordered |= {
        "rooms": per_level,
        "size of the smallest room": sizes[last],
        "size of the agent's room": own.sum((1, 2)),
        "width of the agent's room": across.sum(1),
        "height of the agent's room": down.sum(1),
    }
    unordered |= {
        "corner of the agent's room": _joint(across.argmax(1), down.argmax(1)),
        "sides of the agent's room": _joint(across.sum(1), down.sum(1)),
    }
    return flat


def _agent(found: Statistics, view: _View, direction: Array) -> None:
    unordered = found.unordered
    at = view.position
    ahead = view.around(at)[view.rows, direction]
    unordered |= {
        "direction": direction,
        "agent's block, direction": _joint(view.block(at, _COARSE), direction),
        "ahead": ahead,
        "ahead, direction": _joint(ahead, direction),
    }


def _distances(found: Statistics, view: _View, places: dict[str, Array]) -> None:
    """How far it is to everything, doors and things being no obstacle."""
    wall, lava = view.kind == cells.WALL, view.kind == cells.LAVA
    for name, blocked in (("walk", wall | lava), ("walk through lava", wall)):
        if name != "walk" and not lava.any():
            return
        steps = walking_distances(view.squares(~blocked), view.position)
        found.ordered[f"longest {name}"] = steps.max(1)
        found.ordered[f"cells to {name} to"] = (steps >= 0).sum(1)
        for place, where in places.items():
            found.ordered[f"{name} to {place}"] = np.where(where < 0, -2, steps[view.rows, where])


def _place(found: Statistics, view: _View, name: str, where: Array) -> None:
    unordered, ordered = found.unordered, found.ordered
    x, y = view.xy(where)
    byte, near = view.byte(where), view.around(where)
    bits = 1 << np.arange(4)
    block = view.block(where, _COARSE)
    ordered |= {f"x, {name}": x, f"y, {name}": y}
    unordered |= {
        f"cell, {name}": where,
        f"block, {name}": view.block(where, _FINE),
        f"even or odd, {name}": _joint(x % 2, y % 2, where < 0),
        f"what, {name}": byte,
        f"what and block, {name}": _joint(byte, block),
        f"walls around {name}": (near == cells.WALL) @ bits,
        f"things around {name}": ((near > cells.FLOOR) & (near != cells.WALL)) @ bits,
    }


def _pair(
    found: Statistics, view: _View, rooms: Array, names: tuple[str, str], at: tuple[Array, Array]
) -> None:
    unordered = found.unordered
    here, there = at
    (x, y), (other_x, other_y) = view.xy(here), view.xy(there)
    both = (here >= 0) & (there >= 0)
    across, down = other_x - x, other_y - y
    part = max(1, max(view.width, view.height) // _COARSE // 2)
    what, other = view.byte(here), view.byte(there)
    block, other_block = view.block(here, _COARSE), view.block(there, _COARSE)
    same_room = rooms[view.rows, here] == rooms[view.rows, there]
    label = f"{names[0]}, {names[1]}"
    found.ordered[f"distance, {label}"] = np.where(both, abs(across) + abs(down), -1)
    unordered |= {
        f"blocks, {label}": _joint(block, other_block),
        f"offset, {label}": _if(both, _joint(across // part + 99, down // part + 99)),
        f"in line, {label}": _if(both, (across == 0) * 2 + (down == 0)),
        f"what, {label}": _joint(what, other),
        f"alike, {label}": _if(both, (what & 7 == other & 7) * 2 + (what == other)),
        f"what, block, {label}": _joint(what, other_block),
        f"block, what, {label}": _joint(block, other),
        f"in one room, {label}": _if(both, same_room),
    }


def _if(condition: Array, value: Array) -> Array:
    return np.where(condition, value, -1)


def _asked(found: Statistics, view: _View, levels: Levels, places: dict[str, Array]) -> None:
    """What the mission says, what `extra` holds, and what they go with."""
    unordered = found.unordered
    mission = levels.mission
    words = {f"word {i}": column for i, column in enumerate(levels.words.T)}
    columns = enumerate(_columns(levels.extra))
    held = {f"extra {i}": column.astype(np.int64) for i, column in columns}
    asked = {"mission": mission, **words, **held}
    unordered.update(asked)
    for (a, said), (b, value) in itertools.combinations(asked.items(), 2):
        unordered[f"{a}, {b}"] = _joint(said, np.maximum(value, -1))
    coloured = view.is_any((*_DOORS, *_THINGS))
    for name, value in (words | held).items():
        found.ordered[f"cells like {name}"] = (view.grid == value[:, None]).sum(1)
        in_colour = coloured & (view.colour == value[:, None] & 7)
        found.ordered[f"things of the colour of {name}"] = in_colour.sum(1)
    for (name, said), (place, where) in itertools.product(asked.items(), places.items()):
        label = f"{name}, {place}"
        byte = view.byte(where)
        unordered |= {
            f"what, {label}": _joint(said, byte),
            f"block, {label}": _joint(said, view.block(where, _COARSE)),
            f"is it, {label}": (said == byte) * 4 + (said & 7 == byte & 7) * 2 + (said == where),
        }
    unordered["mission, direction"] = _joint(mission, levels.direction)
