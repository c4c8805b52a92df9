"""The suite `generalise-large`: longer chains of rooms, more steps, world samplers; a GPU."""

from __future__ import annotations

from typing import Any

from xplore.benchmarks.suite import Method, Suite, Task


def _task(env: str, budget_steps: int, **options: Any) -> Task:
    return Task(
        env=env,
        options=options,
        budget_steps=budget_steps,
        num_envs=1024,
        num_steps=128,
        score="eval/success",
        curve="episode/success",
        low=0.0,
        high=1.0,
        high_reason="exact: every level can be solved within its time limit",
        solved_when=0.9,
        tags=("procedural",),
    )


_COUNT: dict[str, Any] = {"bonus": "episodic_count", "bonus_options": {"key": "position"}}

SUITE = Suite(
    name="generalise-large",
    description="exploration and world samplers on 200, 10,000 and all levels; a GPU",
    tasks=(
        _task("MiniGrid-MultiRoom-N4-S5-v0", 52_428_800),
        _task("MiniGrid-KeyCorridorS3R3-v0", 52_428_800),
    ),
    methods=(
        Method("ppo, 200", worlds="fixed"),
        Method("ppo+count, 200", worlds="fixed", **_COUNT),
        Method("ppo, 10,000", worlds="fixed", worlds_options={"num_levels": 10_000}),
        Method(
            "ppo+count, 10,000", worlds="fixed", worlds_options={"num_levels": 10_000}, **_COUNT
        ),
        Method("ppo, fresh"),
        Method("ppo+count, fresh", **_COUNT),
        Method("ppo+count, plr", worlds="plr", **_COUNT),
        Method("ppo+count, robust plr", worlds="robust_plr", **_COUNT),
        Method("ppo+count, sfl", worlds="sfl", **_COUNT),
    ),
    seeds=5,
    eval_levels=1000,
    eval_episodes=2,
    tags=("gpu",),
)
