"""bsuite's experiments of exploration, and those beside them, scored by bsuite's own rules.

Budgets are bsuite's numbers of episodes (10,000; 1,000 of control tasks), spent by many envs side
by side, where bsuite has one: an episode's number is its place in the order in which they end.
"""

from xplore.benchmarks.suite import Method, Suite, Task
from xplore.record import bsuite_scores as rules
from xplore.record.experiments import Experiment

_EPISODES, _EPISODES_OF_CONTROL, _ENVS = 10_000, 1_000, 16
_SEA = (10, 14, 20, 26, 30, 40, 50)
_STORMY = (10, 14, 20, 30)
_HEIGHTS = (0, 10)
_LENGTHS = (5, 10, 20, 30)
_UMBRELLA = (1, 5, 10, 20)


def _budget(episodes: int, steps: int) -> int:
    return -(-episodes * steps // _ENVS) * _ENVS


def _sea(size: int, name: str, optimum: float, reason: str) -> Task:
    return Task(
        env=f"{name}-{size}-v0",
        budget_steps=_budget(_EPISODES, size),
        num_envs=_ENVS,
        num_steps=4 * size,
        high=optimum,
        high_reason=reason,
        solved_when=0.5 * optimum,
        tags=("deep",),
    )


def _stormy_optimum(size: int) -> float:
    p = 1 - 1 / size
    return p ** (size - 1) - 0.01 / size * sum(p**k for k in range(size))


_EXACT = "exact: the treasure less the cost of each move to the right"

SUITE = Suite(
    name="bsuite-explore",
    description="bsuite's exploration experiments and neighbours, scored by bsuite's own rules",
    tasks=(
        *(_sea(n, "DeepSea", 0.99, _EXACT) for n in _SEA),
        *(_sea(n, "DeepSeaStochastic", _stormy_optimum(n), _EXACT) for n in _STORMY),
        *(
            Task(
                env=f"CartpoleSwingup-{k}-v0",
                budget_steps=_budget(_EPISODES_OF_CONTROL, 1000),
                num_envs=_ENVS,
                num_steps=128,
                high=700.0,
                high_reason="bsuite's: about the best return that its authors' agents have reached",
                solved_when=100.0,
                tags=("deep", "control"),
            )
            for k in _HEIGHTS
        ),
        *(
            Task(
                env=f"MemoryLen-{n}-v0",
                budget_steps=_budget(_EPISODES, n + 1),
                num_envs=_ENVS,
                num_steps=4 * (n + 1),
                score="eval/success",
                curve="episode/success",
                high=1.0,
                high_reason="exact: what is asked was shown",
                solved_when=0.9,
                tags=("memory",),
            )
            for n in _LENGTHS
        ),
        *(
            Task(
                env=f"UmbrellaLength-{n}-v0",
                budget_steps=_budget(_EPISODES, n),
                num_envs=_ENVS,
                num_steps=max(4 * n, 16),
                score="eval/success",
                curve="episode/success",
                high=1.0,
                high_reason="exact: the forecast is always right",
                solved_when=0.9,
                tags=("credit",),
            )
            for n in _UMBRELLA
        ),
    ),
    methods=(
        Method("ppo"),
        Method("ppo+count", bonus="count"),
        Method("ppo+rnd", bonus="rnd"),
        Method("random", agent="random"),
    ),
    seeds=5,
    eval_levels=32,
    tags=("cpu",),
    experiments=(
        Experiment(
            "deep_sea",
            {n: f"DeepSea-{n}-v0" for n in _SEA},
            ("episode/total_bad_episode",),
            rules.deep_sea,
            "the fraction of sizes N learned in fewer than 2^N + 100 episodes.",
        ),
        Experiment(
            "deep_sea_stochastic",
            {n: f"DeepSeaStochastic-{n}-v0" for n in _STORMY},
            ("episode/total_bad_episode",),
            rules.deep_sea_stochastic,
        ),
        Experiment(
            "cartpole_swingup",
            {k: f"CartpoleSwingup-{k}-v0" for k in _HEIGHTS},
            ("episode/total_return", "episode/total_success"),
            rules.cartpole_swingup,
            "half the mean return over 700, half whether an episode returned more than 100.",
        ),
        Experiment(
            "memory_len",
            {n: f"MemoryLen-{n}-v0" for n in _LENGTHS},
            ("episode/total_success",),
            rules.memory,
            "the fraction of lengths with fewer than 3/4 of the mistakes of guessing.",
        ),
        Experiment(
            "umbrella_length",
            {n: f"UmbrellaLength-{n}-v0" for n in _UMBRELLA},
            ("episode/total_regret",),
            rules.umbrella,
            "the fraction of lengths with a mean regret below 1/2.",
        ),
    ),
)
