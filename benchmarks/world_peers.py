"""Families of levels beside their peers: `python -m xplore.benchmarks.world_peers FOLDER`.

Env steps/s with random actions and auto-reset, every observation made: the maze of environment
design beside jaxued's, with its 5 x 5 view; perfect mazes and Heist, in symbols and in pictures of
64 x 64, beside Procgen's C++ games (`procgen-mirror`) and envpool's. Each measurement is a process
of its own, and the contenders of a line take turns. Ours draws a level per env every 128 steps,
within what is timed; jaxued either goes back to the same level or draws one at every step of every
env, as its two wrappers do; the C++ games draw one when an episode ends. Figures are by the clock
and in processor time, summed over the cores.

Needs Python 3.12, the extra `peers`, jaxued (`pip install --no-deps jaxued`) and, for Procgen, an
environment of its own: `--pythons procgen PATH/bin/python` (see `procgen_play`). A line that is in
`world_peers.json` already is not measured again.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import numpy as np
import tyro

from xplore.benchmarks import procgen_play
from xplore.benchmarks.families import looks
from xplore.benchmarks.peers import Measured, in_process, medians, short
from xplore.benchmarks.throughput import measure_env_speed, random_actions
from xplore.contracts.registry import make
from xplore.contracts.spaces import Discrete
from xplore.record.provenance import environment

NUM_STEPS: Final = 128
_MOST_SECONDS: Final = 300


class Line(NamedTuple):
    """A line of the table.

    Attributes:
        id: of ours.
        look: "symbols" or "pixels".
        peers: contenders beside ours, and what each of them steps.
    """

    id: str
    look: str
    peers: dict[str, str]


_PROCGEN_MAZE = {"procgen": "maze", "envpool": "MazeEasy-v0"}
_PROCGEN_HEIST = {"procgen": "heist", "envpool": "HeistEasy-v0"}
_JAXUED = {"jaxued, same level": "replay", "jaxued, new level": "reset"}
LINES: Final = (
    Line("Maze-Blocks-13x13-v0", "symbols", _JAXUED),
    Line("Maze-Perfect-13x13-v0", "symbols", {}),
    Line("Maze-Perfect-13x13-v0", "pixels", _PROCGEN_MAZE),
    Line("Heist-Easy-v0", "symbols", {}),
    Line("Heist-Easy-v0", "pixels", _PROCGEN_HEIST),
)
CONTENDERS: Final = ("xplore", *_JAXUED, "procgen", "envpool")


def measure_xplore(what: str, num_envs: int, repeats: int) -> Measured:
    """Ours; `what` is an id and a look."""
    id, look = what.split()
    env = looks(make(id))[look]
    speed = measure_env_speed(
        env, num_envs=num_envs, num_steps=NUM_STEPS, repeats=repeats, fresh=True
    )
    return {
        "steps_per_second": speed.steps_per_second,
        "steps_per_core_second": speed.steps_per_core_second,
        "compile_seconds": speed.compile_seconds,
        "state_bytes": speed.state_bytes,
    }


def measure_jaxued(what: str, num_envs: int, repeats: int) -> Measured:
    """Jaxued's Maze of 13 x 13 with 60 walls; `what` is "replay" or "reset", its wrappers."""
    # It was written for a JAX that still had this name.
    jax.tree_map = jax.tree.map  # type: ignore[attr-defined]
    maze: Any = importlib.import_module("jaxued.environments.maze")
    util: Any = importlib.import_module("jaxued.environments.maze.util")
    wrappers: Any = importlib.import_module("jaxued.wrappers")
    draw = util.make_level_generator(13, 13, 60)
    bare = maze.Maze(max_height=13, max_width=13, agent_view_size=5)
    if what == "reset":
        env = wrappers.AutoResetWrapper(bare, draw)
    else:
        env = wrappers.AutoReplayWrapper(bare)
    params = env.default_params
    num_actions = env.action_space(params).n

    # Its states hold keys of the old kind.
    def reset(key: jax.Array) -> Any:
        levels = jax.vmap(draw)(jax.random.split(key, num_envs))
        keys = jax.random.split(key, num_envs)
        return jax.vmap(env.reset_to_level, (0, 0, None))(keys, levels, params)

    def run(key: jax.Array, carry: Any) -> Any:
        typed = jax.random.wrap_key_data(key)
        actions = random_actions(typed, Discrete(num_actions), (NUM_STEPS, num_envs))

        def step(carry: Any, now: Any) -> Any:
            (_, state), (key, action) = carry, now
            keys = jax.random.split(key, num_envs)
            found = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)
            return found[:2], None

        return jax.lax.scan(step, carry, (jax.random.split(key, NUM_STEPS), actions))[0]

    begun = time.perf_counter()
    carry = jax.block_until_ready(jax.jit(reset)(jax.random.PRNGKey(0)))
    steps = jax.jit(run).lower(jax.random.PRNGKey(1), carry).compile()
    compile_seconds = time.perf_counter() - begun
    carry = jax.block_until_ready(steps(jax.random.PRNGKey(1), carry))
    times = []
    for i in range(repeats):
        clocks = time.perf_counter(), time.process_time()
        carry = jax.block_until_ready(steps(jax.random.PRNGKey(2 + i), carry))
        times.append(_since(*clocks))
    return {
        **_rates(times, num_envs),
        "compile_seconds": compile_seconds,
        "state_bytes": sum(x.nbytes for x in jax.tree.leaves(carry[1])) // num_envs,
    }


def measure_envpool(what: str, num_envs: int, repeats: int) -> Measured:
    """Envpool's build of Procgen, all envs stepped together on all cores."""
    envpool: Any = importlib.import_module("envpool")
    env = envpool.make_gymnasium(what, num_envs=num_envs, num_threads=os.cpu_count())
    num_actions = int(env.action_space.n)
    env.reset()
    key = np.random.default_rng(0)
    times = []
    for _ in range(repeats + 1):
        actions = key.integers(num_actions, size=(NUM_STEPS, num_envs)).astype(np.int32)
        begun = time.perf_counter(), time.process_time()
        for action in actions:
            env.step(action)
        times.append(_since(*begun))
    return _rates(times[1:], num_envs)


def _since(wall: float, cores: float) -> tuple[float, float]:
    return time.perf_counter() - wall, time.process_time() - cores


def _rates(times: list[tuple[float, float]], num_envs: int) -> Measured:
    """Of repeats of `NUM_STEPS` steps, each timed by the clock and in processor time."""
    wall, cores = (statistics.median(x) for x in zip(*times, strict=True))
    num = num_envs * NUM_STEPS
    return {"steps_per_second": num / wall, "steps_per_core_second": num / cores}


def command(contender: str, what: str, num_envs: int, repeats: int, python: str) -> list[str]:
    """The process that measures a contender; Procgen's needs nothing of ours."""
    numbers = [str(num_envs), str(repeats)]
    if contender == "procgen":
        return [python, procgen_play.__file__, "speed", what, *numbers]
    return [python, "-m", __spec__.name, "one", contender.split(",")[0], what, *numbers]


def measure_line(
    line: Line, num_envs: int, rounds: int, repeats: int, pythons: dict[str, str]
) -> dict[str, Measured]:
    """The figures of a line's contenders: medians over rounds in which they take turns."""
    who = {"xplore": f"{line.id} {line.look}", **line.peers}
    rows: dict[str, list[Measured]] = {contender: [] for contender in who}
    for _ in range(rounds):
        for contender, what in who.items():
            python = pythons.get(contender.split(",")[0], sys.executable)
            called = command(contender, what, num_envs, repeats, python)
            rows[contender].append(in_process(called, _MOST_SECONDS))
    return {contender: medians(measured) for contender, measured in rows.items()}


def table(measured: dict[str, Any]) -> str:
    """The markdown of what `main` keeps."""
    head = ["family", "seen as", "envs", *CONTENDERS, "ours / fastest peer"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, line in measured["lines"].items():
        id, look, num_envs = name.split()
        cells, times = [], []
        for rate in ("steps_per_second", "steps_per_core_second"):
            speeds = {c: line.get(c, {}).get(rate) for c in CONTENDERS}
            peers = [speed for c, speed in speeds.items() if speed and c != "xplore"]
            cells.append([short(speed) for speed in speeds.values()])
            times.append(f"{speeds['xplore'] / max(peers):.2g}" if peers else "-")
        both = [f"{a} ({b})" if a != "-" else "-" for a, b in zip(*cells, strict=True)]
        faster = f"{times[0]} ({times[1]})" if times[0] != "-" else "-"
        row = [f"`{id}`", look, f"{int(num_envs):,}", *both, faster]
        lines.append("| " + " | ".join(row) + " |")
    where = measured["environment"]["device"]
    lines += [
        "",
        "Env steps/s by the clock, and in brackets per second of processor time, which holds where"
        " a machine is shared: medians of rounds in turn, on one"
        f" {where['processor'] or where['kind']} ({where['cores']} cores).",
    ]
    return "\n".join(lines) + "\n"


def main(
    folder: tyro.conf.Positional[Path],
    num_envs: tuple[int, ...] = (64, 1024),
    rounds: int = 2,
    repeats: int = 5,
    pythons: dict[str, str] | None = None,
) -> None:
    """Measures what is not there yet; writes `world_peers.json` and `table.md` into `folder`.

    Args:
        folder: of the results.
        num_envs: in parallel.
        rounds: in which contenders take turns.
        repeats: of each measurement.
        pythons: the interpreter of a contender, where it is another than this one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "world_peers.json"
    measured = json.loads(path.read_text()) if path.exists() else {"lines": {}}
    measured["environment"] = environment()
    for line in LINES:
        for n in num_envs:
            name = f"{line.id} {line.look} {n}"
            if name in measured["lines"]:
                continue
            found = measure_line(line, n, rounds, repeats, pythons or {})
            measured["lines"][name] = found
            path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
            (folder / "table.md").write_text(table(measured), encoding="utf-8")
            told = {c: m.get("failed") or short(m["steps_per_second"]) for c, m in found.items()}
            print(name, told, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        _, _, who, what, n, k = sys.argv
        print(json.dumps(globals()[f"measure_{who}"](what, int(n), int(k))))
    else:
        tyro.cli(main)
