"""The speed table: `python -m xplore.benchmarks.speed results/speed` measures, then writes it.

Each line is the median of its repeats on an otherwise idle machine; `speed.json` keeps every figure
with the machine, the versions and the load it was taken under, and `table.md` is made from it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from xplore.benchmarks.throughput import measure_env_speed
from xplore.benchmarks.training import measure_training_speed
from xplore.contracts.registry import make, make_agent, make_bonus, make_world_sampler
from xplore.loop.config import Config
from xplore.record.provenance import environment

ENVS = (
    "MiniGrid-DoorKey-8x8-v0",
    "MiniGrid-Empty-8x8-v0",
    "MiniGrid-FourRooms-v0",
    "MiniGrid-MultiRoom-N6-v0",
    "DeepSea-10-v0",
    "gymnax/CartPole-v1",
)
# PPO with two 64x64 MLPs on MiniGrid-DoorKey-8x8-v0: 128 steps, 4 epochs of 4 minibatches.
_BASE = {"num_minibatches": 4}
TRAINING: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("MLP, symbols scaled", {"torso": "mlp", "symbols": "scaled"}, "none"),
    (
        "MLP, symbols scaled, ReLU",
        {"torso": "mlp", "symbols": "scaled", "activation": "relu"},
        "none",
    ),
    ("MLP, symbols embedded", {"torso": "mlp", "symbols": "embed"}, "none"),
    ("MLP, symbols one-hot", {"torso": "mlp", "symbols": "one_hot"}, "none"),
    ("MLP, symbols scaled, count", {"torso": "mlp", "symbols": "scaled"}, "count"),
    ("MLP, symbols scaled, RND", {"torso": "mlp", "symbols": "scaled"}, "rnd"),
    ("small CNN, symbols scaled", {"torso": "cnn", "symbols": "scaled"}, "none"),
    ("small CNN, symbols embedded", {"torso": "cnn", "symbols": "embed"}, "none"),
)


def measure(repeats: int = 5) -> dict[str, Any]:
    """Measures every line of the table: `{"envs": ..., "training": ..., "environment": ...}`."""
    envs = {}
    for id in ENVS:
        envs[id] = measure_env_speed(make(id), num_envs=1024, repeats=repeats)._asdict()
        print(id, f"{envs[id]['steps_per_second']:,.0f} steps/s", flush=True)
    training = {}
    for name, options, bonus in TRAINING:
        config = Config(
            env=make("MiniGrid-DoorKey-8x8-v0"),
            agent=make_agent("ppo", **_BASE, **options),
            bonus=make_bonus(bonus),
            worlds=make_world_sampler("fresh"),
            budget_steps=1024 * 128,
            num_envs=1024,
            num_steps=128,
        )
        training[name] = measure_training_speed(config, repeats=repeats)._asdict()
        print(name, f"{training[name]['steps_per_second']:,.0f} steps/s", flush=True)
    return {"envs": envs, "training": training, "environment": environment()}


def table(measured: dict[str, Any]) -> str:
    """The markdown of what `measure` returned."""
    where = measured["environment"]["device"]
    lines = [
        f"Measured with 1,024 envs on {where['count']} {where['processor'] or where['kind']} device"
        f" ({where['cores']} cores), jax"
        f" {measured['environment']['packages']['jax']}.",
        "",
        "| environment alone: random actions, observations, auto-reset | steps/s | state, bytes |"
        " compile, s |",
        "|---|---|---|---|",
    ]
    for id, found in measured["envs"].items():
        lines.append(
            f"| `{id}` | {found['steps_per_second'] / 1e6:.2f}M | {found['state_bytes']} |"
            f" {found['compile_seconds']:.1f} |"
        )
    lines += [
        "",
        "| PPO on `MiniGrid-DoorKey-8x8-v0`, learning included | steps/s | env | act | bonus |"
        " learn | compile, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in measured["training"].items():
        parts = " | ".join(
            f"{found[f'{p}_seconds']:.2f} s" for p in ("env", "act", "bonus", "learn")
        )
        lines.append(
            f"| {name} | {found['steps_per_second'] / 1e3:.0f}k | {parts} |"
            f" {found['compile_seconds']:.1f} |"
        )
    lines += ["", "Seconds of an update of 131,072 steps, each part timed alone."]
    return "\n".join(lines) + "\n"


def main(folder: Path) -> None:
    """Measures and writes `speed.json` and `table.md` into `folder`."""
    measured = measure()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "speed.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(table(measured), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/speed"))
