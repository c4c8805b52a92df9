"""The suite `bonuses`: the field's exploration bonuses side by side, with PPO.

Every method has the same agent and the budget is small, so that what differs is the bonus. Counts
read the agent's position, which the other bonuses are not told: the tables say so. Options are the
defaults of this library, none tuned for this task; bonuses whose defaults are those of tasks with
far longer episodes or other rewards run at a tenth of the coefficient too.
"""

from __future__ import annotations

from typing import Any

from xplore.benchmarks.suite import Method, Suite, Task

_BUDGET = 500_000
_ANNEALED = {"anneal_steps": _BUDGET}
_POSITION = {"key": "position"}


def _method(bonus: str, label: str = "", **options: Any) -> Method:
    return Method(label or bonus, agent_options=_ANNEALED, bonus=bonus, bonus_options=options)


SUITE = Suite(
    name="bonuses",
    description="PPO with the field's exploration bonuses on DoorKey-8x8",
    tasks=(
        Task(
            env="MiniGrid-DoorKey-8x8-v0",
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
    methods=(
        _method("none"),
        _method("count", "count, position", **_POSITION),
        _method("episodic_count", "episodic count, position", **_POSITION),
        _method("noveld"),
        _method("deir"),
        _method("first_visit", "first visit, position", **_POSITION),
        _method("rnd"),
        _method("ride"),
        _method("ngu"),
        _method("e3b"),
        _method("re3"),
        _method("icm"),
        _method("disagreement"),
        *(
            _method(bonus, f"{bonus}, a tenth", coefficient=coefficient)
            for bonus, coefficient in (
                ("rnd", 0.05),
                ("ride", 0.01),
                ("e3b", 0.005),
                ("re3", 0.001),
                ("icm", 0.05),
                ("disagreement", 0.05),
            )
        ),
    ),
    seeds=10,
    eval_levels=128,
    tags=("cpu",),
)
