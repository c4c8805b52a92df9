"""Training steps a second beside rejax, and how long each agent takes to compile.

`python -m xplore.benchmarks.learner_speed results/learner-speed` measures, on an otherwise idle
machine: PPO and PQN with the same network, the same sizes and the same number of gradient steps in
both libraries, on two tasks of gymnax. Whole updates take turns in one process: learning, env steps
and auto-reset included. rejax is installed beside this library (`pip install --no-deps rejax`); the
lines without it are left as they are. gymnax's own auto-reset draws a new start at every step, and
is part of what rejax does.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import tyro

from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import list_agents, make, make_agent, make_bonus, make_world_sampler
from xplore.loop.config import Config
from xplore.loop.update import make_train
from xplore.record.files import new_file, writable_folder
from xplore.record.provenance import environment

TASKS: Final = ("CartPole-v1", "Breakout-MinAtar")
SEEDS: Final = 10
_HIDDEN: Final = (64, 64)


class Setting(NamedTuple):
    """One algorithm's sizes, the same in both libraries."""

    agent: str
    num_envs: int
    num_steps: int
    num_epochs: int
    num_minibatches: int


SETTINGS: Final = (Setting("ppo", 128, 64, 4, 8), Setting("pqn", 128, 32, 2, 16))
# What an agent is compiled for: the first of these that it takes.
COMPILED_FOR: Final = ("MiniGrid-DoorKey-8x8-v0", "tabular/DeepSea-10-v0", "BernoulliBandit-10-v0")


def config_of(setting: Setting, task: str) -> Config:
    """Ours, with rejax's network: two layers of 64, apart for actor and critic."""
    options: dict[str, Any] = {"num_epochs": setting.num_epochs, "torso": "mlp"}
    options |= {"num_minibatches": setting.num_minibatches, "hidden_sizes": _HIDDEN}
    if setting.agent == "ppo":
        options["activation"] = "swish"
    return Config(
        env=make(f"gymnax/{task}"),
        agent=make_agent(setting.agent, **options),
        bonus=make_bonus("none"),
        worlds=make_world_sampler("fresh"),
        budget_steps=setting.num_envs * setting.num_steps,
        num_envs=setting.num_envs,
        num_steps=setting.num_steps,
    )


class _FiveTuple:
    """An environment of gymnax as rejax steps it: one `done` for both ways to end."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> _FiveTuple:
        return self  # an environment is static

    def step(self, *args: Any) -> tuple[Any, ...]:
        obs, state, reward, *ends, info = self._env.step(*args)
        return obs, state, reward, ends[0] | ends[-1], info


def rejax_update(setting: Setting, task: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`init(key)` and `update(state)` of rejax, for one seed."""
    gymnax: Any = importlib.import_module("gymnax")
    rejax: Any = importlib.import_module("rejax")
    env, params = gymnax.make(task)
    algorithm = getattr(rejax, setting.agent.upper()).create(
        env=_FiveTuple(env),
        env_params=params,
        agent_kwargs={} if setting.agent == "pqn" else {"hidden_layer_sizes": _HIDDEN},
        num_envs=setting.num_envs,
        num_steps=setting.num_steps,
        num_epochs=setting.num_epochs,
        num_minibatches=setting.num_minibatches,
        skip_initial_evaluation=True,
        max_grad_norm=0.5,
        total_timesteps=1_000_000,
    )
    return algorithm.init_state, algorithm.train_iteration


def _ours(config: Config) -> tuple[Callable[..., Any], Callable[..., Any]]:
    pure = make_train(config)
    return pure.init, lambda state: pure.update(state)[0]


class _Timed:
    """A compiled update that goes on from where it is."""

    def __init__(self, init: Callable[..., Any], update: Callable[..., Any], seeds: int) -> None:
        key = jax.random.split(jax.random.key(0), seeds) if seeds > 1 else jax.random.key(0)
        mapped = (jax.vmap(init), jax.vmap(update)) if seeds > 1 else (init, update)
        self.state = jax.jit(mapped[0])(key)
        begun = time.perf_counter()
        self._update = jax.jit(mapped[1]).lower(self.state).compile()
        self.compile_seconds = time.perf_counter() - begun

    def seconds(self, times: int) -> float:
        """Of each of so many updates that follow each other."""
        begun = time.perf_counter()
        for _ in range(times):
            self.state = self._update(self.state)
        jax.block_until_ready(self.state)
        return (time.perf_counter() - begun) / times


def compare(setting: Setting, task: str, repeats: int, updates: int) -> dict[str, Any]:
    """Env steps a second of both, and of ours with many seeds as one program."""
    config = config_of(setting, task)
    ours = _ours(config)
    runs = {"xplore": _Timed(*ours, 1), "rejax": _Timed(*rejax_update(setting, task), 1)}
    runs["xplore, vmapped"] = _Timed(*ours, SEEDS)
    found: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(repeats + 1):
        for name, timed in runs.items():
            many = name == "xplore, vmapped"
            seconds = timed.seconds(1 if many else updates) / (SEEDS if many else 1)
            if i:  # the first is to warm up
                found[name].append(config.steps_per_update / seconds)
    return {
        "steps_per_second": {name: statistics.median(values) for name, values in found.items()},
        "of_repeats": found,
        "compile_seconds": {name: timed.compile_seconds for name, timed in runs.items()},
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan,
    }


def compile_seconds(id: str) -> dict[str, Any]:
    """Seconds to trace and to compile one update of an agent with its default options.

    Those of the processor, of all threads, are no fewer than those of the clock on a machine that
    does nothing else, and do not depend on what else it does.
    """
    jax.config.update("jax_enable_compilation_cache", False)
    for env in COMPILED_FOR:
        config = Config(
            env=make(env),
            agent=make_agent(id),
            bonus=make_bonus("none"),
            worlds=make_world_sampler("fresh"),
            budget_steps=64 * 32,
            num_envs=64,
            num_steps=32,
        )
        pure = make_train(config)
        try:
            state = jax.eval_shape(pure.init, jax.random.key(0))
        except ConfigError:
            continue
        begun, spent = time.perf_counter(), time.process_time()
        jax.jit(pure.update).lower(state).compile()
        return {
            "env": env,
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - spent,
        }
    raise ConfigError(f"agent {id} takes none of {', '.join(COMPILED_FOR)}")


def table(measured: dict[str, Any]) -> str:
    """The markdown of what `main` keeps."""
    lines = [
        "| | task | envs x steps | epochs x minibatches | xplore, steps/s | rejax, steps/s |"
        f" ratio | {SEEDS} seeds vmapped, steps/s | over in turn | load |",
        "|---" * 10 + "|",
    ]
    sizes = {s.agent: s for s in SETTINGS}
    for name, line in measured.get("training", {}).items():
        agent, task = name.split(" ")
        s, speed = sizes[agent], line["steps_per_second"]
        one, many = speed["xplore"], speed["xplore, vmapped"]
        lines.append(
            f"| {agent.upper()} | {task} | {s.num_envs} x {s.num_steps} | {s.num_epochs} x"
            f" {s.num_minibatches} | {one / 1e3:.1f}k | {speed['rejax'] / 1e3:.1f}k |"
            f" {one / speed['rejax']:.2f} | {many / 1e3:.1f}k | {many / one:.2f} |"
            f" {f'{load:.0f}' if (load := line.get('load')) else '-'} |"
        )
    lines += ["", "| agent | compiled for | seconds of the processor |", "|---|---|---|"]
    for id, line in sorted(measured.get("compile", {}).items()):
        lines.append(f"| `{id}` | `{line['env']}` | {line['cpu_seconds']:.1f} |")
    where = measured["environment"]["device"]
    lines += [
        "",
        "Env steps per second of whole updates, learning included, two layers of 64; the load is"
        " the number of processes that wanted to run, ours among them; seconds to trace and compile"
        " an update of 64 envs and 32 steps with the agent's default options, all threads together."
        f" {where['processor'] or where['kind']}, {where['cores']} cores.",
    ]
    return "\n".join(lines) + "\n"


def main(
    folder: tyro.conf.Positional[Path],
    /,
    training: bool = True,
    compiling: bool = True,
    repeats: int = 5,
    updates: int = 5,
) -> None:
    """Measures and writes `speed.json` and `table.md` into `folder`.

    Args:
        folder: where.
        training: whether to measure training; needs rejax.
        compiling: whether to measure how long agents that are not in the folder take to compile.
        repeats: of each timing.
        updates: of each repeat.
    """
    writable_folder(folder)
    path = folder / "speed.json"
    measured: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    measured["environment"] = environment()
    for setting in SETTINGS if training else ():
        for task in TASKS:
            found = compare(setting, task, repeats, updates)
            measured.setdefault("training", {})[f"{setting.agent} {task}"] = found
            print(setting.agent, task, found["steps_per_second"], flush=True)
    for id in list_agents() if compiling else ():
        if id not in measured.setdefault("compile", {}):
            measured["compile"][id] = compile_seconds(id)
            print(id, measured["compile"][id], flush=True)
            with new_file(path, replace=True) as stream:
                stream.write((json.dumps(measured, indent=1) + "\n").encode())
    with new_file(path, replace=True) as stream:
        stream.write((json.dumps(measured, indent=1) + "\n").encode())
    with new_file(folder / "table.md", replace=True) as stream:
        stream.write(table(measured).encode())


if __name__ == "__main__":
    tyro.cli(main)
