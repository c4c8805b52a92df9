"""The suite `bonuses-hard`: three of the bonuses that help on DoorKey-8x8, on a longer task."""

from __future__ import annotations

from xplore.benchmarks.suite import Method, Suite, Task

_BUDGET = 1_000_000
_ANNEALED = {"anneal_steps": _BUDGET}
_POSITION = {"key": "position"}

SUITE = Suite(
    name="bonuses-hard",
    description="PPO with exploration bonuses on KeyCorridorS3R2",
    tasks=(
        Task(
            env="MiniGrid-KeyCorridorS3R2-v0",
            budget_steps=_BUDGET,
            num_envs=32,
            num_steps=128,
            score="eval/success",
            curve="episode/success",
            low=0.0,
            high=1.0,
            high_reason="exact: every level can be solved within its time limit",
            solved_when=0.8,
            tags=("sparse", "procedural"),
        ),
    ),
    methods=tuple(
        Method(label, agent_options=_ANNEALED, bonus=bonus, bonus_options=options)
        for label, bonus, options in (
            ("none", "none", {}),
            ("episodic count, position", "episodic_count", _POSITION),
            ("noveld", "noveld", {}),
            ("deir", "deir", {}),
        )
    ),
    seeds=5,
    eval_levels=128,
    tags=("cpu",),
)
