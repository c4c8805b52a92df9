"""The suite `minigrid-learning`: what PPO learns in MiniGrid on a CPU, with and without a bonus."""

from __future__ import annotations

from xplore.benchmarks.suite import Method, Suite, Task


def _task(env: str, budget_steps: int, *tags: str) -> Task:
    return Task(
        env=env,
        budget_steps=budget_steps,
        num_envs=64,
        num_steps=128,
        score="eval/success",
        curve="episode/success",
        high=1.0,
        high_reason="exact: every level can be solved within its time limit",
        solved_when=0.9,
        tags=("sparse", "procedural", *tags),
    )


SUITE = Suite(
    name="minigrid-learning",
    description="three MiniGrid tasks that a bonus solves, and one that PPO alone does not",
    tasks=(
        _task("MiniGrid-KeyCorridorS3R1-v0", 3_000_000),
        _task("MiniGrid-MultiRoom-N4-S5-v0", 3_000_000),  # six rooms, as upstream has it
        _task("MiniGrid-MultiRoom-N4-S5-v1", 3_000_000),
        _task("MiniGrid-KeyCorridorS4R3-v0", 1_000_000, "negative-control"),
    ),
    methods=(
        Method("ppo"),
        Method("ppo+episodic_count", bonus="episodic_count", bonus_options={"key": "position"}),
        Method("random", agent="random"),
    ),
    seeds=5,
    tags=("cpu",),
)
