"""Procgen's levels beside ours: what is read of a state, boards of both sides, figures, tables."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from xplore.benchmarks import procgen_boards as boards
from xplore.benchmarks import procgen_levels, procgen_play, world_peers
from xplore.envs.minigrid import cells

NO_BODY = [np.nan] * 4
GAMES = ("heist", "miner", "chaser")


def ints(*values):
    return struct.pack(f"<{len(values)}i", *values)


def serialised(grid, bodies):
    """A state as Procgen writes it: what is not read of it is 77."""
    generator = ints(1, 5) + b"a b c"
    body = b"".join(
        struct.pack("<2f", x, y) + ints(*[77] * 4, kind, 77, theme, *[77] * 22)
        for x, y, kind, theme in bodies
    )
    return (
        ints(0, 4)
        + b"game"
        + ints(*[77] * 17)
        + generator * 2
        + ints(*[77] * 4, 500, 31337, *[77] * 9, 77, len(bodies))
        + body
        + ints(*[77] * 19)
        + generator
        + ints(*[77] * 9, grid.shape[1], grid.shape[0], grid.size, *grid.ravel())
        + ints(1, 2, 3)
    )


def test_a_state_is_read():
    grid = np.arange(12).reshape(3, 4) + 40
    data = serialised(grid, [(0.5, 2.5, 0, 0), (3.2, 1.7, 2, 1), (1.1, 0.2, 2, 0)])
    state = procgen_play.read_state(data)
    assert (state.timeout, state.seed) == (500, 31337)
    np.testing.assert_array_equal(state.grid, grid)
    assert state.place.tolist() == [0.5, 2.5]
    assert state.cells(2) == [(1, 0), (3, 1)]  # by their theme
    assert data[state.grid_at : state.grid_at + 4] == ints(40)
    with pytest.raises(ValueError, match="version"):
        procgen_play.read_state(ints(1) + data[4:])


def test_a_way_fetches_the_key_first():
    wall, free = procgen_play.WALL, procgen_play.SPACE
    grid = np.array([[free, free, free, free, free], [wall, wall, wall, wall, wall]])
    bodies = [(1.5, 0.5, 0, 0), (0.4, 0.6, 2, 0), (3.5, 0.5, 1, 0), (4.5, 0.5, 9, 0)]
    state = procgen_play.State(1, 1, grid, np.array(bodies), 0, 0)
    assert [x for x, _ in procgen_play.ways(state, "heist")] == [1, 0, 1, 2, 3, 4]


def drawn(lines, codes, bodies, most=8):
    grid = np.array([[codes[letter] for letter in line] for line in lines])
    padded = np.array([*bodies, *[NO_BODY] * (most - len(bodies))], np.float32)
    return {"grid": grid[None], "bodies": padded[None]}


def theirs(game):
    """A level of Procgen's, drawn by hand, y upwards."""
    if game == "heist":
        bodies = [(0.5, 0.5, 0, 0), (2.5, 0.5, 1, 0), (1.4, 0.6, 2, 0), (4.5, 2.5, 9, 0)]
        lines, codes = ["....#", "####.", "....."], {".": 100, "#": 51}
        return drawn(lines, codes, [*bodies, (0.9, 0.02, 11, 0)])
    if game == "chaser":
        bodies = [(0.5, 0.5, 0, 0), *[(x + 0.5, 2.5, 4, 0) for x in (0, 2, 3)], (4.5, 2.5, 2, 0)]
        return drawn(["ooooo", "o#o#o", "oooo."], {".": 100, "#": 5, "o": 1002}, bodies)
    bodies = [(0.5, 0.5, 0, 0), (4.5, 2.5, 6, 0)]
    codes = {".": 100, ":": 9, "o": 1, "*": 2}
    return drawn([".:::o", ":o*::", "::::."], codes, bodies)


EXPECTED = {
    "heist": "#######\n#@aA.##\n#####.#\n#....G#\n#######",
    "chaser": "#######\n#@oooo#\n#o#o#o#\n#eoeex#\n#######",
    "miner": "#######\n#::::X#\n#:o*::#\n#@:::o#\n#######",
}


@pytest.mark.parametrize("game", GAMES)
def test_levels_of_procgen_are_drawn_as_ours(game):
    sample = boards.theirs(game, theirs(game))
    letters = boards._LETTERS[game]
    text = [letters[code] for code in sample.grid[0].ravel()]
    text[int(sample.position[0])] = "@"
    width = sample.grid.shape[2]
    rows = ["".join(text[i : i + width]) for i in range(0, len(text), width)]
    assert "\n".join(rows) == EXPECTED[game]
    level = boards.as_levels(game, sample)
    if game == "miner":
        assert int(level.exit[0]) == width + 5
    if game == "chaser":
        assert level.enemies.tolist() == [[3 * width + 1, 3 * width + 3, 3 * width + 4]]


def test_the_last_reward_is_paid_where_nothing_is_left():
    last = {
        game: procgen_levels._last_reward(game, boards.family(game, "easy")) for game in GAMES[1:]
    }
    assert last == pytest.approx({"miner": 10.0, "chaser": 10.04})


def test_figures_of_boards_drawn_by_hand():
    found = {
        game: {
            name: value.tolist()
            for name, value in boards.figures(
                game, boards.as_minigrid(game, boards.theirs(game, theirs(game)))
            ).items()
        }
        for game in GAMES
    }
    assert found["heist"] == {
        "side of the maze": [5],
        "free cells": [10],
        "dead ends": [4],
        "forks and crossings": [0],
        "walk to the goal": [-1],
        "longest walk": [3],
        "doors": [1],
        "keys": [1],
    }
    assert found["miner"] == {
        "diamonds": [1],
        "boulders": [2],
        "cells of dirt": [10],
        "from the agent to the exit": [6],
        "exits below the upper edge": [1],
    }
    assert found["chaser"] == {
        "free cells": [13],
        "dead ends": [0],
        "forks and crossings": [2],
        "large orbs": [1],
        "eggs": [3],
        "walk to the nearest egg": [2],
    }


def test_mazes_are_moved_to_one_corner():
    grid = np.full((1, 9, 9), procgen_play.WALL)
    grid[0, 2:7, 2] = grid[0, 6, 2:7] = procgen_play.SPACE
    grid[0, 6, 6] = procgen_play.MAZE_CHEESE
    bodies = np.array([[[2.5, 2.5, 0, 0], NO_BODY]])
    level = {"grid": grid, "bodies": bodies}
    assert boards.maze_sizes(level).tolist() == [5]
    sample = boards.theirs("maze", level)
    assert sample.position.tolist() == [28]
    assert sample.grid[0, 5, 5] == cells.GREEN_GOAL
    figures = boards.figures("maze", boards.as_minigrid("maze", sample))
    assert figures["walk to the goal"].tolist() == [8]


def test_the_table_of_levels():
    figure = {"ours": 4.125, "procgen": 4.0, "p_value": 0.25}
    row = {
        "figures": {"doors": figure, "eggs": {**figure, "p_value": 1.0}},
        "levels_of_ours": 8000,
        "levels_of_procgen": 2000,
        "tests": 100,
        "p_value": 0.001,
        "statistic": "walk",
        "valid_of_procgen": 1.0,
        "fewest_steps_of_ours": [20.0, 18.0],
        "fewest_steps_of_procgen": [21.0, 19.0],
    }
    our = {"limit": 500, "actions": 5, "rewards_at_random": {"10": 3}}
    walk = {"cells": 4, "steps": 6, "reward": 10.0}
    their = {"limit": 1000, "fastest": 0.5, "rewards_at_random": {"0.04": 9}, "walks": [walk]}
    rules = {"heist/easy": [our, their], "heist/hard": [our, their]}
    text = procgen_levels.table({"rules": rules, "levels": {"heist/easy": row}})
    both = "| heist, easy and hard | 500 / 1000 | 5 / 15 | 1 / 0.5 | 1 / 1.5 | 10 | 0.04, 10 |"
    assert both in text
    assert "| heist | doors | 4.12 | 4 | 0.25 | - | - | - |" in text
    assert "| heist, easy | 8,000, 2,000 | 100 | 1.0e-03, walk | 0.1 | 100.0% | 18 / 19 |" in text


def test_the_table_of_speeds():
    def speed(wall, core):
        return {"steps_per_second": wall, "steps_per_core_second": core}

    lines = {
        "Heist-Easy-v0 pixels 64": {
            "xplore": speed(300_000.0, 200_000.0),
            "procgen": speed(60_000.0, 50_000.0),
            "envpool": {"failed": "no Qt"},
        },
        "Heist-Easy-v0 symbols 64": {"xplore": speed(2e6, 1e6)},
    }
    device = {"processor": "some processor", "kind": "cpu", "cores": 2}
    text = world_peers.table({"lines": lines, "environment": {"device": device}})
    ours = "| `Heist-Easy-v0` | pixels | 64 | 0.30M (0.20M) | - | - | 60.0k (50.0k) | - | 5 (4) |"
    assert ours in text
    assert "| `Heist-Easy-v0` | symbols | 64 | 2.00M (1.00M) | - | - | - | - | - |" in text


def test_procgen_is_measured_by_its_own_interpreter():
    called = world_peers.command("procgen", "maze", 64, 3, "/else/python")
    assert called[0] == "/else/python"
    assert called[1].endswith("procgen_play.py")
    assert called[2:] == ["speed", "maze", "64", "3"]
