"""The headline grid: what exploration does for levels that were never seen, by training levels.

`python -m xplore.benchmarks.generalisation` runs what is missing in `results/generalise`, and makes
the tables and figures there from the rows. Every seed trains on W levels of its own, nested as W
grows and the same for all methods, and is tested on held-out levels that are the same for all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from xplore.benchmarks import generalisation_report as report
from xplore.benchmarks.contexts import AnyFixed
from xplore.benchmarks.held_out import optimal_steps
from xplore.benchmarks.jobs import Job
from xplore.benchmarks.suite import Method, Suite, Task
from xplore.benchmarks.together import Metrics, rows_of_grid, run_grid, tell
from xplore.bonuses.none import NoBonus
from xplore.contracts.component import replace
from xplore.contracts.registry import make_bonus
from xplore.loop.config import Config
from xplore.loop.evaluate import evaluate
from xplore.loop.update import TrainState
from xplore.measure import generalisation as measured
from xplore.parts.levels import held_out_ids, train_ids
from xplore.worlds.fixed import Fixed

FOLDER: Final = Path(__file__).resolve().parents[1] / "results" / "generalise"
LEVELS: Final = (1, 10, 100, 200, 1000)
HELD_OUT: Final = 1000
TRIES: Final = 2
_FEWER: Final = 200  # levels, on the way and of training levels
_POINTS: Final = 4  # evaluations over the budget, the last with all levels
_KEY: Final = "position"

# Noise is drawn for every action: without it, rollouts do the same in the same place for 64 steps.
_EDE: Final[dict[str, Any]] = {
    "share_encoder": True, "num_quantiles": 8, "acting": "thompson", "ucb_coefficient": 1.0,
    "n_step": 5, "discount": 0.95, "learning_rate": 1e-3, "target_period": 8,
    "replay_size": 16_384,
}  # fmt: skip

# Of each method: agent, its options, bonus, its options, whether it is tested without noise.
METHODS: Final[dict[str, tuple[str, dict[str, Any], str, dict[str, Any], bool]]] = {
    "ppo": ("ppo", {}, "none", {}, False),
    "ppo+episodic count": ("ppo", {}, "episodic_count", {"key": _KEY}, False),
    "ppo+noveld": ("ppo", {}, "noveld", {}, False),
    "ede": ("ede", _EDE, "none", {}, True),
    "ede without its bonus": ("ede", {**_EDE, "ucb_coefficient": 0.0}, "none", {}, True),
    "random": ("random", {}, "none", {}, False),
}


def method(name: str, num_levels: int) -> Method:
    """A method of `METHODS` on so many training levels."""
    agent, agent_options, bonus, bonus_options, greedy = METHODS[name]
    return Method(
        f"{name} on {num_levels}",
        agent=agent,
        agent_options=agent_options,
        bonus=bonus,
        bonus_options=bonus_options,
        worlds="fixed",
        worlds_options={"num_levels": num_levels},
        eval_greedy=greedy,
    )


def task(env: str, budget_steps: int, **options: Any) -> Task:
    """A family of the grid, at the size of the loop that all have."""
    return Task(
        env=env,
        options=options,
        budget_steps=budget_steps,
        num_envs=32,
        num_steps=64,
        score="eval/success",
        curve="episode/success",
        low=0.0,
        high=1.0,
        high_reason="exact: every level can be solved within its time limit",
        solved_when=0.9,
        tags=("procedural",),
    )


# Not a SUITE: a method on other levels is no competitor, which its tables would make it.
GRID: Final = Suite(
    name="generalise-grid",
    description="what exploration does for levels never seen, by the number of training levels",
    tasks=(
        task("MiniGrid-MultiRoom-N2-S4-v0", 81_920, num_rooms=3),
        # The longest way is 48 cells and 26 turns.
        task("Maze-Perfect-13x13-v0", 81_920, size=9, far=0.5, max_steps=100),
    ),
    # What acts at random is the same whatever it is trained on.
    methods=tuple(
        method(name, w) for name in METHODS for w in LEVELS if name != "random" or w == report.SHOWN
    ),
    seeds=10,
    eval_levels=0,
)


def as_numbers(config: Config) -> Config:
    """The config with its number of levels as a float, and no bonus as a count paid with 0."""
    worlds, bonus = config.worlds, config.bonus
    if isinstance(worlds, Fixed) and worlds.set_seed is None:
        worlds = AnyFixed(float(worlds.num_levels))
    if isinstance(bonus, NoBonus) and _counts(config):
        bonus = make_bonus("episodic_count", key=_KEY, coefficient=0.0)
    return replace(config, worlds=worlds, bonus=bonus)


def _counts(config: Config) -> bool:
    """Whether the agent is also run with counts."""
    return type(config.agent).__name__ == "PPO"


def measure(jobs: Sequence[Job], seeds: Sequence[int], update: int, state: TrainState) -> Metrics:
    """Held-out success on the way; at the end all that the protocol measures."""
    config = jobs[0].config
    if update * _POINTS % config.num_updates >= _POINTS:
        return {}
    # The point of a quarter is the first update at or after it.
    done = update == config.num_updates
    agent: Any = config.agent.greedy() if jobs[0].eval_greedy else config.agent
    env: Any = config.env
    play = player(env, agent, TRIES if done else 1)
    lanes = len(jobs) * len(seeds)
    keys = jax.random.split(jax.random.key(update), lanes)
    num_levels = HELD_OUT if done else _FEWER
    ids = jnp.tile(held_out_ids(0, num_levels), (lanes, 1))
    outcome = measured.Tries(*jax.device_get(play(state.agent, ids, keys)))
    if not done:
        return {"eval/success": outcome.success.mean((-2, -1))}
    test = measured.of_levels(outcome, optimal_steps(env, num_levels))
    levels = jnp.repeat(jnp.array([job.config.worlds.num_levels for job in jobs]), len(seeds))  # type: ignore[attr-defined]
    index = jnp.arange(_FEWER)[None] % levels[:, None]
    outcome_train = play(state.agent, jax.vmap(train_ids)(state.worlds, index), keys)
    train = measured.of_levels(measured.Tries(*jax.device_get(outcome_train)))
    found = {f"eval/{name}": x for name, x in test.items()}
    found |= {f"eval_train/{name}": x for name, x in train.items()}
    found |= {f"gap/{name}": x for name, x in measured.gaps(train, test).items()}
    # The profile over levels: how many of the tries of a level succeed is told by seeds together.
    solved = outcome.success.mean(-1).reshape(len(jobs), len(seeds), -1).mean(1)
    for share in report.PROFILE:
        value = (solved >= share).mean(-1)
        found[f"profile/{share:g}"] = np.repeat(value, len(seeds))
    return found


@functools.lru_cache(maxsize=16)
def player(env: Any, agent: Any, tries: int) -> Callable[..., Any]:
    """The compiled evaluation of many lanes at once: of states, ids and keys, `[lanes, ...]`."""

    def one(state: Any, ids: jax.Array, key: jax.Array) -> Any:
        return evaluate(env, agent, state, ids, key=key, episodes_per_level=tries)

    return jax.jit(jax.vmap(one))


def main(
    folder: tyro.conf.Positional[Path] = FOLDER,
    seeds: int = GRID.seeds,
    only: str | None = None,
    report_only: bool = False,
) -> None:
    """Runs what is missing, and makes the tables and figures."""
    if not report_only:
        run_grid(
            GRID, folder, ["episode/success", "episode/return"], seeds=seeds, only=only,
            as_numbers=as_numbers, measure=measure, most_jobs=5, on_group=tell,
        )  # fmt: skip
    report.write(GRID, rows_of_grid(GRID, folder), folder)


if __name__ == "__main__":
    tyro.cli(main)
