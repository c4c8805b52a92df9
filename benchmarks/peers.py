"""MiniGrid's speed beside its peers: `python -m xplore.benchmarks.peers results/peers`.

Random actions, auto-reset, the egocentric 7x7 view at every step. Every measurement is a process of
its own, so that no library disturbs another, and the contenders of a line take turns in one run.
Ours draws a new level per env every 128 steps, within what is timed; the others draw one whenever
an episode ends. Needs Python 3.12 and the extra `peers`. Lines already in the folder's `peers.json`
are not measured again.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from xplore.benchmarks.throughput import measure_env_speed, random_actions
from xplore.contracts.registry import list_envs, make
from xplore.contracts.spaces import Discrete
from xplore.record.provenance import environment

NUM_STEPS = 128
_LEAST_STEPS = 16
_MOST_SECONDS = 400  # a contender that takes longer is left out of a line
HEADLINES = (
    "MiniGrid-DoorKey-8x8-v0",
    "MiniGrid-DoorKey-16x16-v0",
    "MiniGrid-FourRooms-v0",
    "MiniGrid-KeyCorridorS3R3-v0",
)
JAX_PEERS = ("navix", "xminigrid")
CONTENDERS = ("xplore", *JAX_PEERS, "envpool", "minigrid")
_XMINIGRID = {
    "MiniGrid-BlockedUnlockPickup-v0": "MiniGrid-BlockedUnlockPickUp",
    "MiniGrid-UnlockPickup-v0": "MiniGrid-UnlockPickUp",
    "MiniGrid-Empty-Random-5x5-v0": "MiniGrid-EmptyRandom-5x5",
    "MiniGrid-Empty-Random-6x6-v0": "MiniGrid-EmptyRandom-6x6",
}

Measured = dict[str, Any]


def measure_xplore(id: str, num_envs: int, repeats: int) -> Measured:
    """Ours, levels drawn anew in each repeat."""
    speed = measure_env_speed(
        make(id), num_envs=num_envs, num_steps=NUM_STEPS, repeats=repeats, fresh=True
    )
    return {
        "steps_per_second": speed.steps_per_second,
        "compile_seconds": speed.compile_seconds,
        "state_bytes": speed.state_bytes,
    }


def measure_navix(id: str, num_envs: int, repeats: int) -> Measured:
    """Navix with its symbolic first-person view."""
    navix: Any = importlib.import_module("navix")
    view = navix.observations.symbolic_first_person
    env = navix.make(id.replace("MiniGrid-", "Navix-"), observation_fn=view)
    num_actions = len(env.action_set)
    return _measure_jax(
        lambda key: jax.vmap(env.reset)(jax.random.split(key, num_envs)),
        jax.vmap(env.step),
        num_actions,
        num_envs,
        repeats,
    )


def measure_xminigrid(id: str, num_envs: int, repeats: int) -> Measured:
    """xland-minigrid with its auto-reset; its view has no channel for the state of a door."""
    xminigrid: Any = importlib.import_module("xminigrid")
    wrappers: Any = importlib.import_module("xminigrid.wrappers")
    env, params = xminigrid.make(_XMINIGRID.get(id, id.removesuffix("-v0")))
    env = wrappers.GymAutoResetWrapper(env)
    return _measure_jax(
        lambda key: jax.vmap(env.reset, (None, 0))(params, jax.random.split(key, num_envs)),
        lambda timestep, action: jax.vmap(env.step, (None, 0, 0))(params, timestep, action),
        env.num_actions(params),
        num_envs,
        repeats,
    )


def peer_steps(num_envs: int) -> int:
    """Steps of each env that a peer is timed over: fewer of many envs, or a line takes minutes.

    A peer draws levels as it steps, so that its speed does not depend on how many there are; ours
    is timed over the whole 128, its levels included.
    """
    return min(NUM_STEPS, max(_LEAST_STEPS, NUM_STEPS * 8192 // num_envs))


def _measure_jax(
    reset: Callable[[Any], Any],
    step: Callable[[Any, Any], Any],
    num_actions: int,
    num_envs: int,
    repeats: int,
) -> Measured:
    num_steps = peer_steps(num_envs)

    def run(key: Any, timestep: Any) -> Any:
        # Drawn as for ours: a draw in each step would cost a peer as much as it would cost us.
        actions = random_actions(key, Discrete(num_actions), (num_steps, num_envs))
        return jax.lax.scan(lambda t, action: (step(t, action), None), timestep, actions)[0]

    begun = time.perf_counter()
    start = jax.jit(reset).lower(jax.random.key(0)).compile()
    timestep = jax.block_until_ready(start(jax.random.key(0)))
    steps = jax.jit(run).lower(jax.random.key(1), timestep).compile()
    compile_seconds = time.perf_counter() - begun
    state_bytes = sum(x.nbytes for x in jax.tree.leaves(timestep.state)) // num_envs
    timestep = jax.block_until_ready(steps(jax.random.key(1), timestep))
    seconds = []
    for i in range(repeats):
        begun = time.perf_counter()
        timestep = jax.block_until_ready(steps(jax.random.key(2 + i), timestep))
        seconds.append(time.perf_counter() - begun)
    return {
        "steps_per_second": num_envs * num_steps / statistics.median(seconds),
        "compile_seconds": compile_seconds,
        "state_bytes": state_bytes,
    }


def measure_envpool(id: str, num_envs: int, repeats: int) -> Measured:
    """Envpool's C++ port, all envs stepped together on all cores."""
    envpool: Any = importlib.import_module("envpool")
    env = envpool.make_gymnasium(id, num_envs=num_envs, num_threads=os.cpu_count())
    num_actions = int(env.action_space.n)
    env.reset()
    key = np.random.default_rng(0)
    seconds = []
    for _ in range(repeats + 1):
        actions = key.integers(num_actions, size=(NUM_STEPS, num_envs)).astype(np.int32)
        begun = time.perf_counter()
        for action in actions:
            env.step(action)
        seconds.append(time.perf_counter() - begun)
    return {"steps_per_second": num_envs * NUM_STEPS / statistics.median(seconds[1:])}


def measure_minigrid(id: str, num_envs: int, repeats: int) -> Measured:
    """The `minigrid` package itself, one env in one process."""
    import gymnasium
    import minigrid  # noqa: F401  (registers its environments)

    env = gymnasium.make(id)
    env.reset(seed=0)
    num_actions = int(env.action_space.n)  # type: ignore[attr-defined]
    key = np.random.default_rng(0)
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        for action in key.integers(num_actions, size=20 * NUM_STEPS):
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        seconds.append(time.perf_counter() - begun)
    return {"steps_per_second": 20 * NUM_STEPS / statistics.median(seconds)}


def shared(id: str, contender: str) -> bool:
    """Whether a contender has an environment of this id, and is installed."""
    if contender == "xplore":
        return True
    if importlib.util.find_spec(contender) is None:
        return False
    if contender == "navix":
        navix: Any = importlib.import_module("navix")
        return id.replace("MiniGrid-", "Navix-") in navix.registry()
    if contender == "xminigrid":
        xminigrid: Any = importlib.import_module("xminigrid")
        name = _XMINIGRID.get(id, id.removesuffix("-v0"))
        return name in xminigrid.registered_environments()
    if contender == "envpool":
        envpool: Any = importlib.import_module("envpool")
        return id in envpool.list_all_envs()
    return True


def in_process(command: list[str], most_seconds: float) -> Measured:
    """What a process of its own measured: the last line that it printed, or why there is none."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=most_seconds,
            env={**os.environ, "JAX_TRACEBACK_FILTERING": "off"},  # the error is the last line
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {most_seconds} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["killed"])[-1][:200]}
    found: Measured = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def medians(rounds: list[Measured]) -> Measured:
    """Of a contender's rounds: medians of those that did not fail, or the last failure."""
    good = [found for found in rounds if "failed" not in found]
    names = good[0] if good else {}
    found = {n: statistics.median(x[n] for x in good) for n in names} or dict(rounds[-1])
    return {**found, "rounds": [x.get("steps_per_second") for x in rounds]}


def shared_with_jax() -> list[str]:
    """Ids of ours that a JAX peer has too."""
    ours = [id for id in list_envs() if id.startswith("MiniGrid-")]
    return [id for id in ours if any(shared(id, peer) for peer in JAX_PEERS)]


def measure_line(
    id: str, num_envs: int, *, rounds: int, repeats: int, among: tuple[str, ...] = CONTENDERS
) -> dict[str, Measured]:
    """The figures of contenders on an id: medians over rounds in which they take turns."""
    contenders = [c for c in CONTENDERS if c in among and shared(id, c)]
    found: dict[str, list[Measured]] = {c: [] for c in contenders}
    for _ in range(rounds):
        for contender in contenders:
            command = [sys.executable, "-m", __spec__.name, "one", contender, id]
            command += [str(num_envs), str(repeats)]
            found[contender].append(in_process(command, _MOST_SECONDS))
    return {contender: medians(rows) for contender, rows in found.items()}


def ratio(line: dict[str, Measured]) -> float | None:
    """Our steps/s over the fastest JAX peer's; None without one."""
    peers = [
        line[p]["steps_per_second"] for p in JAX_PEERS if "steps_per_second" in line.get(p, {})
    ]
    return line["xplore"]["steps_per_second"] / max(peers) if peers else None


def table(measured: dict[str, Any]) -> str:
    """The markdown of what `main` keeps."""
    head = ["environment", "envs", *CONTENDERS, "ours / fastest JAX peer", "compile, s", "bytes"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, line in sorted(measured["lines"].items(), key=lambda x: _order(x[0])):
        id, num_envs = name.rsplit(" ", 1)
        speeds = [_told(line.get(c, {})) for c in CONTENDERS]
        times = ratio(line)
        costs = [
            " / ".join(_number(line[c].get(what), digits) for c in CONTENDERS[:3] if c in line)
            for what, digits in (("compile_seconds", 1), ("state_bytes", 0))
        ]
        row = [f"`{id}`", f"{int(num_envs):,}", *speeds, f"{times:.1f}" if times else "-", *costs]
        lines.append("| " + " | ".join(row) + " |")
    where = measured["environment"]["device"]
    lines += [
        "",
        "Env steps/s with random actions, auto-reset and the 7x7 view, medians of rounds in turn,"
        f" on {where['count']} {where['processor'] or where['kind']} device"
        f" ({where['cores']} cores)."
        " Compile seconds and bytes of state per env: ours / navix / xland-minigrid, where they"
        " have the environment; `minigrid` steps one env in one process.",
    ]
    return "\n".join(lines) + "\n"


def _order(name: str) -> tuple[bool, str, int]:
    id, num_envs = name.rsplit(" ", 1)
    return id not in HEADLINES, id, int(num_envs)


def _told(measured: Measured) -> str:
    """A contender's steps/s, or why there is none."""
    if "not done" in measured.get("failed", ""):
        return f"none in {_MOST_SECONDS} s"
    return short(measured.get("steps_per_second"))


def short(value: float | None) -> str:
    """Steps/s as a table shows them."""
    if value is None:
        return "-"
    return f"{value / 1e6:.2f}M" if value >= 1e5 else f"{value / 1e3:.1f}k"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def main(
    folder: tyro.conf.Positional[Path],
    ids: tuple[str, ...] = HEADLINES,
    num_envs: tuple[int, ...] = (1024,),
    rounds: int = 2,
    repeats: int = 5,
    among: tuple[str, ...] = CONTENDERS,
    all_shared: bool = False,
    seconds: float = math.inf,
) -> None:
    """Measures `ids` with each number of envs; writes `peers.json` and `table.md` into `folder`.

    With `all_shared` every id that a JAX peer has; after `seconds` no further line is begun.
    """
    begun = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "peers.json"
    measured = json.loads(path.read_text()) if path.exists() else {"lines": {}}
    measured["environment"] = environment()
    for id in shared_with_jax() if all_shared else ids:
        for n in num_envs:
            if f"{id} {n}" in measured["lines"] or time.perf_counter() - begun > seconds:
                continue
            line = measure_line(id, n, rounds=rounds, repeats=repeats, among=among)
            measured["lines"][f"{id} {n}"] = line
            path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
            (folder / "table.md").write_text(table(measured), encoding="utf-8")
            speeds = {c: short(m.get("steps_per_second")) for c, m in line.items()}
            print(id, n, speeds, f"ratio {ratio(line) or 0:.1f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        _, _, who, what, n, k = sys.argv
        print(json.dumps(globals()[f"measure_{who}"](what, int(n), int(k))))
    else:
        tyro.cli(main)
