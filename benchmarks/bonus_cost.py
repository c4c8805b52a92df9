"""What every bonus costs: `python -m xplore.benchmarks.bonus_cost results/bonus-cost`.

PPO learns MiniGrid-DoorKey-8x8-v0 with every registered bonus in turn, all at their defaults. PPO
alone takes turns with each of them in one process, update by update, so that a machine that slows
down slows both; what is lost is the median over these pairs. `bonus_cost.json` keeps every figure,
`table.md` is made from it. A bonus that is there already is not measured again unless its options
changed.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro

from xplore.contracts.component import replace, to_json
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import list_bonuses, make, make_agent, make_bonus, make_world_sampler
from xplore.contracts.types import Key, PyTree
from xplore.loop.config import Config
from xplore.loop.update import make_train
from xplore.measure.flops import count_flops
from xplore.parts.fitting import Fitted
from xplore.record.provenance import environment

ENV = "MiniGrid-DoorKey-8x8-v0"
ALONE = "none"
ROUNDS = 15
_WARM_UP = 2
_QUARTILES = (0.25, 0.5, 0.75)
_LIMIT = 0.35  # what a bonus with one network may cost

Measured = dict[str, Any]


class StateBytes(NamedTuple):
    """Bytes of a state: those that each env adds, and those that all envs share."""

    per_env: int
    shared: int


def config_of(
    bonus: str, *, num_envs: int = 256, num_steps: int = 128, agent: str = "ppo", env: str = ENV
) -> Config:
    """The run that a bonus is measured in."""
    return Config(
        env=make(env),
        agent=make_agent(agent),
        bonus=make_bonus(bonus),
        worlds=make_world_sampler("fresh"),
        budget_steps=num_envs * num_steps,
        num_envs=num_envs,
        num_steps=num_steps,
    )


def state_bytes(init: Callable[[int, Key], PyTree], num_envs: int) -> StateBytes:
    """Tells apart what grows with the number of envs, by shapes alone: nothing is computed.

    Args:
        init: makes the state for a number of envs from a key.
        num_envs: at which it is measured; a state grows in proportion to it from there on.
    """

    def total(num_envs: int) -> int:
        state = jax.eval_shape(lambda key: init(num_envs, key), jax.random.key(0))
        return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state))

    one, two = total(num_envs), total(2 * num_envs)
    per_env = (two - one) // num_envs
    return StateBytes(per_env, one - per_env * num_envs)


def state_bytes_of_run(config: Config) -> StateBytes:
    """Of the whole training state: envs, agent, bonus, worlds."""

    def init(num_envs: int, key: Key) -> PyTree:
        steps = num_envs * config.num_steps
        return make_train(replace(config, num_envs=num_envs, budget_steps=steps)).init(key)

    return state_bytes(init, config.num_envs)


def state_bytes_of_bonus(config: Config) -> StateBytes:
    """Of the bonus alone."""
    bonus, spec = config.bonus, config.run_spec()
    return state_bytes(lambda n, key: bonus.init(key, spec._replace(num_envs=n)), config.num_envs)


def num_fitted(state: PyTree) -> int:
    """How many sets of parameters a state has, each with an optimiser of its own, used or not.

    A network with several outputs, an encoder with the models that train it, and an ensemble whose
    heads are one array count once.
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Fitted))
    return sum(isinstance(node, Fitted) for node in nodes)


class Run:
    """A compiled update, and the state from which it goes on.

    Attributes:
        config: what is run.
        state: after the last update.
        flops_per_step: of a whole update, per env step.
        compile_seconds: of one update.
    """

    def __init__(self, config: Config) -> None:
        """Compiles, and warms up.

        Raises:
            ConfigError: the bonus is not for this environment.
        """
        pure = make_train(config)
        self.config = config
        self.state = jax.jit(pure.init)(jax.random.key(0))
        update = jax.jit(pure.update)
        self.flops_per_step = count_flops(update, self.state) / config.steps_per_update
        begun = time.perf_counter()
        self._update = update.lower(self.state).compile()
        self.compile_seconds = time.perf_counter() - begun
        for _ in range(_WARM_UP):
            self.seconds()

    def seconds(self) -> float:
        """Of the next update."""
        begun = time.perf_counter()
        self.state, _ = jax.block_until_ready(self._update(self.state))
        return time.perf_counter() - begun


def measure_line(alone: Run, run: Run, *, rounds: int = ROUNDS) -> Measured:
    """The figures of a bonus, `alone` being the same run without one."""
    bonus, steps = run.config.bonus, run.config.steps_per_update
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for taken, one in zip(times, (alone, run), strict=True):
            taken.append(one.seconds())
    seconds_alone, seconds = map(statistics.median, times)
    per_env, shared = state_bytes_of_bonus(run.config)
    return {
        "options": to_json(bonus),
        "reads": list(bonus.reads()),
        "fitted": num_fitted(run.state.bonus),
        "steps_per_second": steps / seconds,
        "alone_steps_per_second": steps / seconds_alone,
        "flops_per_step": run.flops_per_step - alone.flops_per_step,
        "state_bytes_per_env": per_env,
        "state_bytes_shared": shared,
        "compile_seconds": run.compile_seconds,
        "seconds": times[1],
        "alone_seconds": times[0],
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan,
    }


def lost(line: Measured) -> tuple[float, float, float]:
    """The share of PPO's throughput that is lost: quartile, median, quartile over the rounds."""
    pairs = zip(line["alone_seconds"], line["seconds"], strict=True)
    low, middle, high = np.quantile([1.0 - alone / taken for alone, taken in pairs], _QUARTILES)
    return float(low), float(middle), float(high)


def describe_alone(alone: Run) -> Measured:
    """What PPO without a bonus takes."""
    per_env, shared = state_bytes_of_run(alone.config)
    return {
        "flops_per_step": alone.flops_per_step,
        "state_bytes_per_env": per_env,
        "state_bytes_shared": shared,
        "compile_seconds": alone.compile_seconds,
    }


def table(measured: Measured) -> str:
    """The markdown of what `main` keeps, the dearest bonus last."""
    lines = {id: line for id, line in measured["lines"].items() if "failed" not in line}
    lines = dict(sorted(lines.items(), key=lambda x: lost(x[1])[1]))
    head = [
        "bonus", "reads", "networks", "steps/s", "PPO alone", "lost [quartiles]",
        "FLOPs per env step", "bytes per env", "bytes shared",
    ]  # fmt: skip
    alone = [x["alone_steps_per_second"] for x in lines.values()]
    speed = f"{statistics.median(alone) / 1e3:.0f}k" if alone else "-"
    cells = [["PPO alone", "-", "-", speed, speed, "-", *_sizes(measured["alone"])]]
    cells += [_cells(id, line) for id, line in lines.items()]
    where = measured["environment"]["device"]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    rows += ["| " + " | ".join(row) + " |" for row in cells]
    rows += [
        "",
        f"PPO with {measured['num_envs']} envs of {measured['num_steps']} steps on"
        f" `{measured['env']}`, learning included, on {where['count']}"
        f" {where['processor'] or where['kind']} device ({where['cores']} cores): medians of"
        " updates in turn with PPO alone. Networks: sets of parameters with an optimiser, used"
        " or not. FLOPs and bytes of a bonus are those that it adds; integer arithmetic, as of"
        " counts, is none.",
        *_warning(lines, where["cores"]),
        "",
        _verdict(lines),
    ]
    for id, line in measured["lines"].items():
        if "failed" in line:
            rows += ["", f"Not measured: `{id}` ({line['failed']})."]
    return "\n".join(rows) + "\n"


def _cells(id: str, line: Measured) -> list[str]:
    low, middle, high = (round(100 * share) for share in lost(line))
    return [
        f"`{id}`",
        ", ".join(line["reads"]) or "-",
        str(line["fitted"]),
        f"{line['steps_per_second'] / 1e3:.0f}k",
        f"{line['alone_steps_per_second'] / 1e3:.0f}k",
        f"{middle}% [{low}, {high}]",
        *_sizes(line),
    ]


def _warning(lines: dict[str, Measured], cores: int) -> list[str]:
    """A machine that was not idle, if it was not."""
    loads = [line["load"] for line in lines.values()]
    if not loads or max(loads) <= 2 * cores:
        return []
    return [
        "",
        f"The machine was shared: {min(loads):.0f} to {max(loads):.0f} processes wanted its {cores}"
        " cores. Speeds are too low by as much; how rough the shares are, the quartiles tell.",
    ]


def _sizes(line: Measured) -> list[str]:
    names = ("flops_per_step", "state_bytes_per_env", "state_bytes_shared")
    return [f"{line[name]:,.0f}" for name in names]


def _verdict(lines: dict[str, Measured]) -> str:
    """Which bonuses cost more than one with one network may."""
    over = [f"`{id}` ({x['fitted']})" for id, x in lines.items() if lost(x)[1] > _LIMIT]
    limit = f"{100 * _LIMIT:.0f}% of PPO's throughput"
    single = {id: lost(x)[1] for id, x in lines.items() if x["fitted"] == 1}
    said = f"More than {limit}: {', '.join(over) or 'none'}."
    if single:
        dearest = max(single, key=lambda id: single[id])
        said += (
            f" Of the {len(single)} with one network the dearest is `{dearest}`,"
            f" {100 * single[dearest]:.0f}%."
        )
    return said


def main(
    folder: tyro.conf.Positional[Path],
    ids: tuple[str, ...] = (),
    again: bool = False,
    rounds: int = ROUNDS,
    num_envs: int = 256,
    num_steps: int = 128,
    agent: str = "ppo",
    env: str = ENV,
) -> None:
    """Measures `ids` (by default every registered bonus) and writes into `folder`.

    With `again` those too that were measured before. What another size, agent or environment gave
    is kept in another folder.

    Raises:
        ConfigError: the folder holds measurements of another kind of run.
    """
    path = folder / "bonus_cost.json"
    kind: Measured = {"num_envs": num_envs, "num_steps": num_steps, "agent": agent, "env": env}
    measured = json.loads(path.read_text()) if path.exists() else {**kind, "lines": {}}
    if kind != {name: measured[name] for name in kind}:
        raise ConfigError(f"{folder} is of another kind of run than {kind}: choose another folder")
    lines: dict[str, Measured] = measured["lines"]
    alone: Run | None = None
    for id in ids or [id for id in list_bonuses() if id != ALONE]:
        config = config_of(id, **kind)
        options = to_json(config.bonus)
        if not again and lines.get(id, {}).get("options") == options:
            continue
        if alone is None:
            alone = Run(config_of(ALONE, **kind))
            measured["alone"] = describe_alone(alone)
        try:
            line = measure_line(alone, Run(config), rounds=rounds)
        except ConfigError as error:
            line = {"options": options, "failed": str(error)}
        lines[id] = line
        measured["environment"] = environment()
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        (folder / "table.md").write_text(table(measured), encoding="utf-8")
        said = line.get("failed") or f"loses {100 * lost(line)[1]:.1f}%, load {line['load']:.1f}"
        print(id, said, flush=True)


if __name__ == "__main__":
    tyro.cli(main)
