"""Speed over the number of envs, beside what memory allows.

`python -m xplore.benchmarks.scale results/gpu` measures, and writes the table.

Steps with random actions, auto-reset and the egocentric view, as `throughput` times them. The least
that a step must move is its state, read and written, and its observation, written; what the device
copies in the same run says how many such steps it could make.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from xplore.benchmarks.throughput import measure_env_speed
from xplore.contracts.registry import make
from xplore.record.provenance import environment

IDS = ("MiniGrid-DoorKey-8x8-v0",)
_BUFFER_BYTES = 1 << 30


def copy_bandwidth(num_bytes: int = _BUFFER_BYTES, repeats: int = 5) -> float:
    """Bytes per second, read and written, of a copy that changes each byte."""
    words = jnp.zeros(num_bytes // 4, jnp.int32)
    copy = jax.jit(lambda x: jax.lax.fori_loop(0, 8, lambda _, y: y + 1, x)).lower(words).compile()
    jax.block_until_ready(copy(words))
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(copy(words))
        seconds.append(time.perf_counter() - begun)
    return 2 * 8 * words.nbytes / statistics.median(seconds)


def measure(id: str, num_envs: int, repeats: int) -> dict[str, Any]:
    """Steps per second of one number of envs, seconds to compile, bytes that a step must move."""
    steps = 128 if num_envs <= 1 << 18 else 64
    speed = measure_env_speed(make(id), num_envs=num_envs, num_steps=steps, repeats=repeats)
    return {
        "steps_per_second": speed.steps_per_second,
        "compile_seconds": speed.compile_seconds,
        "bytes_moved": 2 * speed.state_bytes + speed.obs_bytes,
    }


def table(measured: dict[str, Any]) -> str:
    """The markdown of what `main` keeps."""
    lines = [
        "| environment | envs | steps/s | limit by memory | of it | compile, s |",
        "|---|---|---|---|---|---|",
    ]
    bandwidth = measured["copy_bytes_per_second"]
    for id, by_envs in measured["lines"].items():
        for num_envs, line in sorted(by_envs.items(), key=lambda x: int(x[0])):
            limit = bandwidth / line["bytes_moved"]
            share = line["steps_per_second"] / limit
            lines.append(
                f"| `{id}` | {int(num_envs):,} | {line['steps_per_second'] / 1e6:,.1f}M |"
                f" {limit / 1e6:,.0f}M | {share:.1%} | {line['compile_seconds']:.1f} |"
            )
    where = measured["environment"]["device"]
    lines += [
        "",
        f"Random actions, auto-reset, the 7x7 view; {where['kind']}, which copies"
        f" {bandwidth / 1e9:,.0f} GB/s, read and written.",
    ]
    return "\n".join(lines) + "\n"


def main(
    folder: tyro.conf.Positional[Path],
    ids: tuple[str, ...] = IDS,
    least: int = 10,
    most: int = 21,
    repeats: int = 5,
) -> None:
    """Measures `ids` with 2^`least` to 2^`most` envs; writes `scale.json` and `table.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    measured: dict[str, Any] = {
        "environment": environment(),
        "copy_bytes_per_second": copy_bandwidth(),
        "lines": {id: {} for id in ids},
    }
    for power in reversed(range(least, most + 1)):  # the most first, should time run out
        for id in ids:
            measured["lines"][id][str(1 << power)] = measure(id, 1 << power, repeats)
            text = json.dumps(measured, indent=1) + "\n"
            (folder / "scale.json").write_text(text, encoding="utf-8")
            (folder / "table.md").write_text(table(measured), encoding="utf-8")
    print(table(measured))


if __name__ == "__main__":
    tyro.cli(main)
