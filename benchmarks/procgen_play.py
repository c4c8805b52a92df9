"""Procgen's side of two comparisons: levels and rules (`procgen_levels`), speed (`world_peers`).

Of this project it needs nothing, only numpy and the package `procgen-mirror` (Procgen for newer
Pythons), which asks for an older numpy than ours and so for an environment of its own:

    python3.11 -m venv procgen-venv && procgen-venv/bin/pip install procgen-mirror 'numpy<2'
    procgen-venv/bin/python benchmarks/procgen_play.py levels procgen.npz

Levels are read from the serialised state of the games, which holds the exact grid and all bodies.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import struct
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Cell = tuple[int, int]

GAMES: Final = ("maze", "heist", "miner", "chaser")
MODES: Final = ("easy", "hard")
SPACE, WALL = 100, 51  # in grids of all games but Chaser, whose walls are MAZE_WALL
MAZE_CHEESE: Final = 2
DOOR, KEY, GEM = 1, 2, 9  # bodies of Heist
BOULDER, DIAMOND, EXIT, DIRT = 1, 2, 6, 9  # of Miner: the exit is a body, the rest in the grid
LARGE_ORB, EGG, MAZE_WALL, ORB = 2, 4, 5, 1002  # of Chaser: the first two are bodies
PLAYER: Final = 0
NUM_ACTIONS: Final = 15
NOTHING: Final = 4
_STEPS: Final = ((-1, 0), (0, -1), (0, 1), (1, 0))
_BODY: Final = 31  # numbers of four bytes each
_MOST_BODIES: Final = 24
_BATCH: Final = 250
_MOST_STEPS: Final = 1000
_SLACK: Final = 0.1  # of a cell: how far a body may be beside the middle of a corridor


class State(NamedTuple):
    """What is read of a serialised game.

    Attributes:
        timeout: its time limit in steps.
        seed: of its level.
        grid: int `[H, W]`, Procgen's own codes; y grows upwards.
        bodies: float `[k, 4]`: x, y, type, theme.
        grid_at, bodies_at: where both begin in the bytes, to be written over.
    """

    timeout: int
    seed: int
    grid: Array
    bodies: Array
    grid_at: int
    bodies_at: int

    def cells(self, kind: int) -> list[Cell]:
        """The cells of the bodies of a kind, by their theme."""
        found = self.bodies[self.bodies[:, 2] == kind]
        return [(int(x), int(y)) for x, y, *_ in found[np.argsort(found[:, 3], kind="stable")]]

    @property
    def place(self) -> Array:
        """X and y of the player, whose middle is half a cell above its cell's."""
        return self.bodies[self.bodies[:, 2] == PLAYER][0, :2]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def skip(self, numbers: int) -> None:
        self.at += 4 * numbers

    def number(self) -> int:
        self.at += 4
        return int(struct.unpack_from("<i", self._data, self.at - 4)[0])

    def string(self) -> None:
        size = self.number()
        self.at += size

    def generator(self) -> None:
        self.skip(1)
        self.string()

    def array(self, shape: tuple[int, ...], kind: str) -> Array:
        num = int(np.prod(shape))
        self.at += 4 * num
        return np.frombuffer(self._data, kind, num, self.at - 4 * num).reshape(shape)


def read_state(data: bytes) -> State:
    """The serialised state of a game, as version 0 has it (`Game::serialize`).

    Raises:
        ValueError: it is of another version, or does not hold together.
    """
    read = _Reader(data)
    if read.number() != 0:
        raise ValueError("a serialised game of another version than 0")
    read.string()  # the name
    read.skip(9 + 3 + 5)  # options, those of one game, seeds
    read.generator()
    read.generator()
    read.skip(3 + 1)  # reward, done, level complete; action
    timeout, seed = read.number(), read.number()
    read.skip(3 + 3 + 1 + 2)
    read.skip(1)  # the size of the grid, which comes again
    num = read.number()
    bodies_at = read.at
    floats = read.array((num, _BODY), "<f4")
    ints = floats.view("<i4")
    bodies = np.column_stack([floats[:, :2], ints[:, 6], ints[:, 8]])
    read.skip(4 + 7 + 3 + 2 + 3)
    read.generator()
    read.skip(3 + 6)
    width, height, size = read.number(), read.number(), read.number()
    if size != width * height or not 0 < size < 2**12:
        raise ValueError(f"a grid of {size} cells that is {width} x {height}")
    grid_at = read.at
    grid = read.array((height, width), "<i4")
    return State(timeout, seed, grid, bodies, grid_at, bodies_at)


def make(game: str, mode: str, num: int, seed: int, **options: Any) -> Any:
    """`num` envs of a game with all levels, in plain pictures."""
    procgen: Any = importlib.import_module("procgen")
    return procgen.ProcgenGym3Env(
        num=num,
        env_name=game,
        distribution_mode=mode,
        rand_seed=seed,
        use_backgrounds=False,
        restrict_themes=True,
        num_threads=os.cpu_count() or 1,
        **options,
    )


def states(env: Any) -> list[State]:
    """The states of all envs."""
    return [read_state(data) for data in env.get_state()]


def draw(game: str, mode: str, num: int) -> dict[str, Array]:
    """Fresh levels: `grid` int16 `[n, H, W]`, `bodies` float32 `[n, 24, 4]`, NaN where none is."""
    grids, bodies = [], []
    for first in range(0, num, _BATCH):
        env = make(game, mode, min(_BATCH, num - first), seed=1 + first)
        env.observe()
        for state in states(env):
            grids.append(state.grid.astype(np.int16))
            padded = np.full((_MOST_BODIES, 4), np.nan, np.float32)
            padded[: len(state.bodies)] = state.bodies
            bodies.append(padded)
        env.close()
    return {"grid": np.stack(grids), "bodies": np.stack(bodies)}


def ways(state: State, game: str) -> list[Cell]:
    """Cells from the player's to the goal, in the fewest steps from cell to cell."""
    height, width = state.grid.shape
    wall = {(int(x), int(y)) for y, x in np.argwhere(state.grid == WALL)}
    keys = {cell: i for i, cell in enumerate(state.cells(KEY))} if game == "heist" else {}
    doors = {cell: i for i, cell in enumerate(state.cells(DOOR))} if game == "heist" else {}
    if game == "maze":
        goal = tuple(int(x) for x in np.argwhere(state.grid == MAZE_CHEESE)[0][::-1])
    else:
        goal = state.cells(GEM if game == "heist" else EXIT)[0]
    x, y = state.place
    start = ((int(x), int(y)), 0)
    before: dict[tuple[Cell, int], tuple[Cell, int] | None] = {start: None}
    queue: deque[tuple[Cell, int]] = deque([start])
    while queue:
        here = (x, y), bag = queue.popleft()
        if (x, y) == goal:
            way, at = [], before[here]
            while at is not None:
                way.append(at[0])
                at = before[at]
            return [*way[::-1], (x, y)]
        for dx, dy in _STEPS:
            there = (x + dx, y + dy)
            inside = 0 <= there[0] < width and 0 <= there[1] < height
            locked = there in doors and not bag >> doors[there] & 1
            after = (there, bag | 1 << keys[there] if there in keys else bag)
            if inside and there not in wall and not locked and after not in before:
                before[after] = here
                queue.append(after)
    raise ValueError(f"a level of {game} without a way to the goal")


def walk(game: str, mode: str, seed: int) -> dict[str, float]:
    """Walks to the goal of one level along a shortest way: its cells, steps taken, the reward.

    In Miner through dirt alone: diamonds and boulders are taken out of the level before.
    """
    env = make(game, mode, 1, seed)
    env.observe()
    if game == "miner":
        _only_dirt(env)
    way = ways(states(env)[0], game)
    at, steps, total = 0, 0, 0.0
    while steps < _MOST_STEPS:
        place = states(env)[0].place
        here = (int(place[0]), int(place[1]))
        at = next((i for i in range(at, min(at + 3, len(way))) if way[i] == here), at)
        env.act(np.array([_towards(way, at, place, grid_step=game != "heist")]))
        reward, _, first = env.observe()
        steps, total = steps + 1, total + float(reward[0])
        if first[0]:
            break
    env.close()
    return {"cells": len(way) - 1, "steps": steps, "reward": total}


def _towards(way: list[Cell], at: int, place: Array, *, grid_step: bool) -> int:
    """The action that leads on along a way from its cell number `at`.

    Bodies that go by parts of a cell slip into a turn where they press towards it early.
    """
    (x, y), (to_x, to_y) = way[at], way[min(at + 1, len(way) - 1)]
    press = np.array([to_x - x, to_y - y])
    if not grid_step:
        off = np.array([x, y]) + 0.5 - place
        if at + 2 < len(way) and not np.any(press * (np.array(way[at + 2]) - way[at + 1])):
            press = press + np.array(way[at + 2]) - way[at + 1]
        press = np.where((press == 0) & (abs(off) > _SLACK), np.sign(off), press)
    across, up = np.clip(press, -1, 1).astype(int)
    return int(3 * (across + 1) + up + 1)


def _only_dirt(env: Any) -> None:
    data = bytearray(env.get_state()[0])
    state = read_state(bytes(data))
    grid = np.where(np.isin(state.grid, (DIAMOND, BOULDER)), DIRT, state.grid).astype("<i4")
    data[state.grid_at : state.grid_at + grid.nbytes] = grid.tobytes()
    env.set_state([bytes(data)])


def last_orb(mode: str, seed: int) -> float:
    """The reward of the last orb of a level of Chaser: the player stands on it at the start."""
    env = make("chaser", mode, 1, seed)
    env.observe()
    data = bytearray(env.get_state()[0])
    # The numbers at the end: orbs of the level, orbs eaten, the maze's size, a mark.
    (total,) = struct.unpack_from("<i", data, len(data) - 16)
    struct.pack_into("<i", data, len(data) - 12, total - 1)
    env.set_state([bytes(data)])
    env.act(np.array([NOTHING]))
    reward, _, first = env.observe()
    env.close()
    return float(reward[0]) if first[0] else 0.0


def rules(game: str, mode: str, num_walks: int) -> dict[str, Any]:
    """The time limit, rewards, speed and ends of episodes, as the game states and shows them."""
    env = make(game, mode, 64, seed=7)
    env.observe()
    limit = states(env)[0].timeout
    key = np.random.default_rng(0)
    rewards: dict[str, int] = {}
    fastest = 0.0
    before = [state.place for state in states(env)]
    for step, action in enumerate(np.repeat(key.integers(NUM_ACTIONS, size=(150, 64)), 4, 0)):
        env.act(action)
        reward, _, first = env.observe()
        for value in reward[reward != 0]:
            rewards[f"{value:.2f}"] = rewards.get(f"{value:.2f}", 0) + 1
        if step < 60:
            now = [state.place for state in states(env)]
            moved = abs(np.stack(now) - np.stack(before)).max(1)[~first]
            fastest, before = max(fastest, float(moved.max())), now
    env.close()
    found: dict[str, Any] = {"limit": limit, "rewards_at_random": rewards, "fastest": fastest}
    if game in ("maze", "heist", "miner"):
        found["walks"] = [walk(game, mode, seed) for seed in range(1, num_walks + 1)]
    if game in ("maze", "heist"):
        found["idle_steps"] = _idle(game, mode, limit)
    if game == "chaser":
        found["last_orb"] = last_orb(mode, 1)
    return found


def _idle(game: str, mode: str, limit: int) -> int:
    """Steps until an episode ends in which nothing is done."""
    env = make(game, mode, 1, seed=3)
    env.observe()
    steps, over = 0, False
    while not over and steps < 2 * limit:
        env.act(np.array([NOTHING]))
        steps, over = steps + 1, bool(env.observe()[2][0])
    env.close()
    return steps


def speed(game: str, num_envs: int, repeats: int, num_steps: int = 128) -> dict[str, float]:
    """Env steps per second with random actions, the easy mode, pictures as they are by default."""
    procgen: Any = importlib.import_module("procgen")
    env = procgen.ProcgenGym3Env(
        num=num_envs,
        env_name=game,
        distribution_mode="easy",
        rand_seed=0,
        num_threads=os.cpu_count() or 1,
    )
    env.observe()
    key = np.random.default_rng(0)
    seconds, core_seconds = [], []
    for _ in range(repeats + 1):
        actions = key.integers(NUM_ACTIONS, size=(num_steps, num_envs)).astype(np.int32)
        begun, core_begun = time.perf_counter(), time.process_time()
        for action in actions:
            env.act(action)
            env.observe()
        seconds.append(time.perf_counter() - begun)
        core_seconds.append(time.process_time() - core_begun)
    num = num_envs * num_steps
    return {
        "steps_per_second": num / statistics.median(seconds[1:]),
        "steps_per_core_second": num / statistics.median(core_seconds[1:]),
    }


def main(arguments: list[str]) -> None:
    """`levels FILE` writes levels and rules, `speed GAME ENVS REPEATS` prints a figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    levels = commands.add_parser("levels")
    levels.add_argument("file", type=Path)
    levels.add_argument("--levels", type=int, default=2000)
    levels.add_argument("--walks", type=int, default=32)
    timed = commands.add_parser("speed")
    timed.add_argument("game", choices=GAMES)
    timed.add_argument("num_envs", type=int)
    timed.add_argument("repeats", type=int)
    asked = parser.parse_args(arguments)
    if asked.command == "speed":
        print(json.dumps(speed(asked.game, asked.num_envs, asked.repeats)))
        return
    arrays: dict[str, Any] = {}
    facts: dict[str, Any] = {"procgen": _version()}
    for game in GAMES:
        for mode in MODES:
            name = f"{game}/{mode}"
            drawn = draw(game, mode, asked.levels)
            arrays |= {f"{name}/{what}": array for what, array in drawn.items()}
            facts[name] = rules(game, mode, asked.walks)
            print(name, drawn["grid"].shape, facts[name], flush=True)
    np.savez_compressed(asked.file, facts=json.dumps(facts), **arrays)


def _version() -> str:
    metadata = importlib.import_module("importlib.metadata")
    return f"procgen-mirror {metadata.version('procgen-mirror')}"


if __name__ == "__main__":
    main(sys.argv[1:])
