"""Exact agents on exact tasks: what the published laws look like before anything deep is believed.

One env and one update for each episode, as in the papers. All tasks pay at most 1 in an episode,
which is what optimistic agents start from.
"""

from xplore.benchmarks.suite import Method, Suite, Task
from xplore.contracts.registry import make


def _task(id: str, steps: int, episodes: int, *tags: str) -> Task:
    optimum = make(id).optimal_return  # type: ignore[attr-defined]
    return Task(
        env=f"tabular/{id}",
        label=id,
        budget_steps=episodes * steps,
        num_envs=1,
        num_steps=steps,
        high=optimum,
        high_reason="exact: by dynamic programming",
        solved_when=0.5 * optimum,
        tags=tags,
    )


SUITE = Suite(
    name="tabular",
    description="agents with tables on finite tasks, each told how far from optimal it is",
    tasks=(
        _task("DeepSea-10-v0", 10, 1000, "deep"),
        _task("DeepSea-20-v0", 20, 2000, "deep"),
        _task("DeepSeaStochastic-10-v0", 10, 2000, "deep", "stochastic"),
        _task("CombinationLock-10-v0", 10, 2000, "deep"),
        _task("DiabolicalLock-10-v0", 10, 2000, "deep"),
    ),
    methods=(
        Method("q_learning", agent="q_learning"),
        Method("epsilon-z", agent="q_learning", agent_options={"exploration": "epsilon_z"}),
        Method("optimistic_q", agent="optimistic_q"),
        Method("ucb_q", agent="ucb_q"),
        Method("ucbvi", agent="ucbvi"),
        Method("mbie_eb", agent="mbie_eb"),
        Method("rmax", agent="rmax"),
        Method("psrl", agent="psrl"),
        Method("rlsvi", agent="rlsvi"),
        Method("random", agent="random"),
    ),
    seeds=30,
    eval_levels=16,
    tags=("cpu",),
)
