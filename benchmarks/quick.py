"""The suite `quick`: minutes on two CPU cores, and enough to see what a bonus is for."""

from __future__ import annotations

from xplore.benchmarks.suite import Method, Suite, Task

SUITE = Suite(
    name="quick",
    description="deep exploration, a locked door, a task that needs no bonus; minutes on two cores",
    tasks=(
        Task(
            env="DeepSea-20-v0",
            budget_steps=196_608,
            num_envs=64,
            num_steps=64,
            high=0.99,
            high_reason="exact: the treasure 1.0 less 0.01 / N for each of N steps to the right",
            solved_when=0.9,
            tags=("deep",),
        ),
        Task(
            env="MiniGrid-DoorKey-6x6-v0",
            budget_steps=327_680,
            num_envs=64,
            num_steps=64,
            score="eval/success",
            curve="episode/success",
            high=1.0,
            high_reason="exact: the goal can be reached in every level",
            solved_when=0.9,
            tags=("sparse", "procedural"),
        ),
        Task(
            env="gymnax/Catch-bsuite",
            budget_steps=163_840,
            num_envs=32,
            num_steps=64,
            high=1.0,
            high_reason="exact: the ball can always be caught",
            solved_when=0.9,
            tags=("dense",),
        ),
    ),
    methods=(
        Method("ppo"),
        Method("ppo+count", bonus="count"),
        Method("ppo+episodic_count", bonus="episodic_count"),
        Method("ppo+rnd", bonus="rnd"),
        Method("random", agent="random"),
    ),
    seeds=5,
    tags=("cpu",),
)
