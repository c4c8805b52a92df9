"""Levels of Procgen and of our families after it, as boards of one kind, and figures of them.

Boards are drawn in MiniGrid's bytes, so that all that `minigrid_statistics` measures of levels
holds for them: a boulder is lava, dirt is floor, diamonds, large orbs and eggs are balls, the
cheese, the gem and the exit of Miner are goals.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.benchmarks import procgen_play as procgen
from xplore.benchmarks.minigrid_reach import walking_distances
from xplore.benchmarks.minigrid_statistics import Levels
from xplore.contracts.registry import make
from xplore.envs.families import chaser, heist, miner
from xplore.envs.families.compass import Board
from xplore.envs.families.maze import maze
from xplore.envs.minigrid import cells
from xplore.parts.levels import levels_from_ids, train_ids

Array = npt.NDArray[Any]

SMALLEST_MAZE: Final = 5
_LARGEST_MAZE: Final = 25
# The letters of a family's text beside the bytes they are drawn as.
_BYTES: Final = {
    "heist": {
        ".": cells.NOTHING,
        "#": cells.GREY_WALL,
        "G": cells.GREEN_GOAL,
        "a": cells.cell(cells.KEY, cells.BLUE),
        "b": cells.cell(cells.KEY, cells.GREEN),
        "c": cells.cell(cells.KEY, cells.RED),
        "A": cells.cell(cells.LOCKED_DOOR, cells.BLUE),
        "B": cells.cell(cells.LOCKED_DOOR, cells.GREEN),
        "C": cells.cell(cells.LOCKED_DOOR, cells.RED),
    },
    "miner": {
        ".": cells.NOTHING,
        "#": cells.GREY_WALL,
        ":": cells.cell(cells.FLOOR),
        "o": cells.cell(cells.LAVA),
        "*": cells.cell(cells.BALL, cells.BLUE),
        "X": cells.GREEN_GOAL,
    },
    "chaser": {
        ".": cells.cell(cells.FLOOR),  # no level has one: every free cell has an orb
        "#": cells.GREY_WALL,
        "o": cells.NOTHING,
        "x": cells.cell(cells.BALL, cells.YELLOW),
        "e": cells.cell(cells.BALL, cells.PURPLE),
    },
}
_LETTERS: Final = {
    "heist": heist.STYLE.letters,
    "miner": miner.STYLE.letters,
    "chaser": chaser.STYLE.letters,
}
_EGGS: Final = 3


class Sample(NamedTuple):
    """Levels of either side.

    Attributes:
        grid: uint8 `[n, H, W]`, a border of walls included: of Maze MiniGrid's bytes, of the others
            the family's own codes, where things that are a level's beside its grid are drawn too.
        position: the agents' cells, int64 `[n]`.
    """

    grid: Array
    position: Array


def theirs(game: str, drawn: dict[str, Array]) -> Sample:
    """What `procgen_play.draw` made of a game; of Maze those of a size that ours has."""
    grid, bodies = drawn["grid"], drawn["bodies"]
    if game == "maze":
        return _their_mazes(grid, bodies)
    num, height, width = grid.shape
    code = {letter: i for i, letter in enumerate(_LETTERS[game])}
    board = np.full((num, height + 2, width + 2), code["#"], np.uint8)
    inner = board[:, 1:-1, 1:-1]
    if game == "heist":
        inner[grid != procgen.WALL] = code["."]
        for theme in range(3):
            _put(board, bodies, procgen.KEY, code["abc"[theme]], theme)
            _put(board, bodies, procgen.DOOR, code["ABC"[theme]], theme)
        _put(board, bodies, procgen.GEM, code["G"])
    elif game == "chaser":
        inner[grid == procgen.ORB] = code["o"]
        inner[grid == procgen.SPACE] = code["."]
        _put(board, bodies, procgen.LARGE_ORB, code["x"])
        _put(board, bodies, procgen.EGG, code["e"])
    else:
        inner[grid == procgen.SPACE] = code["."]
        for kind, letter in (
            (procgen.DIRT, ":"),
            (procgen.BOULDER, "o"),
            (procgen.DIAMOND, "*"),
        ):
            inner[grid == kind] = code[letter]
        _put(board, bodies, procgen.EXIT, code["X"])
    position = _cells(bodies, procgen.PLAYER, width + 2)
    if game == "miner":  # Procgen counts rows from below, where things fall to
        board = np.ascontiguousarray(board[:, ::-1])
        y, x = np.divmod(position, width + 2)
        position = (height + 1 - y) * (width + 2) + x
    return Sample(board, position)


def _put(board: Array, bodies: Array, kind: int, code: int, theme: int | None = None) -> None:
    """Draws the bodies of a kind (and theme) onto boards with a border."""
    mask = bodies[..., 2] == kind
    if theme is not None:
        mask &= bodies[..., 3] == theme
    level, which = np.nonzero(mask)
    x, y = np.floor(bodies[level, which, :2]).astype(int).T
    board[level, y + 1, x + 1] = code


def _cells(bodies: Array, kind: int, width: int) -> Array:
    """The cell of the one body of a kind in each level, on boards with a border."""
    which = (bodies[..., 2] == kind).argmax(1)
    x, y = np.floor(bodies[np.arange(len(bodies)), which, :2]).astype(np.int64).T
    return np.asarray((y + 1) * width + x + 1)


def maze_sizes(drawn: dict[str, Array]) -> Array:
    """The side of each maze of Procgen's, int `[n]`: the margins around it are alike."""
    world = drawn["grid"].shape[1]
    bodies = drawn["bodies"]
    margin = bodies[bodies[..., 2] == procgen.PLAYER][:, 0].astype(int)
    return np.asarray(world - 2 * margin)


def _their_mazes(grid: Array, bodies: Array) -> Sample:
    sizes = maze_sizes({"grid": grid, "bodies": bodies})
    board = _no_mazes(len(grid))
    world = grid.shape[1]
    for i, size in enumerate(sizes):
        margin = (world - size) // 2
        part = grid[i, margin : margin + size, margin : margin + size]
        free = np.where(part == procgen.MAZE_CHEESE, cells.GREEN_GOAL, cells.NOTHING)
        drawn = np.where(part == procgen.WALL, cells.GREY_WALL, free)
        board[i, 1 : 1 + size, 1 : 1 + size] = drawn
    return _from_the_corner(board[sizes >= SMALLEST_MAZE])


def _no_mazes(num: int) -> Array:
    return np.full((num, _LARGEST_MAZE + 2, _LARGEST_MAZE + 2), cells.GREY_WALL, np.uint8)


def _from_the_corner(board: Array) -> Sample:
    return Sample(board, np.full(len(board), board.shape[2] + 1))


def our_mazes(sizes: Array, per_theirs: int) -> Sample:
    """Perfect mazes of ours, `per_theirs` for each of `sizes`, seen from Procgen's corner.

    Our goal is anywhere but at the agent, which is anywhere: it is as likely in each cell. Without
    the agent, and where it is not in the corner, it is where Procgen's cheese can be.
    """
    boards = []
    for size in np.unique(sizes[sizes >= SMALLEST_MAZE]).tolist():
        wanted = per_theirs * int((sizes == size).sum())
        env = maze(size=size, layout="kruskal", num_blocks=0)
        # Of the goals at most one in thirteen is in the corner.
        grid = _drawn(env, wanted + wanted // 5 + 20).grid.reshape(-1, size + 2, size + 2)
        part = grid[grid[:, 1, 1] != cells.GREEN_GOAL][:wanted]
        board = _no_mazes(len(part))
        board[:, 1 : 1 + size, 1 : 1 + size] = part[:, 1:-1, 1:-1]
        boards.append(board)
    return _from_the_corner(np.concatenate(boards))


def _drawn(env: Any, num: int) -> Any:
    draw = jax.jit(lambda ids: levels_from_ids(env, ids).levels)
    return jax.tree.map(np.asarray, draw(train_ids(0, jnp.arange(num))))


def family(game: str, mode: str) -> Any:
    """Our environment after Heist, Miner or Chaser."""
    return make(f"{game.title()}-{mode.title()}-v0")


def ours(game: str, mode: str, num: int) -> Sample:
    """`num` levels of our family after Heist, Miner or Chaser."""
    env = family(game, mode)
    levels = _drawn(env, num)
    grid, rows = levels.grid.copy(), np.arange(num)
    letters = _LETTERS[game]
    if game == "miner":
        grid[rows, levels.exit] = letters.index("X")
    elif game == "chaser":
        grid[rows[:, None], levels.enemies] = letters.index("e")
    return Sample(grid.reshape(num, env.side, env.side), levels.position.astype(np.int64))


def as_levels(game: str, sample: Sample) -> Any:
    """A sample as levels of our family, with a first axis."""
    flat = jnp.asarray(sample.grid.reshape(len(sample.grid), -1))
    position = jnp.asarray(sample.position, jnp.int32)
    letters = _LETTERS[game]
    if game == "heist":
        return Board(flat, position)
    if game == "miner":
        is_exit = flat == letters.index("X")
        grid = jnp.where(is_exit, jnp.uint8(letters.index(".")), flat)
        return miner.MinerLevel(grid, position, jnp.argmax(is_exit, axis=1).astype(jnp.int32))
    is_egg = flat == letters.index("e")
    eggs = jnp.argsort(~is_egg, axis=1, stable=True)[:, :_EGGS].astype(jnp.int32)
    grid = jnp.where(is_egg, jnp.uint8(letters.index("o")), flat)
    return chaser.ChaserLevel(grid, position, eggs)


def as_minigrid(game: str, sample: Sample) -> Levels:
    """A sample in MiniGrid's bytes, as `minigrid_statistics` takes it."""
    num = len(sample.grid)
    grid = sample.grid
    if game != "maze":
        table = np.zeros(256, np.uint8)
        for letter, byte in _BYTES[game].items():
            table[_LETTERS[game].index(letter)] = byte
        grid = table[grid]
    zeros = np.zeros(num, np.int64)
    return Levels(grid, sample.position, zeros, zeros, np.zeros((num, 0), np.int64), ())


def goals(game: str, sample: Sample) -> Array:
    """The cells of gem or exit, int `[n]`."""
    code = _LETTERS[game].index("X" if game == "miner" else "G")
    return np.asarray((sample.grid.reshape(len(sample.grid), -1) == code).argmax(1))


def figures(game: str, levels: Levels) -> dict[str, Array]:
    """The figures that the table shows, int `[n]` each, from levels as MiniGrid's."""
    kind = levels.grid >> 3
    num, _, width = kind.shape
    is_open = kind != cells.WALL
    padded = np.pad(is_open, ((0, 0), (1, 1), (1, 1)))
    ways = np.zeros(kind.shape, np.int8)
    for part in (
        padded[:, 2:, 1:-1],
        padded[:, :-2, 1:-1],
        padded[:, 1:-1, 2:],
        padded[:, 1:-1, :-2],
    ):
        ways += part
    flat, rows = kind.reshape(num, -1), np.arange(num)

    def count(*kinds: int) -> Array:
        return np.asarray(np.isin(flat, kinds).sum(1))

    found: dict[str, Array] = {}
    if game != "miner":
        found |= {
            "free cells": is_open.sum((1, 2)),
            "dead ends": (is_open & (ways == 1)).sum((1, 2)),
            "forks and crossings": (is_open & (ways > 2)).sum((1, 2)),
        }
    if game == "chaser":
        colour = levels.grid.reshape(num, -1) & 7
        ball = flat == cells.BALL
        is_egg = ball & (colour == cells.PURPLE)
        steps = walking_distances(is_open, levels.position)
        nearest = np.where(is_egg, steps, np.iinfo(np.int16).max).min(1)
        return found | {
            "large orbs": (ball & (colour == cells.YELLOW)).sum(1),
            "eggs": is_egg.sum(1),
            "walk to the nearest egg": nearest,
        }
    goal = (flat == cells.GOAL).argmax(1)
    if game == "miner":
        x, y = goal % width - levels.position % width, goal // width - levels.position // width
        above = flat[rows, goal - width]
        return {
            "diamonds": count(cells.BALL),
            "boulders": count(cells.LAVA),
            "cells of dirt": count(cells.FLOOR),
            "from the agent to the exit": abs(x) + abs(y),
            "exits below the upper edge": (above == cells.WALL).astype(np.int64),
        }
    steps = walking_distances(is_open, levels.position)
    found["walk to the goal"] = steps[rows, goal]
    found["longest walk"] = steps.max(1)
    if game == "heist":
        across = is_open.any(1)
        found = {"side of the maze": across.sum(1), **found}
        found["doors"] = count(cells.LOCKED_DOOR)
        found["keys"] = count(cells.KEY)
    return found
