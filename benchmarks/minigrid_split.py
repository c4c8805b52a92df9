"""Where a MiniGrid step goes: `python -m xplore.benchmarks.minigrid_split results/split`.

Programs that do more and more of a step, up to the whole of what `throughput` times, each timed in
turn; a part costs what its program takes beyond the one before it, so that parts add up to the
whole, and one that lets the compiler do better can cost less than nothing. The least that memory
traffic allows is what a step must read and write over the speed at which the machine copies, taken
in the same run: from memory, and from a buffer as large as what all envs hold.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from xplore.benchmarks.throughput import next_starts, random_actions, sample_starts
from xplore.contracts.registry import make
from xplore.contracts.types import PyTree
from xplore.envs.minigrid.observation import View
from xplore.record.provenance import environment

NUM_STEPS = 128
IDS = ("MiniGrid-KeyCorridorS3R3-v0", "MiniGrid-DoorKey-8x8-v0", "MiniGrid-DoorKey-16x16-v0")
# Each does what those above it do, and more; the view is None where nothing is observed.
PARTS: dict[str, tuple[str, View | None]] = {
    "random actions": ("actions", None),
    "dynamics": ("steps", None),
    "reset of states": ("reset", None),
    "crop": ("reset", View(image="compact", see_through_walls=True)),
    "visibility": ("reset", View(image="compact")),
    "decoding": ("reset", View()),
    "reset of observations": ("all", View()),
}
_Program = Callable[[Any, Any, Any], Any]


def measure(id: str, num_envs: int, repeats: int) -> dict[str, Any]:
    """Nanoseconds per env step of each program, and what memory traffic would allow."""
    programs, args = {}, {}
    for name, (what, view) in PARTS.items():
        env = make(id, view=view or View())
        starts = jax.jit(lambda key, env=env: sample_starts(env, key, num_envs))(jax.random.key(0))
        run = jax.jit(_program(env, what, view is not None, num_envs))
        args[name] = ((*starts, jnp.int32(0), jnp.float32(0)), starts)
        programs[name] = run.lower(jax.random.key(1), *args[name]).compile()
    state, obs = args["reset of observations"][1]
    moved = 2 * _bytes(state) + _bytes(obs)
    copies = {"memory": _copier(1 << 28), "as much as the envs hold": _copier(moved // 2)}
    times: dict[str, list[float]] = {name: [] for name in (*programs, *copies)}
    for i in range(repeats + 1):
        for name, program in programs.items():
            seconds = _seconds(program, jax.random.key(i), *args[name])
            times[name].append(seconds / (NUM_STEPS * num_envs))
        for name, (copy, buffer, count) in copies.items():
            # Read once, written once.
            times[name].append(2 * buffer.nbytes * count / _seconds(copy, buffer))
    median = {name: statistics.median(values[1:]) for name, values in times.items()}
    return {
        "nanoseconds": {name: 1e9 * median[name] for name in programs},
        "bytes_moved": moved / num_envs,
        "copy_bytes_per_second": {name: median[name] for name in copies},
    }


def _program(env: Any, what: str, with_obs: bool, num_envs: int) -> _Program:
    def run(key: Any, carry: Any, starts: Any) -> Any:
        actions = random_actions(key, env.spec().action, (NUM_STEPS, num_envs))

        def one_step(carry: Any, action: Any) -> tuple[Any, None]:
            state, obs, used, reward = carry
            if what == "actions":
                return (state, obs, used + jnp.sum(action), reward), None
            after, ts = jax.vmap(env.step, (None, 0, 0))(key, state, action)
            found, wanted = (after, ts.obs), starts
            if what == "all":
                found, used = next_starts(ts.terminated | ts.truncated, wanted, found, used)
            elif what == "reset":
                ended = ts.terminated | ts.truncated
                state, used = next_starts(ended, wanted[0], found[0], used)
                found = (state, ts.obs)
            state, seen = found
            return (state, seen if with_obs else obs, used, reward + jnp.sum(ts.reward)), None

        return jax.lax.scan(one_step, carry, actions)[0]

    return run


def _copier(num_bytes: int) -> tuple[Any, jax.Array, int]:
    buffer = jnp.zeros(num_bytes, jnp.uint8)
    count = max(1, (1 << 30) // num_bytes)
    # To add is to read and to write all of it; a copy that changes nothing is left out.
    copy = jax.jit(lambda x: jax.lax.fori_loop(0, count, lambda _, y: y + jnp.uint8(1), x))
    return copy.lower(buffer).compile(), buffer, count


def _seconds(program: Any, *args: Any) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(program(*args))
    return time.perf_counter() - begun


def _bytes(tree: PyTree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def table(measured: dict[str, Any]) -> str:
    """The markdown of what `main` keeps."""
    head = ["environment", "envs", *PARTS, "whole", "bytes moved", "limit by memory", "in cache"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, line in measured["lines"].items():
        id, num_envs = name.rsplit(" ", 1)
        spent = [line["nanoseconds"][part] for part in PARTS]
        parts = [b - a for a, b in zip([0.0, *spent], spent, strict=False)]
        limits = [1e9 * line["bytes_moved"] / x for x in line["copy_bytes_per_second"].values()]
        row = [f"`{id}`", f"{int(num_envs):,}", *(f"{x:.1f}" for x in (*parts, spent[-1]))]
        row += [f"{line['bytes_moved']:.0f}", *(f"{x:.1f} ({spent[-1] / x:.0f}x)" for x in limits)]
        lines.append("| " + " | ".join(row) + " |")
    where = measured["environment"]["device"]
    lines += [
        "",
        "Nanoseconds per env step, of programs each of which does one part more; bytes that a step"
        " must move (the state read and written, the observation written), and the nanoseconds that"
        " the machine takes to copy as many from memory, and from a buffer as large as what all"
        f" envs hold, with how many times that the whole is."
        f" {where['processor'] or where['kind']}, {where['cores']} cores.",
    ]
    return "\n".join(lines) + "\n"


def main(
    folder: tyro.conf.Positional[Path],
    ids: tuple[str, ...] = IDS,
    num_envs: tuple[int, ...] = (1024, 16384),
    repeats: int = 5,
) -> None:
    """Measures `ids` with each number of envs; writes `split.json` and `table.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "split.json"
    measured = json.loads(path.read_text()) if path.exists() else {"lines": {}}
    measured["environment"] = environment()
    for id in ids:
        for n in num_envs:
            if f"{id} {n}" not in measured["lines"]:
                measured["lines"][f"{id} {n}"] = measure(id, n, repeats)
                path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(table(measured), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
