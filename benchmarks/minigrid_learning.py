"""The suite `minigrid-learning`: what PPO learns in MiniGrid on a CPU, with and without a bonus.

The learning rate falls to 0 over the budget. Held constant for three times as long, it makes some
seeds lose what they had learnt, with the bonus and without: the policy has long been certain, and
small advantages are normalised into large updates.
"""

from __future__ import annotations

from xplore.benchmarks.suite import Method, Suite, Task

_BUDGET = 1_000_000
_ANNEALED = {"anneal_steps": _BUDGET}


def _task(env: str, *tags: str) -> Task:
    return Task(
        env=env,
        budget_steps=_BUDGET,
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
        _task("MiniGrid-KeyCorridorS3R1-v0"),
        _task("MiniGrid-MultiRoom-N4-S5-v0"),  # six rooms, as upstream has it
        _task("MiniGrid-MultiRoom-N4-S5-v1"),
        _task("MiniGrid-KeyCorridorS4R3-v0", "negative-control"),
    ),
    methods=(
        Method("ppo", agent_options=_ANNEALED),
        Method(
            "ppo+episodic_count",
            agent_options=_ANNEALED,
            bonus="episodic_count",
            bonus_options={"key": "position"},
        ),
        Method("random", agent="random"),
    ),
    seeds=5,
    tags=("cpu",),
)
